"""Which parameter of a checkpoint has which role: the family's table, applied to the names and shapes that are stored.

Names may have the base model's prefix or not, and may come from inside a wrapper. A tensor is cut
into parts only where its shape is what the family and the configuration say; otherwise it stays whole, under its own
name, and the notes say so. Nothing is guessed from numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lmfacts.models.registry import FAMILIES
from lmfacts.models.weight_layout import Sizes, WeightLayout, WeightTable, WeightView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lmfacts.models.weight_layout import Part

__all__ = ["HEADS", "tied_head", "weight_views"]

HEADS: Final = frozenset({"lm_head.weight", "embed_out.weight", "output.weight"})
"""What the head's matrix may be called."""

_WRAPPERS: Final = re.compile(
    r"(?:module|_orig_mod|base_model|model|transformer|gpt_neox|decoder|language_model|backbone)\."
)
_BLOCK: Final = re.compile(r"^(h|layers|blocks|blk|block)\.([0-9]{1,9})\.(.+)$")
_EXPERT: Final = re.compile(r"(^|\.)experts\.([0-9]{1,9})\.")
_ADAPTED: Final = re.compile(r"\.(?:base_layer|modules_to_save\.[^.]+)(?=\.)")
"""What PEFT puts between a module's name and its parameter's: its own matrix beside an adapter, or its trained copy."""

_ADAPTER: Final = re.compile(
    r"\.(?:lora_(?:A|B|embedding_A|embedding_B|magnitude_vector|bias)|ia3_l|hada_\w+|lokr_\w+|oft_\w+|vera_\w+)(?:\.|$)"
)
_MOST_LAYERS: Final = 1024
"""A number from here on is a layer's only if there are as many tensors; one shard may hold the last of many layers."""

_COMPUTED: Final = re.compile(
    r"(?:^|\.)(?:masked_bias|inv_freq|original_inv_freq|position_ids|rope_freqs\.weight|rope_factors_\w+\.weight)$"
)
_MASK: Final = re.compile(r"(?:^|\.)(?:attn|attention)\.bias$")
_NORM: Final = re.compile(r"norm|(?:^|[._])ln(?:$|[._\d])", re.IGNORECASE)
_LISTED: Final = 6
_MATRIX_AXES: Final = 2
_EXPERTS_AXES: Final = 3

_GENERIC: Final = WeightTable(
    family="generic",
    norm_kind="unknown",
    blocks="",
    outside={
        **dict.fromkeys(("wte", "embed_tokens", "embed_in", "word_embeddings", "token_embd"), "embed.W_E"),
        **dict.fromkeys(("wpe", "embed_positions", "position_embd"), "pos_embed.W_pos"),
        **dict.fromkeys(("norm", "ln_f", "final_layer_norm", "final_layernorm", "output_norm"), "ln_final"),
        **dict.fromkeys(("lm_head", "embed_out", "output"), "unembed.W_U"),
    },
    block={
        "q_proj": "W_Q",
        "k_proj": "W_K",
        "v_proj": "W_V",
        "o_proj": "W_O",
        "gate_proj": "W_gate",
        "up_proj": "W_in",
        "down_proj": "W_out",
        "attn_q": "W_Q",
        "attn_k": "W_K",
        "attn_v": "W_V",
        "attn_output": "W_O",
        "ffn_gate": "W_gate",
        "ffn_up": "W_in",
        "ffn_down": "W_out",
    },
    before={},
    before_head=None,
    by_last_name=True,
)


def weight_views(names_and_shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any] | None) -> WeightLayout:
    """Say which stored tensor, or part of one, has which role.

    Args:
        names_and_shapes: every tensor of a checkpoint in its order, tied ones once.
        config: the model's configuration; with None or an unknown `model_type`, roles are given by the last part of the
            names alone, no tensor is cut, and no norm is said to come before a matrix.

    Returns:
        Views that see every element of every tensor exactly once.
    """
    sizes = Sizes(config or {})
    known = _known(names_and_shapes)
    table, notes = _table(sizes, known, names_and_shapes)
    # A shard may lack the projection that shows it; then the family's own files are meant.
    transposed = table.conv1d is not None and _is_transposed(table.conv1d, known, names_and_shapes) is not False
    views: list[WeightView] = []
    for name, shape in names_and_shapes.items():
        views += _views_of(name, shape, known[name], table, notes, transposed=transposed)
    views = _with_unique_roles(views, notes)
    roles = {view.role for view in views if view.role is not None}
    # The number of blocks of the list that the family has; elsewhere of any list.
    layers = [view.layer for view in views if view.layer is not None]
    n_layers = max(layers, default=-1) + 1
    if any(_ADAPTER.search(name) for name in names_and_shapes):
        notes.append(
            "Adapters (LoRA and the like) are measured as they are stored; the weights they adapt are measured without "
            "what they add."
        )
    tie = tied_head(names_and_shapes, config)
    aliases = {"unembed.W_U": "embed.W_E"} if tie is not None and "embed.W_E" in roles else {}
    return WeightLayout(
        views=tuple(views),
        n_layers=n_layers,
        family=table.family,
        norm_kind=table.norm_kind,
        gain_offset=table.gain_offset,
        preceding_norm=MappingProxyType(_preceding(table, roles, n_layers)),
        aliases=MappingProxyType(aliases),
        notes=tuple(dict.fromkeys([*table.notes, *notes])),
    )


