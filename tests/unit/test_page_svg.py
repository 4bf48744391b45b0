"""Drawings: what is left of matplotlib's SVG, their colors, their ids."""

from __future__ import annotations

import re
from typing import get_args
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from lmfacts.charts import Chart
from lmfacts.charts.chart import (
    Area,
    Band,
    Bars,
    Cells,
    Columns,
    EndLabels,
    Label,
    Line,
    Mark,
    Note,
    Points,
    Rule,
    chart_name,
)
from lmfacts.render.page.document import Page
from lmfacts.render.page.draw import draw
from lmfacts.render.page.html import to_html
from lmfacts.render.page.palette import COLORS, DARK, themed
from lmfacts.render.page.svg import standalone
from lmfacts.render.page.ticks import log_ticks, plain, power


def drawn(name="one", title="A <title> & more"):
    chart = Chart(name, title, x="layer", y="number")
    chart.limits_x(0, 10)
    chart.limits_y(1, 1000)
    chart.log("y")
    chart.line(np.arange(30), np.arange(1, 31) ** 2.0, "blue")
    chart.points([1, 2], [3, 4], "orange")
    chart.area([0, 5, 10], [1, 1, 1], [10, 20, 30])
    chart.rule(y=100, label="here")
    return draw(chart)


def test_a_drawing_is_one_svg_element_with_text_as_text():
    root = ET.fromstring(drawn())
    assert root.tag == "svg"
    assert root.attrib["viewBox"].split()[:2] == ["0", "0"]
    assert "width" not in root.attrib  # the page says how large it is
    texts = [text.text for text in root.iter("text")]
    assert {"A <title> & more", "layer", "number", "here", "10", "100", "1,000"} <= set(texts)


def test_a_drawing_names_no_font_and_loads_nothing():
    svg = drawn()
    assert "font-family" not in svg
    assert not re.findall(r"https?:", svg)
    assert "<image" not in svg
    assert "<style" not in svg


def test_ids_are_those_of_the_drawing_and_every_reference_is_met():
    one, other = drawn("one"), drawn("other")
    ids = set(re.findall(r'\bid="([^"]+)"', one))
    assert ids
    assert all(identifier.startswith("one-") for identifier in ids)
    assert set(re.findall(r"url\(#([^)]+)\)", one)) | set(re.findall(r'href="#([^"]+)"', one)) == ids
    assert not ids & set(re.findall(r'\bid="([^"]+)"', other))


def test_the_same_drawing_is_drawn_twice_with_the_same_bytes():
    assert drawn() == drawn()


def test_every_color_of_a_drawing_is_a_name_of_the_palette():
    found = set(re.findall(r"#[0-9a-f]{6}", drawn()))
    assert found <= set(COLORS.values())
    assert {COLORS[name] for name in ("blue", "orange", "fill", "ink", "muted")} <= found


def test_a_themed_drawing_has_variables_in_the_place_of_colors():
    svg = themed(drawn())
    assert not re.findall(r"#[0-9a-f]{6}", svg)
    assert "var(--blue)" in svg


def test_no_color_has_two_names():
    assert len(set(COLORS.values())) == len(COLORS)
    assert COLORS.keys() == DARK.keys()


def test_a_file_of_its_own_says_its_size_its_text_and_has_a_background():
    root = ET.fromstring(standalone(drawn(), 'It shows "this" & that.'))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["aria-label"] == 'It shows "this" & that.'
    assert float(root.attrib["width"]) == float(root.attrib["viewBox"].split()[2])
    assert root.find("{http://www.w3.org/2000/svg}rect").attrib["fill"] == "#ffffff"


def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    drawn()
    assert dict(mpl.rcParams) == before


def test_a_line_is_broken_where_there_is_no_value_and_a_lone_value_is_a_point():
    def n_points(values, **options):
        chart = Chart("p", "")
        chart.line(np.arange(5), values, "blue", **options)
        return draw(chart).count("<use")

    nothing = n_points([1, 2, 3, 4, 5])
    assert n_points([1, np.nan, 3, np.nan, np.nan]) == nothing + 2
    assert n_points([1, np.nan, 3, np.nan, np.nan], dots=False) == nothing


