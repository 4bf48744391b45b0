"""Any other decoder-only language model, described by its structure and a trial run.

1. The list of blocks is, of the ModuleLists whose entries the run reaches, the one with as many entries as the
   configuration has layers, or else the only one, or else the only one beside the embedding or with a usual name. Those
   in towers for images or sound are left out.
2. Six tokens are run through the model, and a site is tapped only where the tensors show that it is that site:
   `resid_pre + attn_out + mlp_out` must be `resid_post`, the norm's output must be what attention reads, and so on.
   Names only say which module is the attention and which the MLP, and tell q, k and v apart.
3. What cannot be shown is absent, with the reason. If the model cannot be run (its parameters have no data, say), only
   the blocks' inputs and outputs, the embedding and the head are tapped.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import TYPE_CHECKING

from torch import nn

from lmfacts.errors import ModelError, UnknownArchitectureError
from lmfacts.models import trial
from lmfacts.models.adapter import Architecture, Draft, Missing, Point, Same, find_head
from lmfacts.models.block_reader import IS_NORM, BlockReader
from lmfacts.models.towers import is_inside, other_towers, stated_embedding, text_config
from lmfacts.models.trial import Trial
from lmfacts.sites import Site, SiteKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmfacts.models.adapter import Side
    from lmfacts.models.trial import Call

__all__ = ["describe"]

_LISTED = 5
_USUAL_NAMES = frozenset({"layers", "layer", "blocks", "block", "h"})
"""What a list of blocks is called where another one of the same length stands beside it."""


def describe(model: nn.Module, notes: Sequence[str] = ()) -> Architecture:
    """Describe a model of an unknown family.

    Args:
        model: a decoder-only language model of any make.
        notes: sentences to put first among the description's notes.

    Raises:
        UnknownArchitectureError: there is no list of blocks, or more than one that could be it.
        ModelError: the model has no token embedding, or is an encoder with a decoder.
    """
    config = getattr(model, "config", None)
    text = text_config(config)
    if getattr(config, "is_encoder_decoder", False) or getattr(text, "is_encoder_decoder", False):
        raise ModelError(f"{type(model).__name__} is an encoder with a decoder; expected a decoder-only language model")
    embed_path, n_tokens, width = _embedding(model)
    shown, failure = Trial({}, {}, {}), ""
    try:
        shown = trial.run(model, n_tokens)
    except Exception as error:  # noqa: BLE001  any model's forward may raise anything
        failure = f"The trial run failed ({type(error).__name__}: {error}), so no site inside a block is confirmed."
    list_path = _block_list(model, embed_path, getattr(text, "num_hidden_layers", None), shown)
    root_path = _reader_of_tokens(model, list_path)
    stated = getattr(text, "hidden_size", None)
    draft = Draft(
        "generic",
        model,
        root_path,
        list_path.removeprefix(f"{root_path}.") if root_path else list_path,
        n_dims=stated if isinstance(stated, int) else width,
    )
    for note in notes:
        draft.note(note)
    draft.note(
        f"Described by structure: {len(draft.blocks)} blocks ({type(draft.blocks[0]).__name__}) in {list_path}, the "
        f"embedding {embed_path}, tokens read from the input of {root_path or type(model).__name__}."
    )
    if failure:
        draft.note(failure)
    calls = shown.calls
    _stream(draft, shown, embed_path)
    _after_blocks(draft, calls)
    tables = {layer: BlockReader(calls, draft.block_path(layer)).table() for layer in range(len(draft.blocks))}
    for layer, table in tables.items():
        draft.inside(layer, table)
    _report(draft, tables)
    return draft.finish()


def _embedding(model: nn.Module) -> tuple[str, int, int]:
    """The path of the token embedding, the number of its tokens and its width.

    Raises:
        ModelError: there is none, or no one of several is known to be it.
    """
    elsewhere = other_towers(model)
    modules = [(path, each) for path, each in model.named_modules() if not is_inside(path, elsewhere)]
    stated = stated_embedding(model)
    tables: list[tuple[str, nn.Module]] = [(path, each) for path, each in modules if isinstance(each, nn.Embedding)]
    if stated is not None:
        tables = [(path, each) for path, each in modules if each is stated]
    elif len(tables) > 1:
        n_tokens = getattr(text_config(getattr(model, "config", None)), "vocab_size", None)
        tables = [(path, each) for path, each in tables if getattr(each, "num_embeddings", None) == n_tokens]
    weight = getattr(tables[0][1], "weight", None) if len(tables) == 1 else None
    if not isinstance(weight, nn.Parameter):
        raise ModelError(
            f"{type(model).__name__} is not a language model that lmfacts can read: expected one token embedding "
            f"(get_input_embeddings), found {len(tables)}"
        )
    return tables[0][0], weight.shape[0], weight.shape[-1]


def _block_list(model: nn.Module, embed_path: str, n_layers: int | None, shown: Trial) -> str:
    """The path of the ModuleList of blocks.

    Raises:
        UnknownArchitectureError: there is none, or several are as likely as each other.
    """
    lists: dict[str, int] = {}
    elsewhere = other_towers(model)
    for path, module in model.named_modules():
        nested = is_inside(path, elsewhere) or is_inside(path.rpartition(".")[0], list(lists))
        if isinstance(module, nn.ModuleList) and len(module) > 0 and not nested and all(map(_is_block, module)):
            lists[path] = len(module)
    if not lists:
        raise UnknownArchitectureError(
            f"expected a ModuleList of blocks in {type(model).__name__}, found none; name modules by their paths, such "
            "as model.layers.*:out, instead of sites"
        )
    beside = embed_path.rpartition(".")[0]
    ran = {path: length for path, length in lists.items() if any(is_inside(call, [path]) for call in shown.n_calls)}
    lists = ran or lists  # a tower for images does nothing for text
    likely = [path for path, length in lists.items() if length == n_layers] or list(lists)
    if len(likely) > 1:
        likely = [path for path in likely if path.rpartition(".")[0] == beside] or likely
    if len(likely) > 1:
        likely = [path for path in likely if path.rpartition(".")[2] in _USUAL_NAMES] or likely
    if len(likely) > 1:
        listed = ", ".join(f"{path} ({lists[path]})" for path in likely[:_LISTED])
        raise UnknownArchitectureError(
            f"expected one list of blocks in {type(model).__name__}, found {len(likely)}: {listed}; name modules by "
            "their paths instead of sites"
        )
    return likely[0]


def _is_block(module: nn.Module) -> bool:
    """Whether a list's entry may be a block: a module made of others that have parameters."""
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def _reader_of_tokens(model: nn.Module, list_path: str) -> str:
    """The path of the innermost module around the blocks whose forward takes `input_ids`, or "" if none says so."""
    path = list_path
    while path:
        path = path.rpartition(".")[0]
        if "input_ids" in inspect.signature(model.get_submodule(path).forward).parameters:
            return path
    return ""


