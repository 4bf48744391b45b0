"""What has to hold on a GPU; skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest

from support.gpu_checks import CHECKS, no_gpu_reason


@pytest.fixture(scope="module", autouse=True)
def gpu():
    reason = no_gpu_reason()
    if reason is not None:
        pytest.skip(f"not checked on a GPU: {reason}")


@pytest.mark.parametrize("check", CHECKS)
def test_on_a_gpu(check):
    CHECKS[check]()
