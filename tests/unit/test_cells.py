"""How cells of evidence are written."""

import math

import pytest

from lmfacts.writing.cells import cell, whole_or_number


@pytest.mark.parametrize(
    ("value", "column", "expected"),
    [
        (None, "kurtosis", "-"),
        (math.nan, "kurtosis", "-"),
        (True, "claim holds", "yes"),
        (False, "claim holds", "no"),
        (2048, "number", "2,048"),
        (2048, "dim", "2048"),
        (2048, "Token id", "2048"),
        (2048, "in layer", "2048"),
        (0.012345, "share", "0.0123"),
        (2.0, "ratio", "2.00"),
        ("rest", "population", "rest"),
        ("", "population", ""),
    ],
)
def test_a_cell_is_written_by_what_its_column_holds(value, column, expected):
    assert cell(value, column) == expected


def test_what_is_missing_is_written_as_asked():
    assert cell(None, "share", "none") == cell(math.nan, "share", "none") == "none"
    assert whole_or_number(math.nan, 4, "none") == "none"


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (12.0, 3, "12"),
        (-12288.0, 3, "-12,288"),
        (0.75, 3, "0.750"),
        (50.61234, 4, "50.61"),
        (1e15, 3, "1.00e15"),
        (999999999999999.0, 3, "999,999,999,999,999"),
        (math.inf, 3, "inf"),
    ],
)
def test_whole_numbers_stay_whole_where_a_float64_holds_them(value, digits, expected):
    assert whole_or_number(value, digits) == expected
