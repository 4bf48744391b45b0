"""Which runs may be given together: one of each kind, all of one model."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmfacts.demo import MODEL_DIR
from lmfacts.errors import MismatchedRunsError, UsageError
from lmfacts.facts import Inputs, check
from lmfacts.run import Run

GAIN = {"name": "blocks.0.ln1.gain", "role": "blocks.0.ln1.gain", "shape": [32]}


def activations(**model):
    return Run({"kind": "activations", "model": model, "sites": []}, {})


def weights(*, shape=(), skipped=None, **model):
    """A run of weights; `shape` is that of a norm's gain, which tells the number of dims."""
    run = Run({"kind": "weights", "model": model, "sites": [], "skipped": skipped or {}}, {})
    if shape:
        run.metadata["sites"] = [{"role": "embed.W_E", "shape": [7, 5]}, {**GAIN, "shape": list(shape)}]
    return run


def test_runs_are_sorted_by_kind_in_whatever_order_they_come():
    a, w = activations(id="m", n_layers=2), weights(id="m", norm_kind="rmsnorm")
    g = Run({"kind": "gradients", "model": {}, "sites": []}, {})
    for order in ((a, w, g), (g, w, a), (w, g, a)):
        inputs = Inputs.of(iter(order))
        assert (inputs.activations, inputs.weights, inputs.of_kind("gradients")) == (a, w, g)
        assert inputs.runs == (a, w, g)
        assert (inputs.model_id, inputs.n_layers, inputs.norm_kind) == ("m", 2, "rmsnorm")


def test_what_no_run_says_is_not_known():
    inputs = Inputs.of([weights()])
    assert (inputs.activations, inputs.model_id, inputs.n_layers, inputs.norm_kind) == (None, "MODEL", None, None)


def test_no_runs_are_refused():
    with pytest.raises(UsageError, match="got none"):
        Inputs.of([])


