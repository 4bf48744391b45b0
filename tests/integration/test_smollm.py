"""SmolLM2-135M from end to end, in float32 and bfloat16, against NumPy over the model's own hidden states."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import lmfacts
from lmfacts.corpus import Corpus
from lmfacts.outlier_dims import persistence
from lmfacts.sequences import Sequences
from support.smollm import gguf_path

pytestmark = pytest.mark.real_model

N_TOKENS, SEQ_LEN = 768, 128


def scan(dtype, out):
    command = ["scan", str(gguf_path()), "--sites", "resid", "--dtype", dtype, "--max-tokens", str(N_TOKENS), "--json"]
    command += ["--seq-len", str(SEQ_LEN), "--batch-size", "2", "-o", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "lmfacts", *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def numpy_rms(dtype):
    """RMS of each dim of each block's output, [layers, dims], position 0 left out."""
    path = gguf_path()
    options = {"gguf_file": path.name}
    model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=getattr(torch, dtype), **options).eval()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **options)
    batches = Sequences(Corpus(), tokenizer, SEQ_LEN, max_tokens=N_TOKENS).batches(2)
    squares, n = 0.0, 0
    for batch in batches:
        with torch.inference_mode():
            states = model(torch.from_numpy(batch.input_ids), output_hidden_states=True).hidden_states[1:-1]
        values = np.stack([state[:, 1:].double().numpy() for state in states])
        squares, n = squares + (values**2).sum(axis=(1, 2)), n + values.shape[1] * values.shape[2]
    return np.sqrt(squares / n)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_outlier_dims_of_the_residual_stream_are_those_that_numpy_finds(tmp_path, dtype):
    out = tmp_path / "smol.lmfacts"
    summary = scan(dtype, out)
    run = lmfacts.load(out)
    assert run.complete
    assert run.n_tokens == N_TOKENS
    rms = numpy_rms(dtype)
    for layer, expected in enumerate(rms):
        np.testing.assert_allclose(run[f"blocks.{layer}.resid_post"].rest.dims.rms, expected, rtol=1e-12)

    outlying = (rms > 5 * np.median(rms, axis=1, keepdims=True)).mean(axis=0)
    dims = np.flatnonzero(outlying >= 0.75)
    assert len(dims) > 0
    found = persistence(run, layers=range(len(rms)))
    assert sorted(found.dims(0.75)) == sorted(dims)
    assert set(dims) <= {entry["dim"] for entry in summary["outlier_dims"]["rest"]["dims"]}


def test_every_parameter_of_the_file_is_accounted_for():
    run = lmfacts.scan_weights(gguf_path(), spectra=0)
    assert sum(run[name].n for name in run) == run.model["n_parameters"] == 134_515_008
    kinds = {run[name].kind for name in run if run[name].layer == 7}
    assert kinds == {"W_Q", "W_K", "W_V", "W_O", "W_in", "W_gate", "W_out", "ln1.gain", "ln2.gain"}
    assert run["lm_head.weight"].name == "embed.W_E"
    assert run["blocks.7.W_O"].quantization is not None
