"""Sites named by module path and side, for any module of any model: `model.layers.*.mlp.down_proj:in`."""

from __future__ import annotations

import difflib
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from torch import nn

from lmfacts.errors import SiteNotFoundError, UsageError
from lmfacts.models.adapter import Tap
from lmfacts.sites import is_module_pattern

if TYPE_CHECKING:
    from lmfacts.models.adapter import Side

__all__ = ["module_taps"]


_WRAPPER: Final = re.compile(r"^(?:(?:_orig_mod|module|base_model\.model)\.)+")
"""What torch.compile, data parallel and PEFT put before the paths of the model that they wrap."""


def module_taps(model: nn.Module, pattern: str) -> list[Tap]:
    """Taps on the inputs (`:in`) or outputs (`:out`) of every module whose path matches, in the model's order.

    The path is as in `model.named_modules()`, with the wildcards of `fnmatch` (`*` also matches dots); where no module
    matches, as in the model that a wrapper is around: `model.layers.0.mlp` finds what PEFT calls
    `base_model.model.model.layers.0.mlp`. A tap's site is the path that matched, with its side. Lists and dictionaries
    of modules are skipped, since they are never called.

    Raises:
        SiteNotFoundError: no module matches; the message has the closest paths.
        UsageError: the pattern does not end in `:in` or `:out`.
    """
    if not is_module_pattern(pattern):
        raise UsageError(f"expected a module path with a side, such as model.layers.0.mlp:out, got {pattern!r}")
    path_pattern, _, ending = pattern.rpartition(":")
    side: Side = "in" if ending == "in" else "out"
    paths = [
        path
        for path, module in model.named_modules()
        if path and not isinstance(module, nn.ModuleList | nn.ModuleDict | nn.ParameterList | nn.ParameterDict)
    ]
    matches = {path: path for path in paths if fnmatchcase(path, path_pattern)} or {
        inner: path for path in paths if fnmatchcase(inner := _WRAPPER.sub("", path), path_pattern)
    }
    if not matches:
        close = difflib.get_close_matches(path_pattern, paths, n=3, cutoff=0.6)
        hint = (
            f"did you mean {' or '.join(close)}?" if close else f"the first of {len(paths)} are {', '.join(paths[:5])}"
        )
        raise SiteNotFoundError(f"no module's path matches {path_pattern!r}; {hint} model.named_modules() has them all")
    return [Tap(f"{name}:{side}", path, side) for name, path in matches.items()]
