"""Names of the places in a model whose values are recorded, and how to choose among them.

A site is a kind and, inside the blocks, a layer: `blocks.3.resid_post`. Outside the blocks it is the kind alone:
`embed`, `final_norm_out`, `logits`. The names follow TransformerLens without its `hook_`; the spellings of
TransformerLens 2 to 4 are read as well. One parser (`Site.parse`) and one printer (`str(site)`) round-trip.

What each kind means, for a block that adds attention and MLP to a residual stream (d is the model's hidden size):

| kind | the values |
|---|---|
| `resid_pre` | what enters the block, d |
| `ln1_out` | what the norm before attention gives, after gain and bias, d |
| `q`, `k`, `v` | the projections' outputs, with bias, before any norm on them and before rotary; heads x d_head |
| `z` | the heads' outputs side by side: what enters W_O; heads x d_head |
| `attn_out` | what attention adds to the residual stream (after a norm on the branch, where there is one), d |
| `resid_mid` | `resid_pre + attn_out`; parallel blocks have none, d |
| `ln2_out` | what the norm before the MLP gives, d |
| `mlp_pre` | what enters the activation function: W_in's output, or W_gate's in a gated MLP; neurons |
| `mlp_post` | what enters W_out; neurons |
| `mlp_out` | what the MLP adds to the residual stream, d |
| `resid_post` | what leaves the block, d |
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from lmfacts.errors import SiteNotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["PRESETS", "Site", "SiteKind", "detail_sites", "is_matrix_input", "is_module_pattern", "select", "spelled"]


class SiteKind(Enum):
    """The kinds of site, in the order in which a forward pass reaches them."""

    EMBED = "embed"
    RESID_PRE = "resid_pre"
    LN1_OUT = "ln1_out"
    Q = "q"
    K = "k"
    V = "v"
    Z = "z"
    ATTN_OUT = "attn_out"
    RESID_MID = "resid_mid"
    LN2_OUT = "ln2_out"
    MLP_PRE = "mlp_pre"
    MLP_POST = "mlp_post"
    MLP_OUT = "mlp_out"
    RESID_POST = "resid_post"
    FINAL_NORM_OUT = "final_norm_out"
    LOGITS = "logits"

    @property
    def in_block(self) -> bool:
        """Whether there is one such site per block; the others occur once in a model."""
        return self not in _OUTSIDE


_OUTSIDE: Final = frozenset({SiteKind.EMBED, SiteKind.FINAL_NORM_OUT, SiteKind.LOGITS})
_DEPTH: Final = {kind: index for index, kind in enumerate(SiteKind)}

_MATRIX_INPUTS: Final = frozenset(
    {SiteKind.LN1_OUT, SiteKind.Z, SiteKind.LN2_OUT, SiteKind.MLP_POST, SiteKind.FINAL_NORM_OUT}
)
_RESIDUALS: Final = frozenset({SiteKind.RESID_PRE, SiteKind.RESID_MID, SiteKind.RESID_POST})

PRESETS: Final[Mapping[str, frozenset[SiteKind]]] = {
    "resid": _RESIDUALS,
    "default": _RESIDUALS
    | {
        SiteKind.LN1_OUT,
        SiteKind.LN2_OUT,
        SiteKind.FINAL_NORM_OUT,
        SiteKind.Z,
        SiteKind.MLP_POST,
        SiteKind.ATTN_OUT,
        SiteKind.MLP_OUT,
    },
    "all": frozenset(SiteKind) - {SiteKind.LOGITS},
}
"""Named sets of kinds. `logits` is as wide as the vocabulary and is in none of them: it has to be asked for."""

_TRANSFORMERLENS: Final[Mapping[str, SiteKind]] = {
    # Inside a block: HookedTransformer's names, then those of the bridge (version 4).
    "hook_resid_pre": SiteKind.RESID_PRE,
    "hook_resid_mid": SiteKind.RESID_MID,
    "hook_resid_post": SiteKind.RESID_POST,
    "hook_attn_out": SiteKind.ATTN_OUT,
    "hook_mlp_out": SiteKind.MLP_OUT,
    "attn.hook_q": SiteKind.Q,
    "attn.hook_k": SiteKind.K,
    "attn.hook_v": SiteKind.V,
    "attn.hook_z": SiteKind.Z,
    "mlp.hook_pre": SiteKind.MLP_PRE,
    "mlp.hook_post": SiteKind.MLP_POST,
    "ln1.hook_normalized": SiteKind.LN1_OUT,
    "ln2.hook_normalized": SiteKind.LN2_OUT,
    "hook_in": SiteKind.RESID_PRE,
    "hook_out": SiteKind.RESID_POST,
    "ln1.hook_out": SiteKind.LN1_OUT,
    "ln2.hook_out": SiteKind.LN2_OUT,
    "attn.q.hook_out": SiteKind.Q,
    "attn.k.hook_out": SiteKind.K,
    "attn.v.hook_out": SiteKind.V,
    "attn.o.hook_in": SiteKind.Z,
    "attn.hook_out": SiteKind.ATTN_OUT,
    "mlp.in.hook_out": SiteKind.MLP_PRE,
    "mlp.out.hook_in": SiteKind.MLP_POST,
    "mlp.hook_out": SiteKind.MLP_OUT,
    # Outside the blocks.
    "hook_embed": SiteKind.EMBED,
    "embed.hook_out": SiteKind.EMBED,
    "ln_final.hook_normalized": SiteKind.FINAL_NORM_OUT,
    "ln_final.hook_out": SiteKind.FINAL_NORM_OUT,
    "unembed.hook_out": SiteKind.LOGITS,
}

_BLOCK_NAME: Final = re.compile(r"blocks\.([^.]+)\.(.+)", re.DOTALL)
_LAYER: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_NEGATIVE_LAYER: Final = re.compile(r"-[1-9][0-9]{0,8}")
_WILDCARD: Final = re.compile(r"[*?\[]")
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_MODULE_SIDE: Final = re.compile(r".*:(in|out)", re.DOTALL)
_LISTED: Final = 6


def _kind(text: str, *, in_block: bool) -> SiteKind | None:
    """The kind that `text` names, in our spelling or in TransformerLens's; None where there is none."""
    kind = _TRANSFORMERLENS.get(text)
    if kind is None:
        try:
            kind = SiteKind(text)
        except ValueError:
            return None
    return kind if kind.in_block is in_block else None


