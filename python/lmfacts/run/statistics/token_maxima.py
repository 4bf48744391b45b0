"""How large the largest value of a token is: what one scale for each token costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lmfacts.run.statistic import Array, Statistic

if TYPE_CHECKING:
    from lmfacts.run.record import Record

__all__ = ["TokenMaximumArrays", "sum_of_squared_maxima"]


class TokenMaximumArrays(Statistic):
    """The squares of the tokens' largest magnitudes, added up."""

    name = "token_maxima"

    token_maxima_squares = Array(np.float64, 1)
    """[1], the sum over finite tokens of the square of the largest magnitude."""


def sum_of_squared_maxima(record: Record) -> float:
    """Sum over the record's finite tokens of the square of the largest magnitude."""
    return float(sum(TokenMaximumArrays(part).token_maxima_squares.sum() for part in record.parts))
