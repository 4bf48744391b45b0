"""The record of a run of all benchmarks: plain data for machines, a page of Markdown for readers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from measuring import Figure, Report, cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["figures_of", "write_record"]

HOW_TO_READ = (
    "Medians of rounds in which all that is compared ran in turn, and their quartiles. What something adds is a median "
    "of paired differences, and a ratio of two added times the ratio of such medians; beside them stands an interval "
    "with its coverage, and a bound (at least, at most) where no more can be told. Read the ratios."
)
RUST = ("kernels", "updates (Rust)")


def figures_of(reports: Iterable[Report]) -> list[Figure]:
    """What belongs in one table: every comparison, but of the many of the kernels only those with a target."""
    return [
        figure
        for report in reports
        for figure in report.figures
        if report.name not in RUST or figure.target is not None
    ]


def write_record(folder: Path, name: str, head: dict[str, Any], reports: Sequence[Report]) -> None:
    """Write `NAME.json` and `NAME.md`."""
    folder.mkdir(exist_ok=True)
    data = head | {"benchmarks": [report.to_json() for report in reports]}
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(_markdown(name, head, reports), encoding="utf-8")


def _markdown(name: str, head: dict[str, Any], reports: Sequence[Report]) -> str:
    parts = [
        "# Record of `make bench`\n",
        f"{head['date']}, commit {head['commit']}. {_written_machine(head['machine'])}\n",
        ", ".join(f"{package} {version}" for package, version in head["versions"].items()) + ".\n",
        f"{HOW_TO_READ} The times behind the ratios are in [{name}.json]({name}.json).\n",
        f"A budget of {head['budget_s'] / 60:.3g} minutes was filled by rounds:\n",
        _rounds(reports, head["seconds"]),
        "## Against the targets\n",
        _table(figure for report in reports for figure in report.figures if figure.target is not None),
        "## All comparisons\n",
    ]
    for report in reports:
        if report.name not in RUST:
            parts += [f"### {report.name}\n", _settings(report), _table(report.figures)]
    for report in reports:
        if report.name in RUST:
            parts += [f"### {report.name}\n", _settings(report), _rates(report)]
    return "\n".join(parts)


def _rounds(reports: Sequence[Report], seconds: dict[str, float]) -> str:
    """How long each benchmark took, and how many rounds it had."""
    lines = ["| benchmark | seconds | rounds |", "|---|---:|---|"]
    for report in reports:
        rounds = ", ".join(f"{n}" if part == "all" else f"{part} {n}" for part, n in report.rounds.items())
        lines.append(f"| {report.name} | {seconds[report.name]:.0f} | {rounds or 'processes, one of each'} |")
    return "\n".join(lines) + "\n"


def _written_machine(machine: dict[str, Any]) -> str:
    virtual = ", virtual" if machine["virtual"] else ""
    is_best = machine["simd"] == machine["simd_best"]
    forced = "" if is_best else f", chosen by LMFACTS_SIMD where the processor has {machine['simd_best']}"
    return (
        f"{machine['processor']} (family {machine['family']}, model {machine['model']}), {machine['cores']} cores, "
        f"{machine['memory_gb']} GB{virtual}; {machine['caches']}; {machine['system']}. SIMD level {machine['simd']} "
        f"(torch: {machine['torch_simd']}){forced}; "
        f"speculative store bypass: {machine['speculative_store_bypass']}."
    )


def _settings(report: Report) -> str:
    """The settings in one line; numbers of values are in the tables of rates."""
    found = []
    for name, value in report.settings.items():
        if name != "values" and value != []:
            nested = ", ".join(f"{key} {entry}" for key, entry in value.items()) if isinstance(value, dict) else value
            found.append(f"{name}: {nested}")
    return "; ".join(found) + ".\n" if found else ""


def _table(figures: Iterable[Figure]) -> str:
    lines = ["| what | beside | median | quartiles, or interval | n | target | |", "|---|---|---:|---:|---:|---|---|"]
    for figure in figures:
        target = "" if figure.target is None else figure.target.text
        row = [figure.what, figure.beside, *cells(figure), target, figure.verdict]
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |")
    return "\n".join(lines) + "\n"


def _rates(report: Report) -> str:
    """Kernels: values a second beside the share of a pure read."""
    lines = ["| id | Gel/s | share of a pure read | quartiles |", "|---|---:|---:|---:|"]
    for figure in report.figures:
        rate = report.settings["values"][figure.what] / report.times[figure.what].median / 1e9
        value = figure.value
        lines.append(f"| {figure.what} | {rate:.2f} | {value.median:.0f} % | {value.low:.0f} to {value.high:.0f} |")
    return "\n".join(lines) + "\n"
