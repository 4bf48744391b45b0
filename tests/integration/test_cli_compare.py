"""`lmfacts compare` on files, and on runs of the embedded model."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

import lmfacts
from lmfacts.cli.compare import compare
from lmfacts.comparison import compare as compare_runs
from lmfacts.demo.text import documents
from lmfacts.models.loading import load_model
from lmfacts.render.terminal.comparison_view import render_comparison
from lmfacts.render.terminal.console import to_text
from support.synthetic_runs import gaussian_run, residual_run
from support.synthetic_weights import weights_run

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(compare)
SAME = {"token_hash": "the same"}


def invoke(*arguments):
    return CliRunner(env={"COLUMNS": "120", "NO_COLOR": "1"}).invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name -> run file: one run, the same again, one that grew by a fifth at layer 1, and one of weights."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {
        "a": residual_run(lambda layer, _: values(layer, 0.0), n_layers=3, metadata=SAME),
        "again": residual_run(lambda layer, _: values(layer, 0.0), n_layers=3, metadata=SAME),
        "grown": residual_run(lambda layer, _: values(layer), n_layers=3, metadata=SAME),
        "other text": residual_run(lambda layer, _: values(layer + 5, 0.0), n_layers=3, metadata={"token_hash": "x"}),
        "weights": weights_run(2),
        "other": gaussian_run(n_dims=5),
    }
    return {name: run.save(folder / f"{name}.lmfacts") for name, run in runs.items()}


def values(layer, growth=0.2):
    generator = torch.Generator().manual_seed(layer)
    factor = 1.0 + growth * (layer == 1)
    return factor * torch.randn(64, 16, generator=generator, dtype=torch.float64).numpy()


def test_what_changed_is_printed_and_the_exit_code_is_0(files):
    done = invoke(files["a"], files["grown"])
    assert done.exit_code == 0
    assert done.stderr == ""
    assert "1 of 3 sites changed. The largest effect is 0.182, at blocks.1.resid_post" in done.stdout
    assert "+20 %" in done.stdout


def test_a_threshold_decides_the_exit_code_and_says_why(files):
    assert invoke(files["a"], files["grown"], "--threshold", 0.2).exit_code == 0
    assert invoke(files["a"], files["again"], "--threshold", 0).exit_code == 0
    done = invoke(files["a"], files["grown"], "--threshold", 0.1)
    assert done.exit_code == 4
    assert done.stderr.startswith(
        "lmfacts: 1 of 3 sites has an effect above the threshold 0.1: blocks.1.resid_post 0.182 ("
    )
    assert done.stderr.count("\n") == 1
    assert "What changed" in done.stdout
    assert invoke(files["a"], files["grown"], "--threshold", -1).exit_code == 2
    assert invoke(files["a"], files["grown"], "--threshold", "nan").exit_code == 2


def test_a_threshold_is_refused_where_nothing_can_be_judged(files):
    assert invoke(files["a"], files["other text"]).exit_code == 0
    done = invoke(files["a"], files["other text"], "--threshold", 0.1)
    assert done.exit_code == 2
    assert "--threshold: nothing can be judged" in done.stderr
    assert done.stdout == ""


def test_a_threshold_is_kept_by_what_is_identical_whatever_the_text(tmp_path):
    path = residual_run(lambda _layer, at: np.ones((at.size, 8)), n_layers=1).save(tmp_path / "a.lmfacts")
    done = invoke(path, path, "--threshold", 0)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "Nothing: no number that is compared differs" in done.stdout


def test_a_threshold_is_held_against_the_excess(tmp_path):
    def run(seed, factor):
        rng = np.random.default_rng(seed)
        return residual_run(
            lambda _, at: factor * rng.normal(size=(at.size, 16)),
            n_layers=1,
            n_sequences=32,
            blocks=True,
            metadata={"token_hash": str(seed)},
        )

    a, b = run(0, 1.0), run(1, 1.2)
    (site,) = compare_runs(a, b).sites
    size, noise = site.decided_by.size, site.decided_by.noise
    assert 0.01 < noise < size / 2
    paths = [r.save(tmp_path / f"{name}.lmfacts") for r, name in ((a, "a"), (b, "b"))]
    assert invoke(*paths, "--threshold", size - noise + 1e-6).exit_code == 0
    done = invoke(*paths, "--threshold", size - noise - 1e-6)
    assert done.exit_code == 4
    assert "1 of 1 site has an excess over noise above the threshold" in done.stderr


def test_json_is_one_document_whatever_the_exit_code(files):
    done = invoke(files["a"], files["grown"], "--json", "--threshold", 0.1)
    assert done.exit_code == 4
    document = json.loads(done.stdout)
    assert document["document"] == "lmfacts.comparison"
    assert document["n_changed"] == 1
    assert document["a"]["path"] == str(files["a"])


def test_facts_can_be_required_to_stay(files, monkeypatch):
    assert invoke(files["a"], files["again"], "--require-same-facts").exit_code == 0
    from lmfacts.comparison import fact_change
    from lmfacts.facts import Fact, Verdict

    verdicts = iter([Verdict.HOLDS, Verdict.FAILS])
    monkeypatch.setattr(
        fact_change, "check", lambda _run: [Fact("F2", "title", "claim", "source", next(verdicts), "summary")]
    )
    done = invoke(files["a"], files["again"], "--require-same-facts")
    assert done.exit_code == 4
    assert done.stderr == 'lmfacts: verdicts changed: F2 is "holds here" in A, "not so here" in B\n'


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        ("a", "weights", "A is a run of activations and B one of weights"),
        ("a", "other", "no site that can be compared"),
        ("a", "missing", "no run file"),
    ],
)
def test_runs_that_cannot_be_compared_are_a_sentence(files, a, b, sentence):
    done = invoke(files[a], files.get(b, "missing.lmfacts"))
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert done.stdout == ""


def test_the_number_of_sites_and_the_population(files):
    assert "position 0 only" in invoke(files["a"], files["grown"], "--population", "first").stdout
    assert invoke(files["a"], files["grown"], "--population", "last").exit_code == 2
    assert invoke(files["weights"], files["weights"], "--population", "rest").exit_code == 2
    assert invoke(files["a"], files["grown"], "--top", 0).exit_code == 2


def test_the_command_loads_neither_torch_nor_transformers(files):
    program = (
        "import sys, typer; from lmfacts.cli.compare import compare\n"
        "app = typer.Typer(); app.command()(compare)\n"
        f"app([{str(files['a'])!r}, {str(files['grown'])!r}], standalone_mode=False)\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip().endswith("[]")


# A real model


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The embedded model in float32, in bfloat16, and in float32 with noise of 2 % on its matrices."""
    runs = {}
    for name, dtype, noise in (("float32", "float32", 0.0), ("bfloat16", "bfloat16", 0.0), ("noisy", "float32", 0.02)):
        loaded = load_model("demo", dtype=dtype)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in loaded.model.parameters() if noise else ():
                if parameter.ndim > 1:
                    parameter.add_(noise * parameter.std() * torch.randn(parameter.shape, generator=generator))
        runs[name] = lmfacts.scan(loaded.model, tokenizer=loaded.tokenizer, sites="default", max_tokens=4_000)
        runs[f"{name} weights"] = lmfacts.scan_weights(loaded.model)
    return runs


