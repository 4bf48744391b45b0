"""Checkpoints in several files: the index that says which tensor is where."""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from lmfacts.errors import WeightFileError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["SHARD", "all_parts", "complete_set", "read_index"]

SHARD: Final = re.compile(r"^(.+)-(\d{5})-of-(\d{5})(\.[a-z]+)$")
"""The name of a shard: stem, number, how many there are, suffix."""


_LISTED: Final = 4


def read_index(path: Path) -> dict[str, str]:
    """Tensor to file name, as an `.index.json` says; every file named is there.

    Raises:
        WeightFileError: it is no index, or names a file that is not beside it.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightFileError(f"{path}: expected an index of weight files, got no valid JSON ({error})") from None
    table = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(table, dict) or not table or not all(isinstance(value, str) for value in table.values()):
        raise WeightFileError(f"{path}: expected an object `weight_map` of tensor names to file names, found none")
    for tensor, name in table.items():
        if PurePath(name).name != name or name in ("", ".", ".."):
            raise WeightFileError(f"{path}: expected names of files beside it, got {name!r} for {tensor}")
        if not (path.parent / name).is_file():
            raise WeightFileError(
                f"{path}: it says that {tensor} is in {name}, and that file is missing; download the missing file"
            )
    return table


def complete_set(paths: Sequence[Path]) -> list[Path] | None:
    """The files of a checkpoint without an index: one file, or all shards of one set; None if they are no one set.

    Raises:
        WeightFileError: shards of the set are missing.
    """
    if len(paths) == 1 and SHARD.match(paths[0].name) is None:
        return list(paths)
    matches = [(path, SHARD.match(path.name)) for path in paths]
    sets = {(match[1], match[3], match[4]) for _, match in matches if match is not None}
    if len(sets) != 1 or any(match is None for _, match in matches):
        return None
    _check_complete(paths[0])
    return sorted(paths)


def all_parts(path: Path) -> list[Path]:
    """The files of the set that a file is one of, in order; the file alone if its name says nothing of a set.

    Raises:
        WeightFileError: files of the set are missing.
    """
    return [path] if SHARD.match(path.name) is None else _check_complete(path)


def _check_complete(path: Path) -> list[Path]:
    """The files of the set that a shard belongs to.

    Raises:
        WeightFileError: some are missing.
    """
    match = SHARD.match(path.name)
    assert match is not None
    stem, total, suffix = match[1], match[3], match[4]
    expected = [path.with_name(f"{stem}-{number:05d}-of-{total}{suffix}") for number in range(1, int(total) + 1)]
    missing = [each.name for each in expected if not each.is_file()]
    if missing or path not in expected:
        listed = ", ".join(missing[:_LISTED]) + (" ..." if len(missing) > _LISTED else "") or path.name
        raise WeightFileError(
            f"{path.parent}: expected {int(total)} parts of {stem}, and {listed} is missing; download all of them"
        )
    return expected
