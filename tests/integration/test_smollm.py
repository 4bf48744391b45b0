"""SmolLM2-135M from end to end, in float32 and bfloat16, against NumPy over the model's own hidden states."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import lmfacts
from lmfacts.analysis.outlier_dims import persistence
from lmfacts.checkpoints import open_weights
from lmfacts.render.terminal.json_documents import summary_json
from lmfacts.stats.float_values import float_values
from lmfacts.stats.singular_values import singular_values
from lmfacts.stats.spectrum import weightwatcher
from lmfacts.text.corpus import Corpus
from lmfacts.text.sequences import Sequences
from support.smollm import gguf_path, smollm
from support.weightwatcher import published_fit

pytestmark = pytest.mark.real_model

SEQ_LEN = 128
N_TOKENS = {"float32": 768, "bfloat16": 256}


def scan_in_process(out):
    smol = smollm()
    lmfacts.scan(
        smol.model,
        tokenizer=smol.tokenizer,
        sites="resid",
        max_tokens=N_TOKENS["float32"],
        seq_len=SEQ_LEN,
        batch_size=2,
        out=out,
    )


def scan_the_file(out):
    command = ["scan", str(gguf_path()), "--sites", "resid", "--dtype", "bfloat16", "--json"]
    command += ["--max-tokens", str(N_TOKENS["bfloat16"]), "--seq-len", str(SEQ_LEN), "--batch-size", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "lmfacts", *command, "-o", str(out)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"]["n_tokens"] == N_TOKENS["bfloat16"]


def numpy_rms(dtype):
    """RMS of each dim of each block's output, [layers, dims], position 0 left out."""
    smol = smollm()
    model = copy.deepcopy(smol.model)
    for parameter in model.parameters():  # buffers stay float32, as in a model that is loaded in this dtype
        parameter.data = parameter.data.to(getattr(torch, dtype))
    batches = Sequences(Corpus(), smol.tokenizer, SEQ_LEN, max_tokens=N_TOKENS[dtype]).batches(2)
    squares, n = 0.0, 0
    for batch in batches:
        with torch.inference_mode():
            states = model.model(torch.from_numpy(batch.input_ids), output_hidden_states=True).hidden_states[1:-1]
        values = np.stack([state[:, 1:].double().numpy() for state in states])
        squares, n = squares + (values**2).sum(axis=(1, 2)), n + values.shape[1] * values.shape[2]
    return np.sqrt(squares / n)


@pytest.mark.parametrize(("dtype", "scan"), [("float32", scan_in_process), ("bfloat16", scan_the_file)])
def test_the_outlier_dims_of_the_residual_stream_are_those_that_numpy_finds(tmp_path, dtype, scan):
    out = tmp_path / "smol.lmfacts"
    scan(out)
    run = lmfacts.load(out)
    assert run.complete
    assert run.n_tokens == N_TOKENS[dtype]
    assert run.model["dtype"] == dtype
    rms = numpy_rms(dtype)
    for layer, expected in enumerate(rms):
        np.testing.assert_allclose(run[f"blocks.{layer}.resid_post"].rest.dims.rms, expected, rtol=1e-12)

    outlying = (rms > 5 * np.median(rms, axis=1, keepdims=True)).mean(axis=0)
    dims = np.flatnonzero(outlying >= 0.75)
    assert len(dims) > 0
    found = persistence(run, layers=range(len(rms)))
    assert sorted(found.dims(0.75)) == sorted(dims)
    assert set(dims) <= {entry["dim"] for entry in summary_json(run)["outlier_dims"]["rest"]["dims"]}


def test_every_parameter_of_the_file_is_accounted_for():
    run = lmfacts.scan_weights(gguf_path(), spectra=0)
    assert sum(run[name].n for name in run) == run.model["n_parameters"] == 134_515_008
    kinds = {run[name].kind for name in run if run[name].layer == 7}
    assert kinds == {"W_Q", "W_K", "W_V", "W_O", "W_in", "W_gate", "W_out", "ln1.gain", "ln2.gain"}
    assert run["lm_head.weight"].name == "embed.W_E"
    assert run["blocks.7.W_O"].quantization is not None


def test_the_power_laws_of_its_matrices_are_the_published_ones():
    """Half of its matrices have another xmin by a Kolmogorov-Smirnov distance."""
    n, n_other = 0, 0
    with open_weights(gguf_path()) as source:
        for tensor in source.tensors:
            if len(tensor.shape) < 2 or not tensor.name.startswith(("model.layers.15.", "model.layers.22.")):
                continue
            values = singular_values(float_values(np.asarray(source.read(tensor)), tensor.dtype))
            fit = weightwatcher(values)
            distance, alpha, xmin, n_tail = published_fit(values)
            assert (fit.distance, fit.alpha, fit.xmin) == pytest.approx((distance, alpha, xmin)), tensor.name
            assert fit.n_tail == n_tail, tensor.name
            n += 1
            n_other += published_fit(values, two_sided=True)[3] != n_tail
    assert n == 14
    assert n_other >= 5
