"""`lmfacts info`."""

from __future__ import annotations

import importlib.util
import platform
import sys
from typing import Any

from lmfacts.cli.exit_codes import ExitCode, sentences
from lmfacts.cli.options import JsonOption

__all__ = ["info"]

_PACKAGES = ("torch", "transformers", "numpy", "safetensors", "rich", "typer", "gguf", "accelerate")


@sentences
def info(*, json: JsonOption = False) -> ExitCode:
    """Show versions, the instructions in use, threads, GPU and build: what a bug report should have."""
    from lmfacts.cli.output import print_json, print_result

    facts = _facts()
    if json:
        print_json(facts)
        return ExitCode.FINE
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if name == "gpu":
            for key, text in value.items():
                table.add_row("gpu" if key == "devices" else key, text or "not found")
            continue
        shown = (
            ", ".join(f"{key} {text or 'not installed'}" for key, text in value.items())
            if isinstance(value, dict)
            else value
        )
        table.add_row(name, ", ".join(map(str, shown)) if isinstance(shown, list) else str(shown))
    print_result(table)
    return ExitCode.FINE


def _facts() -> dict[str, Any]:
    import lmfacts
    from lmfacts import _native

    build = _native.build_info()
    return {
        "lmfacts": lmfacts.__version__,
        "build": f"{build['profile']}, {build['target']}",
        "simd": build["simd"],
        "simd_available": build["simd_available"],
        "threads": build["n_threads"],
        "gpu": _gpu(),
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpu() -> dict[str, str | None]:
    """What there is of GPUs, and where the values on them are counted."""
    if importlib.util.find_spec("torch") is None:
        return {"devices": "none: torch is not installed"}
    from lmfacts.recording.cuda.probe import cuda_report

    report = cuda_report()
    devices = "; ".join(f"{name}: {how}" for name, how in report.pop("gpus").items())
    return {"devices": devices or "none that torch can use", **report}