def test_bfloat16_changes_little_and_noise_changes_much(scans):
    coarse = compare_runs(scans["float32"], scans["bfloat16"])
    noisy = compare_runs(scans["float32"], scans["noisy"])
    assert coarse.caveats == noisy.caveats == ()
    assert coarse.paired
    assert "paired: both runs read the same text" in to_text(render_comparison(coarse))
    assert "What rounding can do by itself counts as no effect" in " ".join(to_text(render_comparison(coarse)).split())
    assert {item.noise for site in coarse.sites for item in site.differences} == {0.0}
    assert sum(site.effect > 0 for site in coarse.sites) > 0
    assert coarse.by_effect[0].effect < 0.02
    assert sum(site.effect == 0 for site in coarse.sites) > 0.8 * len(coarse.sites)
    assert min(site.effect for site in noisy.sites) > 0.01
    assert noisy.by_effect[0].effect > 10 * coarse.by_effect[0].effect


def scan_of(text, folder, change=lambda model: None):
    """A scan of the embedded model over a text: 64 sequences of 128 tokens."""
    loaded = load_model("demo", dtype="float32")
    change(loaded.model)
    corpus = folder / "text.txt"
    corpus.write_text(text, encoding="utf-8")
    return lmfacts.scan(
        loaded.model, corpus, tokenizer=loaded.tokenizer, sites="resid", seq_len=128, max_tokens=64 * 128
    )


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Two halves of the embedded text: of its pieces of 128 bytes every other one."""
    text = "".join(topic for _, topic in documents()).encode("ascii", "replace")
    pieces = [text[start : start + 128] for start in range(0, 4 * 64 * 128, 128)]
    return [b"".join(pieces[which::2]).decode() for which in (0, 1)], tmp_path_factory.mktemp("halves")


@pytest.fixture(scope="module")
def half_scans(halves):
    texts, folder = halves
    return [scan_of(text, folder) for text in texts]


def test_two_halves_of_one_text_are_no_change(half_scans):
    assert half_scans[0].n_tokens == half_scans[1].n_tokens == 64 * 128
    found = compare_runs(*half_scans)
    assert not found.paired
    assert len(found.judged) == len(found.sites) == 9
    assert found.beyond(0.0) == []
    sizes = [item.size for site in found.sites for item in site.differences if item.judged]
    # Of the stream within the blocks and before them the std is known; single dims are everywhere.
    assert len(sizes) == 4 * 4 + 5 + 2 * 9
    assert min(sizes) > 0


def scale_embedding(factor, dims=slice(None)):
    """A change of the embedded model: what it adds up for the first block is so many times larger, in some dims."""

    def change(model):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("wte.weight", "wpe.weight")):
                    parameter[:, dims] *= factor

    return change


def test_a_model_that_changed_is_found_on_the_other_half(halves, half_scans):
    """Of the noise the change is 1.1 to 1.9 times as large: at twice the noise it would be missed."""
    texts, folder = halves
    found = compare_runs(half_scans[0], scan_of(texts[1], folder, scale_embedding(1.002)))
    assert not found.paired
    site = next(site for site in found.sites if site.name == "blocks.0.resid_pre")
    std = next(item for item in site.differences if item.key == "std")
    assert 1.1 < std.size / std.noise < 1.9
    assert site.effect == std.excess > 0


def test_one_dim_scaled_by_a_hundredth_is_found_on_the_same_text(halves, half_scans):
    texts, folder = halves
    found = compare_runs(half_scans[0], scan_of(texts[0], folder, scale_embedding(1.01, 5)))
    assert found.paired
    site = next(site for site in found.sites if site.name == "blocks.0.resid_pre")
    assert (site.decided_by.key, site.decided_by.dim) == ("dim_scale", 5)
    assert site.effect == pytest.approx(math.log(1.01), rel=1e-4)
    assert all(site.effect > 0 for site in found.sites)
    assert all(item.noise == 0 for site in found.sites for item in site.differences)


def test_the_weights_of_both(scans):
    # The checkpoint is stored in bfloat16: in float32 it holds the same numbers.
    assert compare_runs(scans["float32 weights"], scans["bfloat16 weights"]).beyond(0.0) == []
    noisy = compare_runs(scans["float32 weights"], scans["noisy weights"])
    assert {site.name for site in noisy.beyond(0.0)} == {
        site.name for site in noisy.sites if len(site.weight.shape) > 1
    }
    # The noise is 2 % of a stored matrix; the parts of a fused one have scales of their own.
    changes = [site.weight.relative_change for site in noisy.sites if len(site.weight.shape) > 1]
    assert 0.015 < min(changes) < max(changes) < 0.035
    assert statistics.median(changes) == pytest.approx(0.02, rel=0.05)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Name -> folder: a model, one whose W_O of the last block is scaled, and an adapter for the first."""
    folder = tmp_path_factory.mktemp("checkpoints")
    generator = torch.Generator().manual_seed(0)
    config = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    tensors = {
        f"model.layers.{layer}.self_attn.{name}_proj.weight": torch.randn(32, 32, generator=generator)
        for layer in range(2)
        for name in "qkvo"
    }
    edited = dict(tensors)
    edited["model.layers.1.self_attn.o_proj.weight"] = 1.25 * tensors["model.layers.1.self_attn.o_proj.weight"]
    for name, stored in (("a", tensors), ("b", edited)):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
        save_file(stored, folder / name / "model.safetensors")
    (folder / "adapter").mkdir()
    adapter = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(adapter))
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {
        f"{module}.lora_A.weight": torch.randn(2, 32, generator=generator),
        f"{module}.lora_B.weight": torch.randn(32, 2, generator=generator),
    }
    save_file(factors, folder / "adapter" / "adapter_model.safetensors")
    return {name: folder / name for name in ("a", "b", "adapter")}


