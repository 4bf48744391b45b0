"""What every family shares about its parameters: views of a stored tensor, and the table that a family fills in.

A family's `weight_table` says which module of a block has which role; `weight_views` (in `weight_roles`) turns the
names and shapes in a checkpoint into views, so that every element of every tensor is seen exactly once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lmfacts.errors import ModelError
from lmfacts.models.adapter import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FUSED_ORDER",
    "PRE_NORM",
    "Part",
    "Sizes",
    "WeightLayout",
    "WeightTable",
    "WeightView",
    "halves",
    "qkv",
    "qkv_by_head",
    "qkv_in_a_row",
    "qkv_in_thirds",
]

FUSED_ORDER: Final = "fused_qkv_order"
"""Key of a configuration that was made from a GGUF file: its value `q,k,v` says that the rows of a fused projection are
all of q, then all of k, then all of v, whatever the order in the family's own files."""

_MATRIX_AXES: Final = 2


@dataclass(frozen=True, slots=True)
class WeightView:
    """A parameter, or a part of one, in the tensor that a checkpoint stores.

    Attributes:
        role: `blocks.3.W_Q`, `embed.W_E`, `blocks.2.experts.5.W_in`, ...; None where the design names none.
        parameter: the tensor's name in the checkpoint.
        part: which part of a fused tensor it is (`q`, `gate`, `expert 5`, ...); None for the whole tensor.
        transposed: stored [in, out] (GPT-2's Conv1D) instead of [out, in]. Embedding tables, [tokens, dims], are not
            called transposed.
        stored_shape: the shape of the whole stored tensor.
        layer: the block it belongs to; None outside the blocks.
        is_norm: a gain or bias of a norm, with a role or without.
        is_parameter: False for what a model computes itself and old files keep (causal masks, rotary frequencies).
        cut: the part of the output axis that is taken; None for all of it.
        expert: the index on the first axis that is taken; None for all of it.
    """

    role: str | None
    parameter: str
    part: str | None
    transposed: bool
    stored_shape: tuple[int, ...]
    layer: int | None = None
    is_norm: bool = False
    is_parameter: bool = True
    cut: View | None = None
    expert: int | None = None

    @property
    def name(self) -> str:
        """The role, or the parameter's name if it has none (with the part, if it is one)."""
        if self.role is not None:
            return self.role
        return self.parameter if self.part is None else f"{self.parameter}:{self.part}"

    @property
    def kind(self) -> str | None:
        """The role without the block: `W_Q`, `ln1.gain`, `embed.W_E`, `experts.5.W_in`."""
        if self.role is None or self.layer is None:
            return self.role
        return self.role.removeprefix(f"blocks.{self.layer}.")

    @property
    def shape(self) -> tuple[int, ...]:
        """[rows, cols] of what the view gives once its leading axes are flattened; one axis for a vector."""
        sizes = self._sizes()
        if self.cut is not None:
            sizes[self._axis()] = self.cut.n_dims
        return (math.prod(sizes),) if len(sizes) < _MATRIX_AXES else (math.prod(sizes[:-1]), sizes[-1])

    @property
    def n_values(self) -> int:
        """The number of values it sees."""
        return math.prod(self.shape)

    def __call__(self, array: NDArray[Any]) -> NDArray[Any]:
        """The part of the stored `array`, as a strided view of its memory.

        The last axis is the stored inner axis; the axes before it, flattened, are the other one. A vector has one axis;
        the only copy ever made is of a bias whose parts are interleaved.

        Raises:
            ModelError: the array has not the shape that the layout was made for.
        """
        if array.shape != self.stored_shape:
            raise ModelError(
                f"{self.parameter}: expected an array of shape {list(self.stored_shape)}, got {list(array.shape)}"
            )
        if array.ndim == 0:
            return array.reshape(1)
        if self.expert is not None:
            array = array[self.expert]
        is_vector = array.ndim == 1
        if self.cut is not None:
            axis = self._axis()
            if self.cut.n_groups != 1:
                before, after = array.shape[:axis], array.shape[axis + 1 :]
                array = array.reshape(*before, self.cut.n_groups, self.cut.width // self.cut.n_groups, *after)
                axis += 1
            array = array[(slice(None),) * axis + (slice(self.cut.start, self.cut.start + self.cut.length),)]
        return array.reshape(-1) if is_vector else array

    def _sizes(self) -> list[int]:
        return list(self.stored_shape if self.expert is None else self.stored_shape[1:])

    def _axis(self) -> int:
        """The output axis, counted after the expert's is gone."""
        return 1 if self.transposed else 0


@dataclass(frozen=True)
class WeightLayout:
    """The parameters of a checkpoint by role.

    Attributes:
        views: in the order of the checkpoint; together they see every element of every tensor exactly once.
        n_layers: the number of blocks.
        family: the family whose table was used, or `generic`.
        norm_kind: `layernorm`, `rmsnorm`, or `unknown`.
        gain_offset: what the model adds to a stored gain before it multiplies (1 for Gemma, otherwise 0).
        preceding_norm: the role of a matrix that reads the output of a norm, to the role of that norm's gain.
        aliases: a role whose matrix is stored under another one, to that one (tied embeddings).
        notes: what a reader of the numbers should know, a sentence each.
    """

    views: tuple[WeightView, ...]
    n_layers: int
    family: str
    norm_kind: str
    gain_offset: float = 0.0
    preceding_norm: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()


class Sizes:
    """The sizes in a configuration, whatever it calls them; those of the language model where it is a part."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        inner = config.get("text_config")
        self._config: Mapping[str, Any] = inner if isinstance(inner, Mapping) else config

    def get(self, key: str, default: Any = None) -> Any:
        """An entry as it is."""
        return self._config.get(key, default)

    def number(self, *keys: str) -> int | None:
        """The first of these entries that is a positive integer."""
        values = (self._config.get(key) for key in keys)
        return next((value for value in values if type(value) is int and value > 0), None)

    @property
    def model_type(self) -> str | None:
        """The configuration's `model_type`."""
        value = self._config.get("model_type")
        return value if isinstance(value, str) else None

    @property
    def n_heads(self) -> int | None:
        """Query heads per block."""
        return self.number("num_attention_heads", "n_head", "num_heads")

    @property
    def n_kv_heads(self) -> int | None:
        """Key and value heads per block."""
        return self.number("num_key_value_heads", "num_kv_heads", "n_head_kv") or self.n_heads

    @property
    def d_head(self) -> int | None:
        """Values of a head."""
        n_dims, n_heads = self.number("hidden_size", "n_embd"), self.n_heads
        return self.number("head_dim") or (None if n_dims is None or n_heads is None else n_dims // n_heads)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a fused tensor: its role's kind, what it is called, and where it lies on an output axis of some width.

    `view` gives None where the width does not fit; the tensor is then not cut.
    """

    kind: str
    label: str
    view: Callable[[int], View | None]


PRE_NORM: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        **dict.fromkeys(("W_Q", "W_K", "W_V"), ("ln1",)),
        **dict.fromkeys(("W_in", "W_gate"), ("ln2", "ln1")),
    }
)
"""Blocks that read the stream through norms. Where a block has no second norm, the MLP reads the first."""


@dataclass(frozen=True)
class WeightTable:
    """What a family calls its parameters.

    Attributes:
        family: the family's name.
        norm_kind: as in `WeightLayout`.
        blocks: the name of the list of blocks.
        outside: module path outside the blocks (without the base model's prefix) to role: `embed.W_E`, `ln_final`.
        block: module path in a block to role kind (`W_O`, `ln1`, `experts.*.W_in`), or to the parts of a fused tensor.
            A `*` stands for the number of an expert, in the path or, for a tensor of all experts, on its first axis.
        before: the kind of a matrix, to the norms that may come before it; the first that the block has is meant.
            `previous.ln2` is the one at the end of the block before.
        before_head: the norm that the head reads.
        gain_offset: as in `WeightLayout`.
        conv1d: the fused projection whose shape shows whether matrices are stored [in, out]; None where they never are.
        other_norms: module paths of norms without a role, in a block or outside.
        head: the name of the head's matrix in the family's files.
        by_last_name: whether `block` is keyed by the last name of the path alone (for unknown families).
        notes: sentences for the reader of the numbers.
    """

    family: str
    norm_kind: str
    blocks: str
    outside: Mapping[str, str]
    block: Mapping[str, str | tuple[Part, ...]]
    before: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: PRE_NORM)
    before_head: str | None = "ln_final"
    gain_offset: float = 0.0
    conv1d: str | None = None
    other_norms: frozenset[str] = frozenset()
    head: str = "lm_head.weight"
    by_last_name: bool = False
    notes: tuple[str, ...] = ()


_QKV: Final = (("W_Q", "q"), ("W_K", "k"), ("W_V", "v"))


def qkv(views: tuple[View, View, View] | None) -> tuple[Part, ...]:
    """q, k and v of one projection, where these views say; with None the projection cannot be cut."""

    def exactly(view: View) -> Callable[[int], View | None]:
        return lambda width: view if view.width == width else None

    if views is None:
        return tuple(Part(kind, label, lambda _: None) for kind, label in _QKV)
    return tuple(Part(kind, label, exactly(view)) for (kind, label), view in zip(_QKV, views, strict=True))


def _share(index: int, n_shares: int) -> Callable[[int], View | None]:
    """One of several equal shares of an axis."""

    def view(width: int) -> View | None:
        return View(width, index * (width // n_shares), width // n_shares) if width % n_shares == 0 else None

    return view


def qkv_in_thirds() -> tuple[Part, ...]:
    """q, k and v one after the other, of one size."""
    return tuple(Part(kind, label, _share(index, 3)) for index, (kind, label) in enumerate(_QKV))


def halves(first: tuple[str, str], second: tuple[str, str]) -> tuple[Part, ...]:
    """Two parts (kind, label) of one size, one after the other."""
    return tuple(Part(kind, label, _share(index, 2)) for index, (kind, label) in enumerate((first, second)))


def qkv_in_a_row(sizes: Sizes) -> tuple[Part, ...]:
    """All query heads, then all key heads, then all value heads."""
    n_heads, n_kv_heads, d_head = sizes.n_heads, sizes.n_kv_heads, sizes.d_head
    if n_heads is None or n_kv_heads is None or d_head is None:
        return qkv(None)
    q_size, kv_size = n_heads * d_head, n_kv_heads * d_head
    width = q_size + 2 * kv_size
    return qkv(
        (View(width, 0, q_size), View(width, q_size, kv_size), View(width, q_size + kv_size, kv_size)),
    )


def qkv_by_head(sizes: Sizes) -> tuple[Part, ...]:
    """Head after head, each with its q, k and v; all of q first where the configuration says so (GGUF)."""
    if sizes.get(FUSED_ORDER) == "q,k,v":
        return qkv_in_thirds()
    n_heads, d_head = sizes.n_heads, sizes.d_head
    if n_heads is None or d_head is None:
        return qkv(None)
    width = 3 * n_heads * d_head
    first, second, third = (View(width, index * d_head, d_head, n_heads) for index in range(3))
    return qkv((first, second, third))
