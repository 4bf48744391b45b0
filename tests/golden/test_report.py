"""The text of reports, compared with stored files. `LMFACTS_UPDATE_GOLDEN=1` writes them anew: look at what changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.example_run import example_run
from lmfacts.render.terminal.live import LiveView
from lmfacts.render.terminal.site_page import render_site
from lmfacts.render.terminal.summary import render_summary
from lmfacts.scans.progress import Progress
from support.terminal import terminal

FOLDER = Path(__file__).parent / "report"
WIDTHS = (80, 120, 200)


@pytest.fixture(scope="module")
def run():
    return example_run()


def check(name, text):
    path = FOLDER / name
    if os.environ.get("LMFACTS_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "set LMFACTS_UPDATE_GOLDEN=1 to store this as right"


@pytest.mark.parametrize("width", WIDTHS)
def test_summary(run, width):
    check(f"summary_{width}.txt", to_text(render_summary(run), width))


@pytest.mark.parametrize("width", WIDTHS)
def test_site(run, width):
    check(f"site_{width}.txt", to_text(render_site(run["blocks.6.resid_post"], run), width))


@pytest.mark.parametrize("width", WIDTHS)
def test_live_view(run, width):
    progress = Progress(
        "scanning",
        "example",
        n_tokens=250_000,
        n_tokens_total=1_000_000,
        fraction=0.25,
        elapsed_s=20.0,
        model_s=18.0,
        lmfacts_s=1.2,
        memory_bytes=1_234_567_890,
        state_bytes=28_300_000,
        site_names=tuple(run),
        site=run.__getitem__,
    )
    view = LiveView(terminal(width, 24), clock=lambda: 0.0)
    check(f"live_{width}.txt", to_text(view.screen(progress), width))
