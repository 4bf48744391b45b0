"""Train the embedded model: `python -m lmfacts.demo.train [--out DIR] [--steps N] [--seed S]`.

How the shipped weights were made
---------------------------------
- Text: `pydoc_data.topics` (about 0.47 MB), one token per byte, the documents in order of name, joined by
  `<|endoftext|>`.
- Model: `transformers.GPT2LMHeadModel` with its own initialization: 4 blocks, 128 dims, 4 heads, 256 positions,
  257 tokens, GELU, learned positions, tied embeddings, no dropout. 0.86 million parameters.
- Training: batches of windows at uniformly random places of the stream, cross-entropy at all 256 positions, in float32
  on the CPU. AdamW (betas 0.9 and 0.95, weight decay 0.1 on matrices), linear warm-up then cosine decay to a tenth,
  gradients clipped to norm 1. Nothing was added to bring about or to avoid any of the phenomena that lmfacts looks for.
- Stored: the weights rounded to bfloat16 at six steps, from the initialization to the end, spaced by a factor of four.
- There is no held-out text. The model has read every byte several times, so its loss is a training loss.
  `training.json` has the loss of each stored checkpoint, every setting, the text's hash and the versions.

The same seed, thread count, machine and versions give the same bits. Another CPU or another version of torch may round
differently, and training carries a difference in the last bit on: the result is then another model of the same kind.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers
import torch
import transformers
from rich.console import Console
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from lmfacts.demo import DEMO_DIR, N_STEPS, checkpoint_folders
from lmfacts.demo.byte_tokenizer import END_OF_TEXT_ID, N_TOKENS, build_tokenizer, encode_documents
from lmfacts.demo.text import documents, fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Settings", "main", "train"]


@dataclass(frozen=True)
class Settings:
    """The settings of a training; the defaults made the shipped model."""

    n_steps: int = N_STEPS
    seed: int = 0
    n_sequences: int = 8
    """Sequences per batch."""
    n_positions: int = 256
    """Tokens per sequence."""
    n_layers: int = 4
    n_heads: int = 4
    n_dims: int = 128
    learning_rate: float = 2e-3
    """The peak, reached after the warm-up."""
    final_learning_rate: float = 2e-4
    n_warmup_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    max_gradient_norm: float = 1.0

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of the update after which `step` updates have been made (1 to `n_steps`)."""
        n_warmup_steps = min(self.n_warmup_steps, self.n_steps)
        if step <= n_warmup_steps:
            return self.learning_rate * step / n_warmup_steps
        progress = (step - n_warmup_steps) / (self.n_steps - n_warmup_steps)
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * (1 + math.cos(math.pi * progress)) / 2


def build_model(settings: Settings) -> GPT2LMHeadModel:
    """The untrained model in float32; draws from torch's global generator."""
    config = GPT2Config(
        vocab_size=N_TOKENS,
        n_positions=settings.n_positions,
        n_embd=settings.n_dims,
        n_layer=settings.n_layers,
        n_head=settings.n_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=END_OF_TEXT_ID,
        eos_token_id=END_OF_TEXT_ID,
    )
    return GPT2LMHeadModel(config)


