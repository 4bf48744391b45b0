"""A command is loaded alone; what is no command is told of all of them."""

import subprocess
import sys

from typer.testing import CliRunner

from lmfacts.cli import application


def _loaded(*arguments: str) -> set[str]:
    script = (
        "import sys; from lmfacts.cli import main\n"
        f"sys.argv = ['lmfacts', *{list(arguments)!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*(name for name in sys.modules if name.startswith('lmfacts.cli.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.removeprefix("lmfacts.cli.") for name in done.stderr.splitlines()[-1].split()}


def test_a_command_is_loaded_without_the_others() -> None:
    loaded = _loaded("show", "--help")
    assert "show" in loaded
    assert not loaded & {"scan", "facts", "compare", "export"}
    assert {"show", "scan", "facts", "compare", "export"} <= _loaded("--help")


def test_the_help_of_a_command_is_the_same_alone() -> None:
    for name in ("show", "compare", "scan"):
        alone, among_all = (CliRunner().invoke(app, [name, "--help"]) for app in (application(name), application()))
        assert alone.exit_code == among_all.exit_code == 0
        assert alone.output == among_all.output


def test_what_is_no_command_is_refused_with_the_nearest_name() -> None:
    for name in ("shw", "exit_codes", "output"):  # the last two are files beside the commands'
        done = CliRunner().invoke(application(name), [name])
        assert done.exit_code == 2
        assert "No such command" in done.output
    assert "show" in CliRunner().invoke(application("shw"), ["shw"]).output
