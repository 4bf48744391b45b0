"""The families that are known by name: every file in the folder `families`.

Neither this module nor a family's file needs torch to be imported, so that weights can be named without it.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Final

from lmfacts.models import families

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lmfacts.models.family import Family

__all__ = ["FAMILIES"]


def _families() -> Iterator[Family]:
    # pkgutil asks the package's own importer, which may be a folder's or a zip file's.
    for module in pkgutil.iter_modules(families.__path__):
        family: Family = import_module(f"{families.__name__}.{module.name}").FAMILY
        yield family


FAMILIES: Final[Mapping[str, Family]] = {
    model_type: family for family in _families() for model_type in family.model_types
}
"""Model type -> its family. The tests check every family against the model's own arithmetic."""