def windows_at(stream: torch.Tensor, starts: torch.Tensor, n_positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut windows out of the token stream.

    Args:
        stream: Token ids, [n_tokens], int64.
        starts: The first token of each window, [n_windows], int64, at most `n_tokens - n_positions - 1`.
        n_positions: Length of a window.

    Returns:
        Inputs and targets (the inputs one token later), each [n_windows, n_positions], int64.
    """
    windows = stream[starts[:, None] + torch.arange(n_positions + 1)]
    return windows[:, :-1], windows[:, 1:]


def cross_entropy(model: GPT2LMHeadModel, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss in nats per token over `[n_sequences, n_positions]` token ids; a float32 scalar."""
    logits = model(input_ids=inputs, use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


@torch.no_grad()
def evaluate(model: GPT2LMHeadModel, stream: torch.Tensor, n_positions: int, stride: int = 16) -> float:
    """Loss over evenly spread windows of the text.

    Args:
        model: The model, in the precision to be evaluated.
        stream: Token ids of the text, [n_tokens], int64.
        n_positions: Length of a window.
        stride: Every how many-th of the text's consecutive windows is read.

    Returns:
        Nats per token, averaged over every position of those windows, the first ones with hardly any context included.
    """
    starts = torch.arange(0, len(stream) - n_positions, n_positions * stride)
    batches = [windows_at(stream, part, n_positions) for part in torch.split(starts, 16)]
    total = sum(cross_entropy(model, *batch).item() * len(batch[0]) for batch in batches)
    return total / len(starts)


def _optimizer(model: GPT2LMHeadModel, settings: Settings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only; biases and norm gains are left alone."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas)


def _stored_weights(model: GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    """A copy of every weight as it will be stored: bfloat16."""
    return {name: tensor.to(torch.bfloat16, copy=True) for name, tensor in model.state_dict().items()}


def _optimize(
    model: GPT2LMHeadModel, stream: torch.Tensor, settings: Settings, keep: Sequence[int], console: Console
) -> dict[int, dict[str, torch.Tensor]]:
    """Run the training loop in place.

    Returns:
        Step -> the weights to store, for each step in `keep`.
    """
    optimizer = _optimizer(model, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    kept = {0: _stored_weights(model)}
    began, recent = time.monotonic(), 0.0
    for step in range(1, settings.n_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        starts = torch.randint(len(stream) - settings.n_positions, (settings.n_sequences,), generator=generator)
        loss = cross_entropy(model, *windows_at(stream, starts, settings.n_positions))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
        optimizer.step()
        recent += loss.item() / 64
        if step % 64 == 0:
            elapsed_s = time.monotonic() - began
            console.print(f"step {step:5d}  {recent:.3f} nats/token over the last 64 steps  {elapsed_s:.0f} s")
            recent = 0.0
        if step in keep:
            kept[step] = _stored_weights(model)
    return kept


def _write(root: Path, folders: dict[int, Path], kept: dict[int, dict[str, torch.Tensor]], settings: Settings) -> None:
    """Write every folder in full; step folders of an earlier, different training are removed."""
    for stale in (root / "checkpoints").glob("step-[0-9]*"):
        if stale not in folders.values():
            shutil.rmtree(stale)
    tokenizer = build_tokenizer(settings.n_positions)
    model = build_model(settings).bfloat16()
    for step, folder in folders.items():
        model.load_state_dict(kept[step])
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def train(root: Path, settings: Settings, console: Console | None = None) -> dict[str, object]:
    """Train the model and write its files under `root`.

    Nothing is written before the training is over. The number of threads and torch's other global settings are the
    caller's; torch's global generator is left as it was.

    Args:
        root: Gets `model/`, `checkpoints/step-NNNNNN/` and `training.json`; made if it is not there.
        settings: Everything that decides the result.
        console: Where progress is printed; nowhere if None.

    Returns:
        The content of `training.json`.

    Raises:
        CorpusError: This Python has no embedded text.
    """
    console = console or Console(quiet=True)
    stream = torch.tensor(encode_documents([text for _, text in documents()]))
    folders = checkpoint_folders(root, settings.n_steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = build_model(settings)
        kept = _optimize(model, stream, settings, list(folders), console)
        losses = {}
        for step, weights in kept.items():
            model.load_state_dict(weights)  # rounded to bfloat16, computed in float32
            losses[step] = evaluate(model, stream, settings.n_positions)
            console.print(f"checkpoint {step:5d}  {losses[step]:.4f} nats/token")
        _write(root, folders, kept, settings)
    record: dict[str, object] = {
        "text": {"source": "pydoc_data.topics", "sha256": fingerprint(), "n_tokens": len(stream)},
        "settings": asdict(settings),
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "loss": "nats per token (byte) on the training text: every 16th window, bfloat16 weights, float32 arithmetic",
        "checkpoints": [
            {"step": step, "folder": folder.relative_to(root).as_posix(), "loss": round(losses[step], 5)}
            for step, folder in folders.items()
        ],
        "machine": {
            "architecture": platform.machine(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "n_threads": torch.get_num_threads(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
    }
    (root / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def _positive(text: str) -> int:
    """Parse a number of steps or threads."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {number}")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lmfacts.demo.train", description="Train the embedded model.")
    parser.add_argument("--out", type=Path, default=DEMO_DIR, help="folder to write (default: over the shipped files)")
    parser.add_argument("--steps", type=_positive, default=N_STEPS, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--threads", type=_positive, default=2, help="they decide the last bits (default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(mode=True)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # nor transformers this
    train(options.out, Settings(n_steps=options.steps, seed=options.seed), Console(stderr=True))


if __name__ == "__main__":
    main()
