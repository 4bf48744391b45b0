"""`lmfacts show` inside a process that goes on afterwards."""

from __future__ import annotations

import gc

import pytest
import typer

from lmfacts.cli.show import show


@pytest.fixture
def collector():
    """The garbage collector, put back afterwards."""
    was_enabled = gc.isenabled()
    yield
    (gc.enable if was_enabled else gc.disable)()


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("switch", [gc.enable, gc.disable])
def test_the_garbage_collector_is_left_as_it_was(switch, tmp_path):
    switch()
    before = gc.isenabled()
    with pytest.raises(typer.Exit):
        show(tmp_path / "none.lmfacts", None, json=False)
    assert gc.isenabled() == before
