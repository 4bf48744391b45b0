"""Memory does not grow with the number of tokens, and the state has the size that was announced."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lmfacts
from lmfacts.run.statistics.block_codes import BlockCodeArrays
from lmfacts.run.statistics.dim_blocks import DimBlockArrays
from lmfacts.run.statistics.dim_histograms import DimHistogramArrays
from lmfacts.run.statistics.sequence_blocks import SequenceBlockArrays
from support.tiny import batch, build

MIB = 1 << 20

# In a process of its own, where nothing else allocates. The first passes fill caches and the allocator's pools.
SCAN = """
import json, sys, lmfacts
sizes = []
def note(progress):
    if progress.stage == "scanning" and progress.n_tokens:
        sizes.append((progress.n_tokens, progress.memory_bytes, progress.state_bytes))
run = lmfacts.scan(
    "demo", sites=sys.argv[1], max_tokens=200_000, seq_len=128, batch_size=16, dtype="float32", progress=note
)
print(json.dumps({"sizes": sizes, "n_tokens": run.n_tokens, "state_bytes": run.metadata["state_bytes"]}))
"""

FORWARD = """
import json, sys, torch, lmfacts
from lmfacts.scans.memory import resident_bytes
from support.tiny import build
model = build("llama")
generator = torch.Generator().manual_seed(0)
sizes = []
with torch.no_grad(), lmfacts.attach(model, ["all", "logits"]) as recorder:
    while recorder.n_tokens < 200_000:
        ids = torch.randint(4, 101, (40, 50), generator=generator)
        model(input_ids=ids, use_cache=False)
        sizes.append((recorder.n_tokens, resident_bytes(), recorder.state_bytes))
run = recorder.run()
print(json.dumps({"sizes": sizes, "n_tokens": run.n_tokens, "state_bytes": run.metadata["state_bytes"]}))
"""


def measure(script, *arguments):
    root = Path(lmfacts.__file__).parents[1]
    paths = os.pathsep.join([str(root), str(Path(__file__).parents[1])])
    # glibc is to give back at once what is free at the end of its heap: how much it would keep for later is not asked.
    settings = {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "MALLOC_TRIM_THRESHOLD_": str(128 << 10)}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("script", "arguments"), [(SCAN, ["all"]), (FORWARD, [])], ids=["scan", "forward"])
def test_memory_does_not_grow_over_200_000_tokens(script, arguments):
    found = measure(script, *arguments)
    assert found["n_tokens"] == 200_000
    sizes = found["sizes"]
    assert sizes[-1][0] == 200_000
    warm = [memory for n_tokens, memory, _ in sizes if 20_000 <= n_tokens <= 60_000]
    late = [memory for n_tokens, memory, _ in sizes if n_tokens >= 160_000]
    # Had each token left one float32 of each dim of one site behind, it would be 70 MiB and more. Medians, because what
    # the allocator has given back at the moment of looking differs by the tensors of a pass.
    grown = statistics.median(late) - statistics.median(warm)
    assert grown < 6 * MIB, f"grew by {grown / MIB:.1f} MiB"
    assert {state for n_tokens, _, state in sizes if n_tokens >= 20_000} == {found["state_bytes"]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_state_has_its_full_size_after_one_pass_and_keeps_it(dtype):
    model = build("gpt2", dtype)
    with torch.no_grad(), lmfacts.attach(model, ["all", "logits"], k=16) as recorder:
        assert recorder.state_bytes == 0
        model(**batch(model, "left"))
        size = recorder.state_bytes
        for seed in range(20):
            ids = torch.randint(4, 97, (7, 60), generator=torch.Generator().manual_seed(seed))
            model(input_ids=ids, use_cache=False)
            assert recorder.state_bytes == size
    assert recorder.run().metadata["state_bytes"] == size
    n_sites = len(recorder.site_names)
    # Two populations of 65,536 counters of 4 bytes, and what the dims and outliers add. Sites in detail have a table
    # for each of 8 blocks of sequences in place of one, and 256 counters for each dim; those of the stream have blocks,
    # of each dim three sums of 8 bytes in each.
    sites = [recorder.site(name) for name in recorder.site_names]
    n_dims = sum(site.n_dims for site in sites)
    n_detailed = sum(site.state.has(BlockCodeArrays) for site in sites)
    in_detail = n_detailed * 7 * 65_536 * 4 + sum(
        256 * 4 * site.n_dims for site in sites if site.state.has(DimHistogramArrays)
    )
    along_stream = 2 * 8192 * sum(site.state.has(SequenceBlockArrays) for site in sites)
    along_stream += 8 * 3 * 8 * sum(site.n_dims for site in sites if site.state.has(DimBlockArrays))
    least = n_sites * 2 * 65_536 * 4 + in_detail
    assert n_detailed > 0
    assert least < size < least + along_stream + n_sites * 2 * 16 * 64 + n_dims * 2 * 100


def test_a_large_k_is_paid_for_once():
    model = build("gpt2")
    with torch.no_grad(), lmfacts.attach(model, "blocks.0.resid_post", k=1000) as recorder:
        sizes = []
        for _ in range(5):
            model(**batch(model))
            sizes.append(recorder.state_bytes)
    assert len(set(sizes)) == 1
    assert recorder.site("blocks.0.resid_post").outliers.size == 1000
