"""What statistics say of themselves, and how a run file says which were recorded."""

from __future__ import annotations

import numpy as np
import pytest

from lmfacts.errors import UsageError
from lmfacts.run import Run, load
from lmfacts.run.state import SiteState, native_array
from lmfacts.run.statistic import DIMS, NO_MOMENTS, Array, Sites, Statistic
from lmfacts.run.statistics import REQUIRED, STATISTICS, entry_of, recorded_in
from lmfacts.run.statistics.token_norms import TokenNormArrays
from support import oracle
from support.run_files import arrays_of


def test_no_two_arrays_have_one_name():
    names = [name for statistic in STATISTICS.values() for name in statistic.arrays]
    assert len(names) == len(set(names))
    assert all(statistic.arrays for statistic in STATISTICS.values())


@pytest.mark.parametrize(
    ("names", "entry"),
    [
        (set(), {"unit_sums": False, "blocks": False, "detail": False}),
        ({"unit_sums"}, {"unit_sums": True, "blocks": False, "detail": False}),
        ({"block_codes", "dim_histograms"}, {"unit_sums": False, "blocks": False, "detail": True}),
        # One key stands for two: either alone has to be named.
        ({"block_codes"}, {"unit_sums": False, "blocks": False, "detail": False, "statistics": ["block_codes"]}),
    ],
)
def test_an_entry_says_what_was_recorded(names, entry):
    assert entry_of(names | REQUIRED) == entry
    assert recorded_in(entry) == names | REQUIRED


def test_an_entry_of_an_earlier_version_lacks_keys():
    assert recorded_in({"unit_sums": True}) == REQUIRED | {"unit_sums"}
    assert recorded_in({"unit_sums": False, "statistics": ["of a later version"]}) == REQUIRED


class Sums(Statistic):
    """A statistic that only this test has."""

    name = "sums"
    sites = Sites.STREAM
    sums = Array(np.float64, 2, DIMS)


@pytest.fixture
def sums(monkeypatch):
    monkeypatch.setitem(STATISTICS, "sums", Sums)


def state_with_sums(shape=(2, 3)):
    native = oracle.site_state(np.ones((4, 3), np.float32), dtype="float32", position=[0, 1, 2, 3])
    native["statistics"] = (*native["statistics"], "sums")
    sums = {f"{part}/sums": native_array(np.arange(6.0).reshape(shape)) for part in ("first", "rest")}
    return SiteState.from_native(native | sums)


@pytest.mark.usefixtures("sums")
def test_a_further_statistic_needs_nothing_but_itself(tmp_path):
    state = state_with_sums()
    run = Run({"kind": "activations", "model": {}, "sites": [{"name": "embed"}]}, {"embed": state})
    path = run.save(tmp_path / "a.lmfacts")
    loaded = load(path)["embed"].state
    assert Sums(loaded.rest).sums.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded.to_native() == state.to_native()
    assert "embed/rest/sums" in arrays_of(path)
    with pytest.raises(UsageError, match=r"sums has shape \[3, 2\], expected \[2, 3\]"):
        state_with_sums((3, 2))


def test_arrays_of_a_statistic_that_is_not_known_stay_in_the_file(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(STATISTICS, "sums", Sums)
        run = Run({"kind": "activations", "model": {}, "sites": [{"name": "embed"}]}, {"embed": state_with_sums()})
        path = run.save(tmp_path / "later.lmfacts")
    earlier = load(path)
    assert not earlier["embed"].state.has(Sums)
    again = earlier.save(tmp_path / "again.lmfacts")
    assert again.read_bytes() == path.read_bytes()


def test_what_was_not_recorded_reads_as_nothing():
    state = SiteState.from_native(oracle.site_state(np.ones((4, 3), np.float32), dtype="float32"))
    assert Sums(state.rest).sums.shape == (2, 0)
    assert TokenNormArrays.token_moments.absent(3).tolist() == [list(NO_MOMENTS)] * 3
    with pytest.raises(ValueError, match="read-only"):
        TokenNormArrays.token_moments.absent(3)[0, 0] = 1.0
