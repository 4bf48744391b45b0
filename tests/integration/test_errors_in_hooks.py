"""Nothing raises in somebody's forward pass: what cannot be recorded makes the run incomplete, and is named there."""

from __future__ import annotations

import copy
import io
import os
import threading

import pytest
import torch
from torch import nn

import lmfacts
from lmfacts.errors import HookError, LayoutError, UsageError
from support.recording import assert_same_records, expected_places, places, record, states
from support.tiny import batch, build


@pytest.fixture
def llama():
    return build("llama")


def test_a_site_that_cannot_be_recorded_is_left_out_and_named(llama):
    inputs = batch(llama)
    plain = llama(**inputs).logits
    with torch.no_grad(), lmfacts.attach(llama, "all") as recorder:
        llama(**inputs)
        with torch.autocast("cpu", torch.bfloat16):
            llama(**inputs)
        outputs = llama(**inputs).logits
    assert torch.equal(outputs, plain)
    run = recorder.run()
    assert not run.complete
    assert "have not been recorded since token 22" in run.incomplete_reason
    assert "expected dtype float32, as before, got bfloat16" in run.incomplete_reason
    assert "blocks.0.q" in run.incomplete_reason
    assert run["blocks.0.q"].n_tokens == 22
    assert run["embed"].n_tokens == recorder.n_tokens == 66


class Strange(nn.Module):
    """What it returns begins with something that is no tensor."""

    def forward(self, x):
        return {"nothing": None, "x": x}


def test_a_module_that_gives_back_something_else():
    model = nn.Sequential(nn.Embedding(20, 3), Strange())
    with torch.no_grad(), lmfacts.attach(model, ["0:out", "1:out"]) as recorder:
        model(IDS)
    run = recorder.run()
    assert (
        "1:out has not been recorded since token 0: site '1:out': expected a tensor as the output"
        in run.incomplete_reason
    )
    assert run["0:out"].n == 30


def test_a_pass_whose_tokens_cannot_be_told_is_left_out_whole(llama):
    inputs = batch(llama, "none")
    mask = torch.ones(1, 3, 5)
    with torch.no_grad(), lmfacts.attach(llama, "resid") as recorder:
        llama(**inputs)
        for _ in range(2):
            with pytest.raises((RuntimeError, ValueError, IndexError)):
                llama(input_ids=inputs["input_ids"], attention_mask=mask)  # the model's own error, not ours
        llama(**inputs)
    run = recorder.run()
    assert run["embed"].n_tokens == recorder.n_tokens == 66
    assert run.incomplete_reason.startswith(
        "2 forward passes were not recorded, the first after 33 tokens: expected an attention_mask of shape [3, 11]"
    )


def test_a_module_that_runs_by_itself_is_said_once(llama):
    inputs = batch(llama)
    with torch.no_grad(), lmfacts.attach(llama, "default") as recorder:
        llama(**inputs)
        for _ in range(3):
            llama.model.layers[0].mlp(torch.ones(1, 2, 32))
    run = recorder.run()
    assert run["blocks.0.mlp_out"].n_tokens == 22
    assert "not been recorded in 3 calls" in run.incomplete_reason
    assert "outside a forward pass" in run.incomplete_reason


def test_errors_are_raised_or_not_and_nothing_else(llama):
    with pytest.raises(UsageError, match="on_error: expected one of incomplete, raise, got 'ignore'"):
        lmfacts.attach(llama, on_error="ignore")


# How the axes of a site are those of the tokens


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.linear(x)


class Model(nn.Module):
    """Blocks on a stream that may have the axes of sequence and batch exchanged, or joined."""

    def __init__(self, order):
        super().__init__()
        torch.manual_seed(0)
        self.order = order
        self.emb, self.head = nn.Embedding(20, 8), nn.Linear(8, 20)
        self.layers = nn.ModuleList([Block(), Block()])

    def get_input_embeddings(self):
        return self.emb

    def forward(self, input_ids, attention_mask=None):
        n_rows, n_columns = input_ids.shape
        h = self.emb(input_ids)
        if self.order == "sequence first":
            h = h.transpose(0, 1).contiguous()
        if self.order == "joined":
            h = h.reshape(n_rows * n_columns, 8)
        for layer in self.layers:
            h = layer(h)
        if self.order == "sequence first":
            h = h.transpose(0, 1)
        return self.head(h.reshape(n_rows, n_columns, 8))


IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 10, 11, 12, 13]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


