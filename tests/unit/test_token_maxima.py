"""The squares of tokens' largest magnitudes, against the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lmfacts
from lmfacts.run import load
from lmfacts.run.statistics.token_maxima import sum_of_squared_maxima
from support.capture import capture_taps
from support.tiny import batch, build


def test_a_scan_keeps_them(tmp_path):
    model = build("gpt2")
    inputs = batch(model)
    with torch.no_grad(), lmfacts.attach(model, ["embed", "blocks.0.mlp_post"]) as recorder:
        model(**inputs)
    run = load(recorder.run().save(tmp_path / "a.lmfacts"))
    taps = [tap for tap in lmfacts.models.describe(model).taps if tap.site in run]
    seen = capture_taps(model, taps, inputs).values
    real = inputs["attention_mask"].numpy().astype(bool).reshape(-1)
    for site in run:
        assert "token_maxima" in run[site].state.statistics
        expected = (np.abs(seen[site].double().numpy()[real]).max(axis=1) ** 2).sum()
        assert sum_of_squared_maxima(run[site]) == pytest.approx(expected, rel=1e-12)
