"""The text of comparisons against stored files. `LMFACTS_UPDATE_GOLDEN=1` writes them anew: look at what changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from lmfacts.comparison import compare, fact_change
from lmfacts.facts import Evidence, Fact, Measure, Verdict
from lmfacts.render.terminal.comparison_view import render_comparison
from lmfacts.render.terminal.console import to_text
from support.synthetic_runs import residual_run
from support.synthetic_weights import weights_run

FOLDER = Path(__file__).parent / "report"
WIDTHS = (80, 100, 140)
N_LAYERS = 6


def check(name, text):
    path = FOLDER / name
    if os.environ.get("LMFACTS_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "set LMFACTS_UPDATE_GOLDEN=1 to store this as right"


def run(*, changed, dtype="float32", text="original", **options):
    """A residual stream that grows; with changes: more growth, dim 40 an outlier dim, dim 9 no more, dim 3 moved."""
    seed = 1000 * (text != "original")

    def values_of(layer, positions):
        values = np.random.default_rng(layer + seed).normal(size=(positions.size, 64)) * 1.1**layer
        values[:, 9] *= 2.0 if changed else 8.0
        values[:, 40] *= 6.0 if changed and layer > 2 else 1.0
        values[:, 3] += 0.5 if changed else 0.0
        return values * (1.03**layer if changed else 1.0)

    return residual_run(
        values_of,
        n_layers=N_LAYERS,
        n_sequences=8,
        n_positions=16,
        dtype=dtype,
        metadata={
            "model": {"id": "example-tuned" if changed else "example", "architecture": "GPT2LMHeadModel"},
            "token_hash": text,
            "created": "2024-01-01T00:00:00+00:00",
        },
        **options,
    )


def fact(fact_id, title, verdict, summary, measures):
    evidence = Evidence(tuple(Measure(*measure) for measure in measures))
    return Fact(fact_id, title, "claim", "source", verdict, summary, evidence)


def facts_of(run):
    tuned = run.model["id"] == "example-tuned"
    dims = "No dim is an outlier dim in 75 % of the layers." if tuned else "Dim 9 is an outlier dim in every layer."
    return [
        fact(
            "F1", "shape of activations", Verdict.FAILS, "", [("median excess kurtosis", 0.4 + 0.1 * tuned, "<= 0.3")]
        ),
        fact(
            "F2",
            "outlier dims persist",
            Verdict.FAILS if tuned else Verdict.HOLDS,
            dims,
            [("dims in 75 % of layers", 1.0 - tuned, ">= 1", not tuned), ("median overlap", 1.0 - 0.5 * tuned)],
        ),
        fact("F8", "shape of weights", Verdict.NOT_APPLICABLE, "", []),
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_activations(width, monkeypatch):
    monkeypatch.setattr(fact_change, "check", facts_of)
    found = compare(run(changed=False), run(changed=True))
    check(f"comparison_{width}.txt", to_text(render_comparison(found), width))


@pytest.mark.parametrize("width", WIDTHS)
def test_activations_of_different_text(width, monkeypatch):
    """Of the six sites four are kept by blocks, two of those with their codes; one of both kinds has changed."""
    monkeypatch.setattr(fact_change, "check", facts_of)
    kept = [run(changed=False, text=text, blocks=True, detail=True) for text in ("original", "other")]
    norms = [run(changed=False, text=text, blocks=True) for text in ("original", "other")]
    none = [run(changed=False, text=text) for text in ("original", "other")]
    louder = run(changed=True, text="other", blocks=True, detail=True)

    def joined(side):
        of = [kept, norms, norms, kept, none, none]
        states = {name: of[layer][side][name].state for layer, name in enumerate(kept[side])}
        if side:
            states["blocks.0.resid_post"] = louder["blocks.0.resid_post"].state
        return type(louder)(kept[side].metadata, states)

    check(f"comparison_text_{width}.txt", to_text(render_comparison(compare(joined(0), joined(1))), width))


def test_two_dtypes_and_no_difference(monkeypatch):
    monkeypatch.setattr(fact_change, "check", facts_of)
    found = compare(run(changed=False), run(changed=False, dtype="bfloat16"))
    check("comparison_rounding_100.txt", to_text(render_comparison(found), 100))


@pytest.mark.parametrize("width", WIDTHS)
def test_weights(width, monkeypatch):
    monkeypatch.setattr(fact_change, "check", lambda _run: [])
    a = weights_run(4)
    rng = np.random.default_rng(5)
    louder = rng.normal(size=(48, 48))
    louder[7] *= 9.0
    changes = {
        "blocks.1.W_O": 0.05 * louder,
        "blocks.2.W_in": 0.03 * rng.standard_t(3, size=(96, 48)),
        "blocks.3.ln1.gain": np.linspace(0.4, 0.6, 48),
        "blocks.3.W_K": rng.normal(size=(24, 48)),
    }
    b = weights_run(5, extra=changes, metadata={"complete": False, "incomplete_reason": "interrupted"})
    check(f"comparison_weights_{width}.txt", to_text(render_comparison(compare(a, b), top=5), width))
