"""What every family shares: where a site is tapped, the description of a model, and the draft that a family fills in.

A family's file is a table: for each site of a block, the module whose input or output is that site. `Draft` turns the
table into an `Architecture`: it adds what all residual networks have in common (block inputs and outputs, the
embedding, the final norm, the head), checks that every module named exists, and that each site is either tapped, an
alias of a tapped one, or absent with a reason.

This package is the only place that knows the names of Hugging Face's modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from lmfacts.errors import HookError, ModelError, SiteNotFoundError
from lmfacts.models.towers import is_inside, other_towers, reads_more_than_tokens, stated_embedding
from lmfacts.sites import Site, SiteKind, select

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn

__all__ = [
    "Architecture",
    "Draft",
    "Missing",
    "Plane",
    "Point",
    "Same",
    "Side",
    "Tap",
    "View",
    "find_head",
    "find_root",
    "into",
    "out",
]

Side = Literal["in", "out"]

_INPUT_KEYWORDS = ("hidden_states", "input", "x")


@dataclass(frozen=True, slots=True)
class View:
    """A part of a tensor's last axis, taken without a copy.

    The last axis, `width` values, is cut into `n_groups` equal groups, and `length` values from `start` on are taken of
    each. Heads whose q, k and v lie side by side are such groups; where q, k and v are each in one piece, there is one
    group.

    The result has the axes of the tensor, the last one `length` long, and, where `n_groups` is not 1, an axis of groups
    before it. In both cases the trailing `dim_axes` axes, read in order, are the dims of the site: head after head.
    """

    width: int
    start: int
    length: int
    n_groups: int = 1

    @property
    def dim_axes(self) -> int:
        """How many trailing axes of the result hold the dims: 1, or 2 (groups, values of a group)."""
        return 1 if self.n_groups == 1 else 2

    @property
    def n_dims(self) -> int:
        """The number of dims of the result."""
        return self.n_groups * self.length

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """The part of `tensor` [..., width], as a view of its memory.

        Raises:
            HookError: the last axis has another size.
        """
        if tensor.shape[-1] != self.width:
            raise HookError(
                f"expected a tensor whose last axis has {self.width} values, got shape {tuple(tensor.shape)}; "
                "the module does not have the layout that its family has"
            )
        if self.n_groups != 1:
            groups = (self.n_groups, self.width // self.n_groups)
            tensor = tensor.unflatten(-1, groups)  # type: ignore[no-untyped-call]  # torch gives it no types
        return tensor.narrow(-1, self.start, self.length)


@dataclass(frozen=True, slots=True)
class Plane:
    """One of `length` tensors that are stacked along a first axis, taken without a copy."""

    index: int
    length: int

    @property
    def dim_axes(self) -> int:
        """How many trailing axes of the result hold the dims: one."""
        return 1

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """The part of `tensor` [length, ...], as a view of its memory.

        Raises:
            HookError: the first axis has another size.
        """
        if tensor.shape[0] != self.length:
            raise HookError(
                f"expected a stack of {self.length} tensors along the first axis, got shape {tuple(tensor.shape)}; the "
                "module does not have the layout that its family has"
            )
        return tensor[self.index]


@dataclass(frozen=True, slots=True)
class Tap:
    """Where the values of one site are found: a module's input or output, and the part of it.

    `site` is the name under which the values are recorded, `module_path` the module's name in `model.named_modules()`.
    An output that is a tuple, list or mapping stands for its first element, or for the one called `key`. An input is
    the first positional argument, or the keyword `hidden_states`, `input` or `x`.

    Inputs have to be read before the module runs and outputs when it returns: some models change tensors in place later
    (Falcon adds attention's output into the MLP's).
    """

    site: str
    module_path: str
    side: Side
    view: View | Plane | None = None
    key: str | None = None

    @property
    def dim_axes(self) -> int:
        """How many trailing axes of the recorded tensor hold the dims: 1, or 2 where heads are strided."""
        return 1 if self.view is None else self.view.dim_axes

    def tensor(self, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any = None) -> torch.Tensor:
        """The tensor that the module was given or gave back, before `view`: what a gradient hook is registered on.

        Args:
            args: the positional arguments of the module's forward.
            kwargs: its keyword arguments.
            output: what it returned; not read for side `in`.

        Raises:
            HookError: there is no tensor where one was promised.
        """
        value = output if self.side == "out" else _input(args, kwargs)
        if not _is_tensor(value):
            if isinstance(value, Mapping):
                value = value.get(self.key) if self.key is not None else next(iter(value.values()), None)
            elif isinstance(value, (tuple, list)):  # torch before 2.10 compiles no union of types here
                value = _first(value, is_logits=self.key is not None)
        if not _is_tensor(value):
            where = "output" if self.side == "out" else "input"
            raise HookError(
                f"site {self.site!r}: expected a tensor as the {where} of module {self.module_path!r}, "
                f"got {type(value).__name__}; leave this site out, or name another module by its path"
            )
        tensor: torch.Tensor = value
        return tensor

    def cut(self, tensor: torch.Tensor) -> torch.Tensor:
        """The site's part of the module's tensor (or of that tensor's gradient), as a view of its memory."""
        return tensor if self.view is None else self.view(tensor)


def _is_tensor(value: object) -> bool:
    # Here and below torch is imported where it is needed: names of weights, in the same files, are read without it.
    import torch  # noqa: PLC0415  names of weights are read without torch

    return isinstance(value, torch.Tensor)


def _input(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The first positional argument, or the first of the usual keywords that was given."""
    if args:
        return args[0]
    return next((kwargs[word] for word in _INPUT_KEYWORDS if word in kwargs), None)


def _first(values: Sequence[Any], *, is_logits: bool) -> Any:
    """The first element; for logits the first that is no scalar, since a loss comes before them."""
    if is_logits:
        return next((value for value in values if _is_tensor(value) and value.ndim > 1), None)
    return values[0] if values else None


@dataclass(frozen=True)
class Architecture:
    """What a model's inside is called: a tap for each site, and for the sites without a tap why not.

    Attributes:
        family: the adapter that described it (`gpt2`, `llama`, ...), or `generic`.
        n_layers: the number of blocks.
        n_dims: the size of the residual stream.
        taps: one per recorded tensor, in depth order.
        aliases: a site that is the very tensor of another, to that other, which has a tap.
        absent: a site that this model does not have, to the reason, a sentence.
        notes: what a reader of the numbers should know, a sentence each.
        block_paths: the blocks' module paths, by layer.
        root_path: the module (may be "", the model itself) whose forward receives `input_ids` and `attention_mask`.
    """

    family: str
    n_layers: int
    n_dims: int
    taps: tuple[Tap, ...]
    aliases: Mapping[str, str]
    absent: Mapping[str, str]
    notes: tuple[str, ...]
    block_paths: tuple[str, ...]
    root_path: str

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of all sites that can be recorded, aliases among them, in depth order."""
        names = [*(tap.site for tap in self.taps), *self.aliases]
        return tuple(sorted(names, key=Site.parse))

    def owner(self, site: str) -> str:
        """The site whose tensor `site` is: itself, or what it is an alias of."""
        return self.aliases.get(site, site)

    def tap(self, site: str) -> Tap:
        """The tap that records `site`.

        Raises:
            SiteNotFoundError: the model has no such site; the message says why where that is known.
        """
        owner = self.owner(site)
        for tap in self.taps:
            if tap.site == owner:
                return tap
        reason = self.absent.get(site, "no site has this name; `sites` lists those there are")
        raise SiteNotFoundError(f"this model has no site {site!r}: {reason}")

    def select(self, patterns: str | Sequence[str] | Callable[[str], bool]) -> list[str]:
        """The sites that `patterns` stand for, as `lmfacts.sites.select` reads them, aliases under their own names."""
        return select(patterns, self.sites, self.absent)


@dataclass(frozen=True, slots=True)
class Point:
    """One end of a module, its path counted from the block: see `out` and `into`."""

    path: str
    side: Side
    view: View | None = None


@dataclass(frozen=True, slots=True)
class Same:
    """The site is the very tensor of another kind of the same block."""

    kind: SiteKind


@dataclass(frozen=True, slots=True)
class Missing:
    """The site does not exist in this block, for this reason (a sentence without a capital or a full stop)."""

    reason: str


def out(path: str, view: View | None = None) -> Point:
    """The output of a module of the block, or a part of it."""
    return Point(path, "out", view)


def into(path: str) -> Point:
    """The input of a module of the block."""
    return Point(path, "in")


def find_root(model: nn.Module, blocks: str, embed: str) -> str:
    """The path of the module that holds the list of blocks and the embedding under these attribute names.

    Of several, that with the embedding that the model says it has, or else the outermost.

    Raises:
        ModelError: there is none.
    """
    from torch import nn  # noqa: PLC0415  names of weights are read without torch

    elsewhere = other_towers(model)
    roots: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        children = dict(module.named_children())  # a wrapper passes on the attributes of what it wraps
        if isinstance(children.get(blocks), nn.ModuleList) and embed in children and not is_inside(path, elsewhere):
            roots[path] = children[embed]
    if roots:
        stated = stated_embedding(model)
        return next((path for path, embedding in roots.items() if embedding is stated), next(iter(roots)))
    raise ModelError(
        f"expected a module with a ModuleList {blocks!r} and an embedding {embed!r} in {type(model).__name__}, "
        "found none"
    )


class Draft:
    """Collects what a family says about one model, and checks it.

    Args:
        family: the name of the family's file.
        model: the model as the user has it, with or without a head, wrapped or not.
        root_path: the base transformer inside it, as `find_root` gives it.
        blocks: the attribute of the base transformer that holds the list of blocks (a dotted path is allowed).
        n_dims: the size of the residual stream; from the configuration if not given.

    Raises:
        ModelError: from any method, if a module that the family names is not there.
    """

    def __init__(
        self, family: str, model: nn.Module, root_path: str, blocks: str, *, n_dims: int | None = None
    ) -> None:
        self.family = family
        self.model = model
        self.root_path = root_path
        self.root = model.get_submodule(root_path)
        self.config: Any = getattr(self.root, "config", None)
        size: object = getattr(self.config, "hidden_size", None) if n_dims is None else n_dims
        if not isinstance(size, int):
            raise ModelError(f"expected `hidden_size` in the configuration of {type(self.root).__name__}, found none")
        self.n_dims = size
        self._list_path = _join(root_path, blocks)
        self.blocks: tuple[nn.Module, ...] = tuple(self._submodule(self._list_path).children())
        self._taps: dict[Site, Tap] = {}
        self._aliases: dict[Site, Site] = {}
        self._absent: dict[Site, str] = {}
        self._notes: list[str] = []
        self.reads_more_than_tokens = reads_more_than_tokens(model, root_path)
        if self.reads_more_than_tokens:
            self.note(
                f"The language model in {type(model).__name__} ({root_path or 'the model itself'}) is described; the "
                "modules of its other towers have no sites, but can be named by their paths. Where images or sound "
                "are given, embed has the tokens that stand for them, and blocks.0.resid_pre what comes in their place."
            )

    def block_path(self, layer: int) -> str:
        """The module path of a block."""
        return f"{self._list_path}.{layer}"

    def tap(
        self, site: Site, module_path: str, side: Side, view: View | Plane | None = None, key: str | None = None
    ) -> None:
        """Say where a site is; the path is counted from the model."""
        self._submodule(module_path)
        self._taps[site] = Tap(str(site), module_path, side, view, key)

    def alias(self, site: Site, owner: Site) -> None:
        """Say that a site is the very tensor of another one."""
        self._aliases[site] = owner

    def missing(self, site: Site, reason: str) -> None:
        """Say that a site does not exist, and why."""
        self._absent[site] = reason

    def note(self, text: str) -> None:
        """Add a sentence for the reader of the numbers; one said already is not repeated."""
        if text not in self._notes:
            self._notes.append(text)

    def embed(self, path: str, *, is_stream: bool) -> None:
        """Name the token embedding, relative to the base transformer.

        Args:
            path: the embedding module.
            is_stream: whether its output is, unchanged, what enters the first block; not so where positions are added,
                a norm follows, or dropout may follow, and never where images may come between the tokens.
        """
        first = Site(SiteKind.RESID_PRE, 0)
        self.tap(Site(SiteKind.EMBED), _join(self.root_path, path), "out")
        if is_stream and not self.reads_more_than_tokens:
            self.alias(first, Site(SiteKind.EMBED))
        else:
            self.tap(first, self.block_path(0), "in")

    def block(self, layer: int, table: Mapping[SiteKind, Point | Same | Missing]) -> None:
        """Say where the sites of one block are; its output is the next one's input."""
        if layer > 0:
            self.alias(Site(SiteKind.RESID_PRE, layer), Site(SiteKind.RESID_POST, layer - 1))
        self.tap(Site(SiteKind.RESID_POST, layer), self.block_path(layer), "out")
        self.inside(layer, table)

    def inside(self, layer: int, table: Mapping[SiteKind, Point | Same | Missing]) -> None:
        """Say where the sites of one block are, without its input and output."""
        for kind, entry in table.items():
            site = Site(kind, layer)
            match entry:
                case Point():
                    self.tap(site, _join(self.block_path(layer), entry.path), entry.side, entry.view)
                case Same():
                    self.alias(site, Site(entry.kind, layer))
                case Missing():
                    self.missing(site, entry.reason)

    def final_norm(self, path: str | Missing) -> None:
        """Name the norm after the last block, relative to the base transformer, or say why there is none."""
        site = Site(SiteKind.FINAL_NORM_OUT)
        if isinstance(path, Missing):
            self.missing(site, path.reason)
        else:
            self.tap(site, _join(self.root_path, path), "out")

    def head(self, *, is_final: bool = True) -> None:
        """Tap the logits.

        Args:
            is_final: whether the head's output is what the model returns; if not, or if that is not known, the model's
                own output is tapped.
        """
        site = Site(SiteKind.LOGITS)
        paths = find_head(self.model)
        if paths is None:
            self.missing(
                site, f"{type(self.model).__name__} has no language-model head; load it with AutoModelForCausalLM"
            )
            return
        path, head_path = paths
        if is_final:
            self.tap(site, head_path, "out")
        else:
            self.tap(site, path, "out", key="logits")
            self.note(
                f"logits are the model's own output; its head's output ({head_path}:out) may still be scaled or capped."
            )

    def finish(self) -> Architecture:
        """The finished description.

        Raises:
            ModelError: a site is neither tapped nor an alias of a tapped one nor absent, or is two of these.
        """
        layers = range(len(self.blocks))
        sites = [Site(kind, layer) for kind in SiteKind if kind.in_block for layer in layers]
        sites += [Site(kind) for kind in SiteKind if not kind.in_block]
        for site in sites:
            if (site in self._taps) + (site in self._aliases) + (site in self._absent) != 1:
                raise ModelError(f"the adapter {self.family!r} must say exactly once what {site} is")
        for site, owner in self._aliases.items():
            if owner not in self._taps:
                raise ModelError(f"the adapter {self.family!r} makes {site} an alias of {owner}, which has no tap")
        return Architecture(
            family=self.family,
            n_layers=len(self.blocks),
            n_dims=self.n_dims,
            taps=tuple(self._taps[site] for site in sorted(self._taps)),
            aliases=MappingProxyType({str(site): str(self._aliases[site]) for site in sorted(self._aliases)}),
            absent=MappingProxyType({str(site): self._absent[site] for site in sorted(self._absent)}),
            notes=tuple(self._notes),
            block_paths=tuple(self.block_path(layer) for layer in layers),
            root_path=self.root_path,
        )

    def _submodule(self, path: str) -> nn.Module:
        try:
            return self.model.get_submodule(path)
        except AttributeError as error:
            raise ModelError(
                f"the family {self.family!r} has a module {path!r}, which this model does not have"
            ) from error


def find_head(model: nn.Module) -> tuple[str, str] | None:
    """The paths of the outermost module that has a language-model head, and of that head; None if there is none."""
    from torch import nn  # noqa: PLC0415  names of weights are read without torch

    for path, module in model.named_modules():
        if hasattr(module, "_orig_mod"):
            continue  # what torch.compile returns passes every attribute on; the model is inside
        getter = getattr(module, "get_output_embeddings", None)
        head = getter() if callable(getter) else None
        if isinstance(head, nn.Module) and not isinstance(head, nn.Embedding):
            for head_path, each in model.named_modules():
                if each is head:
                    return path, head_path
    return None


def _join(*parts: str) -> str:
    """Module paths put together; an empty one is the model itself."""
    return ".".join(part for part in parts if part)