def test_checkpoints_are_compared_exactly(checkpoints):
    done = invoke(checkpoints["a"], checkpoints["b"])
    assert done.exit_code == 0
    said = " ".join(done.stdout.split())
    assert "1 of 8 weights changed. The largest relative change is 0.250, at blocks.1.W_O; the median is 0." in said
    assert invoke(checkpoints["a"], checkpoints["b"], "--threshold", 0.26).exit_code == 0
    done = invoke(checkpoints["a"], checkpoints["b"], "--threshold", 0.24, "--json")
    assert done.exit_code == 4
    assert "1 of 8 weights has a relative change above the threshold 0.24: blocks.1.W_O 0.25" in done.stderr
    assert json.loads(done.stdout)["weights"][0]["name"] == "blocks.1.W_O"
    assert json.loads(done.stdout)["weights"][0]["spectrum"] is not None
    without = json.loads(invoke(checkpoints["a"], checkpoints["b"], "--spectra", 31, "--json").stdout)
    assert without["weights"][0]["spectrum"] is None
    assert invoke(checkpoints["a"], checkpoints["a"], "--threshold", 0).exit_code == 0


def test_files_of_weights_are_checkpoints_too(checkpoints):
    done = invoke(checkpoints["a"] / "model.safetensors", checkpoints["b"])
    assert done.exit_code == 0
    assert "1 of 8 weights changed" in done.stdout


