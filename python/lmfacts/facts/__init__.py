"""The catalogue of facts: pure functions from runs to verdicts with their evidence.

One fact a file; each has a `DEFINITION` whose `check` takes `Inputs` and gives a `Fact`. `check` here runs all of them,
and those of other packages, which name a `Definition` under the entry points `lmfacts.facts`.
Nothing in this package loads torch, reads a file or prints.
"""

from __future__ import annotations

from lmfacts.facts.catalogue import CATALOGUE, catalogue, check, definition
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
    "catalogue",
    "check",
    "definition",
]
