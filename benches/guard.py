"""Shows whether an update or a hook became slower, without trusting a clock.

    make bench-guard            compare with benches/guard_baseline.json
    make bench-guard-update     write it anew, after a change that is meant to show
    python benches/guard.py --only ratios

Three parts, none of them in the test suite:

- `counts`: instructions for each value of one update, by dtype, distribution and level, counted by callgrind. Two runs
  differ by far less than a percent; more than 3 % above the baseline fails. Valgrind has no AVX-512, so the levels are
  scalar and AVX2; another compiler than the baseline's moves the counts a little by itself.
- `ratios`: where counts see nothing (AVX-512, caches, dependent stores): the time of an update over the time of a plain
  histogram of the same values in the same process, in turn. The smallest median of three tries is compared, since noise
  can hardly make all three slow; more than 30 % above the baseline fails. Judged only on the processor that the
  baseline knows.
- `hooks`: bytecodes and calls of built-in functions that a hook runs in lmfacts' own Python, on the model of
  `hook_cost.py`. They are the same in every run of one Python version; more than 3 % above the baseline fails.

Exit code 1 if anything became slower, 2 if valgrind is missing and counts were asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from machine import machine, versions
from measuring import wide_console, written

if TYPE_CHECKING:
    from types import CodeType, FrameType

TOP = Path(__file__).resolve().parents[1]
BASELINE = Path(__file__).resolve().parent / "guard_baseline.json"
PARTS = ("counts", "ratios", "hooks")
TOLERANCE = {"counts": 0.03, "ratios": 0.30, "hooks": 0.03}
LEVELS = ("scalar", "avx2")
COUNTED = "guard::measured"
"""The function of `rust/lmfacts-core/benches/guard.rs` whose calls are counted."""
TRIES = 3


@dataclass(frozen=True)
class Finding:
    """One number beside the baseline's; no baseline means that it is only shown."""

    part: str
    name: str
    found: float
    baseline: float | None

    @property
    def change(self) -> float:
        """By what share it is above the baseline."""
        return 0.0 if not self.baseline else self.found / self.baseline - 1

    @property
    def verdict(self) -> str:
        """`slower`, `faster` or nothing."""
        tolerance = TOLERANCE[self.part]
        return "slower" if self.change > tolerance else "faster" if self.change < -tolerance else ""


def build() -> Path:
    """Compile the program of known updates; gives its path."""
    line = ["cargo", "bench", "--quiet", "--locked", "--package", "lmfacts-core", "--bench", "guard", "--no-run"]
    done = subprocess.run([*line, "--message-format=json"], cwd=TOP, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")]
    return next(Path(message["executable"]) for message in messages if message.get("executable"))


def count_instructions(program: Path) -> dict[str, float]:
    """Instructions for each value, by level and case."""
    found = {}
    for level in LEVELS:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            line = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"]
            # Counting is on inside the function alone; each time it returns, the count is written and set to zero.
            line += [f"--toggle-collect={COUNTED}", f"--dump-after={COUNTED}", str(program), "counts", level]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"callgrind on level {level} failed:\n{done.stderr}")
            for index, text in enumerate(done.stdout.splitlines(), start=1):
                case = json.loads(text)
                profile = Path(f"{out}.{index}").read_text(encoding="utf-8").splitlines()
                total = next(int(line.split()[1]) for line in profile if line.startswith("totals:"))
                assert total > case["n_values"], "callgrind counted no update: was the function renamed?"
                found[f"{level}/{case['case']}"] = round(total / case["n_values"], 3)
    return found


def time_ratios(program: Path) -> dict[str, float]:
    """Time of an update over that of a plain histogram, at the best level: the smallest median of some tries."""
    found: dict[str, float] = {}
    for _ in range(TRIES):
        done = subprocess.run([str(program), "ratios"], capture_output=True, text=True, check=True)
        for case in map(json.loads, done.stdout.splitlines()):
            median = statistics.median(case["ratios"])
            found[case["case"]] = round(min(median, found.get(case["case"], median)), 3)
    return found


