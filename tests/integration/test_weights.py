"""Weights from files, against NumPy in float64 on the same tensors."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import lmfacts
from lmfacts.demo import MODEL_DIR
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.weight_page import render_weight
from lmfacts.stats.codes import float8_values
from support.tiny import TINY, build


@pytest.fixture(scope="module")
def demo():
    return lmfacts.scan_weights(MODEL_DIR)


@pytest.fixture(scope="module")
def tensors():
    return {name: tensor.double().numpy() for name, tensor in load_file(MODEL_DIR / "model.safetensors").items()}


def central(values, order):
    return ((values - values.mean()) ** order).sum()


@pytest.mark.parametrize(
    "matrix",
    [torch.arange(8.0, 12.0).reshape(2, 2), torch.outer(torch.arange(1.0, 36.0), torch.arange(2.0, 55.0)) / 7],
    ids=["nearly-one-size", "rank-one"],
)
def test_a_matrix_whose_scaled_values_are_alike_is_measured_and_read_again(tmp_path, matrix):
    save_file({"w.weight": matrix}, tmp_path / "w.safetensors")
    lmfacts.scan_weights(tmp_path / "w.safetensors", out=tmp_path / "w.lmfacts")
    scaled = lmfacts.load(tmp_path / "w.lmfacts")["w.weight"].scaled
    values = matrix.double().numpy()
    values = values / np.sqrt((values**2).mean(axis=0))
    values = values / np.sqrt((values**2).mean(axis=1, keepdims=True))
    for order, found in ((2, scaled.moments.m2), (4, scaled.moments.m4)):
        assert abs(found - central(values, order)) <= 1e-3 * central(values, order) + values.size * 1.2e-7**order


def test_a_weight_says_what_it_is():
    run = lmfacts.scan_weights(build("gpt2"), spectra=False)
    head, *figures = repr(run["blocks.0.W_O"]).splitlines()
    assert head == "WeightRecord blocks.0.W_O (transformer.h.0.attn.c_proj.weight), 32 x 32, float32"
    assert [line.split()[0] for line in figures] == ["mean", "min"]


@pytest.mark.parametrize(("asked", "kept"), [(True, 4096), (False, 0), (0, 0), (7, 7)])
def test_spectra_may_be_asked_for_or_not(asked, kept):
    run = lmfacts.scan_weights(build("gpt2"), spectra=asked)
    assert run.metadata["settings"]["spectra"] == kept
    assert (run["blocks.0.W_O"].singular_values is None) == (kept < 32)


def test_every_stored_value_is_seen_once(demo, tensors):
    stored = {name: tensor.size for name, tensor in tensors.items()}
    seen = dict.fromkeys(stored, 0)
    for name in demo:
        seen[demo[name].parameter] += demo[name].n
    assert seen == stored
    assert demo.metadata["tied"] == {"lm_head.weight": "transformer.wte.weight"}
    assert demo["lm_head.weight"].name == "embed.W_E"


@pytest.mark.parametrize("layer", range(4))
@pytest.mark.parametrize("kind", ["W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"])
def test_a_matrix_is_what_numpy_says_of_it(demo, tensors, layer, kind):
    parameter = {"W_O": "attn.c_proj", "W_in": "mlp.c_fc", "W_out": "mlp.c_proj"}.get(kind, "attn.c_attn")
    stored = tensors[f"transformer.h.{layer}.{parameter}.weight"]
    if parameter == "attn.c_attn":
        stored = np.split(stored, 3, axis=1)["QKV".index(kind[-1])]
    matrix = stored.T  # [out, in]; Conv1D stores [in, out]
    weight = demo[f"blocks.{layer}.{kind}"]
    assert weight.shape == matrix.shape
    assert weight.n == matrix.size
    np.testing.assert_allclose(weight.std, matrix.std(), rtol=1e-12)
    kurtosis = matrix.size * central(matrix, 4) / central(matrix, 2) ** 2 - 3
    np.testing.assert_allclose(weight.excess_kurtosis, kurtosis, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(weight.frobenius, np.linalg.norm(matrix), rtol=1e-12)
    np.testing.assert_allclose(weight.row_rms, np.sqrt((matrix**2).mean(axis=1)), rtol=1e-12)
    np.testing.assert_allclose(weight.column_rms, np.sqrt((matrix**2).mean(axis=0)), rtol=1e-12)
    np.testing.assert_allclose(weight.max_abs_z, np.abs((matrix - matrix.mean()) / matrix.std()).max(), rtol=1e-9)
    quantiles = np.quantile(matrix, [0.001, 0.5, 0.999], method="inverted_cdf")
    np.testing.assert_array_equal(weight.quantile([0.001, 0.5, 0.999]), quantiles)
    np.testing.assert_allclose(weight.singular_values, np.linalg.svd(matrix, compute_uv=False), rtol=1e-4, atol=1e-6)

    # Stored columns first, then rows, as the file has them.
    scaled = stored / np.sqrt((stored**2).mean(axis=0))
    scaled = scaled / np.sqrt((scaled**2).mean(axis=1, keepdims=True))
    kurtosis = scaled.size * central(scaled, 4) / central(scaled, 2) ** 2 - 3
    np.testing.assert_allclose(weight.scaled.excess_kurtosis, kurtosis, rtol=1e-5, atol=1e-6)
    assert weight.scaled.n == scaled.size

    gains = {"W_in": "ln_2", "W_Q": "ln_1", "W_K": "ln_1", "W_V": "ln_1"}
    if kind in gains:
        gain = tensors[f"transformer.h.{layer}.{gains[kind]}.weight"]
        folded = matrix * gain
        np.testing.assert_allclose(weight.spectral_folded, np.linalg.norm(folded, 2), rtol=1e-4)
    else:
        folded = matrix - matrix.mean(axis=0)
    np.testing.assert_allclose(weight.frobenius_folded, np.linalg.norm(folded), rtol=1e-10)


def test_a_vector_has_the_statistics_of_its_values_and_no_others(demo, tensors):
    gain = demo["blocks.1.ln1.gain"]
    values = tensors["transformer.h.1.ln_1.weight"]
    assert gain.shape == (128,)
    np.testing.assert_allclose([gain.mean, gain.std], [values.mean(), values.std()], rtol=1e-12)
    assert gain.singular_values is None
    assert gain.row_rms.size == gain.scaled.n == 0


def test_a_run_of_weights_is_the_same_when_it_is_read_again(demo, tmp_path):
    path = demo.save(tmp_path / "w.lmfacts")
    again = lmfacts.load(path)
    assert again.kind == "weights"
    for name in demo:
        ours, theirs = demo[name], again[name]
        assert (ours.frobenius, ours.max_abs_z, ours.shape) == (theirs.frobenius, theirs.max_abs_z, theirs.shape)
        np.testing.assert_array_equal(ours.row_rms, theirs.row_rms)
        np.testing.assert_array_equal(ours.singular_values, theirs.singular_values)
    assert again.select(["transformer.h.0.attn.c_attn.weight"]) == [f"blocks.0.W_{part}" for part in "QKV"]


@pytest.mark.parametrize("family", sorted(TINY))
def test_every_family_is_read_whole_from_its_files_and_from_its_model(family, tmp_path):
    model = build(family, torch.float32)
    model.save_pretrained(tmp_path)
    from_files, from_model = lmfacts.scan_weights(tmp_path), lmfacts.scan_weights(model)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    for run in (from_files, from_model):
        assert sum(run[name].n for name in run) == n_parameters
        assert {"W_Q", "W_O"} <= {run[name].kind for name in run}
    roles = sorted(name for name in from_model if name.startswith("blocks."))
    for name in (name for name in roles if name in from_files):
        np.testing.assert_allclose(from_files[name].frobenius, from_model[name].frobenius, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2])
def test_other_dtypes_are_read_as_they_are(tmp_path, dtype):
    from safetensors.torch import save_file

    values = torch.randn(64, 48, generator=torch.Generator().manual_seed(0)).to(dtype)
    save_file({"some.weight": values}, tmp_path / "model.safetensors")
    weight = lmfacts.scan_weights(tmp_path / "model.safetensors")["some.weight"]
    expected = values.double().numpy()
    np.testing.assert_allclose(weight.std, expected.std(), rtol=1e-12)
    np.testing.assert_allclose([weight.min, weight.max], [expected.min(), expected.max()], rtol=0)
    assert weight.stored_dtype == str(dtype).removeprefix("torch.")
    np.testing.assert_allclose(weight.singular_values, np.linalg.svd(expected, compute_uv=False), rtol=1e-5)
    if dtype.itemsize == 1:
        assert weight.exact
        np.testing.assert_array_equal(
            float8_values(weight.stored_dtype), torch.arange(256).to(torch.uint8).view(dtype).float().numpy()
        )


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory):
    """Matrices whose answers are known: FACTS F8, F11."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    n = 768
    left, right = rng.standard_normal((n, 12)), rng.standard_normal((12, n))
    drawn = {
        "gaussian": rng.standard_normal((n, n)),
        "laplace": rng.laplace(size=(n, n)),
        "student": rng.standard_t(5, size=(n, n)),
        "row_scaled": rng.standard_normal((n, n)) * np.exp(0.5 * rng.standard_normal(n))[:, None],
        "low_rank": rng.standard_normal((n, n)) + left @ right,
    }
    path = tmp_path_factory.mktemp("drawn") / "model.safetensors"
    save_file({name: values.astype(np.float32) for name, values in drawn.items()}, path)
    return lmfacts.scan_weights(path)


