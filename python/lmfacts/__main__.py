"""`lmfacts` and `python -m lmfacts`."""

import sys

from lmfacts.uncaught import explain, open_standard_streams
from lmfacts.writing.visible_text import visible

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    open_standard_streams()
    try:
        from lmfacts.cli import main as run_command  # noqa: PLC0415  what fails here is explained too

        run_command()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the last place that can make a sentence of it
        sentence, code = explain(error)
        sys.stderr.write(f"lmfacts: {visible(sentence)}\n")
        raise SystemExit(code) from None


if __name__ == "__main__":
    main()
