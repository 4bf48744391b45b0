"""`lmfacts` and `python -m lmfacts`."""

from lmfacts.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
