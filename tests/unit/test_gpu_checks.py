"""What is asked of a GPU, as far as it can be checked without one."""

from __future__ import annotations

import torch

import lmfacts
from support import gpu_checks
from support.tiny import batch, build


def test_all_that_hooks_report_is_watched_for_synchronization(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    model = build("gpt2", torch.float32)
    with lmfacts.attach(model, gpu_checks.SITES) as recorder, gpu_checks.detected(recorder):
        model(**batch(model, "left"))
    assert modes[::2] == ["error"] * (len(modes) // 2)
    assert modes[1::2] == ["default"] * (len(modes) // 2)
    assert len(modes) // 2 > len(gpu_checks.SITES)
    assert recorder.run().n_sequences > 0