def test_two_runs_of_one_kind_are_refused_by_their_files():
    one, other = weights(id="m"), weights(id="m")
    other.path = Path("other.lmfacts")
    with pytest.raises(UsageError, match=r"Two runs of weights were given, the run of weights and other\.lmfacts"):
        Inputs.of([one, activations(id="m"), other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": "org/model"}, {"id": "org/model"}),
        ({"id": "model"}, {"id": "./model/"}),
        ({"id": "~/model"}, {"id": str(Path("~/model").expanduser())}),
        ({"id": "model"}, {"id": "/somewhere/else/model"}),
        ({"id": "../models/m"}, {"id": "/data/models/m"}),
        ({"id": "models/m"}, {"id": "models/m/model.safetensors"}),
        ({"id": "models/m"}, {"id": "models/m/pytorch_model.bin.index.json"}),
        ({"id": "models/m.gguf"}, {"id": "./models/m.gguf"}),
        ({"id": "models/m.gguf"}, {"id": "models", "format": "gguf", "files": [{"name": "m.gguf"}]}),
        ({"id": "gpt2", "revision": "607a30d"}, {"id": "openai-community/gpt2", "revision": "607a30d"}),
        ({"id": "demo"}, {"id": str(MODEL_DIR)}),
        ({"id": "m", "revision": "607a30d"}, {"id": "m", "revision": None}),
        ({"id": "GPT2LMHeadModel", "architecture": "GPT2LMHeadModel"}, {"id": "anything"}),
        ({"id": "anything", "architecture": "GPT2LMHeadModel"}, {"id": "GPT2LMHeadModel", "format": "module"}),
        ({"id": "m"}, {}),
        ({"id": "m", "family": "generic"}, {"id": "m", "family": "llama"}),
        ({"id": "m", "n_layers": 4}, {"id": "m", "n_layers": None}),
        ({"id": "m", "n_parameters": 1000}, {"id": "m", "n_parameters": 1600}),
        ({"id": "m", "n_parameters": 1000}, {"id": "m", "n_parameters": 90, "skipped": {"q": "int32"}}),
        ({"id": "m", "n_dims": 32}, {"id": "m", "shape": (32,)}),
    ],
)
def test_runs_of_one_model_belong_together(one, other):
    a, w = activations(**one), weights(**other)
    assert Inputs.of([a, w]).weights is w
    assert Inputs.of([w, a]).activations is a


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"id": "m", "n_layers": 4}, {"id": "m", "n_layers": 12}, "has 4 blocks, .* has 12 blocks"),
        ({"id": "m", "n_dims": 64}, {"id": "m", "shape": (32,)}, "has 64 dims, .* has 32 dims"),
        ({"id": "m", "family": "gpt2"}, {"id": "m", "family": "llama"}, "the layout of gpt2, .* the layout of llama"),
        ({"id": "m", "revision": "aaa"}, {"id": "m", "revision": "bbb"}, "the revision aaa, .* the revision bbb"),
        ({"id": "m", "n_parameters": 2100}, {"id": "m", "n_parameters": 1000}, "has 2,100 parameters, .* has 1,000"),
        ({"id": "m", "n_parameters": 1000}, {"id": "m", "n_parameters": 2100}, "has 1,000 parameters, .* has 2,100"),
        ({"id": "gpt2"}, {"id": "gpt2-medium"}, "is of gpt2, .* of gpt2-medium"),
        ({"id": "org/m"}, {"id": "other/m"}, "two names of one model"),
        ({"id": "/here/m"}, {"id": "/there/m"}, "two names of one model"),
        ({"id": "model"}, {"id": "/somewhere/supermodel"}, "two names of one model"),
        ({"id": "models/m"}, {"id": "models/m/other.safetensors"}, "two names of one model"),
        ({"id": "models/m.gguf"}, {"id": "models", "files": [{"name": "n.gguf"}]}, "two names of one model"),
        ({"id": "demo"}, {"id": str(MODEL_DIR.parent)}, "two names of one model"),
    ],
)
def test_runs_of_two_models_are_refused_with_the_difference(one, other, said):
    with pytest.raises(MismatchedRunsError, match=said):
        Inputs.of([activations(**one), weights(**other)])


def test_paths_that_are_here_are_compared_as_they_are(tmp_path, monkeypatch):
    for name in ("here/model", "there/model"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "link").symlink_to(tmp_path / "here" / "model")
    Inputs.of([activations(id="model/"), weights(id=str(tmp_path / "here" / "model"))])
    Inputs.of([activations(id="../here/model"), weights(id=str(tmp_path / "link"))])
    with pytest.raises(MismatchedRunsError):
        # It ends the same way, but the relative path is another folder here.
        Inputs.of([activations(id="model"), weights(id=str(tmp_path / "there" / "model"))])


def test_the_names_of_saved_runs_are_their_files(tmp_path):
    one, other = activations(id="m"), weights(id="n")
    one.path, other.path = tmp_path / "a.lmfacts", tmp_path / "w.lmfacts"
    with pytest.raises(MismatchedRunsError) as caught:
        Inputs.of([one, other])
    assert f"{one.path} is of m, {other.path} of n" in str(caught.value)


def test_a_model_with_a_blank_in_its_name_can_be_pasted_into_a_shell():
    run = activations(id="my models/gpt 2", n_layers=3)
    command = check(run, only=["F8"])[0].command
    assert command == "lmfacts weights 'my models/gpt 2' -o weights.lmfacts"


def test_a_class_is_no_argument_of_a_command():
    inputs = Inputs.of([activations(id="GPT2LMHeadModel", architecture="GPT2LMHeadModel")])
    assert (inputs.model_id, inputs.model_argument) == ("GPT2LMHeadModel", "MODEL")
    assert Inputs.of([activations(id="gpt2", architecture="GPT2LMHeadModel")]).model_argument == "gpt2"