@functools.total_ordering
@dataclass(frozen=True, slots=True)
class Site:
    """A kind and, for kinds inside the blocks, a layer counted from 0. Sites are ordered by depth.

    Raises:
        UsageError: a kind inside the blocks without a layer, a kind outside them with one, or a negative layer.
    """

    kind: SiteKind
    layer: int | None = None

    def __post_init__(self) -> None:
        """Refuse a layer where there is none, and the lack of one where there must be."""
        if self.kind.in_block and (self.layer is None or self.layer < 0):
            raise UsageError(f"site kind {self.kind.value!r} needs a layer of 0 or more, got {self.layer!r}")
        if not self.kind.in_block and self.layer is not None:
            raise UsageError(
                f"site kind {self.kind.value!r} lies outside the blocks and has no layer, got {self.layer!r}"
            )

    def __str__(self) -> str:
        return self.kind.value if self.layer is None else f"blocks.{self.layer}.{self.kind.value}"

    def __lt__(self, other: object) -> bool:
        return self._depth() < other._depth() if isinstance(other, Site) else NotImplemented

    def _depth(self) -> tuple[int, int, int]:
        """Sort key: embed, the blocks by layer, then what follows them."""
        if self.layer is not None:
            return (1, self.layer, _DEPTH[self.kind])
        return (0 if self.kind is SiteKind.EMBED else 2, 0, _DEPTH[self.kind])

    @classmethod
    def parse(cls, text: str) -> Site:
        """Read a name such as `blocks.3.resid_post`, `embed`, or TransformerLens's `blocks.3.attn.hook_q`.

        Raises:
            SiteNotFoundError: the text names no site; the message lists the closest kinds.
        """
        inside = _BLOCK_NAME.fullmatch(text)
        if inside is None:
            kind = _kind(text, in_block=False)
            if kind is not None:
                return cls(kind)
            if _kind(text, in_block=True) is not None:
                raise SiteNotFoundError(
                    f"site {text!r} lacks its layer: write blocks.<layer>.{text}, e.g. blocks.0.{text}"
                )
        elif _LAYER.fullmatch(inside[1]) is None:
            raise SiteNotFoundError(f"site {text!r} has {inside[1]!r} where a layer number (0, 1, 2, ...) was expected")
        else:
            kind = _kind(inside[2], in_block=True)
            if kind is not None:
                return cls(kind, int(inside[1]))
        known = [kind.value if not kind.in_block else f"blocks.<layer>.{kind.value}" for kind in SiteKind]
        raise SiteNotFoundError(f"{text!r} is not the name of a site; the names are {', '.join(known)}")


