"""The tests of exactness again at each level of instructions that this processor has, forced one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmfacts import _native

TESTS = Path(__file__).parents[1]
EXACTNESS = ("property/test_accumulator.py", "boundary/test_tensors.py")
AVAILABLE = _native.build_info()["simd_available"]


@pytest.mark.parametrize("level", AVAILABLE)
def test_exactness_at(level):
    # The level in use is tested by the tests themselves.
    if level == _native.build_info()["simd"]:
        assert level == os.environ.get("LMFACTS_SIMD", AVAILABLE[-1])
        return
    files = [str(TESTS / name) for name in EXACTNESS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *files],
        env={**os.environ, "LMFACTS_SIMD": level, "OMP_NUM_THREADS": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
