"""What the processor computes in: as oneDNN says, within the limits that it is given."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from lmfacts.scans import processor

CPU = torch.device("cpu")


@pytest.fixture
def emulating(monkeypatch):
    """A processor without bfloat16, on which products in it take 7 times as long as in float32."""
    monkeypatch.setattr(processor, "computes_in", lambda dtype: dtype not in (torch.bfloat16, torch.float16))
    monkeypatch.setattr(processor, "times_slower_than_float32", lambda _dtype: 7.04)


def test_an_emulated_type_is_named_with_what_float32_would_gain(emulating):
    note = processor.emulation_note(torch.bfloat16, CPU)
    assert "no bfloat16 arithmetic" in note
    assert "about 7.0 times as long" in note
    assert "--dtype float32" in note


def test_nothing_is_said_where_nothing_is_emulated_or_lost(emulating, monkeypatch):
    assert processor.emulation_note(torch.float32, CPU) is None
    assert processor.emulation_note(torch.bfloat16, torch.device("cuda")) is None
    monkeypatch.setattr(processor, "times_slower_than_float32", lambda _dtype: 1.2)
    assert processor.emulation_note(torch.bfloat16, CPU) is None


def test_float32_takes_about_as_long_as_itself():
    assert processor.computes_in(torch.float32)
    assert processor.computes_in(torch.float64)
    assert 0.1 < processor.times_slower_than_float32(torch.float32) < 10


def test_a_limit_on_instructions_is_heeded():
    code = "import torch; from lmfacts.scans.processor import computes_in; print(computes_in(torch.bfloat16))"
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", code], env=limited, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
