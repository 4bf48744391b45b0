"""The run: what one scan recorded, as a file, as arrays, and as the records that users and facts read.

Nothing here, nor right of it, loads torch.
"""

from lmfacts.run.run import Run, load

__all__ = ["Run", "load"]
