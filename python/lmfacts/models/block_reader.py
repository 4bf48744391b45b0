"""Which modules of a block give its sites, as far as the tensors of a trial run show it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from torch import nn

from lmfacts.models.adapter import Missing, Point, Same, into, out
from lmfacts.models.trial import equal, is_sum
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from lmfacts.models.trial import Call

__all__ = ["IS_NORM", "BlockReader"]

IS_NORM: Final = re.compile(r"norm|(^|[._])ln", re.IGNORECASE)
_IS_ATTENTION: Final = re.compile(r"attn|attention", re.IGNORECASE)
_IS_MLP: Final = re.compile(r"mlp|feed_?forward|ffn|moe|experts", re.IGNORECASE)
_QKV_NAMES: Final[Mapping[SiteKind, frozenset[str]]] = {
    SiteKind.Q: frozenset({"q_proj", "query", "q", "q_lin", "wq", "to_q", "query_proj"}),
    SiteKind.K: frozenset({"k_proj", "key", "k", "k_lin", "wk", "to_k", "key_proj"}),
    SiteKind.V: frozenset({"v_proj", "value", "v", "v_lin", "wv", "to_v", "value_proj"}),
}
_MATRIX_AXES: Final = 2


class BlockReader:
    """Reads the sites of one block off its modules' calls.

    Args:
        calls: every module of the model that was called once, by path, as `trial.run` gives them.
        path: the block.
    """

    def __init__(self, calls: Mapping[str, Call], path: str) -> None:
        self._prefix = f"{path}."
        self._inner = sorted(
            (call for call in calls.values() if call.path.startswith(self._prefix)), key=lambda call: call.order
        )
        self._children = [call for call in self._inner if "." not in self._name(call)]
        block = calls.get(path)
        self._start = None if block is None else block.taken
        self._end = None if block is None else block.made
        self._attention = self._part(_IS_ATTENTION)
        self._mlp = self._part(_IS_MLP)

    def table(self) -> dict[SiteKind, Point | Same | Missing]:
        """Every kind inside the block but its input and output: where it is, or why it is not known."""
        if self._start is None or self._end is None or self._start.shape != self._end.shape:
            reason = Missing("the trial run did not show the block's input and output as tensors of one shape")
            return {
                kind: reason
                for kind in SiteKind
                if kind.in_block and kind not in {SiteKind.RESID_PRE, SiteKind.RESID_POST}
            }
        attn, mid = self._attention_branch()
        mlp, post_norm = (None, False) if mid is None and attn is not None else self._mlp_branch(mid)
        middle: Point | Missing
        if mid is not None:
            middle = into(self._name(mid))
        else:
            attn, mlp = self._parallel_branches()
            middle = (
                Missing("parallel block: resid_post is resid_pre + attn_out + mlp_out, and no module reads resid_mid")
                if attn is not None
                else Missing("no module was seen to read resid_pre plus attention's output")
            )
        return {
            SiteKind.LN1_OUT: self._norm_before_attention(),
            **self._projections(),
            SiteKind.Z: self._feeding(self._attention, attn, "attention"),
            SiteKind.ATTN_OUT: self._attn_out(attn),
            SiteKind.RESID_MID: middle,
            SiteKind.LN2_OUT: self._norm_before_mlp(mlp, post_norm=post_norm),
            SiteKind.MLP_PRE: self._gate(mlp),
            SiteKind.MLP_POST: self._feeding(self._mlp, mlp, "the MLP"),
            SiteKind.MLP_OUT: _or(
                None if mlp is None else out(self._name(mlp)), "what the MLP adds to the stream was not confirmed"
            ),
        }

    # The two branches

    def _attention_branch(self) -> tuple[Call | None, Call | None]:
        """The module that gives `attn_out`, and one that reads `resid_pre + attn_out`; None where not found."""
        for candidate in self._candidates(self._attention, before=self._mlp):
            for reader in self._children:
                if reader.order > candidate.order and is_sum(reader.taken, [self._start, candidate.made]):
                    return self._after_dropout(candidate), reader
        return None, None

    def _mlp_branch(self, mid: Call | None) -> tuple[Call | None, bool]:
        """The module that gives `mlp_out`, and whether a norm follows the sum that it enters."""
        if mid is None:
            return None, False
        for candidate in self._candidates(self._mlp):
            if is_sum(self._end, [mid.taken, candidate.made]):
                return self._after_dropout(candidate), False
        for candidate in self._candidates(self._mlp):
            for reader in self._children:
                if reader.order > candidate.order and any(
                    is_sum(reader.taken, [norm.made, candidate.made]) for norm in self._norms() if norm is not reader
                ):
                    return self._after_dropout(candidate), True
        return None, False

    def _parallel_branches(self) -> tuple[Call | None, Call | None]:
        """The modules whose outputs and the block's input add up to its output."""
        for attn in self._candidates(self._attention):
            for mlp in self._candidates(self._mlp):
                if attn is not mlp and is_sum(self._end, [self._start, attn.made, mlp.made]):
                    return self._after_dropout(attn), self._after_dropout(mlp)
        return None, None

    def _after_dropout(self, call: Call) -> Call:
        """The dropout that the block applies to a branch's output, or the branch itself; alike except in training."""
        for child in self._children:
            if isinstance(child.module, nn.Dropout) and child.given is not None and child.given == call.returned:
                return child
        return call

    def _candidates(self, part: Call | None, before: Call | None = None) -> list[Call]:
        """What may be a branch's output: the module, those after it in the block, and those in it, the last first.

        Where the block has no MLP module, that is its own modules, the last first.
        """
        if part is None:
            return list(reversed(self._children))
        after = [
            call for call in self._children if call.order > part.order and (before is None or call.order < before.order)
        ]
        return [part, *after, *reversed(self._within(part))]

    # The other sites

    def _attn_out(self, attn: Call | None) -> Point | Missing:
        """The branch's output, if the branch is attention (and not, say, a state-space mixer)."""
        if attn is None:
            return Missing("what attention adds to the stream was not confirmed")
        if self._attention is None:
            return Missing(f"no attention module was found in the block; {self._name(attn)} adds to the stream first")
        return out(self._name(attn))

    def _norm_before_attention(self) -> Point | Missing:
        """The norm that reads `resid_pre` and that attention reads."""
        if self._attention is None:
            return Missing("no attention module was found in the block")
        if equal(self._attention.taken, self._start):
            return Missing("attention reads resid_pre itself; no norm comes before it")
        for norm in self._norms():
            if equal(norm.made, self._attention.taken) and equal(norm.taken, self._start):
                return out(self._name(norm))
        return Missing("no norm was seen to give what attention reads")

    def _norm_before_mlp(self, mlp: Call | None, *, post_norm: bool) -> Point | Missing:
        """The norm that gives what the MLP reads."""
        if post_norm:
            return Missing("post-norm block: a norm follows each sum, and its output is the stream")
        read = self._mlp_input(mlp)
        if read is None:
            return Missing("no MLP module was found in the block")
        for norm in self._norms():
            if equal(norm.made, read):
                if self._attention is not None and equal(self._attention.taken, read):
                    return Missing("parallel block: attention and MLP read the same norm output, ln1_out")
                return out(self._name(norm))
        return Missing("no norm was seen to give what the MLP reads")

    def _projections(self) -> dict[SiteKind, Point | Missing]:
        """Separate q, k and v projections of attention's input, told apart by name."""
        reason = Missing(
            "no separate q, k and v projections were found by name (one projection's layout is not guessed)"
        )
        if self._attention is None:
            return dict.fromkeys(_QKV_NAMES, reason)
        projections: dict[SiteKind, Point | Missing] = {}
        for kind, names in _QKV_NAMES.items():
            named = [
                call
                for call in self._linears(self._within(self._attention))
                if call.path.rpartition(".")[2].lower() in names and equal(call.taken, self._attention.taken)
            ]
            projections[kind] = out(self._name(named[0])) if len(named) == 1 else reason
        are_all_there = all(isinstance(point, Point) for point in projections.values())
        return projections if are_all_there else dict.fromkeys(_QKV_NAMES, reason)

    def _feeding(self, part: Call | None, branch: Call | None, name: str) -> Point | Missing:
        """The input of the linear layer whose output is that of the module `part` or of its branch."""
        last = self._last_linear(part, branch)
        return _or(
            None if last is None else into(self._name(last)), f"no linear layer was seen to give the output of {name}"
        )

    def _last_linear(self, part: Call | None, branch: Call | None) -> Call | None:
        scope = self._children if part is None else self._within(part)
        for call in reversed(self._linears(scope)):
            if any(each is not None and equal(call.made, each.made) for each in (part, branch)):
                return call
        return None

    def _gate(self, mlp: Call | None) -> Point | Missing:
        """The linear layer of the MLP's input that feeds the activation function, or that is the only one."""
        last = self._last_linear(self._mlp, mlp)
        read = self._mlp_input(mlp)
        if last is None or last.taken is None or read is None:
            return Missing("the MLP's neurons were not found: no linear layer was seen to give its output")
        scope = self._children if self._mlp is None else self._within(self._mlp)
        readers = [
            call
            for call in self._linears(scope)
            if equal(call.taken, read) and call.made is not None and call.made.shape == last.taken.shape
        ]
        activations = [call for call in scope if not any(True for _ in call.module.parameters())]
        fed = [call for call in readers if any(equal(each.taken, call.made) for each in activations)]
        if len(fed) == 1:
            return out(self._name(fed[0]))
        if len(readers) == 1 and not fed:
            return out(self._name(readers[0]))
        return Missing("no one linear layer was seen to feed the MLP's activation function")

    def _mlp_input(self, mlp: Call | None) -> torch.Tensor | None:
        """What the MLP reads; without an MLP module, what the first linear layer after attention reads."""
        if self._mlp is not None:
            return self._mlp.taken
        if mlp is None:
            return None
        after = -1 if self._attention is None else self._attention.order
        first = next((call for call in self._linears(self._children) if call.order > after), None)
        return None if first is None else first.taken

    # Finding modules

    def _part(self, pattern: re.Pattern[str]) -> Call | None:
        """The block's own module that its class or name says it is; None unless there is exactly one."""
        plain = [call for call in self._children if not _is_norm(call) and any(True for _ in call.module.parameters())]
        composed = [call for call in plain if any(True for _ in call.module.children())]
        for candidates in (
            [call for call in composed if pattern.search(type(call.module).__name__)],
            [call for call in composed if pattern.search(self._name(call))],
        ):
            if len(candidates) == 1:
                return candidates[0]
        return None

    def _norms(self) -> list[Call]:
        return [call for call in self._children if _is_norm(call)]

    def _within(self, part: Call) -> list[Call]:
        return [call for call in self._inner if call.path.startswith(f"{part.path}.")]

    @staticmethod
    def _linears(calls: Sequence[Call]) -> list[Call]:
        """The calls of modules with one matrix, such as Linear and GPT-2's Conv1D."""
        return [
            call
            for call in calls
            if getattr(getattr(call.module, "weight", None), "ndim", 0) == _MATRIX_AXES
            and not isinstance(call.module, nn.Embedding)
        ]

    def _name(self, call: Call) -> str:
        return call.path.removeprefix(self._prefix)


def _is_norm(call: Call) -> bool:
    """Whether the module's class or name says that it is a norm."""
    return bool(IS_NORM.search(type(call.module).__name__) or IS_NORM.search(call.path.rpartition(".")[2])) and not any(
        True for _ in call.module.children()
    )


def _or(point: Point | None, reason: str) -> Point | Missing:
    """The point, or the reason why there is none."""
    return Missing(reason) if point is None else point