@pytest.mark.parametrize("order", ["batch first", "sequence first", "joined"])
def test_the_order_of_the_axes_is_recognized(order):
    expected = record(Model("batch first").eval(), [{"input_ids": IDS, "attention_mask": MASK}], "resid", k=1000)
    found = record(Model(order).eval(), [{"input_ids": IDS, "attention_mask": MASK}], "resid", k=1000)
    assert found.run().complete
    assert places(found, "blocks.1.resid_post") == [(s, p, int(IDS[s, p])) for s, p in MASK.nonzero().tolist()]
    for site in ("blocks.0.resid_post", "blocks.1.resid_post"):
        state = states(expected)[site]
        for key in ("rest/codes", "rest/counts", "rest/moments", "rest/outlier_index", "first/outlier_values"):
            assert states(found)[site][key] == state[key], (site, key)


def test_square_batches_are_read_in_the_order_that_others_have_shown():
    model = Model("sequence first").eval()
    square = {"input_ids": IDS[:, :2], "attention_mask": MASK[:, 1:3]}
    known = record(model, [{"input_ids": IDS, "attention_mask": MASK}, square], "resid", k=1000)
    assert places(known, "blocks.1.resid_post")[-4:] == [(2, 0, 5), (2, 1, 6), (3, 0, 9), (3, 1, 10)]
    guessed = record(
        model, [square, {"input_ids": IDS, "attention_mask": MASK}], "resid", k=1000, on_error="incomplete"
    )
    assert "its axes turn out to be [sequence, batch, dims]" in guessed.run().incomplete_reason


class Folded(Block):
    """A block whose output has its values in other rows."""

    def forward(self, x):
        return super().forward(x.reshape(2, 5, 8)).reshape(2, 10, 4)


def test_axes_of_something_else_are_refused():
    model = Model("batch first").eval()
    model.layers[1] = Folded()
    calls = [{"input_ids": IDS}]
    with pytest.raises(LayoutError, match=r"expected leading axes \[2, 5\].*got a tensor of shape \(2, 10, 4\)"):
        record(model, calls, "blocks.1.resid_post")
    recorder = record(model, calls, ["blocks.0.resid_post", "blocks.1.resid_post"], on_error="incomplete")
    assert recorder.run().incomplete_reason.startswith(
        "blocks.1.resid_post has not been recorded since token 0: expected"
    )
    assert recorder.site("blocks.0.resid_post").n == 80
    by_path = record(model, calls, "layers.1:out").run()
    assert by_path.complete
    assert by_path["layers.1:out"].n == 80
    assert "counted without their places" in by_path.metadata["notes"][-1]


class Experts(nn.Module):
    """Two experts, each of which is given the tokens that a gate sends it."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.gate = nn.Linear(8, 2)

    def forward(self, x):
        flat = x.reshape(-1, 8)
        chosen = self.gate(flat).argmax(-1)
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            out[chosen == i] = expert(flat[chosen == i])
        return out.view_as(x)


def test_what_single_experts_see_is_counted_without_places():
    torch.manual_seed(0)
    model = Model("batch first").eval()
    model.layers[1] = Experts()
    recorder = record(model, [{"input_ids": IDS}], ["layers.1.experts.*:in", "layers.1:in"])
    run = recorder.run()
    experts = [run[f"layers.1.experts.{i}:in"] for i in range(2)]
    assert run.complete
    assert sum(site.n for site in experts) == run["layers.1:in"].n == 80
    assert all(0 < site.n < 80 for site in experts)
    assert {
        tuple(place) for site in experts for place in site.outliers[["sequence", "position", "token_id"]].tolist()
    } == {(-1, -1, -1)}
    assert max(abs(site.outliers["value"]).max() for site in experts) == abs(run["layers.1:in"].outliers["value"]).max()
    assert sum("sees only some of a pass's tokens" in note for note in run.metadata["notes"]) == 2
    assert "at a token that is not known, dim" in repr(experts[0])


class Plain(nn.Module):
    """A model without a list of blocks, whose forward has a name of its own for the ids."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.emb, self.linear = nn.Embedding(20, 8), nn.Linear(8, 8)

    def forward(self, codes, words):
        return self.linear(self.emb(words)) * codes[0]


def test_modules_of_any_model_by_their_paths():
    model = Plain()
    with torch.no_grad(), lmfacts.attach(model, "linear:out", on_error="raise") as recorder:
        model(torch.ones(1), IDS)
        model(torch.ones(1, dtype=torch.long), IDS)  # the first integers are not always the ids
    assert recorder.n_tokens == 10 + 1
    with torch.no_grad(), lmfacts.attach(model, "linear:out", on_error="raise", ids_argument="words") as recorder:
        model(torch.ones(1, dtype=torch.long), IDS)
    assert recorder.n_tokens == 10
    assert recorder.run()["linear:out"].n == 80
    with torch.no_grad(), lmfacts.attach(model, "linear:out", ids_argument="ids") as recorder:
        model(torch.ones(1), IDS)
    assert "expected token ids" in recorder.run().incomplete_reason


