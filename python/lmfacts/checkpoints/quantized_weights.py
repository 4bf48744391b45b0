"""What the tensors of a quantized checkpoint are: values with scales beside them, scales, packed integers.

Formats keep a quantized weight as several tensors. Told by names and shapes alone:

- float8 or int8 values with scales for all of them, for each row or for each block: DeepSeek's `weight_scale_inv`
  (which is multiplied, whatever its name), compressed-tensors' and FBGEMM's `weight_scale`, DeepSeek's own `scale`,
  ComfyUI's `scale_weight`, `SCB` of bitsandbytes (127 times the scale of a row). These are dequantized.
- GPTQ, AWQ, HQQ, compressed-tensors' packed integers, bitsandbytes' 4 bits, MXFP4, NVFP4. These are skipped with all
  tensors that belong to them.

A value is never taken for a number where its scale is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lmfacts.checkpoints.source import StoredTensor

__all__ = ["QuantizedWeights", "Scales", "quantized_weights"]

_FLOAT8: Final = ("float8_e4m3fn", "float8_e5m2")
_SCALE_DTYPES: Final = ("float32", "float64", "bfloat16", "float16", "float8_e8m0fnu")
_USUAL_BLOCK: Final = 128
_MX_BLOCK: Final = 32
_LEAST_BLOCK: Final = 16

_PACKED: Final[Mapping[str, str]] = {
    "qweight": "GPTQ or AWQ",
    "weight_packed": "compressed-tensors",
    "W_q": "HQQ",
    "_data": "Quanto",
    "_packed": "Quanto",
    "codebooks": "AQLM",
}
"""The name of the packed tensor, to the format; all that lies beside it but a bias belongs to it."""

_KEPT: Final = frozenset({"bias"})
_OF_ACTIVATIONS: Final = (
    "input_scale",
    "output_scale",
    "input_global_scale",
    "output_global_scale",
    "input_zero_point",
    "activation_scale",
    "q_scale",
    "k_scale",
    "v_scale",
    "kv_scale",
    "prob_scale",
    "scale_input",
)

USED: Final = "scales of quantized values, which they were multiplied with"
OF_ACTIVATIONS: Final = "scales of activations, which are no weights"


@dataclass(frozen=True, slots=True)
class Scales:
    """How the values of a tensor become numbers: (value - zero point) * scale / divisor.

    Attributes:
        scale: the tensor of the scales.
        zero_point: the tensor of the zero points, of the same shape; None without.
        shape: the shape of the scales with an axis for each of the values'.
        blocks: for each axis the values that share a scale.
        divisor: 127 for bitsandbytes, otherwise 1.
    """

    scale: str
    zero_point: str | None
    shape: tuple[int, ...]
    blocks: tuple[int, ...]
    divisor: float = 1.0

    @property
    def kind(self) -> str:
        """`one scale`, `row scales`, `block scales`."""
        if all(n == 1 for n in self.shape):
            return "one scale"
        return "row scales" if self.shape[-1] == 1 else "block scales"


@dataclass(frozen=True, slots=True)
class QuantizedWeights:
    """What was found.

    Attributes:
        dequantized: the name of a tensor, to its scales.
        skipped: the name of a tensor that is no weight or cannot be read as one, to the reason.
    """

    dequantized: dict[str, Scales] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def quantized_weights(tensors: Sequence[StoredTensor], config: Mapping[str, Any] | None) -> QuantizedWeights:
    """Find the quantized weights of a checkpoint.

    Args:
        tensors: what is stored.
        config: the model's configuration; its `quantization_config` has the size of blocks.
    """
    quantization = _quantization(config)
    quantized = QuantizedWeights()
    by_name = {tensor.name: tensor for tensor in tensors}
    children: dict[str, list[str]] = {}
    for name in by_name:
        children.setdefault(name.rpartition(".")[0], []).append(name)
    for name, reason in _packed(by_name, children):
        quantized.skipped.setdefault(name, reason)
    for tensor in tensors:
        if tensor.name in quantized.skipped or tensor.problem is not None:
            continue
        if tensor.dtype in _FLOAT8 or tensor.dtype == "int8":
            _with_scales(tensor, by_name, quantized, quantization)
        elif tensor.dtype.startswith("float8") and tensor.n_values > 1 and tensor.dtype != "float8_e8m0fnu":
            for name in _scale_names(tensor.name):
                if name in by_name:
                    quantized.skipped[name] = f"scales of values in {tensor.dtype}, which are not read"
    _skip_rest(tensors, quantized, quantization)
    return quantized


def _quantization(config: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The part of the configuration about quantization, if it has one."""
    for part in (config, (config or {}).get("text_config")):
        if isinstance(part, dict):
            settings = part.get("quantization_config", part.get("compression_config"))
            if isinstance(settings, dict):
                return settings
    return None


