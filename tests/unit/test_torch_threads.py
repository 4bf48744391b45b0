"""Which OpenMP runtime updates share, and when they do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lmfacts import _native
from lmfacts.recording.torch_threads import share_torch_threads

LINUX = sys.platform.startswith("linux")
REPORT = """
import torch
from lmfacts import _native
from lmfacts.recording.torch_threads import share_torch_threads
torch.set_num_threads(3)
torch.randn(300, 300) @ torch.randn(300, 300)
{before}
print(share_torch_threads(), _native.build_info()["n_threads"])
"""


def report(before="", **environment):
    variables = {
        key: value for key, value in os.environ.items() if key not in ("LMFACTS_NUM_THREADS", "OMP_NUM_THREADS")
    }
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(before=before)],
        env={**variables, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.skipif(not LINUX, reason="runtimes are shared on Linux only")
def test_updates_use_as_many_threads_as_torch():
    assert report() == ["True", "3"]
    assert report(before="_native.build_info()") == ["True", "3"], "the default pool gives way"


@pytest.mark.skipif(not LINUX, reason="runtimes are shared on Linux only")
def test_a_number_that_was_asked_for_stays():
    assert report(LMFACTS_NUM_THREADS="2") == ["False", "2"]
    assert report(before="_native.set_num_threads(5)") == ["False", "5"]


def test_a_library_that_is_not_loaded_is_not_shared(tmp_path):
    assert _native.share_openmp(tmp_path / "libgomp.so.1") is False


@pytest.mark.skipif(not LINUX, reason="runtimes are shared on Linux only")
@pytest.mark.parametrize(
    "names",
    [
        [],
        ["/a/libgomp.so.1", "/b/libomp.so"],
        ["/a/torch/lib/libgomp.so.1", "/a/torch.libs/libgomp-1.so"],
        ["/a b/libgomp.so.1"],
    ],
)
def test_none_or_several_runtimes_are_not_shared(tmp_path, names):
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r-xp 00000000 00:00 0\n" + "".join(f"7f00-7f01 r-xp 00000000 08:01 7    {n}\n" for n in names)
    )
    assert share_torch_threads(maps) is False
    assert share_torch_threads(tmp_path / "missing") is False