def is_matrix_input(site: str) -> bool:
    """Whether what a site holds is multiplied by a matrix: the input of a module, or a site that projections read."""
    if is_module_pattern(site):
        return site.endswith(":in")
    return Site.parse(site).kind in _MATRIX_INPUTS


def detail_sites(n_layers: int) -> frozenset[str]:
    """The sites of which more is kept than of others: `resid_post` at five depths, from the first block to the last."""
    quarters = range(5)
    return frozenset(f"blocks.{(quarter * (n_layers - 1) + 2) // 4}.resid_post" for quarter in quarters if n_layers)


def is_module_pattern(pattern: str) -> bool:
    """Whether a pattern names modules by path and side (`model.layers.*.mlp.down_proj:in`) instead of sites."""
    return _MODULE_SIDE.fullmatch(pattern) is not None


def select(
    patterns: str | Sequence[str] | Callable[[str], bool],
    available: Sequence[str],
    absent: Mapping[str, str] | None = None,
) -> list[str]:
    """Choose sites by preset, glob, name or predicate.

    A pattern is a preset (`resid`, `default`, `all`), a name in our spelling or TransformerLens's, a glob
    (`blocks.*.mlp_post`, `blocks.[0-3].resid_post`), or a kind alone (`resid_post`: in every layer). A negative layer
    counts from the last block (`blocks.-1.resid_post`), and braces list alternatives (`blocks.{0,5,-1}.z`). Several
    patterns come as a sequence or joined by commas. A glob takes `logits` only if it contains that word.

    Args:
        patterns: what to choose, as above, or a function of a name that says whether to take it.
        available: the names there are, in the order wanted (by depth).
        absent: names that this model does not have, each with the reason, which then becomes part of the error.

    Returns:
        The names chosen, each once, in the order of `available`.

    Raises:
        SiteNotFoundError: a pattern matches nothing; the message has the closest names.
        UsageError: there is no pattern at all, or a pattern addresses modules (`:in`, `:out`), which needs the model.
    """
    names = list(dict.fromkeys(available))
    if callable(patterns):
        chosen = {name for name in names if patterns(name)}
        if not chosen:
            raise SiteNotFoundError(f"the function given as a site selection took none of {_listed(names)}")
        return [name for name in names if name in chosen]
    n_layers = 1 + max(
        (int(match[1]) for match in map(_BLOCK_NAME.match, names) if match and _LAYER.fullmatch(match[1])), default=-1
    )
    chosen = set()
    n_patterns = 0
    for pattern in _split(patterns):
        n_patterns += 1
        if is_module_pattern(pattern):
            raise UsageError(f"{pattern!r} names modules, not sites: resolve it with lmfacts.models.module_taps")
        matching = _match(pattern, names, n_layers)
        if not matching:
            raise SiteNotFoundError(_not_found(pattern, names, absent or {}, n_layers))
        chosen.update(matching)
    if n_patterns == 0:
        raise UsageError(f"no site was named: give a preset ({', '.join(PRESETS)}), a site name or a glob")
    return [name for name in names if name in chosen]


