"""What a run says of each thing that it recorded: the entries under `sites` in its JSON document."""

from __future__ import annotations

from typing import Final

from lmfacts.files.json_types import BOOLEAN, COUNT, NUMBER, STRING, Listed, OrNull, Record, Scalar
from lmfacts.files.json_views import JsonView, optional, required
from lmfacts.run.statistic import POPULATIONS
from lmfacts.stats.codes import DTYPES

__all__ = ["LAYERS", "SiteInfo", "WeightInfo"]

MOST_LAYERS: Final = 100_000
"""More than any model has, and few enough to be counted one by one."""

LAYERS: Final[Scalar[int]] = Scalar(
    f"a number of layers, at most {MOST_LAYERS:,}",
    lambda value: COUNT.problem(value, "") is None and value <= MOST_LAYERS,
)
_DTYPE: Final[Scalar[str]] = Scalar(
    f"one of {', '.join(sorted(DTYPES))}, or empty",
    lambda value: isinstance(value, str) and (not value or value in DTYPES),
)
_SIZES: Final[Scalar[list[int]]] = Scalar(
    "a list of one size or more, all above 0",
    lambda value: isinstance(value, list) and bool(value) and all(COUNT.problem(n, "") is None and n for n in value),
)


class SiteInfo(JsonView):
    """One site: what it is called, and what its arrays are."""

    name = required(STRING)
    aliases = required(Listed(STRING))
    """Other names of the same tensor."""
    module_path = required(OrNull(STRING))
    """Path of the Hugging Face module."""
    note = required(OrNull(STRING))
    """A remark on the shape or meaning of the values."""
    dtype = required(_DTYPE)
    """Empty if the site was never reached."""
    n_dims = required(COUNT)
    k = required(COUNT)
    threshold = required(NUMBER)
    unit_sums = required(BOOLEAN)
    """This and the like: which statistics were recorded (`lmfacts.run.statistics`)."""
    n_tokens = required(Record(dict.fromkeys(POPULATIONS, COUNT)))
    """Population -> number of tokens."""
    blocks = optional(BOOLEAN)
    detail = optional(BOOLEAN)
    statistics = optional(Listed(STRING))
    """Names of those that have no key of their own."""

    @property
    def was_reached(self) -> bool:
        """Whether it saw a token."""
        return any(self.n_tokens.values())

    @property
    def stored_as(self) -> str:
        """What its values are, in words."""
        return self.dtype

    @property
    def n_recorded(self) -> int:
        """Number of values recorded, those that are not finite included."""
        return int(sum(self.n_tokens.values())) * self.n_dims


class WeightInfo(SiteInfo):
    """One weight: `lmfacts.run.weight` explains the keys; its stored rows are tokens of `rest`, its columns dims."""

    parameter = required(STRING)
    part = required(OrNull(STRING))
    role = required(OrNull(STRING))
    weight_kind = required(OrNull(STRING))
    layer = required(OrNull(LAYERS))
    shape = required(_SIZES)
    transposed = required(BOOLEAN)
    stored_dtype = required(STRING)
    quantization = required(OrNull(STRING))
    """GGUF's name of it."""
    n_values = required(COUNT)
    n_nonfinite = optional(COUNT)
    frobenius = required(OrNull(NUMBER))
    frobenius_folded = required(OrNull(NUMBER))
    spectral_folded = required(OrNull(NUMBER))
    shuffled_edge = optional(NUMBER)

    @property
    def stored_as(self) -> str:
        """What its values are, in words."""
        return self.quantization or self.stored_dtype or self.dtype
