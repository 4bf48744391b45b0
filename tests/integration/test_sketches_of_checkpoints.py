"""Sketches of the same weights in checkpoints of other families and dtypes: fused or split, transposed or not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from lmfacts.scans.weights import scan_weights
from lmfacts.stats.count_sketch import sketched_distance

D = 48


def checkpoint(folder, config, tensors):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    return scan_weights(folder, spectra=0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    generator = torch.Generator().manual_seed(0)
    q, k, v, o = (torch.randn(D, D, generator=generator).to(torch.bfloat16) for _ in range(4))
    up, down = (torch.randn(*shape, generator=generator).to(torch.bfloat16) for shape in ((4 * D, D), (D, 4 * D)))
    sizes = {"hidden_size": D, "num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 1}
    block = "model.layers.0"
    split = {
        f"{block}.self_attn.q_proj.weight": q,
        f"{block}.self_attn.k_proj.weight": k,
        f"{block}.self_attn.v_proj.weight": v,
        f"{block}.self_attn.o_proj.weight": o,
        f"{block}.mlp.up_proj.weight": up,
        f"{block}.mlp.down_proj.weight": down,
        f"{block}.input_layernorm.weight": torch.ones(D),
    }
    by_head = torch.stack([x.reshape(4, D // 4, D) for x in (q, k, v)], dim=1).reshape(3 * D, D)
    neox = "gpt_neox.layers.0"
    return {
        "llama": checkpoint(folder / "llama", {"model_type": "llama", **sizes}, split),
        "gpt2": checkpoint(
            folder / "gpt2",
            {"model_type": "gpt2", "n_embd": D, "n_head": 4, "n_layer": 1},
            {
                "h.0.attn.c_attn.weight": torch.cat([q, k, v]).T.float().contiguous(),
                "h.0.attn.c_proj.weight": o.T.float().contiguous(),
                "h.0.mlp.c_fc.weight": up.T.double().contiguous(),
                "h.0.mlp.c_proj.weight": down.T.double().contiguous(),
            },
        ),
        "gpt_neox": checkpoint(
            folder / "gpt_neox",
            {"model_type": "gpt_neox", **sizes},
            {
                f"{neox}.attention.query_key_value.weight": by_head.float(),
                f"{neox}.attention.dense.weight": o.float(),
                f"{neox}.mlp.dense_h_to_4h.weight": up,
                f"{neox}.mlp.dense_4h_to_h.weight": down,
            },
        ),
    }


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
@pytest.mark.parametrize("kind", ["W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"])
def test_other_families_have_the_same_sketches_of_the_same_weights(runs, family, kind):
    one, other = (runs[name][f"blocks.0.{kind}"] for name in ("llama", family))
    np.testing.assert_allclose(other.sketch, one.sketch, rtol=0, atol=1e-12)
    assert sketched_distance(one.sketch, other.sketch) == 0


def test_sketches_survive_the_run_file_and_vectors_have_none(runs, tmp_path):
    from lmfacts.run import load

    runs["llama"].save(tmp_path / "x.lmfacts")
    loaded = load(tmp_path / "x.lmfacts")
    np.testing.assert_array_equal(loaded["blocks.0.W_O"].sketch, runs["llama"]["blocks.0.W_O"].sketch)
    assert loaded["blocks.0.ln1.gain"].sketch is None


def test_a_nan_is_left_out_and_seen_beside_the_sketch(tmp_path):
    clean = torch.randn(40, 40, generator=torch.Generator().manual_seed(1))
    broken, zeroed = clean.clone(), clean.clone()
    broken[3, 4], zeroed[3, 4] = torch.nan, 0.0
    run = checkpoint(tmp_path / "x", {}, {"broken": broken, "zeroed": zeroed})
    np.testing.assert_array_equal(run["broken"].sketch, run["zeroed"].sketch)
    assert (run["broken"].n_nan, run["zeroed"].n_nan) == (1, 0)


def test_sums_that_leave_the_range_leave_no_sketch(tmp_path):
    run = checkpoint(tmp_path / "x", {}, {"w": torch.full((400, 400), 1.5e308, dtype=torch.float64)})
    assert run["w"].sketch is None
