"""A LoRA adapter as a checkpoint of differences: what it adds to each matrix that it adapts.

The difference is scaling x B @ A, with scaling = alpha / rank, or alpha / sqrt(rank) of a rank-stabilized adapter
(Kalajdzievski 2023, arXiv:2312.03732). Tensors that an adapter holds whole (`modules_to_save`, trained biases) take the
place of the model's own.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from lmfacts.checkpoints import StoredTensor, open_weights
from lmfacts.errors import ModelError, WeightFileError
from lmfacts.stats.float_values import float_values

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["LoraAdapter", "is_adapter"]

_CONFIG: Final = "adapter_config.json"
_FILES: Final = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX: Final = "base_model.model."
_FACTOR: Final = re.compile(r"(.+)\.(lora|lora_embedding)_([AB])(?:\.(?!bias$)[^.]+)?$")
_OTHER_FACTOR: Final = re.compile(r"\.lora_")
_INSIDE: Final = re.compile(r"\.(?:base_layer|modules_to_save(?:\.default)?)(?=\.)")
_UNSUPPORTED: Final = {
    "use_dora": "DoRA, which also scales the matrices",
    "lora_bias": "biases in its factors",
    "layer_replication": "replicated layers",
    "target_parameters": "adapted parameters that are no module's weight",
    "trainable_token_indices": "single trained tokens",
    "use_qalora": "QA-LoRA, which pools its input",
    "use_bdlora": "block-diagonal factors",
    "kasa_config": "KaSA, which also changes the matrices themselves",
}
_MATRIX_AXES: Final = 2
_LARGEST: Final = float(np.finfo(np.float32).max)


def is_adapter(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder with an adapter of PEFT."""
    return (Path(path).expanduser() / _CONFIG).is_file()


class LoraAdapter:
    """An open adapter; a context manager.

    Attributes:
        name: what it was asked for by.
        config: its `adapter_config.json`.
        tensors: what it changes, by the model's names: of the model's shapes, as far as the adapter knows them.
        is_difference: of each name whether the adapter has what is added (or the whole tensor).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open an adapter's folder.

        Raises:
            WeightFileError: the configuration or the weights are missing or damaged, or do not fit each other.
            ModelError: it is an adapter of another kind than LoRA, or of a kind of LoRA that is more than a difference.
        """
        self.name = str(path)
        folder = Path(path).expanduser()
        self.config = _config(self.name, folder / _CONFIG)
        file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
        if file is None:
            raise WeightFileError(f"{self.name}: expected the adapter's weights, {' or '.join(_FILES)}, found neither")
        self._source = open_weights(file)
        try:
            self.tensors, self._factors, self._whole = self._listed()
        except BaseException:
            self.close()
            raise
        self.is_difference = {tensor.name: tensor.name in self._factors for tensor in self.tensors}

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """What is added to the tensor of that name, float64; or the whole tensor."""
        if tensor.name in self._whole:
            stored = self._whole[tensor.name]
            return float_values(np.asarray(self._source.read(stored)), stored.dtype)
        first, second, is_embedding = self._factors[tensor.name]
        # Copies: what is read next may be read into the same memory.
        a, b = (np.array(float_values(self._source.read(each), each.dtype), np.float64) for each in (first, second))
        difference = b @ a
        difference *= self.scaling(tensor.name, len(a))
        return difference.T if is_embedding or self.config.get("fan_in_fan_out") is True else difference

    def scaling(self, name: str, rank: int) -> float:
        """What the product of a tensor's factors is multiplied by."""
        alpha = self.config.get("lora_alpha", 8)
        module = name.removesuffix(".weight")
        for pattern, own in (self.config.get("alpha_pattern") or {}).items():
            if re.match(rf"(?:.*\.)?(?:{pattern})$", module):
                alpha = own
                break
        return float(alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank))

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listed(
        self,
    ) -> tuple[tuple[StoredTensor, ...], dict[str, tuple[StoredTensor, StoredTensor, bool]], dict[str, StoredTensor]]:
        """What is changed, the factors of differences, and the whole tensors."""
        halves: dict[str, dict[str, StoredTensor]] = {}
        embeddings: set[str] = set()
        whole: dict[str, StoredTensor] = {}
        for stored in self._source.tensors:
            match = _FACTOR.match(stored.name.removesuffix(".weight"))
            if match is not None:
                name = f"{match[1].removeprefix(_PREFIX)}.weight"
                halves.setdefault(name, {})[match[3]] = stored
                embeddings |= {name} if match[2] == "lora_embedding" else set()
            elif _OTHER_FACTOR.search(stored.name):
                raise ModelError(f"{self.name}: expected the factors A and B of LoRA alone, found {stored.name}")
            else:
                whole[_INSIDE.sub("", stored.name.removeprefix(_PREFIX))] = stored
        # PEFT saves the model's own matrix beside the factors of an embedding.
        whole = {name: each for name, each in whole.items() if name not in halves}
        factors = {}
        tensors = []
        for name, pair in halves.items():
            if set(pair) != {"A", "B"}:
                raise WeightFileError(f"{self.name}: expected the factors A and B for {name}, found {' '.join(pair)}")
            a, b = pair["A"], pair["B"]
            if not (len(a.shape) == len(b.shape) == _MATRIX_AXES and a.shape[0] == b.shape[1]):
                raise ModelError(
                    f"{self.name}: expected factors of the shapes [rank, in] and [out, rank] for {name}, found "
                    f"{list(a.shape)} and {list(b.shape)}; adapted convolutions are not compared"
                )
            is_turned = name in embeddings or self.config.get("fan_in_fan_out") is True
            if not a.shape[0]:
                raise WeightFileError(f"{self.name}: expected factors of a rank of at least 1 for {name}, found rank 0")
            shape = (a.shape[1], b.shape[0]) if is_turned else (b.shape[0], a.shape[1])
            factors[name] = a, b, name in embeddings
            tensors.append(StoredTensor(name, shape, "float64", a.n_bytes + b.n_bytes, None, a.file))
        tensors += [StoredTensor(name, each.shape, each.dtype, each.n_bytes, None, "") for name, each in whole.items()]
        return tuple(tensors), factors, whole


def _config(asked: str, path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightFileError(f"{path}: expected an adapter's configuration, got no valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise WeightFileError(f"{path}: expected a JSON object, got {type(config).__name__}")
    if config.get("peft_type") != "LORA":
        raise ModelError(
            f"{asked}: expected a LoRA adapter, whose product of factors is what it adds, got one of the type "
            f"{config.get('peft_type')!r}; merge it into the model and compare that"
        )
    for key, what in _UNSUPPORTED.items():
        if config.get(key):
            raise ModelError(
                f"{asked}: this adapter has {what} ({key}), and is not a plain difference; merge it into the model and "
                "compare that"
            )
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise WeightFileError(f"{path}: expected a JSON object for alpha_pattern, got {type(patterns).__name__}")
    alphas = [config.get("lora_alpha", 8), *patterns.values()]
    if not all(_is_number(alpha) for alpha in alphas):
        raise WeightFileError(f"{path}: expected numbers for lora_alpha and alpha_pattern, got {alphas}")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise WeightFileError(
                f"{path}: expected regular expressions in alpha_pattern, got {pattern!r} ({error})"
            ) from None
    return config


def _is_number(value: object) -> bool:
    """Whether it is a number that float32, in which a model multiplies with it, can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
