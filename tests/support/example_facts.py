"""Facts made by hand, with every verdict and every kind of evidence, for tests of how facts are shown."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from lmfacts.facts import Definition, Evidence, Fact, Inputs, Measure, Table, Verdict
from lmfacts.facts.definition import Objection, PublishedValue
from support.synthetic_runs import gaussian_run
from support.synthetic_weights import weights_run

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFINITION", "FACTS", "WEIGHTS_COMMAND", "inputs"]

WEIGHTS_COMMAND = "lmfacts weights synthetic -o weights.lmfacts"


@functools.cache
def inputs(*, complete: bool = True) -> Inputs:
    """Two runs of one made-up model; that of activations perhaps cut short."""
    cut_short = {"complete": False, "incomplete_reason": "2 of 12 hooks never fired: blocks.3.z, blocks.4.z"}
    activations = gaussian_run(
        n_layers=12,
        metadata={
            "corpus": {"description": "made-up tokens"},
            "created": "2024-01-01T00:00:00+00:00",
            **({} if complete else cut_short),
        },
    )
    return Inputs.of([activations, weights_run()])


def _definition(fact_id: str, title: str, claim: str) -> Definition:
    return Definition(
        fact_id,
        title,
        claim,
        "A. Nonymous, Things Seen Inside, 2023, https://example.org/things-seen-inside",
        ("activations",),
        "Root mean square of each dim at every resid_post, without position 0. A dim counts as large at a layer where "
        "its RMS is more than five times the median over dims.",
        ("RMS_j = sqrt(mean_t x_tj^2)", "J(l) = |O_l and O_(l+1)| / |O_l or O_(l+1)|", "J = median over l of J(l)"),
        (
            "HOLDS if a dim is large at 75 % of the layers between the first and the last, and J is at least 0.5.",
            "FAILS otherwise.",
            "INCONCLUSIVE if there are fewer than 8 sequences (ours).",
        ),
        lambda inputs: FACTS[0] if inputs.runs else FACTS[-1],
        objections=(
            Objection("E. Sceptic", "Five times the median is an arbitrary bar; on small models it finds nothing."),
            Objection("Another Reader", "Retrained models have other dims."),
        ),
        published=(
            PublishedValue("gpt2", "large dims", "138, 378, 447", "arXiv:2604.14722", "B"),
            PublishedValue("small-model", "extent of the values", "about 370", "a plot of the post of 2023", "C"),
        ),
    )


DEFINITION = _definition(
    "F2",
    "Outlier dims persist through depth",
    "A few dims of the residual stream are far larger than all others, and the same ones at nearly every layer.",
)
"""The definition of the first of `FACTS`."""

_EVIDENCE = Evidence(
    measures=(
        Measure("dims at 75 % of the layers", 4.0, ">= 1", passed=True),
        Measure("median overlap of neighboring layers", 0.8333, ">= 0.5", passed=True, interval=(0.75, 0.9)),
        Measure(
            "share of the energy that the largest dim has, over all tokens but those at position 0",
            0.31,
            note="of what is left without position 0",
        ),
        Measure("overlap at position 0", 0.25, ">= 0.5, which decides nothing here", passed=False),
        Measure("overlap over all tokens", math.nan),
        Measure("smallest share seen", 3.2e-7),
    ),
    tables=(
        Table(
            "Large dims by layer",
            ("layer", "n large dims", "largest dim", "RMS over median RMS", "which"),
            tuple((layer, 4, 507, 12.5 * 1.2**layer, "247, 308, 371, 507") for layer in range(4)),
            "One row a layer; dims in ascending order.",
        ),
        Table(
            "A table that is wide",
            ("site", *(f"statistic number {n} of many" for n in range(1, 13))),
            tuple((f"blocks.{layer}.resid_post", *(10.0**n * (layer + 1) for n in range(12))) for layer in range(3)),
        ),
        Table("Nothing to see", ("dim", "value"), ()),
        Table("Odd cells", ("what", "value", "flag"), (("missing", None, True), ("count", 1234567, False))),
    ),
    notes=(
        "Position 0 was left out: the first token of a sequence often holds values that no other has.",
        "Two dims cross over.",
    ),
)


def _facts() -> Sequence[Fact]:
    claim, source = "Something is so.", "Somebody, 2023"
    return (
        Fact(
            "F2",
            DEFINITION.title,
            DEFINITION.claim,
            DEFINITION.source,
            Verdict.HOLDS,
            "4 dims (247, 308, 371, 507) are outlier dims in at least 75 % of layers; median overlap 0.83.",
            _EVIDENCE,
            looser=Verdict.HOLDS,
            stricter=Verdict.INCONCLUSIVE,
        ),
        Fact(
            "F1",
            "Activations are nearly Gaussian",
            claim,
            source,
            Verdict.BODY_ONLY,
            "KS 0.0067, tails 1.21.",
        ),
        Fact(
            "F3",
            "Massive activations",
            claim,
            source,
            Verdict.FAILS,
            "The largest value is 60.2, 89 times the median: massive ones are 100 and 1,000 times.",
            fact_class="sub-threshold spikes",
        ),
        Fact(
            "F4",
            "Outlier features",
            claim,
            source,
            Verdict.NOT_APPLICABLE,
            "The run has no ln1_out sites.",
            command="lmfacts scan synthetic --sites default -o activations.lmfacts",
        ),
        Fact("F6", "Kurtosis of features", claim, source, Verdict.INCONCLUSIVE, "5 sequences; at least 8 are needed."),
        *(
            Fact(
                fact_id,
                title,
                claim,
                source,
                Verdict.NOT_APPLICABLE,
                "It needs a run of weights, and none was given.",
                command=WEIGHTS_COMMAND,
            )
            for fact_id, title in (("F8", "Weights are nearly Gaussian"), ("F10", "Norms by depth"))
        ),
        Fact("F9", "Norm parameters", claim, source, Verdict.NOT_APPLICABLE, "The model has no norms."),
        Fact("F15", "Panels", "", source, Verdict.MEASURED, "Weibull k of 72 matrices from 0.8 to 1.21."),
    )


FACTS = tuple(_facts())
"""One fact for each verdict at least; the first has evidence of every kind."""