def count_hooks() -> dict[str, float]:
    """Bytecodes and built-in calls in lmfacts' own Python, for each hook of a pass over one token."""
    import torch

    import lmfacts
    from hook_cost import small_model

    own_code: dict[CodeType, bool] = {}
    package = str(Path(lmfacts.__file__).parent)

    def is_own(frame: FrameType) -> bool:
        code = frame.f_code
        if code not in own_code:
            own_code[code] = code.co_filename.startswith(package)
        return own_code[code]

    counts: Counter[str] = Counter()

    def bytecode(frame: FrameType, event: str, _argument: object) -> Any:
        if event == "call":
            if not is_own(frame):
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            counts["bytecodes"] += 1
        return bytecode

    def call(frame: FrameType, event: str, _argument: object) -> None:
        if event == "c_call" and is_own(frame):
            counts["calls of built-in functions"] += 1

    model = small_model()
    ids = torch.zeros((1, 1), dtype=torch.long)
    with torch.inference_mode(), lmfacts.attach(model, sites="all") as recorder:
        model(ids)  # whatever is done once
        sys.settrace(bytecode)
        model(ids)
        sys.settrace(None)
        sys.setprofile(call)
        model(ids)
        sys.setprofile(None)
    n_hooks = len(recorder.site_names)
    return {name: round(count / n_hooks, 2) for name, count in counts.items()}


def baseline_key(part: str) -> str:
    """What a part's numbers depend on: the compiler's architecture, the processor, the version of Python."""
    here = machine()
    if part == "counts":
        return str(here["architecture"])
    if part == "hooks":
        return f"Python {sys.version_info.major}.{sys.version_info.minor}"
    return f"{here['processor']}, family {here['family']}, model {here['model']}, {here['simd']}"


def run(part: str, program: Path | None) -> dict[str, float]:
    """The numbers of one part."""
    if part == "hooks":
        return count_hooks()
    assert program is not None
    return count_instructions(program) if part == "counts" else time_ratios(program)


def show(part: str, findings: list[Finding], *, whole: bool) -> Table | str:
    """A part's numbers: all of them, or those that are new or out of tolerance; their title if there are none."""
    unit = {"counts": "instructions a value", "ratios": "times a plain histogram", "hooks": "a hook"}[part]
    largest = max((finding.change for finding in findings), key=abs)
    title = f"{part}: {unit}; {len(findings)} cases, tolerance {TOLERANCE[part]:.0%}, largest change {largest:+.1%}"
    shown = [finding for finding in findings if whole or finding.verdict or finding.baseline is None]
    if not shown:
        return title
    table = Table(title=title, title_justify="left", min_width=len(title))
    table.add_column("case")
    for column in ("baseline", "now", "change", ""):
        table.add_column(column, justify="right")
    for finding in shown:
        colour = {"slower": "red", "faster": "green", "": "default"}[finding.verdict]
        table.add_row(
            finding.name,
            written(finding.baseline) if finding.baseline is not None else "",
            written(finding.found),
            f"{finding.change:+.1%}" if finding.baseline is not None else "new",
            f"[{colour}]{finding.verdict}[/]",
        )
    return table


def compare(part: str, found: dict[str, float], known: dict[str, Any]) -> list[Finding]:
    """Numbers beside those of the baseline."""
    values = known.get(part, {}).get(baseline_key(part), {}).get("values", {})
    return [Finding(part, name, value, values.get(name)) for name, value in found.items()]


def main() -> int:
    """Compare, or write the baseline anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some of the parts")
    parser.add_argument("--all", action="store_true", help="show the numbers that did not change, too")
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    options = parser.parse_args()
    console = wide_console()
    if "counts" in options.only and shutil.which("valgrind") is None:
        print(
            "counts: expected valgrind, which counts the instructions, and found none; install it, or ask for the "
            "other parts: python benches/guard.py --only ratios hooks",
            file=sys.stderr,
        )
        return 2
    known: dict[str, Any] = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    program = None if options.only == ["hooks"] else build()
    os.environ["HF_HUB_OFFLINE"] = "1"
    slower = []
    for part in PARTS:
        if part not in options.only:
            continue
        found, key = run(part, program), baseline_key(part)
        findings = compare(part, found, known)
        console.print(show(part, findings, whole=options.all))
        before = known.get(part, {}).get(key)
        if options.update:
            known.setdefault(part, {})[key] = {"rustc": versions().get("rustc", "unknown"), "values": found}
        elif before is None:
            console.print(f"{part}: no baseline for {key}; shown, not judged")
        else:
            slower += [finding for finding in findings if finding.verdict == "slower"]
            if part != "hooks" and before["rustc"] != versions().get("rustc"):
                console.print(
                    f"{part}: the baseline was made with rustc {before['rustc']}, not {versions().get('rustc')}"
                )
    if options.update:
        BASELINE.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        console.print(f"written: benches/{BASELINE.name}")
    for part, n in Counter(finding.part for finding in slower).items():
        console.print(f"slower: {n} of the {part}", style="red")
    return 1 if slower else 0


if __name__ == "__main__":
    raise SystemExit(main())