def tied_head(names: Iterable[str], config: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """The head and the embedding whose matrix it shares, where a checkpoint of a causal LM leaves the head out.

    Returns:
        (name that the head would have, name of the stored embedding); None if the head is stored, if the configuration
        says that they are not tied, or if the model has no head.
    """
    if config is None:
        return None
    sizes = Sizes(config)
    classes = config.get("architectures")
    has_head = not isinstance(classes, list) or any(
        str(each).endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for each in classes
    )
    tie = config.get("tie_word_embeddings", sizes.get("tie_word_embeddings", True))
    family = FAMILIES.get(sizes.model_type or "")
    table = _GENERIC if family is None else family.weight_table(sizes)
    relative = _known(names)
    embeddings = [
        name for name, (layer, path) in relative.items() if layer is None and _outside(table, path) == "embed.W_E"
    ]
    if not has_head or not tie or len(embeddings) != 1 or any(path in HEADS for _, path in relative.values()):
        return None
    return table.head, embeddings[0]


def _outside(table: WeightTable, path: str) -> str | None:
    module, _, leaf = path.rpartition(".")
    return table.outside.get(module) if leaf == "weight" else None


def _known(names: Iterable[str]) -> dict[str, tuple[int | None, str]]:
    """Each tensor's block and its name in it, or None and its name without the base model's prefix."""
    names = list(names)
    n_layers = max(len(names), _MOST_LAYERS)
    return {name: _relative(name, n_layers) for name in names}


def _relative(name: str, n_layers: int) -> tuple[int | None, str]:
    """The block that a tensor belongs to, if its number is below `n_layers`, and its name in it."""
    start = 0
    while (wrapper := _WRAPPERS.match(name, start)) is not None:
        start = wrapper.end()
    name = _ADAPTED.sub("", name[start:])
    in_block = _BLOCK.match(name)
    if in_block is None or int(in_block[2]) >= n_layers:
        return None, name
    return int(in_block[2]), in_block[3]


def _table(
    sizes: Sizes, known: Mapping[str, tuple[int | None, str]], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[WeightTable, list[str]]:
    """The family's table and the notes to begin with."""
    family = FAMILIES.get(sizes.model_type or "")
    if family is not None:
        return family.weight_table(sizes), []
    by_name = (
        "roles are given by names such as q_proj alone, matrices are taken to be stored [out, in], fused tensors are "
        "left whole, and no norm is said to come before a matrix."
    )
    if sizes.model_type is not None:
        return _GENERIC, [f"The model type {sizes.model_type!r} has no table of weights: {by_name}"]
    guess = FAMILIES["gpt2"].weight_table(sizes)
    if guess.conv1d is not None and _is_transposed(guess.conv1d, known, shapes):
        return guess, ["There is no configuration; the names and shapes are GPT-2's."]
    return _GENERIC, [f"There is no configuration that names the model's type: {by_name}"]


def _is_transposed(
    fused: str, known: Mapping[str, tuple[int | None, str]], shapes: Mapping[str, tuple[int, ...]]
) -> bool | None:
    """Whether a projection to q, k and v is stored [d, 3 d], not [3 d, d]; None if there is none."""
    for name, (layer, path) in known.items():
        if layer is not None and path == f"{fused}.weight" and len(shapes[name]) == _MATRIX_AXES:
            n_rows, n_columns = shapes[name]
            return n_columns == 3 * n_rows
    return None


def _views_of(
    name: str,
    shape: tuple[int, ...],
    place: tuple[int | None, str],
    table: WeightTable,
    notes: list[str],
    *,
    transposed: bool,
) -> list[WeightView]:
    """The views of one tensor."""
    layer, path = place
    if _COMPUTED.search(path) or (_MASK.search(path) and len(shape) > _MATRIX_AXES):
        return [WeightView(None, name, None, transposed=False, stored_shape=shape, layer=layer, is_parameter=False)]
    module, _, leaf = path.rpartition(".")
    if leaf not in ("weight", "bias"):
        module, leaf = path, "weight"
    is_norm = len(shape) == 1 and (
        module in table.other_norms or (table.by_last_name and _NORM.search(module) is not None)
    )
    whole = WeightView(None, name, None, transposed=False, stored_shape=shape, layer=layer, is_norm=is_norm)
    expert = _EXPERT.search(module)
    pattern = module if expert is None else _EXPERT.sub(r"\1experts.*.", module, count=1)
    if layer is None:
        entry: str | tuple[Part, ...] | None = table.outside.get(module)
    elif table.by_last_name:
        entry = _by_last_name(pattern, table)
    else:
        entry = table.block.get(pattern)
    if entry is None:
        return [whole]
    number = None if expert is None else int(expert[2])
    turned = transposed and layer is not None and len(shape) == _MATRIX_AXES
    base = replace(whole, transposed=turned)
    if isinstance(entry, str):
        return _whole_views(base, entry, leaf, number)
    views = _part_views(base, entry, leaf, number)
    if views is None:
        notes.append(
            f"{module.rpartition('.')[2]} is left whole: its shape and the configuration do not say where its parts "
            f"are ({name} is {list(shape)})."
        )
        return [whole]
    return views


def _by_last_name(pattern: str, table: WeightTable) -> str | None:
    """The role kind by the last name of a path, with the expert it belongs to."""
    before, _, last = pattern.rpartition(".")
    kind = table.block.get(last)
    if not isinstance(kind, str):
        return None
    if before.endswith("experts.*"):
        return f"experts.*.{kind}"
    return f"shared_expert.{kind}" if before.endswith("shared_expert") else kind


def _role(view: WeightView, kind: str, leaf: str, expert: int | None) -> str | None:
    """The full name of a role, or None where the tensor's axes are not those of its kind."""
    scope, _, last = kind.replace("*", str(expert)).rpartition(".")
    n_axes = len(view.shape)
    if last.startswith("ln"):
        last = f"{last}.gain" if leaf == "weight" else f"{last}.bias"
        fits = n_axes == 1
    elif leaf == "bias":
        last = f"b_{last.removeprefix('W_')}"
        fits = n_axes == 1
    else:
        fits = n_axes == _MATRIX_AXES
    if not fits:
        return None
    block = "" if view.layer is None else f"blocks.{view.layer}."
    return f"{block}{scope}.{last}" if scope else f"{block}{last}"


def _whole_views(base: WeightView, kind: str, leaf: str, expert: int | None) -> list[WeightView]:
    """A tensor with one role, or a tensor of all experts with one for each."""
    is_norm = base.is_norm or kind.startswith("ln")
    if "*" in kind and expert is None:
        if len(base.stored_shape) != _EXPERTS_AXES:
            return [base]
        views = [replace(base, part=f"expert {index}", expert=index) for index in range(base.stored_shape[0])]
        return [replace(view, role=_role(view, kind, leaf, view.expert)) for view in views]
    return [replace(base, role=_role(base, kind, leaf, expert), is_norm=is_norm)]


def _part_views(base: WeightView, parts: tuple[Part, ...], leaf: str, expert: int | None) -> list[WeightView] | None:
    """The parts of a fused tensor, for each expert if there are such; None if it does not have the family's layout."""
    shape = base.stored_shape
    is_fused_experts = "*" in parts[0].kind and expert is None
    if len(shape) != _EXPERTS_AXES if is_fused_experts else len(shape) not in (1, _MATRIX_AXES):
        return None
    sizes = shape[1:] if is_fused_experts else shape
    width = sizes[1 if base.transposed else 0]
    cuts = [(part, part.view(width)) for part in parts]
    if any(cut is None or (base.transposed and cut.n_groups != 1) for _, cut in cuts):
        return None
    views = []
    for index in range(shape[0]) if is_fused_experts else (None,):
        for part, cut in cuts:
            label = part.label if index is None else f"expert {index} {part.label}"
            view = replace(base, part=label, cut=cut, expert=index)
            views.append(replace(view, role=_role(view, part.kind, leaf, expert if index is None else index)))
    return views


def _with_unique_roles(views: list[WeightView], notes: list[str]) -> list[WeightView]:
    """The views, with no role given twice: where two tensors claim one, neither has it."""
    counts = Counter(view.role for view in views if view.role is not None)
    twice = {role for role, count in counts.items() if count > 1}
    if twice:
        listed = ", ".join(sorted(twice)[:_LISTED]) + (" ..." if len(twice) > _LISTED else "")
        notes.append(f"More than one tensor could be {listed}; they keep their own names.")
    twice |= counts.keys() & {view.parameter for view in views}  # no name stands for two
    return [replace(view, role=None) if view.role in twice else view for view in views]


def _preceding(table: WeightTable, roles: set[str], n_layers: int) -> dict[str, str]:
    """The norm gain that comes before each matrix that reads a norm's output."""
    preceding: dict[str, str] = {}
    in_block: dict[int, list[str]] = {}
    for role in sorted(roles):
        if role.startswith("blocks."):
            in_block.setdefault(int(role.split(".", 2)[1]), []).append(role)
    for layer, within in sorted(in_block.items()):
        for role in within:
            for norm in table.before.get(role.rpartition(".")[2], ()):
                gain = _gain(norm, layer)
                if gain in roles:
                    preceding[role] = gain
                    break
    if (
        table.before_head is not None
        and "unembed.W_U" in roles
        and (gain := _gain(table.before_head, n_layers)) in roles
    ):
        preceding["unembed.W_U"] = gain
    return preceding


def _gain(norm: str, layer: int) -> str:
    if norm.startswith("previous."):
        return f"blocks.{layer - 1}.{norm.removeprefix('previous.')}.gain"
    return f"{norm}.gain" if norm == "ln_final" else f"blocks.{layer}.{norm}.gain"
