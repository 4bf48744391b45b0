"""The catalogue of facts: pure functions from runs to verdicts with their evidence.

One fact a file; each has a `DEFINITION` whose `check` takes `Inputs` and gives a `Fact`. `check` here runs all of them.
Nothing in this package loads torch, reads a file or prints.
"""

from __future__ import annotations

from lmfacts.facts.catalogue import CATALOGUE, check, definition
from lmfacts.facts.definition import Definition
from lmfacts.facts.fact import Evidence, Fact, Measure, Table, Verdict
from lmfacts.facts.inputs import Inputs

__all__ = [
    "CATALOGUE",
    "Definition",
    "Evidence",
    "Fact",
    "Inputs",
    "Measure",
    "Table",
    "Verdict",
    "check",
    "definition",
]