def _stream(draft: Draft, shown: Trial, embed_path: str) -> None:
    """The embedding and the blocks' inputs and outputs; aliases only where the trial run showed the very tensor."""
    calls = shown.calls
    _of_tokens(draft, shown, Site(SiteKind.EMBED), embed_path, "out")
    previous, owner = calls.get(embed_path), Site(SiteKind.EMBED)
    dropped = {
        call.given
        for call in calls.values()
        if isinstance(call.module, nn.Dropout) and call.module.p > 0 and not _is_in_block(draft, call.path)
    }
    if draft.reads_more_than_tokens or (previous is not None and previous.returned in dropped):
        previous = None  # the same tensor in evaluation mode or without images, another one otherwise
    for layer in range(len(draft.blocks)):
        path = draft.block_path(layer)
        call = calls.get(path)
        site = Site(SiteKind.RESID_PRE, layer)
        if call is not None and previous is not None and call.given is not None and call.given == previous.returned:
            draft.alias(site, owner)
        else:
            _of_tokens(draft, shown, site, path, "in")
        owner = Site(SiteKind.RESID_POST, layer)
        previous = call if _of_tokens(draft, shown, owner, path, "out") else None
    again = [layer for layer in range(len(draft.blocks)) if shown.n_calls.get(draft.block_path(layer), 0) > 1]
    if again:
        draft.note(
            f"Blocks {', '.join(map(str, again))} run more than once in a forward pass; their sites have the values of "
            "the first time."
        )


def _of_tokens(draft: Draft, shown: Trial, site: Site, path: str, side: Side) -> bool:
    """Tap a module's input or output, unless the trial run showed that it has no values of each token; say which."""
    if shown.n_calls and path not in shown.n_calls:
        draft.missing(
            site, f"{path} does not run on text alone; where it does run, name it by its path ({path}:{side})"
        )
        return False
    shape = shown.shapes.get(path, (None, None))[("in", "out").index(side)]
    if shape is not None and not trial.is_of_tokens(shape):
        draft.missing(
            site,
            f"for six tokens, the {side}put of {path} is a tensor of shape {list(shape)}, which does not say what "
            "belongs to which token",
        )
        return False
    draft.tap(site, path, side)
    return True


def _is_in_block(draft: Draft, path: str) -> bool:
    """Whether a module lies inside one of the blocks."""
    return any(path.startswith(f"{draft.block_path(layer)}.") for layer in range(len(draft.blocks)))


def _after_blocks(draft: Draft, calls: Mapping[str, Call]) -> None:
    """The final norm, which reads the last block's output, and the head."""
    last = calls.get(draft.block_path(len(draft.blocks) - 1))
    norms = [
        call.path
        for call in calls.values()
        if last is not None
        and call.order > last.order
        and IS_NORM.search(f"{type(call.module).__name__}.{call.path.rpartition('.')[2]}")
        and trial.equal(call.taken, last.made)
    ]
    site = Site(SiteKind.FINAL_NORM_OUT)
    if len(norms) == 1:
        draft.tap(site, norms[0], "out")
    else:
        draft.missing(site, f"{len(norms)} norms were seen to read the last block's output; expected one")
    paths = find_head(draft.model)
    model, head = (calls.get(paths[0]), calls.get(paths[1])) if paths else (None, None)
    draft.head(is_final=model is not None and head is not None and trial.equal(model.made, head.made))


def _report(draft: Draft, tables: Mapping[int, Mapping[SiteKind, Point | Same | Missing]]) -> None:
    """Notes that say what was found in which blocks, and what was not."""
    confirmed: dict[str, list[int]] = defaultdict(list)
    missing: dict[str, list[str]] = defaultdict(list)
    for layer, table in tables.items():
        points = {kind: entry for kind, entry in table.items() if isinstance(entry, Point)}
        text = ", ".join(f"{kind.value} = {point.path}:{point.side}" for kind, point in points.items())
        confirmed[text].append(layer)
        for kind, entry in table.items():
            if isinstance(entry, Missing) and kind.value not in missing[entry.reason]:
                missing[entry.reason].append(kind.value)
    for text, layers in confirmed.items():
        if text:
            draft.note(f"Confirmed in blocks {', '.join(map(str, layers))}: {text}.")
    for reason, kinds in missing.items():
        draft.note(f"Absent in some or all blocks: {', '.join(kinds)} ({reason}).")
