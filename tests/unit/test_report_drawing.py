"""Block characters, numbers, tokens and tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rich.text import Text

from lmfacts.quantities.site_figures import SiteFigures
from lmfacts.quantities.value_figures import GAUSSIAN_BEYOND_6_STD
from lmfacts.render.terminal.blocks import MARK, bar, histogram_line, resample, sparkline, tall_histogram
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.histogram_plot import HistogramPlot
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.render.terminal.token_text import quoted
from lmfacts.writing import numbers
from support.synthetic_runs import gaussian_run


@pytest.mark.parametrize(
    ("counts", "log", "line"),
    [
        ([0, 1, 7, 7, 0], False, " ▁▇▇ "),
        ([0, 1, 10**6, 0], True, " ▁▇ "),
        ([1, 10, 100, 1000, 10**4], True, "▁▂▄▅▇"),
        ([0, 0], True, "  "),
        ([1], True, "▇"),
        ([], True, ""),
    ],
)
def test_histogram_line(counts, log, line):
    assert histogram_line(counts, log=log) == line


def test_a_gaussian_is_a_parabola_and_a_laplace_a_tent():
    rng = np.random.default_rng(0)
    edges = np.linspace(-8, 8, 18)
    gauss, _ = np.histogram(rng.normal(size=10**6), edges)
    laplace, _ = np.histogram(rng.laplace(size=10**6), edges)
    assert histogram_line(gauss)[:3] == "   "
    assert " " not in histogram_line(laplace)


def test_sparkline():
    assert sparkline([0, 5, 10, 20, -3, math.nan], 0, 10) == "▁▄▇▇▁ "
    assert sparkline([1, 1], 1, 1) == "▁▁"


def test_resample_keeps_the_largest_magnitude():
    assert resample([1, -9, 2, 3, math.nan, math.nan], 3).tolist()[:2] == [-9, 3]
    assert np.isnan(resample([1, -9, 2, 3, math.nan, math.nan], 3)[2])
    assert resample([1, 2], 5).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("fraction", "drawn"), [(0, ""), (1, "████"), (2, "████"), (0.5, "██"), (1e-9, "▏"), (0.375, "█▌"), (math.nan, "")]
)
def test_bar(fraction, drawn):
    assert bar(fraction, 4) == drawn


def test_tall_histogram():
    assert tall_histogram([0, 4, 8, 1], 2) == ["  █ ", " ██▂"]
    assert tall_histogram([0, 0], 2) == ["  ", "  "]
    assert tall_histogram([1, 10**9], 3, log=True)[-1][0] != " "
    marked = tall_histogram([0, 8, 0], 2, expected=[0, 8, 4])
    assert marked[0][1] == MARK
    assert marked[1][2] == MARK
    assert marked[1][0] == " "


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1.00"),
        (0.012345, "0.0123"),
        (9.996, "10.0"),
        (1234.5, "1,234"),
        (-123456.0, "-123,456"),
        (999_999.9, "1.00e6"),
        (1.23e-7, "1.23e-7"),
        (math.nan, "-"),
        (-math.inf, "-inf"),
        (5e-324, "4.94e-324"),
        (1.7e308, "1.70e308"),
    ],
)
def test_number(value, written):
    assert numbers.number(value) == written


def test_other_formats():
    assert numbers.signed(0.5) == "+0.500"
    assert numbers.signed(-0.5) == "-0.500"
    assert numbers.signed(math.nan) == "-"
    assert numbers.share(GAUSSIAN_BEYOND_6_STD) == "2e-9"
    assert numbers.share(0.0123) == "0.012"
    assert numbers.percent(0.081) == "8.10 %"
    assert numbers.percent(1.08) == "108 %"
    assert [numbers.duration(s) for s in (0.04, 41.4, 90, 7500)] == ["0.0 s", "41 s", "1 min 30 s", "2 h 05 min"]
    assert [numbers.duration(s) for s in (59.7, 3599.6)] == ["1 min 00 s", "1 h 00 min"]
    assert [numbers.file_size(n) for n in (512, 12_300_000, 999_999, 2.5e15)] == [
        "512 B",
        "12.3 MB",
        "1,000 kB",
        "2,500 TB",
    ]
    assert [numbers.approximate(n) for n in (12_288, 1_990_000_000)] == ["12,288", "1.99 billion"]


@pytest.mark.parametrize(
    ("token", "written"),
    [
        (" the", "' the'"),
        ("\n", r"'\n'"),
        ("\t\r", r"'\t\r'"),
        ("\x1b[31m", r"'\x1b[31m'"),
        ("'s", '"\'s"'),
        ("'\"", "'\\'\"'"),
        ("\\n", r"'\\n'"),
        ("[bold]", "'[bold]'"),
        (":smile:", "':smile:'"),
        ("文", "'文'"),
        ("\u200b\ufeff\xa0", r"'\u200b\ufeff\xa0'"),
        ("\u202e", r"'\u202e'"),
        ("\u0301a", r"'\u0301a'"),
        ("e\u0301", "'e\u0301'"),
        ("❤\ufe0f", r"'❤\ufe0f'"),
        ("\ud800", r"'\ud800'"),
        ("", "''"),
    ],
)
def test_tokens_are_visible(token, written):
    assert quoted(token) == written


def test_long_tokens_are_cut_by_cells():
    assert quoted("abcdefgh", 8) == "'abcde'…"
    assert quoted("文字文字文字", 8) == "'文字'…"
    assert quoted("abc", 5) == "'abc'"


def test_table_leaves_out_the_least_important_columns():
    columns = [
        Column("a"),
        Column("long one", keep=1),
        Column("b", keep=5, group="g"),
        Column("c", group="g", alone="gc"),
    ]
    table = NumberTable(columns, [["1", "2", "33", "4"]])
    assert to_text(table, 40) == "               ─ g ─\n  a  long one   b  c\n  1         2  33  4\n"
    assert to_text(table, 15) == "     ─ g ─\n  a   b  c\n  1  33  4\n"
    assert to_text(table, 8) == "  a  gc\n  1   4\n"


def test_table_cuts_only_columns_that_may_be():
    table = NumberTable(
        [Column("name", "left", shrink_to=5, cut="start"), Column("n")], [["blocks.3", "1"], ["文字文字", "2"]]
    )
    assert to_text(table, 12) == "  name    n\n  …ocks.3  1\n  …字文字  2\n".replace("  name    n", "  name     n")
    assert to_text(table, 40) == "  name      n\n  blocks.3  1\n  文字文字  2\n"
    long = NumberTable([Column("name", "left", shrink_to=5, cut="start"), Column("n")], [["x" * 200_000 + "end", "1"]])
    assert to_text(long, 12).splitlines()[1] == "  …xxxend  1"


def test_headings_of_groups_stay_over_columns_behind_one_that_was_cut():
    columns = [Column("site", "left", shrink_to=8), Column("a", group="both"), Column("b", group="both")]
    rows = [["a.very.long.name.of.a.site", "1234567", "12345678"]]
    heading, headers, row = to_text(NumberTable(columns, rows), 32).splitlines()
    assert row == "  a.very.lon…  1234567  12345678"
    assert headers.index("b") == len(row) - 1
    assert heading.index("both") > row.index("1234567")
    assert len(heading) == len(row)


def test_table_does_not_read_markup():
    assert "[red]x[/red]" in to_text(NumberTable([Column("a")], [["[red]x[/red]"]]), 40)
    assert "x" in to_text(NumberTable([Column("a")], [[Text("x", style="bold")]]), 40)


def test_histogram_plot_counts_everything():
    site = gaussian_run(n_layers=1, n_sequences=20, n_positions=50, n_dims=10)["blocks.0.resid_post"].rest
    figures = SiteFigures(site)
    counts, edges, n_below, n_above = figures.histogram(21, 2)
    assert counts.sum() + n_below + n_above == site.n
    assert (edges[0] + edges[-1]) / 2 == pytest.approx(figures.median)
    lines = [line.plain for line in HistogramPlot(figures, n_bins=41, limit=2, height=5).lines()]
    assert f"beyond: {n_below:,} below, {n_above:,} above ({numbers.share((n_below + n_above) / site.n)} of all)" in (
        HistogramPlot(figures, n_bins=71, limit=2).lines()[-1].plain
    )
    for n_bins in range(21, 73, 2):
        plot = HistogramPlot(figures, n_bins=n_bins, limit=2)
        told = plot.lines()[-1].plain
        assert "beyond: " in told
        assert len(told) <= plot.width, told
    assert figures.body_std == pytest.approx(1.0, abs=0.05)
    # The dots of the Gaussian and the histogram of Gaussian values are in the same place, up to noise.
    peak = lines[1]
    assert MARK in peak or "▁" in peak or "█" in peak