def test_every_kind_of_mark_is_drawn():
    chart = Chart("p", "")
    chart.limits_x(0, 3)
    chart.limits_y(0, 3)
    marks = {
        Area: lambda: chart.area([0, 1], [0, 0], [1, 1]),
        Band: lambda: chart.band(1, 2, "heat-1"),
        Bars: lambda: chart.bars([0, 1, 2], [1, 2]),
        Cells: lambda: chart.cells(["a", "b"], {"heat-3": [(0, 0), (1, 1)]}),
        Columns: lambda: chart.columns([1, 2], [1, 2], "blue"),
        EndLabels: lambda: chart.labels_at_the_end([("end", 1.0, "blue")]),
        Label: lambda: chart.label("beside", 1, 1, 6, 0, align="left"),
        Line: lambda: chart.line([0, 1], [0, 1], "blue"),
        Note: lambda: chart.note("remark", 0.5, 0.5),
        Points: lambda: chart.points([1], [1], "blue"),
        Rule: lambda: chart.rule(x=1.0, label="here"),
    }
    assert set(marks) == set(get_args(Mark))
    words = {EndLabels: "end", Label: "beside", Note: "remark", Rule: "here"}
    for kind, add in marks.items():
        chart.marks.clear()
        add()
        assert [type(mark) for mark in chart.marks] == [kind]
        svg = draw(chart)
        if kind in words:
            assert f">{words[kind]}</text>" in svg
        chart.marks.clear()
        assert draw(chart) != svg


def test_a_name_that_is_no_file_s_gets_one():
    assert chart_name("f9-ln1-gain") == "f9-ln1-gain"
    assert chart_name("f9 a/b") != chart_name("f9 a.b")
    assert re.fullmatch(r"[A-Za-z0-9-]+", chart_name("f9 \N{SNOWMAN}/../x"))


def test_labels_at_the_end_do_not_cover_each_other():
    chart = Chart("p", "")
    chart.limits_y(0, 1)
    chart.labels_at_the_end([(f"line {n}", 0.5, "blue") for n in range(5)])
    svg = draw(chart)
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>line', svg))
    assert len(heights) == 5
    assert np.diff(heights).min() > 10


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.9, 1100, [1, 10, 100, 1000]),
        (1e-9, 1, [1e-9, 1e-7, 1e-5, 1e-3, 1e-1]),
        (2, 60, [3, 10, 30]),
        (1.1, 9, [2, 5]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round(low, high, expected):
    ticks = log_ticks(low, high)
    assert ticks.size >= 2
    assert set(np.round(expected, 12)) <= set(np.round(ticks, 12))
    assert ((ticks >= low * 0.999) & (ticks <= high * 1.001)).all()


def test_a_narrow_logarithmic_axis_still_has_ticks():
    assert 3 <= log_ticks(5.1, 5.6).size <= 6


def test_numbers_at_ticks():
    assert [plain(value) for value in (0.25, 30000.0, -5.0, 0.1 + 0.2, 2e7)] == [
        "0.25",
        "30,000",
        "\N{MINUS SIGN}5",
        "0.3",
        "2e+07",
    ]
    assert [power(value) for value in (1e-5, 0.001, 0.3, 1.0, 1e3, 1e12)] == [
        "10⁻⁵",
        "0.001",
        "0.3",
        "1",
        "1,000",
        "10¹²",
    ]


# Colors of the page


def style():
    return to_html(Page("t", "s", (), ())).partition("<style>")[2].partition("</style>")[0]


def variables(scheme):
    """Name -> color on light or dark backgrounds."""
    light, dark = {}, {}
    for block, found in re.findall(r"(@media screen[^{]*\{\s*)?:root\s*\{([^}]*)\}", style()):
        (dark if block else light).update(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", found))
    return light if scheme == "light" else {**light, **dark}


def contrast(one, other):
    """WCAG 2.1 contrast ratio."""

    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    high, low = sorted([luminance(one), luminance(other)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_enough(scheme):
    colors = variables(scheme)
    pairs = [("ink", "page"), ("muted", "page"), ("link", "page"), ("ink", "mark"), ("ink", "raised")]
    pairs += [(name, f"{name}-back") for name in ("holds", "body", "fails", "open", "none", "measured")]
    low = {pair: ratio for pair in pairs if (ratio := contrast(*(colors[name] for name in pair))) < 4.5}
    assert not low


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_have_contrast_enough(scheme):
    colors = variables(scheme)
    lines = ("blue", "orange", "green", "purple", "red", "teal", "brown", "gray", "ink")
    low = {name: ratio for name in lines if (ratio := contrast(colors[name], colors["page"])) < 3.0}
    assert not low
