"""What a run says of itself beside its arrays: the keys of its JSON document, each with its type and meaning.

This is where keys are declared. `lmfacts.run.schema` checks documents by these classes, and everything else reads them
as attributes: `run.info.corpus.name`. Keys that are not declared here are kept as they are.
"""

from __future__ import annotations

import re
from typing import Any, Final

from lmfacts.files.json_types import BOOLEAN, COUNT, NUMBER, STRING, Listed, Mapped, OrNull, Record, Scalar
from lmfacts.files.json_views import JsonView, Key, objects, optional, required, view
from lmfacts.run.entries import LAYERS, SiteInfo, WeightInfo
from lmfacts.run.kinds import KINDS, RunKind

__all__ = [
    "ContextInfo",
    "CorpusInfo",
    "CoverageInfo",
    "ModelInfo",
    "RunInfo",
    "SettingsInfo",
    "TimingInfo",
    "TokenizerInfo",
]

_KIND: Final[Scalar[str]] = Scalar(
    f"one of {', '.join(KINDS)}", lambda value: isinstance(value, str) and value in KINDS
)
_FILES: Final = Listed(Record(optional={"path": STRING, "name": STRING, "n_bytes": COUNT}))


class ModelInfo(JsonView):
    """Which model it was: a name, what identifies it, its sizes; of a checkpoint, what its files hold."""

    id = optional(STRING)
    """As it was asked for: an id of the hub, a path, `demo`."""
    revision = optional(STRING)
    fingerprint = optional(STRING)
    """Of the weights; equal where they are the same."""
    architecture = optional(STRING)
    """The model's class."""
    family = optional(STRING)
    """Of `lmfacts.models`, or `generic`."""
    model_type = optional(STRING)
    norm_kind = optional(STRING)
    """`layernorm` or `rmsnorm`."""
    dtype = optional(STRING)
    device = optional(STRING)
    source = optional(STRING)
    format = optional(STRING)
    """Of a checkpoint's files."""
    n_layers = optional(LAYERS)
    n_dims = optional(COUNT)
    """Width of the residual stream."""
    n_parameters = optional(COUNT)
    n_tensors = optional(COUNT)
    n_values = optional(COUNT)
    n_bytes = optional(COUNT)
    gain_offset = optional(NUMBER)
    """What a norm adds to its stored gain (1 in Gemma)."""
    files = optional(_FILES)
    notes = optional(Listed(STRING))
    tied = optional(Mapped(STRING))
    dtypes = optional(Mapped(COUNT))
    """Dtype -> number of values stored in it."""
    quantizations = optional(Mapped(COUNT))


class TokenizerInfo(JsonView):
    """Which tokenizer it was."""

    fingerprint = optional(STRING)


class CorpusInfo(JsonView):
    """What text was read, and how it became sequences."""

    kind = optional(STRING)
    name = optional(STRING)
    path = optional(STRING)
    source = optional(STRING)
    description = optional(STRING)
    fingerprint = optional(STRING)
    bos_token = optional(STRING)
    separator = optional(STRING)
    """The token between packed documents."""
    n_bytes = optional(COUNT)
    seq_len = optional(COUNT)
    n_documents = optional(COUNT)
    n_documents_cut_off = optional(COUNT)
    n_documents_skipped = optional(COUNT)
    packed = optional(BOOLEAN)
    files = optional(_FILES)

    @property
    def shown_name(self) -> str | None:
        """What the text is called: wherever its name stands."""
        return self.description or self.name or self.path or self.source

    @property
    def file_names(self) -> list[str]:
        """What its files are called."""
        return [file["path"] for file in self.files or () if file.get("path")]


class SettingsInfo(JsonView):
    """How it was asked for; whatever other settings a scan had are there too."""

    k = optional(COUNT)
    """Outliers kept of a site."""
    seq_len = optional(COUNT)
    batch_size = optional(COUNT)
    max_tokens = optional(COUNT)
    spectra = optional(COUNT)
    """The largest smaller side of a matrix whose singular values were computed."""
    state_bytes = optional(COUNT)
    threshold = optional(NUMBER)
    max_seconds = optional(NUMBER)
    pack = optional(BOOLEAN)


class CoverageInfo(JsonView):
    """How often a site was reached."""

    n_calls = optional(COUNT)
    n_tokens = optional(COUNT)
    n_copies = optional(COUNT)
    """Tensors that were copied to the host."""
    n_repeats = optional(COUNT)
    """Further calls within one forward pass, which are not counted."""


class ContextInfo(JsonView):
    """The text around one of the largest values."""

    before = optional(STRING)
    token = optional(STRING)
    after = optional(STRING)


class TimingInfo(JsonView):
    """Seconds: of the clock, in the model, in lmfacts."""

    wall_s = optional(NUMBER)
    model_s = optional(NUMBER)
    lmfacts_s = optional(NUMBER)


class RunInfo(JsonView):
    """The JSON document of a run."""

    schema = required(COUNT)
    lmfacts = required(STRING)
    """Version of lmfacts that wrote it."""
    kind = required(_KIND)
    """What it is of: a name of `lmfacts.run.kinds`."""
    model = view(ModelInfo)
    tokenizer = view(TokenizerInfo)
    corpus = view(CorpusInfo)
    n_sequences = required(COUNT)
    n_tokens = required(COUNT)
    """Tokens read, padding not counted."""
    token_hash = required(OrNull(STRING))
    """Running hash of the token ids."""
    settings = view(SettingsInfo)
    sites: Key[list[Any]] = required(Listed(SiteInfo.checked()))
    """In order of depth; `entries` has them typed."""
    absent = required(Mapped(STRING))
    """Site -> why the model does not have it."""
    coverage = objects(CoverageInfo)
    token_text = required(Mapped(STRING, re.compile(r"-?\d{1,18}", re.ASCII), "a token id"))
    """Token id, as a string -> its text, for the tokens that outliers sit on."""
    token_context = objects(
        ContextInfo, re.compile(r"\d{1,18}:\d{1,18}", re.ASCII), "SEQUENCE:POSITION", is_required=False
    )
    """`SEQUENCE:POSITION` -> the text around the largest values of the residual stream."""
    machine = required(Record())
    timing = view(TimingInfo)
    complete = required(BOOLEAN)
    incomplete_reason = required(OrNull(STRING))
    created = required(STRING)
    """ISO 8601 time."""
    notes = optional(Listed(STRING))
    """Sentences: what a reader of the numbers should know."""
    state_bytes = optional(COUNT)
    """Bytes that the accumulators held in memory."""
    tied = optional(Mapped(STRING))
    """Of weights: parameter -> the parameter that it is."""
    skipped = optional(Mapped(STRING))
    """Of weights: tensor -> why it was not measured."""

    @property
    def run_kind(self) -> RunKind:
        """What the run is of."""
        return KINDS[self.kind]

    @property
    def entries(self) -> list[SiteInfo]:
        """What is said of each thing that was recorded, in order of depth; of weights, each is a `WeightInfo`."""
        of = self.run_kind.entry
        return [of(entry) for entry in self.sites]

    @property
    def weights(self) -> list[WeightInfo]:
        """The entries of a run of weights; none in others."""
        return [entry for entry in self.entries if isinstance(entry, WeightInfo)]