def _split(patterns: str | Sequence[str]) -> Iterable[str]:
    """The single patterns: split at commas outside braces, stripped, with braces expanded."""
    for text in [patterns] if isinstance(patterns, str) else patterns:
        for part in re.split(r",(?![^{}]*\})", text):
            if part.strip():
                yield from _expand(part.strip())


def _expand(pattern: str) -> Iterable[str]:
    """Every way to write out the alternatives in braces: `a.{0,2}.b` gives `a.0.b` and `a.2.b`."""
    pieces = _BRACES.split(pattern)
    choices = [[piece] if index % 2 == 0 else piece.split(",") for index, piece in enumerate(pieces)]
    for combination in itertools.product(*choices):
        yield "".join(part.strip() for part in combination)


def _match(pattern: str, names: Sequence[str], n_layers: int) -> list[str]:
    """The names that one pattern stands for; an empty list where there are none."""
    if pattern in PRESETS:
        kinds = {kind.value for kind in PRESETS[pattern]}
        return [name for name in names if name.rpartition(".")[2] in kinds]
    glob = _canonical(pattern, n_layers)
    if _WILDCARD.search(glob) is None:
        return [name for name in names if name == glob]
    with_logits = SiteKind.LOGITS.value in glob
    return [name for name in names if fnmatchcase(name, glob) and (with_logits or name != SiteKind.LOGITS.value)]


def _canonical(pattern: str, n_layers: int) -> str:
    """A pattern in our spelling: names translated, a negative layer resolved, a bare kind put into every layer."""
    inside = _BLOCK_NAME.fullmatch(pattern)
    if inside is None:
        outside = _kind(pattern, in_block=False)
        if outside is not None:
            return outside.value
        bare = _kind(pattern, in_block=True)
        return pattern if bare is None else f"blocks.*.{bare.value}"
    layer, rest = inside[1], inside[2]
    if _NEGATIVE_LAYER.fullmatch(layer) and int(layer) + n_layers >= 0:
        layer = str(int(layer) + n_layers)
    kind = _kind(rest, in_block=True)
    return f"blocks.{layer}.{rest if kind is None else kind.value}"


def _not_found(pattern: str, names: Sequence[str], absent: Mapping[str, str], n_layers: int) -> str:
    """The sentence for a pattern without a match: what was asked, why there is none, and what comes close."""
    missing = _match(pattern, list(absent), n_layers)
    if missing:
        return f"this model has no site {missing[0]!r}: {absent[missing[0]]}"
    if not names:
        return f"no site matches {pattern!r}: there are no sites to choose from"
    wanted = _canonical(pattern, n_layers)
    close = difflib.get_close_matches(wanted, [*names, *PRESETS], n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {_listed(names)}."
    layers = f" (layers 0 to {n_layers - 1})" if n_layers else ""
    path = f". The path of a module takes a side: {pattern}:in or {pattern}:out" if "." in pattern else ""
    return f"no site matches {pattern!r}; {hint} Presets are {', '.join(PRESETS)}; 'all' takes every site{layers}{path}"


def _listed(names: Sequence[str]) -> str:
    """The first few names and how many there are in all."""
    shown = ", ".join(names[:_LISTED])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > _LISTED else shown


def spelled(sites: str | Sequence[str] | Callable[[str], bool]) -> str:
    """What was asked to be recorded, as a run says it."""
    if callable(sites):
        return "a function"
    return sites if isinstance(sites, str) else ",".join(sites)
