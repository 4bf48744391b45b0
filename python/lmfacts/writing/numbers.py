"""How numbers, durations and sizes are written in reports."""

from __future__ import annotations

import math

__all__ = ["approximate", "count", "counted", "duration", "file_size", "number", "percent", "share", "signed"]

_SMALLEST_FIXED = 1e-3
_SMALLEST_EXPONENT = 1e6
_MINUTE_S = 60
_HOUR_S = 3600
_FEW_S = 10
_KILO = 1000.0


def number(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits: `0.0123`, `12.3`, `1,234`, `1.23e7`; `-` for NaN."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    if not _SMALLEST_FIXED <= abs(rounded) < _SMALLEST_EXPONENT:
        return _scientific(rounded, digits - 1)
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{decimals}f}" if decimals > 0 else f"{value:,.0f}"


def signed(value: float, digits: int = 3) -> str:
    """`number` with a sign in front of positive values too."""
    return f"+{number(value, digits)}" if value > 0 else number(value, digits)


def share(value: float) -> str:
    """A share from 0 to 1 that may be tiny: `0`, `3e-8`, `0.0021`."""
    if math.isnan(value) or value == 0:
        return number(value)
    return number(value, 2) if value >= _SMALLEST_FIXED else _scientific(value, 0)


def percent(value: float) -> str:
    """A share from 0 to 1 in percent: `8.1 %`, `100 %`."""
    return "-" if math.isnan(value) else f"{number(100 * value)} %" if value < 1 else f"{100 * value:,.0f} %"


def approximate(value: int) -> str:
    """A large whole number in words: `12,288`, `1.99 billion`."""
    for size, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if value >= size:
            return f"{number(value / size)} {word}"
    return count(value)


def count(value: int) -> str:
    """A whole number with its thousands separated."""
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    """A number of things: `1 sequence`, `1,024 sequences`."""
    return f"{count(value)} {noun}" if value == 1 else f"{count(value)} {noun}s"


def duration(seconds: float) -> str:
    """A time span with the two units that matter: `4.2 s`, `41 s`, `1 min 30 s`, `2 h 05 min`."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < _FEW_S:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02d} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02d} min"


def file_size(n_bytes: float) -> str:
    """A number of bytes, in powers of 1000: `512 B`, `12.3 MB`."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < _KILO:
            return f"{number(size)} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= _KILO
    return f"{number(size)} TB"


def _scientific(value: float, decimals: int) -> str:
    mantissa, exponent = f"{value:.{decimals}e}".split("e")
    return f"{mantissa}e{int(exponent)}"