def test_known_laws_are_told_apart(gaussian):
    body = {name: gaussian[name].weibull.k for name in gaussian}
    kurtosis = {name: gaussian[name].excess_kurtosis for name in gaussian}
    scaled = {name: gaussian[name].scaled.excess_kurtosis for name in gaussian}
    n = gaussian["gaussian"].n
    assert abs(body["gaussian"] - 1.205) < 0.005
    assert abs(kurtosis["gaussian"]) < 4 * np.sqrt(24 / n)
    assert abs(body["laplace"] - 1.0) < 0.01
    assert kurtosis["laplace"] > 2.5
    assert scaled["laplace"] > 2.5
    assert kurtosis["student"] > 3
    assert scaled["student"] > 2
    assert kurtosis["row_scaled"] > 2
    assert abs(scaled["row_scaled"]) < 0.05
    assert gaussian["gaussian"].max_abs_z < 1.25 * gaussian["gaussian"].expected_max_abs_z
    edge = 2 * np.sqrt(768)
    assert gaussian["gaussian"].spectral < 1.05 * edge
    assert (gaussian["low_rank"].singular_values > 1.2 * edge).sum() == 12


def test_a_few_giant_entries_do_not_make_a_spectrum(tmp_path):
    """20 entries of 200 std are 20 singular values above the analytic edge and none above the shuffled one."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(2)
    values = rng.standard_normal((768, 768)).astype(np.float32)
    places = rng.permutation(768)[:20]
    values[places, places] = 200.0
    save_file({"weight": values}, tmp_path / "model.safetensors")
    run = lmfacts.scan_weights(tmp_path / "model.safetensors")
    weight = run["weight"]
    assert "shuffled edge" in to_text(render_weight(weight, run))
    # The edge that the body's own deviation gives: the giants have a part in the std.
    assert (weight.singular_values > 2.5 * np.sqrt(768)).sum() == 20
    assert (weight.singular_values > weight.shuffled_edge).sum() == 0
    assert weight.spectrum.n_above(weight.shuffled_edge) == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((4, 6), np.float32), {"std": 0.0, "frobenius": 0.0, "n": 24}),
        (np.full((4, 6), -2.5, np.float32), {"std": 0.0, "mean": -2.5, "n": 24}),
        (np.array(3.5, np.float32), {"mean": 3.5, "shape": (1,), "n": 1}),
        (np.array([[1, np.nan, 2], [3, 4, np.inf]], np.float32), {"n": 4, "n_nan": 1, "n_inf": 1, "mean": 2.5}),
    ],
    ids=["zero", "constant", "scalar", "nan"],
)
def test_odd_tensors_have_the_statistics_they_have(tmp_path, values, said):
    from safetensors.numpy import save_file

    save_file({"w": values, "none": np.empty((0, 5), np.float32), "ids": np.arange(5)}, tmp_path / "model.safetensors")
    run = lmfacts.scan_weights(tmp_path / "model.safetensors", out=tmp_path / "w.lmfacts")
    for record in (run["w"], lmfacts.load(tmp_path / "w.lmfacts")["w"]):
        for name, expected in said.items():
            assert getattr(record, name) == expected, name
    assert set(run.metadata["skipped"]) == {"none", "ids"}


def test_nan_in_weights_and_gains_is_counted_and_stops_nothing(tmp_path):
    from safetensors.torch import save_file

    tensors = load_file(MODEL_DIR / "model.safetensors")
    tensors["transformer.h.1.mlp.c_fc.weight"][3, 5] = torch.nan
    tensors["transformer.h.2.ln_1.weight"][7] = torch.inf
    tensors["transformer.h.3.attn.c_proj.weight"].zero_()
    for name in ("config.json", "tokenizer.json"):
        if (MODEL_DIR / name).is_file():
            (tmp_path / name).write_bytes((MODEL_DIR / name).read_bytes())
    save_file(tensors, tmp_path / "model.safetensors")
    run = lmfacts.scan_weights(tmp_path, out=tmp_path / "w.lmfacts")
    for found in (run, lmfacts.load(tmp_path / "w.lmfacts")):
        broken = found["blocks.1.W_in"]
        finite = tensors["transformer.h.1.mlp.c_fc.weight"].double().nan_to_num(0.0)
        assert (broken.n_nan, broken.singular_values) == (1, None)
        assert broken.frobenius == pytest.approx(float(finite.norm()), rel=1e-12)
        assert np.isnan(broken.frobenius_folded)
        assert np.isnan(found["blocks.2.W_Q"].frobenius_folded)
        assert found["blocks.2.W_Q"].spectral_folded is None
        assert found["blocks.2.W_Q"].spectral > 0
        assert found["blocks.3.W_O"].frobenius == 0
    for command in (["show"], ["show", "--json"], ["facts"], ["facts", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "lmfacts", command[0], str(tmp_path / "w.lmfacts"), *command[1:]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_weights_of_any_scale_are_folded(tmp_path, scale):
    from safetensors.torch import save_file

    tensors = {name: tensor.float() for name, tensor in load_file(MODEL_DIR / "model.safetensors").items()}
    expected = lmfacts.scan_weights(MODEL_DIR)["blocks.1.W_in"]
    tensors["transformer.h.1.mlp.c_fc.weight"] *= scale
    (tmp_path / "config.json").write_bytes((MODEL_DIR / "config.json").read_bytes())
    save_file(tensors, tmp_path / "model.safetensors")
    found = lmfacts.scan_weights(tmp_path)["blocks.1.W_in"]
    assert found.spectral_folded == pytest.approx(expected.spectral_folded * scale, rel=1e-4)
    assert found.frobenius_folded == pytest.approx(expected.frobenius_folded * scale, rel=1e-5)


def sharded(folder, n_shards, n_rows, n_columns):
    """A checkpoint of equal shards, written without holding more than one."""
    from safetensors.numpy import save_file

    folder.mkdir()
    rng = np.random.default_rng(1)
    block = rng.standard_normal((n_rows, n_columns)).astype(np.float32)
    index = {}
    for shard in range(n_shards):
        file = f"model-{shard + 1:05d}-of-{n_shards:05d}.safetensors"
        index[f"part.{shard}.weight"] = file
        save_file({f"part.{shard}.weight": block}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "config.json").write_text('{"model_type": "unheard-of"}')
    return block


def test_a_checkpoint_larger_than_the_allowed_memory_is_read_within_it(tmp_path):
    """1.3 GB of weights, while the system gives the process no more than 300 MB and one tensor beyond what it has."""
    block = sharded(tmp_path / "large", n_shards=20, n_rows=2048, n_columns=8192)
    program = """
import resource, sys
import lmfacts, lmfacts.scans.weights
from lmfacts.scans.memory import peak_bytes
lmfacts.scan_weights("demo")
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
allowed = int(status["VmData"].split()[0]) * 1024 + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
before = peak_bytes()
run = lmfacts.scan_weights(sys.argv[1], spectra=0)
assert "torch" not in sys.modules
print(len(run), run["part.3.weight"].std, peak_bytes() - before)
"""
    allowed = block.nbytes + (300 << 20)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "large"), str(allowed)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "LMFACTS_NUM_THREADS": "2"},
    )
    assert done.returncode == 0, done.stderr
    n, std, grown = done.stdout.split()
    assert int(n) == 20
    np.testing.assert_allclose(float(std), block.std(dtype=np.float64), rtol=1e-9)
    assert int(grown) < allowed < 20 * block.nbytes / 3
