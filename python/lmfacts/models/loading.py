"""Models and tokenizers from wherever they are: the hub, a folder, a GGUF file, or the embedded one."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lmfacts.checkpoints import n_gguf_parts
from lmfacts.errors import MissingExtraError, ModelError, UsageError, WeightFileError
from lmfacts.models.towers import text_config

__all__ = ["DTYPES", "Loaded", "load_model", "max_positions", "tokenizer_of"]

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
"""What `dtype` may be; `auto` is what the checkpoint is stored in."""

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".index.json")


@dataclass(frozen=True)
class Loaded:
    """A model ready to run.

    Attributes:
        model: in evaluation mode.
        tokenizer: its tokenizer.
        name: what it was asked for by.
        revision: the commit it came from, where there is one.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str | None


def load_model(
    name: str | os.PathLike[str], *, revision: str | None = None, dtype: str = "auto", device: str = "auto"
) -> Loaded:
    """Load a causal language model, or a model that also reads images and writes text, and its tokenizer.

    Args:
        name: a hub id, a folder with a `config.json`, a `.gguf` file, or `demo` for the embedded model.
        revision: branch, tag or commit on the hub.
        dtype: one of `DTYPES`; GGUF files are dequantized to float32 by `auto`.
        device: `cpu`, `cuda`, `cuda:1`, ...; `auto` takes a GPU if there is one.

    Raises:
        FileNotFoundError: a path that is not there.
        ModelError: transformers cannot load this as such a model, or the model has an encoder for the text.
        MissingExtraError: a GGUF file, and the extra `gguf` is not installed.
        UsageError: no such dtype or device.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    place = _device(device)
    asked = os.fspath(name)
    source, options = _source(asked, revision)
    if dtype == "auto":
        chosen: Any = torch.float32 if "gguf_file" in options else "auto"
    else:
        chosen = getattr(torch, dtype)

    import transformers  # noqa: PLC0415  seconds, and not needed to refuse a wrong path

    logging: Any = transformers.utils.logging
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        loader = _loader(asked, source, options)
        model: Any = loader.from_pretrained(source, dtype=chosen, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(_why(asked, error)) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    return Loaded(model.eval().to(place), tokenizer, asked, getattr(model.config, "_commit_hash", None))


def _loader(asked: str, source: str, options: dict[str, Any]) -> Any:
    """The class of transformers that loads such a model.

    Raises:
        ModelError: the text goes through an encoder; of some, transformers would load the decoder alone.
    """
    import transformers  # noqa: PLC0415  loaded already by `load_model`
    from transformers.models.auto import modeling_auto as known  # noqa: PLC0415  loaded already

    if "gguf_file" in options:
        return transformers.AutoModelForCausalLM
    config: Any = transformers.AutoConfig.from_pretrained(source, **options)
    if config.is_encoder_decoder or getattr(text_config(config), "is_encoder_decoder", False):
        raise ModelError(
            f"{asked}: expected a decoder-only language model, got an encoder with a decoder "
            f"({type(config).__name__}); load it with transformers, call lmfacts.attach with paths of its modules "
            "(such as decoder.block.*:out) and run your own forward passes"
        )
    reads_images = config.model_type in known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    if reads_images and config.model_type not in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device: expected cpu, or a GPU that torch can use here, got {device!r} ({reason})") from None
    return place


def _source(asked: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """Where from_pretrained shall look, and with which options."""
    if asked == "demo":
        from lmfacts.demo import MODEL_DIR  # noqa: PLC0415  rarely needed

        return str(MODEL_DIR), {}
    path = Path(asked).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{asked}: expected a model's folder with a config.json in it, got a folder without one")
        return str(path), {}
    if path.is_file():
        if path.suffix == ".gguf":
            _need_gguf(asked)
            _refuse_parts(asked, path)
            return str(path.parent), {"gguf_file": path.name}
        hint = "; name the folder it lies in" if path.name.endswith(_WEIGHTS) else ""
        raise ModelError(
            f"{asked}: expected a hub id, a model's folder or a .gguf file, got another kind of file{hint}"
        )
    if (
        path.suffix == ".gguf"
        or asked.startswith((".", "/", "~"))
        or asked.count("/") > 1
        or (os.sep != "/" and os.sep in asked)
    ):
        raise FileNotFoundError(f"{asked}: no such file or folder; expected a model")
    return asked, {} if revision is None else {"revision": revision}


def _need_gguf(asked: str) -> None:
    missing = [package for package in ("gguf", "accelerate") if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            f"{asked}: reading a GGUF file needs {' and '.join(missing)}; install: pip install 'lmfacts[gguf]'"
        )


def _refuse_parts(asked: str, path: Path) -> None:
    """Refuse one of several files: transformers reads that one alone, and makes up the weights in the others."""
    try:
        n_parts = n_gguf_parts(path)
    except WeightFileError:
        return  # transformers will say what is wrong with it
    if n_parts > 1:
        raise ModelError(
            f"{asked}: expected a model in one GGUF file, got one of {n_parts} parts, which transformers cannot read; "
            "join them (llama-gguf-split --merge), or measure the weights alone with: lmfacts weights"
        )


def _why(asked: str, error: Exception) -> str:
    """One sentence from what transformers raised."""
    text = " ".join(str(error).split())
    if "Unrecognized configuration class" in text:
        kind = (
            text.partition("configuration class <class '")[2].partition("'")[0].rpartition(".")[2] or "something else"
        )
        return f"{asked}: expected a causal language model, got a model of {kind}"
    if isinstance(error, OSError) and ("offline" in text or "couldn't connect" in text or "connect to" in text.lower()):
        return (
            f"{asked}: no such folder here, and the hub cannot be reached (or HF_HUB_OFFLINE is set) and the model is "
            "not in its cache; expected a hub id, a model's folder, a .gguf file or demo"
        )
    if len(text) > 300:  # noqa: PLR2004  characters of a message
        text = text[:300].rsplit(" ", 1)[0] + " ..."
    return f"{asked}: cannot be loaded as a causal language model: {text or type(error).__name__}"


def tokenizer_of(model: torch.nn.Module) -> Any:
    """The tokenizer that lies beside the checkpoint a model was loaded from.

    Raises:
        UsageError: the model does not say where it came from, or there is none.
    """
    name = getattr(getattr(model, "config", None), "name_or_path", "")
    if name:
        from transformers import AutoTokenizer  # noqa: PLC0415  slow to load

        try:
            return AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError):
            pass
    raise UsageError(
        f"tokenizer: expected one, since none is found for {name or 'a model that was not loaded by name'}"
    )


def max_positions(model: torch.nn.Module) -> int | None:
    """The longest sequence that the model has positions for, or None where nothing limits it."""
    config = text_config(getattr(model, "config", None))
    for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_target_positions"):
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    return None
