"""The embedded model: a real trained language model that needs no network.

A byte-level GPT-2-architecture model (4 blocks, 128 dims, 4 heads, 256 positions) that this project trained itself,
with the checkpoints of its training, all stored in bfloat16. Each folder is an ordinary Hugging Face folder with the
tokenizer in it: `AutoModelForCausalLM.from_pretrained(MODEL_DIR)` and `AutoTokenizer.from_pretrained(MODEL_DIR)` read
it as they read any other.

- `MODEL_DIR`: the final model.
- `CHECKPOINTS`: step -> folder in the order of training, from the initialization (step 0) to the final model.
- `TRAINING_FILE`: `training.json`, how the weights were made and the loss at each checkpoint.
- `lmfacts.demo.text.documents()`: the text it was trained on.
- `python -m lmfacts.demo.train`: makes all of it again.

Importing this module reads no file and loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CHECKPOINTS", "DEMO_DIR", "MODEL_DIR", "N_STEPS", "TRAINING_FILE", "checkpoint_folders", "checkpoint_steps"]

N_STEPS = 3072
"""Optimizer steps of the shipped model."""


def checkpoint_steps(n_steps: int) -> tuple[int, ...]:
    """The steps after which the weights are kept.

    Args:
        n_steps: Length of the training, at least 1.

    Returns:
        Ascending distinct steps: 0 (the initialization), then `n_steps` divided by 256, 64, 16, 4 and 1, rounded down.
    """
    return tuple(sorted({0, *(n_steps // divisor for divisor in (256, 64, 16, 4, 1))}))


def checkpoint_folders(root: Path, n_steps: int) -> dict[int, Path]:
    """Where each kept step is stored under `root`.

    Args:
        root: The folder that holds `model/` and `checkpoints/`.
        n_steps: Length of the training; the last step's folder is `model/`, so that the final weights are stored once.

    Returns:
        Step -> folder, in ascending order of steps.
    """
    return {
        step: root / "model" if step == n_steps else root / "checkpoints" / f"step-{step:06d}"
        for step in checkpoint_steps(n_steps)
    }


DEMO_DIR = Path(__file__).resolve().parent
"""The folder of the shipped files."""

CHECKPOINTS: Mapping[int, Path] = MappingProxyType(checkpoint_folders(DEMO_DIR, N_STEPS))
"""Step -> folder of every shipped checkpoint, the final model last."""

MODEL_DIR = CHECKPOINTS[N_STEPS]
"""The folder of the final model."""

TRAINING_FILE = DEMO_DIR / "training.json"
"""The record of the training."""