# Threads, copies, forks


def test_threads_do_not_mix_their_tokens(llama):
    batches = [torch.randint(3, 100, (2, 5 + i % 7), generator=torch.Generator().manual_seed(i)) for i in range(24)]
    errors = []

    def work(part):
        try:
            with torch.no_grad():
                for ids in part:
                    llama(ids, use_cache=False)
        except Exception as error:  # noqa: BLE001  whatever it is, the test fails with it
            errors.append(error)

    with lmfacts.attach(llama, ["embed", "blocks.1.mlp_post"], k=100_000, on_error="raise") as recorder:
        threads = [threading.Thread(target=work, args=(batches[i::3],)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    assert recorder.n_tokens == sum(ids.numel() for ids in batches)
    assert recorder.n_sequences == 48
    rows = {}
    for sequence, position, token in places(recorder):
        rows.setdefault(sequence, []).append((position, token))
    found = sorted(tuple(token for _, token in sorted(row)) for row in rows.values())
    assert found == sorted(tuple(row) for ids in batches for row in ids.tolist())
    alone = record(llama, [{"input_ids": ids, "use_cache": False} for ids in batches], ["blocks.1.mlp_post"])
    ours, theirs = recorder.site("blocks.1.mlp_post"), alone.site("blocks.1.mlp_post")
    assert (ours.n, ours.min, ours.max) == (theirs.n, theirs.min, theirs.max)
    assert ours.std == pytest.approx(theirs.std, rel=1e-12)


def test_copies_of_a_model_have_hooks_that_do_nothing(llama):
    inputs = batch(llama)
    stored = io.BytesIO()
    with torch.no_grad(), lmfacts.attach(llama, "resid", on_error="raise") as recorder:
        copied = copy.deepcopy(llama)
        torch.save(llama, stored)
        stored.seek(0)
        loaded = torch.load(stored, weights_only=False)
        expected = llama(**inputs).logits
        assert torch.equal(copied(**inputs).logits, expected)
        assert torch.equal(loaded(**inputs).logits, expected)
    assert recorder.n_tokens == 22
    with torch.no_grad(), lmfacts.attach(copied, "resid", on_error="raise") as of_copy:
        copied(**inputs)
    assert_same_records(states(of_copy), states(recorder))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of torch's threads
def test_a_forked_process_goes_on_unrecorded_and_may_record_anew(llama):
    inputs = batch(llama, "none")
    with torch.no_grad(), lmfacts.attach(llama, "resid", on_error="raise") as recorder:
        llama(**inputs)
        child = os.fork()
        if child == 0:
            llama(**inputs)
            run = recorder.run()
            said = (recorder.n_tokens, run.complete, "forked" in run.incomplete_reason)
            with lmfacts.attach(llama, "resid", on_error="raise") as anew:
                llama(**inputs)
            os._exit(0 if said == (33, False, True) and anew.run().complete and anew.n_tokens == 33 else 1)
        llama(**inputs)
        assert os.waitpid(child, 0)[1] == 0
    assert recorder.run().complete
    assert recorder.n_tokens == 66
    assert places(record(llama, [inputs], "embed", k=10_000)) == expected_places(inputs)


def test_a_run_without_a_token_is_not_complete(llama):
    with lmfacts.attach(llama, "resid") as recorder:
        pass
    assert recorder.run().incomplete_reason == "no forward pass of the model was seen"
    nothing = {"input_ids": IDS, "attention_mask": torch.zeros_like(IDS)}
    with torch.no_grad(), lmfacts.attach(llama, "resid") as recorder:
        llama(**nothing)
    assert recorder.run().incomplete_reason == "no token was recorded: all that the model was given is padding"


def test_the_outside_error_names_the_module(llama):
    outside = pytest.raises(HookError, match=r"site 'blocks.0.mlp_out': module 'model.layers.0.mlp' ran outside")
    with torch.no_grad(), lmfacts.attach(llama, "blocks.*.mlp_out", on_error="raise"), outside:
        llama.model.layers[0].mlp(torch.ones(1, 2, 32))


# Calls that are broken off, or made inside others


def broken_off(model, error):
    """Call the model, whose second block raises."""

    def fail(*_):
        raise error

    handle = model.model.layers[1].register_forward_hook(fail)
    with pytest.raises(type(error)):
        model(IDS, use_cache=False)
    handle.remove()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
@pytest.mark.parametrize("sites", ["resid", ["model.layers.0:out", "model.layers.2:out"]])
def test_a_pass_that_is_broken_off_does_not_swallow_the_next(llama, error, sites):
    with torch.no_grad(), lmfacts.attach(llama, sites, k=1000) as recorder:
        broken_off(llama, error)
        llama(IDS + 10, use_cache=False)
        broken_off(llama, error)
        llama.model(IDS + 20, use_cache=False)
    run = recorder.run()
    first, last = recorder.site_names[0], recorder.site_names[-1]
    assert places(recorder, first) == places(recorder, "embed" if sites == "resid" else "model.layers.0:out")
    assert [place[2] for place in places(recorder, first)][::5] == [5, 9, 15, 19, 5, 9, 25, 29]
    assert [place[2] for place in places(recorder, last)][::5] == [15, 19, 25, 29]
    assert (recorder.n_tokens, run[first].n_tokens, run[last].n_tokens) == (40, 40, 20)
    assert run.incomplete_reason == "2 forward passes ended before all sites were reached"


@pytest.mark.parametrize("n_columns", [5, 3])
def test_a_call_of_the_model_inside_its_own_call_is_a_pass_of_its_own(llama, n_columns):
    inner = IDS[:, :n_columns] + 50
    handles = []

    def call_again(*_):
        handles.pop().remove()
        llama(inner, use_cache=False)

    handles.append(llama.model.layers[1].register_forward_hook(call_again))
    with torch.no_grad(), lmfacts.attach(llama, "all", k=1000, on_error="raise") as recorder:
        llama(IDS, use_cache=False)
    assert recorder.run().complete
    assert recorder.n_tokens == 10 + 2 * n_columns
    together = record(llama, [{"input_ids": ids, "use_cache": False} for ids in (IDS, inner)], "all", k=1000)
    for site in together.site_names:
        assert recorder.site(site).n_tokens == 10 + 2 * n_columns
        assert places(recorder, site) == places(together, site)
        assert recorder.site(site).min == together.site(site).min


class Halves(Model):
    """Reads long batches in two calls of itself."""

    def forward(self, input_ids, attention_mask=None):
        if len(input_ids) > 1:
            return torch.cat([self(row[None]) for row in input_ids])
        return super().forward(input_ids, attention_mask)


def test_a_model_that_calls_itself_counts_its_tokens_once():
    recorder = record(Halves("batch first").eval(), [{"input_ids": IDS}], "resid", k=1000)
    assert recorder.run().complete
    assert places(recorder, "blocks.1.resid_post") == [(s, p, int(IDS[s, p])) for s in range(2) for p in range(5)]


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_what_is_computed_anew_for_the_backward_pass_was_recorded_before(llama, use_reentrant):
    inputs = llama.get_input_embeddings()(IDS).detach().requires_grad_()

    def forward(embeddings):
        return llama(inputs_embeds=embeddings, use_cache=False).logits

    with lmfacts.attach(llama, "all", on_error="raise") as recorder:
        torch.utils.checkpoint.checkpoint(forward, inputs, use_reentrant=use_reentrant).sum().backward()
    assert inputs.grad is not None
    assert recorder.run().complete
    assert (recorder.n_tokens, recorder.site("blocks.2.mlp_out").n_tokens) == (10, 10)


@pytest.mark.parametrize("nothing", [IDS[:, :0], IDS[:0]])
def test_an_empty_batch_says_nothing_of_the_sites(nothing):
    model = nn.Sequential(nn.Embedding(20, 3), nn.Linear(3, 3))
    recorder = record(model, [{"input": nothing}, {"input": IDS}], ["0:out", "1:out"])
    assert recorder.run().complete
    assert [recorder.site(site).n for site in ("0:out", "1:out")] == [30, 30]


@pytest.mark.filterwarnings("ignore")  # torch's, of its old tracer and its nested tensors
def test_nothing_is_raised_in_what_traces_or_nests():
    model = nn.Sequential(nn.Embedding(20, 3), nn.Linear(3, 3))
    with torch.no_grad(), lmfacts.attach(model, ["0:out", "1:out"]) as recorder:
        traced = torch.jit.trace(model, (IDS,), check_trace=False)
        assert torch.equal(traced(IDS), model(IDS))
    assert "torch.jit traced the model" in recorder.run().incomplete_reason
    assert recorder.site("1:out").n == 30
    linear = nn.Sequential(nn.Linear(3, 3))
    ragged = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)])
    with torch.no_grad(), lmfacts.attach(linear, "0:out") as recorder:
        linear(ragged)
    assert recorder.run().incomplete_reason.startswith("1 forward pass was not recorded, the first after 0 tokens")
