"""Which figures belong to which fact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmfacts.render.page.figures import (
    activation_shape,
    anisotropy,
    int8_features,
    massive_activations,
    norm_parameters,
    norms_by_depth,
    outlier_dims,
    residual_growth,
    spectra,
    weight_panels,
    weight_shape,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmfacts.render.page.document import Figure
    from lmfacts.render.page.runs_view import RunsView

__all__ = ["figures_of"]

_BY_FACT: Final[dict[str, Callable[[RunsView], list[Figure]]]] = {
    "F1": activation_shape.figures,
    "F2": outlier_dims.figures,
    "F3": massive_activations.figures,
    "F4": int8_features.figures,
    "F5": anisotropy.anisotropy_figures,
    "F6": anisotropy.kurtosis_figures,
    "F7": residual_growth.figures,
    "F8": weight_shape.figures,
    "F9": norm_parameters.figures,
    "F10": norms_by_depth.figures,
    "F11": spectra.figures,
    "F15": weight_panels.figures,
}


def figures_of(fact_id: str, view: RunsView) -> list[Figure]:
    """The figures of a fact; none for one without figures, or where what they need was not recorded."""
    draw = _BY_FACT.get(fact_id)
    return [] if draw is None else draw(view)
