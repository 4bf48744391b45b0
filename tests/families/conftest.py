"""The table of the sweep, after its tests."""

from __future__ import annotations

from support.family_checks import CHECKS


def pytest_terminal_summary(terminalreporter):
    rows = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties = dict(getattr(report, "user_properties", []))
            if "family" in properties and getattr(report, "when", "") == "call":
                rows.append(properties)
    if not rows:
        return
    terminalreporter.section("families")
    columns = ["family", "loaded as", "adapter", "sites", *CHECKS]
    terminalreporter.write_line(f"| {' | '.join(columns)} |")
    terminalreporter.write_line(f"|{'---|' * len(columns)}")
    for row in rows:
        terminalreporter.write_line(f"| {' | '.join(str(row.get(column, '')) for column in columns)} |")
