"""The embedded text: Python's own language reference, which every CPython carries.

`pydoc_data.topics` is what `help("lambda")` prints. It is the default corpus of a scan and the text the embedded model
was trained on. Its wording follows the Python release; `fingerprint()` tells one wording from another.
"""

from __future__ import annotations

import hashlib

from lmfacts.errors import CorpusError

__all__ = ["documents", "fingerprint"]


def documents() -> list[tuple[str, str]]:
    """The documents of the embedded text.

    Returns:
        (name, text) of each topic, sorted by name, so that the order does not depend on how the dict was written.

    Raises:
        CorpusError: This Python comes without `pydoc_data` (some stripped-down builds do).
    """
    try:
        from pydoc_data.topics import topics  # noqa: PLC0415 - half a megabyte, read when it is asked for
    except ImportError as error:
        raise CorpusError(
            "expected the module pydoc_data.topics, which holds the embedded text; this Python was built without it. "
            "Name a corpus of your own, or use a CPython with its full standard library."
        ) from error
    return sorted(topics.items())


def fingerprint() -> str:
    """SHA-256 of the embedded text, in hex.

    Over the UTF-8 of every name and text in the order of `documents()`, each followed by one zero byte.
    """
    digest = hashlib.sha256()
    for document in documents():
        for part in document:
            digest.update(part.encode() + b"\0")
    return digest.hexdigest()