def _packed(by_name: Mapping[str, StoredTensor], children: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """The tensors of weights that are packed, each with the reason why it is skipped."""
    for name, tensor in by_name.items():
        module, _, last = name.rpartition(".")
        is_integer = not tensor.dtype.startswith(("float", "bfloat", "complex"))
        if last in _PACKED and (is_integer or last == "codebooks"):
            reason = f"part of a weight packed by {_PACKED[last]}, which is not dequantized"
            yield from ((other, reason) for other in children[module] if other.rpartition(".")[2] not in _KEPT)
        elif last.endswith("_blocks") and f"{name.removesuffix('_blocks')}_scales" in by_name:
            reason = "part of a weight in MXFP4, which is not dequantized"
            yield from ((other, reason) for other in (name, f"{name.removesuffix('_blocks')}_scales"))
        elif tensor.dtype == "uint8" and name in children:  # weight, weight.absmax, weight.quant_map, ...
            reason = "part of a weight packed by bitsandbytes, which is not dequantized"
            parts = (name, *children[name], *children.get(f"{name}.quant_state", ()))
            yield from ((other, reason) for other in parts)
        elif tensor.dtype == "uint8" and last == "weight" and f"{name}_scale" in by_name:
            reason = "part of a weight packed in 4 bits (NVFP4 or MXFP4), which is not dequantized"
            yield from ((other, reason) for other in children[module] if other.startswith(name))


def _scale_names(name: str) -> tuple[str, ...]:
    """What the scales of a tensor may be called."""
    module, _, last = name.rpartition(".")
    beside = (f"{module}.scale", f"{module}.scale_weight", f"{module}.SCB") if last == "weight" else ()
    return (f"{name}_scale_inv", f"{name}_scale", *beside)


def _with_scales(
    tensor: StoredTensor,
    by_name: Mapping[str, StoredTensor],
    quantized: QuantizedWeights,
    quantization: Mapping[str, Any] | None,
) -> None:
    """Float8 or int8 values: dequantized, skipped, or left as the numbers that they are."""
    names = [name for name in _scale_names(tensor.name) if name in by_name]
    is_scale = (
        tensor.name.endswith(("_scale", "_scale_inv", "_scale_2")) and tensor.name.rpartition("_scale")[0] in by_name
    )
    if is_scale:
        quantized.skipped.setdefault(tensor.name, "scales of quantized values that are not dequantized")
        return
    if not names:
        if quantization is not None and tensor.dtype in _FLOAT8:
            quantized.skipped[tensor.name] = "float8 values of a quantized checkpoint without scales beside them"
        return
    scale = by_name[names[0]]
    zero_point = by_name.get(f"{tensor.name}_zero_point")
    layout = _layout(tensor.shape, scale.shape, _block_size(quantization))
    fits = layout is not None and scale.problem is None and _dtype_fits(scale, layout[1])
    if zero_point is not None:
        fits = (
            fits and zero_point.shape == scale.shape and zero_point.dtype in ("int8", "int32", "int64", *_SCALE_DTYPES)
        )
    format_name = f"{tensor.name.rpartition('.')[0]}.weight_format"
    belongs = [*names, *(other.name for other in (zero_point, by_name.get(format_name)) if other is not None)]
    if len(names) > 1 or not fits or layout is None or (names[0].endswith(".SCB") and layout[0][-1] != 1):
        reason = f"{tensor.dtype} values, or their scales, where it cannot be told how the scales are applied"
        for name in (tensor.name, *belongs):
            quantized.skipped[name] = reason
        return
    divisor = 127.0 if names[0].endswith(".SCB") else 1.0
    quantized.dequantized[tensor.name] = Scales(scale.name, zero_point.name if zero_point else None, *layout, divisor)
    quantized.skipped.update(dict.fromkeys(belongs, USED))


def _dtype_fits(scale: StoredTensor, blocks: tuple[int, ...]) -> bool:
    """Whether scales of this dtype have a known meaning; bytes are exponents in the blocks of MX formats alone."""
    return scale.dtype in _SCALE_DTYPES or (scale.dtype == "uint8" and blocks[-1] == _MX_BLOCK)


def _block_size(quantization: Mapping[str, Any] | None) -> tuple[int, int] | None:
    """The size of a block as the configuration has it: rows, columns."""
    size = (quantization or {}).get("weight_block_size")
    if isinstance(size, list) and len(size) == 2 and all(type(each) is int and each > 0 for each in size):  # noqa: PLR2004  axes
        return size[0], size[1]
    return None


def _layout(
    shape: tuple[int, ...], scales: tuple[int, ...], block_size: tuple[int, int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The scales' shape with as many axes as the values', and how many values share one; None if it cannot be told."""
    if not shape or 0 in shape:
        return None
    if all(n == 1 for n in scales):
        scales = (1,) * len(shape)
    elif len(scales) == 1 and len(shape) > 1 and scales[0] == shape[0]:
        scales = (scales[0], *(1 for _ in shape[1:]))
    if len(scales) != len(shape):
        return None
    known: list[int | None] = [None] * len(shape)
    if block_size is not None and len(shape) > 1:
        known[-2:] = block_size
    blocks = [_block(size, n, size_of_block) for size, n, size_of_block in zip(shape, scales, known, strict=True)]
    return None if any(block is None for block in blocks) else (scales, tuple(block or 1 for block in blocks))


def _block(size: int, n_scales: int, known: int | None) -> int | None:
    """How many values along an axis share a scale; None if that cannot be told."""
    if n_scales == 1:
        return size
    if n_scales == size:
        return 1
    if known is not None:
        return known if -(-size // known) == n_scales else None
    possible = {_LEAST_BLOCK << power for power in range(size.bit_length())}
    possible = {block for block in possible if -(-size // block) == n_scales}
    if size % n_scales == 0:
        possible.add(size // n_scales)
    return possible.pop() if len(possible) == 1 else None


def _skip_rest(
    tensors: Sequence[StoredTensor], quantized: QuantizedWeights, quantization: Mapping[str, Any] | None
) -> None:
    """What else lies in modules with quantized weights: scales of activations, and what formats unknown here keep."""
    modules = {name.rpartition(".")[0] for name in (*quantized.dequantized, *quantized.skipped)}
    integers = {
        tensor.name.rpartition(".")[0]
        for tensor in tensors
        if len(tensor.shape) > 1
        and tensor.dtype.startswith(("int", "uint"))
        and tensor.name not in quantized.dequantized
    }
    for tensor in tensors:
        module, _, last = tensor.name.rpartition(".")
        if tensor.name in quantized.dequantized or tensor.name in quantized.skipped:
            continue
        if last in _OF_ACTIVATIONS and (module in modules or quantization is not None):
            quantized.skipped[tensor.name] = OF_ACTIVATIONS
        elif quantization is not None and module in integers and last not in ("weight", *_KEPT):
            method = str(quantization.get("quant_method", "an unknown method"))[:40]
            quantized.skipped[tensor.name] = f"part of a weight quantized by {method}, which is not dequantized"
