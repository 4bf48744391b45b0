"""What a page calls a model."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["model_name"]

_PATH_END: Final = re.compile(r"[^/\\]+$")


def model_name(model_id: str) -> str:
    """A model's id to show: the last part of a path, so that a page tells nobody where files lie; else the id."""
    is_path = model_id.startswith(("/", "\\", ".", "~")) or bool(re.match(r"[A-Za-z]:[\\/]", model_id))
    end = _PATH_END.search(model_id.rstrip("/\\"))
    return end[0] if is_path and end else model_id
