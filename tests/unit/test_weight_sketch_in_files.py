"""The check of a sketch among the arrays of a weight."""

from __future__ import annotations

import numpy as np
import pytest

from lmfacts.run.weight_arrays import weight_arrays_problem
from lmfacts.stats.count_sketch import N_BUCKETS
from support.synthetic_weights import weights_run


def problem(name, sketch):
    run = weights_run(1)
    entry = next(entry for entry in run.metadata["sites"] if entry["name"] == name)
    return weight_arrays_problem(entry, {**run.extra_arrays, **({} if sketch is None else {f"{name}/sketch": sketch})})


@pytest.mark.parametrize("sketch", [None, np.empty(0), np.arange(N_BUCKETS, dtype=np.float64)])
def test_a_matrix_may_have_a_sketch(sketch):
    assert problem("blocks.0.W_O", sketch) is None


@pytest.mark.parametrize(
    ("name", "sketch", "reason"),
    [
        ("blocks.0.W_O", np.zeros(N_BUCKETS - 1), "sketch has 4095 entries, expected 0 or 4096"),
        ("blocks.0.W_O", np.zeros(N_BUCKETS, np.float32), "sketch is float32"),
        ("blocks.0.W_O", np.zeros((2, N_BUCKETS // 2)), "of one axis"),
        ("blocks.0.W_O", np.where(np.arange(N_BUCKETS) == 7, np.nan, 0.0), "not finite"),
        ("blocks.0.W_O", np.where(np.arange(N_BUCKETS) == 7, np.inf, 0.0), "not finite"),
        ("blocks.0.ln1.gain", np.zeros(N_BUCKETS), "sketch has 4096 entries, expected 0"),
    ],
)
def test_what_is_no_sketch_is_refused(name, sketch, reason):
    assert reason in problem(name, sketch)
