"""The rules of who may import whom, and how large a file may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "lmfacts"
MODULES = {
    path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in sorted(PACKAGE.rglob("*.py"))
}

HEAVY = {"torch", "transformers", "datasets", "tokenizers"}
"""What takes seconds to import."""

ROOMS = {
    "errors": {"run"},
    "sites": {"errors"},
    "demo": {"errors"},
    "writing": set(),
    "files": {"demo", "errors"},
    "stats": {"errors"},
    "run": {"demo", "errors", "facts", "files", "sites", "stats", "writing"},
    "quantities": {"errors", "run", "stats"},
    "analysis": {"errors", "quantities", "run", "stats"},
    "charts": {"stats", "writing"},
    "facts": {"analysis", "charts", "errors", "quantities", "run", "sites", "stats", "writing"},
    "text": {"demo", "errors"},
    "models": {"checkpoints", "demo", "errors", "sites"},
    "checkpoints": {"demo", "errors", "files", "models", "stats"},
    "recording": {"errors", "models", "run", "sites"},
    "scans": {"checkpoints", "errors", "files", "models", "recording", "run", "stats", "text"},
    "comparison": {"analysis", "checkpoints", "errors", "facts", "models", "quantities", "run", "stats"},
    "export": {"errors", "files", "quantities", "run", "sites", "stats"},
    "render": {
        "analysis",
        "charts",
        "comparison",
        "errors",
        "facts",
        "files",
        "quantities",
        "run",
        "scans",
        "stats",
        "writing",
    },
    "cli": {
        "comparison",
        "errors",
        "export",
        "facts",
        "files",
        "models",
        "recording",
        "render",
        "run",
        "scans",
        "uncaught",
        "writing",
    },
    "uncaught": {"errors"},
    "__main__": {"cli", "uncaught", "writing"},
}
"""The rooms of the package, and those that each may import: run may import facts within functions only."""

KNOW_TORCH = {"checkpoints", "demo", "models", "recording", "scans"}
MAY_IMPORT = {
    "rich": {"render", "cli", "demo"},
    "typer": {"cli", "demo"},
    "lmfacts._native": {"checkpoints", "cli", "recording", "run", "scans"},
    "matplotlib": {"render"},
    "pyarrow": {"export"},
}


def imports(path, *, top_level):
    """Modules that a file imports: outside functions and type checking only, or everywhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
                found.add(child.module)
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
            is_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if not is_typing and not (top_level and is_function):
                visit(child)

    visit(tree)
    return found


def part(path):
    """The module or folder directly under the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=MODULES.get)
def test_heavy_packages_are_imported_left_of_the_run_file_only(path):
    if part(path) not in KNOW_TORCH | {"cli"}:
        heavy = {name for name in imports(path, top_level=False) if name.split(".")[0] in HEAVY}
        assert not heavy
    if part(path) == "cli":
        assert not {name for name in imports(path, top_level=True) if name.split(".")[0] in HEAVY}


@pytest.mark.parametrize("path", MODULES, ids=MODULES.get)
def test_rooms_import_only_what_they_may(path):
    room = part(path)
    if room == "__init__":
        return
    used = {name.split(".")[1] for name in imports(path, top_level=False) if name.startswith("lmfacts.")}
    rooms = {other for other in used if (PACKAGE / other).is_dir() or (PACKAGE / f"{other}.py").is_file()}
    assert rooms - {room} <= ROOMS[room]


@pytest.mark.parametrize("path", MODULES, ids=MODULES.get)
def test_only_those_allowed_import_these(path):
    for module, allowed in MAY_IMPORT.items():
        used = {name for name in imports(path, top_level=False) if name == module or name.startswith(f"{module}.")}
        assert not used or part(path) in allowed, f"{MODULES[path]} imports {used}"


def test_there_are_no_cycles():
    graph = {}
    names = set(MODULES.values())
    for path, name in MODULES.items():
        graph[name.removesuffix(".__init__")] = {
            target for target in imports(path, top_level=True) if target in names or f"{target}.__init__" in names
        } - {"lmfacts"}
    done, path_here = set(), []

    def walk(name):
        if name in done:
            return
        assert name not in path_here, " -> ".join([*path_here[path_here.index(name) :], name])
        path_here.append(name)
        for target in graph.get(name, ()):
            # A package is loaded before its own modules; that is no use of it.
            if not name.startswith(f"{target}."):
                walk(target)
        path_here.pop()
        done.add(name)

    for name in graph:
        walk(name)


def sources():
    for pattern in (
        "python/**/*.py",
        "python/**/*.pyi",
        "tests/**/*.py",
        "rust/**/*.rs",
        "rust/**/*.cu",
        "tests/**/*.c",
        "benches/**/*.py",
    ):
        yield from ROOT.glob(pattern)


def test_no_file_is_longer_than_a_reader_can_hold():
    long = {
        str(path.relative_to(ROOT)): n
        for path in sources()
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > 600
    }
    assert not long


@pytest.mark.parametrize(
    "statement",
    [
        "import lmfacts",
        "import lmfacts.scans.weights",
        "import lmfacts.run; from lmfacts.render.terminal import summary, site_page, json_documents",
        "from lmfacts.cli import application; application()",
        "import lmfacts.render.terminal.live",
        "import lmfacts.facts, lmfacts.render.terminal.facts_table, lmfacts.render.terminal.fact_page",
        "import lmfacts.comparison, lmfacts.render.terminal.comparison_view",
        "import lmfacts.export",
        "import lmfacts.render.page",
    ],
)
def test_what_reads_runs_loads_neither_torch_nor_transformers(statement):
    program = f"{statement}; import sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_lmfacts_prints_nothing():
    done = subprocess.run([sys.executable, "-c", "import lmfacts"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
