"""`lmfacts scan`."""

from __future__ import annotations

import itertools
import os
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmfacts.cli.exit_codes import ExitCode, complain, sentences
from lmfacts.cli.options import JsonOption, QuietOption
from lmfacts.errors import UsageError
from lmfacts.writing.visible_text import shell_word

if TYPE_CHECKING:
    from lmfacts.run import Run

__all__ = ["free_name", "outcome", "scan"]


@sentences
def scan(
    model: Annotated[
        str, typer.Argument(help="Hub id, folder, .gguf file, or 'demo' for the embedded model.", show_default=False)
    ],
    corpus: Annotated[
        list[str] | None,
        typer.Argument(
            help="Text: .txt, .jsonl and .json files, folders, - for standard input. Default: the embedded text.",
            show_default=False,
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The run file. Named after the model, in this folder, if not given.", show_default=False
        ),
    ] = None,
    sites: Annotated[
        list[str] | None,
        typer.Option(
            "--sites",
            "-s",
            help="Preset (resid, default, all), site, glob or module path with :in or :out; may be repeated.",
            show_default="default",
        ),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Stop after so many tokens.", show_default="all")] = None,
    seq_len: Annotated[
        int | None, typer.Option(help="Most tokens in a sequence.", show_default="512, or the model's positions")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences in a forward pass.")] = 8,
    pack: Annotated[
        bool, typer.Option("--pack/--no-pack", help="Join documents and cut them, or one document a sequence.")
    ] = True,
    text_field: Annotated[str, typer.Option(help="The key of the text in JSON objects.")] = "text",
    dtype: Annotated[str, typer.Option(help="auto (as stored), float32, bfloat16, float16 or float64.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.", show_default=False)] = None,
    k: Annotated[int, typer.Option("--k", help="Largest values to keep of each site and population.")] = 64,
    threshold: Annotated[float, typer.Option(help="Magnitude from which values are counted in each dim.")] = 6.0,
    blocks_of: Annotated[
        str | None,
        typer.Option(
            help="At the inputs of matrices, count values with the largest of their block of 16, of 32, or both "
            "(16,32): what NVFP4 and MXFP4 cost.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode:
    """Stream text through a model once and record what its sites hold.

    Ctrl-C finishes the batch and saves what was recorded; a second one drops the batch. Exit code 3: a site's hook
    never fired; 130: interrupted.
    """
    from lmfacts.render.terminal.live import progress_view
    from lmfacts.scans.progress import Progress

    sizes = _sizes(blocks_of or "")
    os.environ.setdefault("TQDM_DISABLE", "1")
    path = out or free_name(model)
    if corpus and "-" in corpus and sys.stdin is not None and sys.stdin.isatty():
        complain("reading text from the terminal; Ctrl-D ends it")
    with nullcontext() if quiet else progress_view() as progress:
        if progress is not None:  # importing torch takes seconds
            progress(Progress("loading", model))
        from lmfacts.scans.activations import scan as scan_model

        run = scan_model(
            model,
            list(corpus) if corpus else None,
            sites=sites or "default",
            out=path,
            max_tokens=max_tokens,
            seq_len=seq_len,
            batch_size=batch_size,
            pack=pack,
            revision=revision,
            dtype=dtype,
            device=device,
            k=k,
            threshold=threshold,
            blocks_of=sizes,
            text_field=text_field,
            progress=progress,
        )
    return outcome(run, json=json)


def _sizes(text: str) -> list[int]:
    """The sizes of blocks that `16,32` lists."""
    try:
        return [int(size) for size in text.split(",") if text]
    except ValueError:
        raise UsageError(f"blocks_of: expected sizes such as 16 or 16,32, got {text!r}") from None


def outcome(run: Run[Any], *, json: bool) -> ExitCode:
    """Print a run's summary, say where it is, and give the exit code that its completeness asks for."""
    try:
        return _outcome(run, json=json)
    except (Exception, KeyboardInterrupt) as error:
        if run.path is not None:
            error.add_note(f"The run is saved in {run.path}.")
        raise


def _outcome(run: Run[Any], *, json: bool) -> ExitCode:
    from lmfacts.cli.output import print_json, print_result
    from lmfacts.scans.activations import INTERRUPTED

    if json:
        from lmfacts.render.terminal.json_documents import summary_json

        print_json(summary_json(run))
    else:
        from lmfacts.render.terminal.summary import render_summary

        print_result(render_summary(run))
    if run.path is not None:
        complain(f"saved {run.path}; see one site in full with: lmfacts show {shell_word(str(run.path))} SITE")
    if run.complete:
        return ExitCode.FINE
    complain(f"incomplete: {run.incomplete_reason}")
    return ExitCode.INTERRUPTED if run.incomplete_reason == INTERRUPTED else ExitCode.INCOMPLETE


def free_name(model: str, suffix: str = "") -> Path:
    """A name in this folder that no file has: the model's own (with a suffix), then with a number."""
    own = re.sub(r"\.(gguf|safetensors|bin|pt|pth)$", "", Path(model).name)
    stem = "-".join(filter(None, [re.sub(r"[^\w.-]+", "-", own).strip("-.") or "run", suffix]))
    names = itertools.chain([f"{stem}.lmfacts"], (f"{stem}-{number}.lmfacts" for number in itertools.count(2)))
    return next(path for path in map(Path, names) if not os.path.lexists(path))