def test_an_adapter_is_a_difference(checkpoints):
    done = invoke(checkpoints["a"], checkpoints["adapter"], "--json")
    assert done.exit_code == 0
    (weight,) = json.loads(done.stdout)["weights"]
    assert weight["name"] == "blocks.0.W_Q"
    assert weight["dtype_b"] == "lora"
    assert sum(value > 1e-4 for value in weight["spectrum"]["singular_values"]) == 2


@pytest.mark.parametrize("name", ["missing.lmfacts", "missing"])
def test_a_checkpoint_beside_what_is_not_there(checkpoints, tmp_path, name):
    there, missing = checkpoints["a"], tmp_path / name
    for a, b in ((there, missing), (missing, there)):
        done = invoke(a, b)
        assert done.exit_code == 2
        assert f"There is no {missing}, neither a checkpoint nor a run file" in done.stderr


def test_checkpoints_and_run_files_are_not_mixed(checkpoints, files):
    for a, b in ((checkpoints["a"], files["weights"]), (files["weights"], checkpoints["a"])):
        done = invoke(a, b)
        assert done.exit_code == 2
        assert f"{checkpoints['a']} is a checkpoint and {files['weights']} a run file: expected two" in done.stderr
    assert "demo is a checkpoint" in invoke("demo", files["weights"]).stderr
    missing = invoke("nothing", files["weights"])
    assert missing.exit_code == 2
    assert "nothing" in missing.stderr
    assert "Traceback" not in missing.stderr


@pytest.mark.parametrize("options", [("--require-same-facts",), ("--population", "rest"), ("--threshold", "nan")])
def test_options_that_checkpoints_do_not_have(checkpoints, options):
    done = invoke(checkpoints["a"], checkpoints["b"], *options)
    assert done.exit_code == 2
    assert options[0].removeprefix("--") in done.stderr


def test_no_weight_in_common_is_a_sentence(checkpoints, tmp_path):
    save_file({"x.weight": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    done = invoke(checkpoints["a"], tmp_path / "x.safetensors")
    assert done.exit_code == 2
    assert "no weight in common" in done.stderr
