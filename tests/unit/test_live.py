"""The live view and its plain counterpart."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.example_run import example_run
from lmfacts.render.terminal.live import LiveView, PlainProgress, live_sites, progress_view
from lmfacts.scans.progress import Progress
from support.synthetic_runs import gaussian_run, residual_run
from support.terminal import terminal, written


class Clock:
    """A clock that goes only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Counted:
    """Gives the records of a run and counts the requests, each of which takes some time."""

    def __init__(self, run, clock=None, cost_s=0.0):
        self.run, self.clock, self.cost_s, self.n = run, clock, cost_s, 0

    def __call__(self, name):
        self.n += 1
        if self.clock is not None:
            self.clock.now += self.cost_s
        return self.run[name]


@pytest.fixture(scope="module")
def run():
    return example_run(n_layers=12)


def progress(run, stage="scanning", site=None, **options):
    known = {
        "n_tokens": 5000,
        "n_tokens_total": 20_000,
        "fraction": 0.25,
        "elapsed_s": 10.0,
        "model_s": 8.0,
        "lmfacts_s": 0.4,
    }
    known |= {"memory_bytes": 2_000_000_000, "state_bytes": 30_000_000} | options
    return Progress(stage, "gpt2", **known, site_names=tuple(run), site=run.__getitem__ if site is None else site)


def test_it_shows_what_a_scan_is_at(run):
    screen = to_text(LiveView(terminal(120, 40)).screen(progress(run)), 120)
    for expected in (
        "scanning gpt2",
        "25 %",
        "5,000 of 20,000 tokens",
        "500 tokens/s",
        "30 s left",
        "memory 2.00 GB",
        "accumulators 30.0 MB",
        "overhead 5.00 %",
        "resid_post",
        "ex. kurtosis",
    ):
        assert expected in screen


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
@pytest.mark.parametrize("height", [3, 10, 24, 60])
def test_it_fits_any_terminal(run, width, height):
    console = terminal(width, height)
    view = LiveView(console)
    for state in (progress(run), progress(run, fraction=None, n_tokens_total=None), progress(run, "loading")):
        lines = to_text(view.screen(state), width).splitlines()
        assert len(lines) <= max(height - 1, 3)
        assert max(map(cell_len, lines)) <= width


def test_sites_are_chosen_evenly_by_depth():
    names = [f"blocks.{layer}.{kind}" for layer in range(30) for kind in ("mlp_out", "resid_post")]
    chosen = live_sites(["embed", *names], 5)
    assert chosen == [f"blocks.{layer}.resid_post" for layer in (0, 7, 14, 22, 29)]
    assert live_sites(["a:out", "b:out"], 5) == ["a:out", "b:out"]
    assert live_sites([], 5) == []


def test_module_paths_are_shown_by_name():
    run = gaussian_run(n_layers=1)
    state = progress(run, site=lambda _: run["blocks.0.resid_post"])
    state = Progress("scanning", "m", n_tokens=1, site_names=("model.layers.0.mlp:out",), site=state.site)
    assert "model.layers.0.mlp:out" in to_text(LiveView(terminal(120, 24)).screen(state), 120)


def test_unknown_length_has_a_traveling_piece_and_no_percent(run):
    clock = Clock()
    view = LiveView(terminal(100, 24), clock=clock)
    state = progress(run, fraction=None, n_tokens_total=None)
    before = to_text(view.screen(state), 100).splitlines()[0]
    clock.now += 0.5
    after = to_text(view.screen(state), 100).splitlines()[0]
    assert "%" not in before
    assert before.count("━") == after.count("━") > 0
    assert before != after


def test_nan_is_shown_at_once():
    run = residual_run(lambda layer, at: np.full((at.size, 4), np.nan if layer == 1 else 1.0), n_layers=3)
    screen = to_text(LiveView(terminal(100, 24)).screen(progress(run)), 100)
    assert "256 NaN or infinities at blocks.1.resid_post" in screen


def test_many_batches_cost_few_refreshes(run):
    clock = Clock()
    site = Counted(run)
    state = progress(run, site=site)
    with LiveView(terminal(100, 24), clock=clock) as view:
        for _ in range(10_000):
            view(state)
            clock.now += 0.001
    assert site.n <= 12 * 12


def test_a_slow_source_is_asked_less_often(run):
    """12 sites of 0.05 s each: 0.6 s per table, at most 1 % of the time but for the first."""
    clock = Clock()
    site = Counted(run, clock, 0.05)
    state = progress(run, site=site)
    start = clock.now
    with LiveView(terminal(100, 24), clock=clock) as view:
        while clock.now < start + 1000:
            view(state)
            clock.now += 0.5
    assert site.n * 0.05 <= 0.3 + 0.6 + 0.01 * 1000


def test_the_terminal_is_clean_afterwards(run):
    console = terminal(80, 24)
    with LiveView(console) as view:
        view(progress(run))
        assert "scanning gpt2" in written(console)
    out = written(console)
    assert out.count("\x1b[?25l") == out.count("\x1b[?25h") == 1
    assert out.rindex("\x1b[2K") < out.rindex("gpt2: 5,000 tokens in 10 s (500 tokens/s, overhead 5.00 %)")


def test_the_terminal_is_clean_after_an_exception(run):
    console = terminal(80, 24)

    def interrupted():
        with LiveView(console) as view:
            view(progress(run))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    out = written(console)
    assert out.count("\x1b[?25l") == out.count("\x1b[?25h") == 1
    assert out.endswith("\x1b[2K")
    assert "tokens in" not in out


def test_nothing_is_left_of_a_scan_that_counted_nothing(run):
    console = terminal(80, 24)
    with LiveView(console) as view:
        view(progress(run, "loading", n_tokens=0))
    assert "tokens in" not in written(console)


def test_plain_lines(run):
    clock, stream = Clock(), io.StringIO()
    with PlainProgress(stream, interval_s=10, clock=clock) as view:
        view(progress(run, "loading", n_tokens=0))
        for _ in range(50):
            view(progress(run))
            clock.now += 0.5
        view(progress(run, "saving"))
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["loading gpt2", "scanning gpt2"]
    assert lines[2].startswith("25 % · 5,000 of 20,000 tokens · 500 tokens/s · 30 s left · memory 2.00 GB")
    assert len(lines) == 5
    assert lines[-1] == "gpt2: 5,000 tokens in 10 s (500 tokens/s, overhead 5.00 %)"


def test_the_stream_decides(monkeypatch):
    class Tty(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(progress_view(Console(file=Tty())), LiveView)
    assert isinstance(progress_view(Console(file=io.StringIO())), PlainProgress)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(progress_view(Console(file=io.StringIO())), PlainProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress_view(Console(file=Tty())), PlainProgress)
    assert progress_view() is not None


@pytest.mark.parametrize("kind", [PlainProgress, LiveView])
def test_a_note_is_said_once_and_stays(kind, run):
    stream = io.StringIO()
    view = kind(stream if kind is PlainProgress else Console(file=stream, width=120, color_system=None))
    with view:
        view(Progress("loading", "gpt2"))
        view(Progress("loading", "gpt2", note="this processor is slow"))
        view(progress(run))
    assert stream.getvalue().count("note: this processor is slow") == 1
