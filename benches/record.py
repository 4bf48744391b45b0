"""The record of a run of all benchmarks: plain data for machines, a page of Markdown for readers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from measuring import Figure, Report, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["figures_of", "write_record"]

HOW_TO_READ = "Medians of rounds in which all that is compared ran in turn, and their quartiles. Read the ratios."
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


def _written_machine(machine: dict[str, Any]) -> str:
    virtual = ", virtual" if machine["virtual"] else ""
    return (
        f"{machine['processor']} (family {machine['family']}, model {machine['model']}), {machine['cores']} cores, "
        f"{machine['memory_gb']} GB{virtual}; {machine['caches']}; {machine['system']}. SIMD level {machine['simd']}; "
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
    lines = ["| what | beside | median | quartiles | n | target | |", "|---|---|---:|---:|---:|---|---|"]
    for figure in figures:
        value = figure.value
        quartiles = f"{written(value.low)} to {written(value.high)}" if value.n > 1 else ""
        target = "" if figure.target is None else figure.target.text
        cells = [figure.what, figure.beside, f"{written(value.median)} {figure.unit}", quartiles, value.n, target]
        lines.append(f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in cells)} | {figure.verdict} |")
    return "\n".join(lines) + "\n"


def _rates(report: Report) -> str:
    """Kernels: values a second beside the share of a pure read."""
    lines = ["| id | Gel/s | share of a pure read | quartiles |", "|---|---:|---:|---:|"]
    for figure in report.figures:
        rate = report.settings["values"][figure.what] / report.times[figure.what].median / 1e9
        value = figure.value
        lines.append(f"| {figure.what} | {rate:.2f} | {value.median:.0f} % | {value.low:.0f} to {value.high:.0f} |")
    return "\n".join(lines) + "\n"
