"""Finding the files of a checkpoint: which format, which files, which configuration."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmfacts.checkpoints.dequantized_source import dequantized
from lmfacts.checkpoints.gguf_source import GgufSource
from lmfacts.checkpoints.safetensors_source import SafetensorsSource
from lmfacts.checkpoints.shards import SHARD, all_parts, complete_set, read_index
from lmfacts.checkpoints.source import Provenance, WeightSource
from lmfacts.checkpoints.torch_source import TorchSource
from lmfacts.errors import ModelError, UsageError, WeightFileError

if TYPE_CHECKING:
    import torch

__all__ = ["open_weights"]

_TORCH: Final = (".bin", ".pt", ".pth")
_INDEX: Final = ".index.json"
_CANDIDATES: Final = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
"""What transformers looks for, in its order."""

_LISTED: Final = 4


def open_weights(source: str | os.PathLike[str] | torch.nn.Module, *, revision: str | None = None) -> WeightSource:
    """Open the weights of a model, wherever they are. No model is built, and no tensor is read yet.

    Args:
        source: a folder, a hub id (its files are taken from the cache, or fetched into it), a `.safetensors`, `.gguf`,
            `.bin`, `.pt` or `.pth` file, an `.index.json`, `demo` for the embedded model, or a `torch.nn.Module`.
        revision: branch, tag or commit on the hub.

    Raises:
        FileNotFoundError: a path that is not there.
        WeightFileError: a file is damaged, refused or no file of weights, or a folder has no weights.
        ModelError: a hub id that is not in the cache and cannot be fetched; a module without parameters.
        MissingExtraError: a quantized GGUF file, and the extra `gguf` is not installed.
        UsageError: `source` is something else.
    """
    opened = _module(source) if not isinstance(source, str | os.PathLike) else _named(os.fspath(source), revision)
    try:
        return dequantized(opened)
    except BaseException:
        opened.close()
        raise


def _named(asked: str, revision: str | None) -> WeightSource:
    """The weights that a path or a hub id names."""
    if asked == "demo":
        from lmfacts.demo import MODEL_DIR  # noqa: PLC0415  rarely needed

        return _folder(asked, MODEL_DIR, None)
    path = Path(asked).expanduser()
    if path.is_dir():
        return _folder(asked, path, None)
    if path.exists():
        return _file(asked, path, None)
    if _is_path(asked):
        raise FileNotFoundError(f"{asked}: no such file or folder; expected weights")
    return _hub(asked, revision)


def _module(source: Any) -> WeightSource:
    from torch import nn  # noqa: PLC0415  slow to load

    if not isinstance(source, nn.Module):
        raise UsageError(f"expected a path, a hub id or a torch.nn.Module, got {type(source).__name__}")
    from lmfacts.checkpoints.module_source import ModuleSource  # noqa: PLC0415  rarely needed

    return ModuleSource(source)


def _is_path(asked: str) -> bool:
    """Whether a name that is not there can only have been meant as a path."""
    is_weights = asked.endswith((".safetensors", ".gguf", _INDEX, *_TORCH))
    return (
        is_weights or asked.startswith((".", "/", "~")) or asked.count("/") > 1 or (os.sep != "/" and os.sep in asked)
    )


def _config(folder: Path) -> dict[str, Any] | None:
    """The configuration in a folder, if there is one.

    Raises:
        WeightFileError: there is one, and it is not a JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(config, ensure_ascii=False).encode("utf-8")  # JSON can write halves of characters
    except (ValueError, RecursionError) as error:
        raise WeightFileError(f"{path}: expected a model's configuration, got no valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise WeightFileError(f"{path}: expected a JSON object, got {type(config).__name__}")
    return config


def _folder(asked: str, folder: Path, revision: str | None) -> WeightSource:
    """The checkpoint in a folder: transformers' own names first, then whatever one checkpoint there is."""
    for name in _CANDIDATES:
        if (folder / name).is_file():
            return _file(asked, folder / name, revision)
    indexes = sorted(folder.glob(f"*{_INDEX}"))
    if len(indexes) == 1:
        return _file(asked, indexes[0], revision)
    for suffixes in ((".safetensors",), (".gguf",), _TORCH):
        paths = sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.is_file())
        if not paths:
            continue
        chosen = complete_set(paths)
        if chosen is None:
            listed = ", ".join(path.name for path in paths[:_LISTED]) + (" ..." if len(paths) > _LISTED else "")
            raise WeightFileError(
                f"{asked}: expected one checkpoint, found {len(paths)} files that are no one set ({listed}); name one"
            )
        return _file(asked, chosen[0], revision) if len(chosen) == 1 else _several(asked, chosen, None, revision)
    raise WeightFileError(f"{asked}: expected a folder with weights (.safetensors, .gguf, .bin, .pt), found none in it")


def _file(asked: str, path: Path, revision: str | None) -> WeightSource:
    """The checkpoint that a file is, or that an index names."""
    if not path.is_file():
        raise WeightFileError(f"{asked}: expected a regular file, got something else")
    if path.name.endswith(_INDEX):
        index = read_index(path)
        return _several(asked, [path.parent / name for name in sorted(set(index.values()))], index, revision)
    if path.suffix == ".gguf":
        return GgufSource(asked, all_parts(path))
    notes = []
    if (shard := SHARD.match(path.name)) is not None and shard[3] != "00001":
        notes.append(f"This is shard {int(shard[2])} of {int(shard[3])}; the others are not read.")
    if path.suffix in (".safetensors", *_TORCH):
        return _several(asked, [path], None, revision, notes)
    raise WeightFileError(
        f"{asked}: expected weights (.safetensors, .gguf, .bin, .pt, .pth, .index.json), got another kind of file"
    )


def _several(
    asked: str, paths: list[Path], index: dict[str, str] | None, revision: str | None, notes: list[str] | None = None
) -> WeightSource:
    """The files of one checkpoint, all of one format."""
    provenance = Provenance(asked, revision, _config(paths[0].parent))
    suffixes = {path.suffix for path in paths}
    if suffixes == {".gguf"}:
        return GgufSource(asked, paths)
    if suffixes == {".safetensors"}:
        return SafetensorsSource(provenance, paths, index, notes or ())
    if not suffixes <= set(_TORCH):
        raise WeightFileError(f"{asked}: expected shards of one format, got {', '.join(sorted(suffixes))}")
    return TorchSource(provenance, paths, index, notes or ())


def _hub(asked: str, revision: str | None) -> WeightSource:
    """A checkpoint of the hub, from the cache where it is there."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415  slow to load
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError  # noqa: PLC0415  slow to load

    def fetch(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(asked, name, revision=revision))
        except EntryNotFoundError:  # also where it is not in the cache and the hub cannot be reached
            return None

    try:
        downloaded = next((path for name in _CANDIDATES if (path := fetch(name)) is not None), None)
        if downloaded is None:
            raise ModelError(
                f"{asked}: no such folder here, and no weights under that name in the hub's cache or on the hub (which "
                "is not asked if HF_HUB_OFFLINE is set); expected a hub id, a folder or a file of weights, or demo"
            )
        fetch("config.json")
        if downloaded.name.endswith(_INDEX):
            table = json.loads(downloaded.read_text(encoding="utf-8")).get("weight_map", {})
            for name in sorted(set(table.values())):
                fetch(name)
    except (HfHubHTTPError, HFValidationError, OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{asked}: cannot be fetched from the hub ({reason})") from None
    # A snapshot's folder is called by its commit.
    return _file(asked, downloaded, downloaded.parent.name)
