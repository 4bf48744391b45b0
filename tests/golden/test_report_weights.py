"""The text of the reports on weights, compared with stored files. `LMFACTS_UPDATE_GOLDEN=1` writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.weight_page import render_weight
from lmfacts.render.terminal.weights_summary import render_weights_summary
from support.synthetic_weights import weights_run

FOLDER = Path(__file__).parent / "report"
WIDTHS = (80, 120, 200)


@pytest.fixture(scope="module")
def run():
    return weights_run()


def check(name, text):
    path = FOLDER / name
    if os.environ.get("LMFACTS_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "set LMFACTS_UPDATE_GOLDEN=1 to store this as right"


@pytest.mark.parametrize("width", WIDTHS)
def test_summary(run, width):
    check(f"weights_{width}.txt", to_text(render_weights_summary(run), width))


@pytest.mark.parametrize("width", WIDTHS)
def test_weight(run, width):
    page = to_text(render_weight(run["blocks.0.W_O"], run), width)
    vector = to_text(render_weight(run["blocks.9.ln1.gain"], run), width)
    check(f"weight_page_{width}.txt", f"{page}\n{vector}")
