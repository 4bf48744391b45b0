"""The section of the summary on formats of blocks."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

import lmfacts
from lmfacts.quantities.catalogue import QUANTITIES
from lmfacts.quantities.site_figures import SiteFigures
from lmfacts.render.terminal import block_formats_table
from lmfacts.render.terminal.block_formats_table import BlockFormatsTable
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.kinds_table import SiteGroup
from lmfacts.render.terminal.summary import render_summary
from support.tiny import batch, build

TITLE = "Inputs of matrices in formats of blocks"


def _recorded(**options) -> lmfacts.Run:
    model = build("llama", torch.float32)
    with torch.no_grad(), lmfacts.attach(model, "default", **options) as recorder:
        model(**batch(model, "left"))
    return recorder.run()


@pytest.fixture(scope="module")
def run() -> lmfacts.Run:
    return _recorded(blocks_of=(16, 32))


def _rows(text: str) -> dict[str, list[str]]:
    """The cells of the section's rows, by kind."""
    lines = text[text.index(TITLE) :].splitlines()
    heading = next(index for index, line in enumerate(lines) if line.split()[:2] == ["kind", "sites"])
    rows = [line.split() for line in lines[heading + 1 :]]
    return {cells[0]: cells[1:] for cells in rows if cells}


def test_each_kind_of_input_has_the_range_over_its_layers(run):
    rows = _rows(to_text(render_summary(run), 160))
    assert rows.keys() == {"ln1_out", "z", "ln2_out", "mlp_post", "final_norm_out"}
    for kind, cells in rows.items():
        expected = []
        for key in ("mxfp4_snr", "nvfp4_snr"):
            by_layer = {
                name.split(".")[1] if "." in name else "-": QUANTITIES[key].compute(SiteFigures(run[name].rest))
                for name in run
                if name.rpartition(".")[2] == kind
            }
            lowest = min(by_layer, key=lambda layer: by_layer[layer])
            ascending = sorted(by_layer.values())
            middle = (ascending[(len(ascending) - 1) // 2] + ascending[len(ascending) // 2]) / 2
            expected += [f"{by_layer[lowest]:.1f}", lowest, f"{middle:.1f}", f"{ascending[-1]:.1f}"]
        assert cells == [str(len(by_layer)), *expected]


def test_only_the_formats_that_were_counted_are_shown():
    text = to_text(render_summary(_recorded(blocks_of=[32])), 160)
    assert "MXFP4" in text[text.index(TITLE) :]
    assert "NVFP4" not in text
    assert TITLE not in to_text(render_summary(_recorded()), 160)


def test_a_ratio_that_is_not_known_is_no_lowest_one(monkeypatch):
    of_number = SimpleNamespace(key="mxfp4_snr", compute=lambda number: number)
    monkeypatch.setattr(block_formats_table, "OF_BLOCK_FORMATS", [of_number])
    kinds = {"ln1_out": {"0": math.nan, "1": 18.0, "2": 21.0}, "z": {"0": math.nan}, "resid_post": {"0": None}}
    rows = _rows(to_text(BlockFormatsTable([SiteGroup(kind, {}, kinds[kind]) for kind in kinds], "rest"), 160))
    assert rows == {"ln1_out": ["3", "18.0", "1", "19.5", "21.0"], "z": ["1", "-", "-", "-", "-"]}
