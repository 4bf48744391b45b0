"""Every family of transformers that a tiny configuration can build, under `attach` with `generate()`.

Slow, and no part of the usual suite: `make test-families` runs it and prints its table. What is said here is true of
the version of transformers in the lock file.
"""

from __future__ import annotations

import re

import pytest
import torch

from lmfacts.errors import ModelError
from lmfacts.models import describe
from support.every_family import CAUSAL, VISION, build_family
from support.family_checks import CHECKS, OK, outcome

# Hundreds of models warn of themselves in ways of their own.
pytestmark = [pytest.mark.every_family, pytest.mark.filterwarnings("ignore")]

TIMM = "its tower for images is a model of timm, which is not installed"
IMAGES = "it reads no text without an image"
OTHER_TASK = "its forward pass takes no text alone"
NOT_BUILT = {
    ("causal", "blt"): "transformers builds it with sizes that cannot be made small, and cannot cache it",
    ("causal", "gemma3n"): TIMM,
    ("causal", "gemma4_assistant"): "it drafts for another model, whose keys and values it is given",
    ("causal", "gemma4_unified_assistant"): "it drafts for another model, whose keys and values it is given",
    ("causal", "musicgen"): "transformers cannot build the causal model from this configuration",
    ("causal", "musicgen_melody"): "transformers cannot build the causal model from this configuration",
    ("vision", "apertus1p5"): "its tokenizer of sound has no small size",
    ("vision", "blip"): IMAGES,
    ("vision", "blip-2"): IMAGES,
    ("vision", "emu3"): "its tokenizer of images has no small size",
    ("vision", "evolla"): "transformers has no such model under this class",
    ("vision", "fast_vlm"): TIMM,
    ("vision", "florence2"): "an encoder with a decoder",
    ("vision", "gemma3n"): TIMM,
    ("vision", "granite4_vision"): "its towers need sizes that fit each other",
    ("vision", "idefics"): IMAGES,
    ("vision", "instructblip"): IMAGES,
    ("vision", "instructblipvideo"): IMAGES,
    ("vision", "kosmos-2"): IMAGES,
    ("vision", "llama4"): "transformers itself raises where it is given no image",
    ("vision", "perception_lm"): TIMM,
    ("vision", "pi0"): OTHER_TASK,
    ("vision", "pix2struct"): IMAGES,
    ("vision", "pp_formulanet"): IMAGES,
    ("vision", "t5gemma2"): "an encoder with a decoder",
    ("vision", "udop"): OTHER_TASK,
    ("vision", "vision-encoder-decoder"): IMAGES,
}
"""What is not tried, and why."""

NO_BLOCKS = {
    "hrm_text": "two stacks of blocks take turns",
    "xlm": "attention and MLPs stand in lists of their own, so there are no blocks",
}
"""What can be recorded by module paths only."""

NO_STREAM = "does not say what belongs to which token"
NO_CACHE = "12 sequences and 78 tokens instead of 2 and 18"
OTHERWISE = {
    # A prompt of 32 learned tokens comes before the text, inside the model.
    ("cpmant", "generate"): NO_STREAM,
    ("cpmant", "padded"): NO_STREAM,
    ("cpmant", "hidden"): NO_STREAM,
    # Not a causal language model: it denoises a canvas of 256 tokens, which its output has.
    ("diffusion_gemma", "forward"): "logits",
    ("diffusion_gemma", "generate"): "DiffusionGemmaGenerationOutput",
    ("diffusion_gemma", "padded"): "DiffusionGemmaGenerationOutput",
    ("diffusion_gemma", "hidden"): "hidden states of shape",
    # It has no cache: each step of generate() is a forward pass over the whole text.
    ("openai-gpt", "generate"): NO_CACHE,
    ("openai-gpt", "padded"): "12 sequences and 66 tokens instead of 2 and 16",
    # A stream for each of the tokens that are predicted, one after the other along the columns.
    ("prophetnet", "hidden"): NO_STREAM,
    # Its blocks see a padded text, and transformers cannot generate with them.
    ("reformer", "generate"): "einsum",
    ("reformer", "padded"): "einsum",
    ("reformer", "hidden"): NO_STREAM,
    # generate() appends a token that is no part of the text, and reads the last two tokens again.
    ("xlnet", "generate"): "2 sequences and 40 tokens instead of 2 and 18",
    ("xlnet", "padded"): "2 sequences and 40 tokens instead of 2 and 16",
}
"""What a check says of a family where it cannot say ok, and why."""


@pytest.mark.parametrize(
    ("auto", "model_type"), [*(("causal", each) for each in CAUSAL), *(("vision", each) for each in VISION)]
)
def test_family(auto, model_type, record_property):
    record_property("family", model_type)
    record_property("loaded as", auto)
    if (auto, model_type) in NOT_BUILT:
        record_property("adapter", f"not built: {NOT_BUILT[auto, model_type]}")
        pytest.skip(NOT_BUILT[auto, model_type])
    model = build_family(model_type, auto)
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, 6, 7, 8]]))
    if model_type in NO_BLOCKS:
        record_property("adapter", f"none: {NO_BLOCKS[model_type]}")
        with pytest.raises(ModelError, match="name modules by their paths"):
            describe(model)
        return
    architecture = describe(model)
    record_property("adapter", architecture.family)
    record_property("sites", len(architecture.sites))
    found = {name: outcome(check, model) for name, check in CHECKS.items()}
    for name, said in found.items():
        record_property(name, said)
    for name, said in found.items():
        expected = OTHERWISE.get((model_type, name), f"^{OK}$")
        assert re.search(expected, said), f"{name}: {said}"
