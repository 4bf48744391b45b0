"""The text of the reports on facts, compared with stored files. `LMFACTS_UPDATE_GOLDEN=1` writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmfacts.facts.required_verdicts import Requirement
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.fact_page import render_fact
from lmfacts.render.terminal.facts_table import render_facts
from support.example_facts import DEFINITION, FACTS, inputs

FOLDER = Path(__file__).parent / "report"
WIDTHS = (80, 120, 200)


def check(name, text):
    path = FOLDER / name
    if os.environ.get("LMFACTS_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "set LMFACTS_UPDATE_GOLDEN=1 to store this as right"


@pytest.mark.parametrize("width", WIDTHS)
def test_table(width):
    required = [Requirement.parse("F2"), Requirement.parse("F3=BODY-ONLY")]
    check(f"facts_{width}.txt", to_text(render_facts(inputs(complete=False), FACTS, required), width))


@pytest.mark.parametrize("width", WIDTHS)
def test_fact(width):
    check(f"fact_{width}.txt", to_text(render_fact(FACTS[0], DEFINITION), width))
