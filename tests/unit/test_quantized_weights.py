"""Quantized checkpoints: what has its scales beside it is dequantized, and nothing else is taken for numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import lmfacts
from lmfacts.checkpoints import open_weights
from lmfacts.errors import ModelError

NAME = "model.layers.0.self_attn.q_proj.weight"
MODULE = NAME.removesuffix(".weight")
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": 9,
}


def checkpoint(folder, tensors, config=None):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(LLAMA | (config or {})))
    return folder


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def float8(*shape, dtype=torch.float8_e4m3fn):
    return (drawn(*shape) * 100).clamp(-400, 400).to(dtype)


def spread(scales, blocks, shape):
    """Scales with a value for each of the weights."""
    for axis, block in enumerate(blocks):
        scales = scales.repeat_interleave(block, axis)
    return scales[tuple(slice(n) for n in shape)]


def read(folder, name=NAME):
    with open_weights(folder) as source:
        tensor = next(tensor for tensor in source.tensors if tensor.name == name)
        return tensor, np.array(source.read(tensor))


BLOCKS = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}


@pytest.mark.parametrize(
    ("shape", "scales", "blocks", "config", "kind"),
    [
        ((300, 200), (3, 2), (128, 128), BLOCKS, "block scales"),
        ((32, 32), (2, 2), (16, 16), {}, "block scales"),
        ((256, 384), (2, 3), (128, 128), {}, "block scales"),
        ((2, 256, 384), (2, 2, 3), (1, 128, 128), BLOCKS, "block scales"),
        ((32, 48), (32, 1), (1, 48), {}, "row scales"),
        ((32, 48), (1, 1), (32, 48), {}, "one scale"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_with_scales_is_their_product(tmp_path, shape, scales, blocks, config, kind, dtype):  # noqa: PLR0917  a case has so many parts
    of_scales = torch.float32 if kind == "block scales" else torch.bfloat16
    values, scale = float8(*shape, dtype=dtype), (drawn(*scales).abs() + 0.1).to(of_scales)
    folder = checkpoint(tmp_path, {NAME: values, f"{NAME}_scale_inv": scale}, config)
    tensor, found = read(folder)
    assert (tensor.dtype, tensor.quantization) == ("float32", f"{str(dtype)[6:]} with {kind}")
    np.testing.assert_array_equal(found, (values.float() * spread(scale.float(), blocks, shape)).numpy())


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("weight_scale", torch.tensor(0.5)),
        ("weight_scale", torch.tensor([0.5])),
        ("weight_scale", torch.linspace(0.1, 2, 32)),
        ("scale", torch.full((1, 1), 0.25)),
        ("scale", torch.full((1, 1), 0.25).to(torch.float8_e8m0fnu)),
        ("scale_weight", torch.tensor(3.0)),
        ("weight_scale", (drawn(32, 2) * 3 + 127).to(torch.uint8)),  # exponents of blocks of 32, as in MXFP8
    ],
)
def test_scales_of_other_formats(tmp_path, name, scale):
    values = float8(32, 64)
    _, found = read(checkpoint(tmp_path, {NAME: values, f"{MODULE}.{name}": scale}))
    as_floats = 2.0 ** (scale.float() - 127) if scale.dtype == torch.uint8 else scale.float()
    if scale.ndim == 2 and scale.shape[1] == 2:
        as_floats = as_floats.repeat_interleave(32, 1)
    expected = values.float() * (as_floats[:, None] if scale.ndim == 1 and len(scale) > 1 else as_floats)
    np.testing.assert_array_equal(found, expected.numpy())


def test_int8_with_scales(tmp_path):
    values = (drawn(32, 48) * 40).to(torch.int8)
    scale, zero = drawn(32, 1).abs(), torch.arange(32).reshape(32, 1).to(torch.int8)
    (tmp_path / "ct").mkdir()
    _, found = read(
        checkpoint(tmp_path / "ct", {NAME: values, f"{NAME}_scale": scale, f"{NAME}_zero_point": zero}), NAME
    )
    np.testing.assert_array_equal(found, ((values.float() - zero.float()) * scale).numpy())
    (tmp_path / "bnb").mkdir()
    tensors = {
        NAME: values,
        f"{MODULE}.SCB": scale[:, 0],
        f"{MODULE}.weight_format": torch.tensor(0, dtype=torch.uint8),
    }
    tensor, found = read(checkpoint(tmp_path / "bnb", tensors))
    assert tensor.quantization == "int8 with row scales"
    np.testing.assert_allclose(found, (values.float() * scale / 127).numpy(), rtol=1e-6)


def test_a_run_of_float8_is_one_of_the_weights_themselves(tmp_path):
    """Halves of very different size, so that the values alone would say something else."""
    weights = drawn(32, 32) * torch.tensor([0.01, 1.0]).repeat_interleave(16)[:, None]
    scale = torch.stack([weights[:16].abs().max(), weights[16:].abs().max()]).reshape(2, 1).repeat(1, 2) / 448
    values = (weights / spread(scale, (16, 16), (32, 32))).to(torch.float8_e4m3fn)
    dequantized = (values.float() * spread(scale, (16, 16), (32, 32))).double().numpy()
    gain = torch.ones(32)
    tensors = {NAME: values, f"{NAME}_scale_inv": scale, "model.layers.0.input_layernorm.weight": gain}
    run = lmfacts.scan_weights(checkpoint(tmp_path, tensors), out=tmp_path / "w.lmfacts")
    for found in (run, lmfacts.load(tmp_path / "w.lmfacts")):
        weight = found["blocks.0.W_Q"]
        np.testing.assert_allclose(weight.std, dequantized.std(), rtol=1e-12)
        np.testing.assert_allclose(weight.singular_values[0], np.linalg.norm(dequantized, 2), rtol=1e-5)
        assert weight.quantization == "float8_e4m3fn with block scales"
        assert set(found) == {"blocks.0.W_Q", "blocks.0.ln1.gain"}
        assert found.metadata["skipped"] == {
            f"{NAME}_scale_inv": "scales of quantized values, which they were multiplied with"
        }
        assert "1 tensors are quantized with scales beside them" in " ".join(found.metadata["notes"])


def quantized(**tensors):
    return {f"{MODULE}.{name.replace('__', '.')}": tensor for name, tensor in tensors.items()}


PACKED = {
    "gptq": quantized(
        qweight=torch.ones(4, 8, dtype=torch.int32),
        qzeros=torch.ones(2, 1, dtype=torch.int32),
        scales=torch.ones(2, 8).half(),
        g_idx=torch.zeros(32, dtype=torch.int32),
    ),
    "bitsandbytes": quantized(
        weight=torch.zeros(512, 1, dtype=torch.uint8),
        weight__absmax=torch.ones(16),
        weight__quant_map=torch.linspace(-1, 1, 16),
        weight__quant_state__bitsandbytes__nf4=torch.zeros(80, dtype=torch.uint8),
    ),
    "compressed": quantized(
        weight_packed=torch.zeros(32, 4, dtype=torch.int32),
        weight_scale=torch.ones(32, 1),
        weight_shape=torch.tensor([32, 32]),
    ),
    "mxfp4": quantized(
        gate_up_proj_blocks=torch.zeros(2, 4, 2, 16, dtype=torch.uint8),
        gate_up_proj_scales=torch.zeros(2, 4, 2, dtype=torch.uint8),
    ),
    "nvfp4": quantized(
        weight=torch.zeros(32, 16, dtype=torch.uint8),
        weight_scale=float8(32, 2),
        weight_scale_2=torch.tensor(0.5),
        input_scale=torch.tensor(0.5),
    ),
    "quanto": quantized(weight___data=torch.zeros(32, 32, dtype=torch.int8), weight___scale=torch.ones(32, 1)),
    "unknown": quantized(codes=torch.zeros(32, 4, dtype=torch.int16), tables=torch.ones(16, 4)),
    "float8 without scales": quantized(weight=float8(32, 32)),
    "float8 with scales of another shape": quantized(weight=float8(32, 32), weight_scale_inv=torch.ones(3, 7)),
    "float8 with scales of two readings": quantized(weight=float8(192, 64), weight_scale_inv=torch.ones(2, 1)),
    "float8 with two scales": quantized(weight=float8(32, 32), weight_scale_inv=torch.ones(1), scale=torch.ones(1)),
    "float8 with integers for scales": quantized(weight=float8(32, 32), weight_scale=torch.ones(1).int()),
}


@pytest.mark.parametrize("case", PACKED)
def test_what_cannot_be_dequantized_is_skipped_whole(tmp_path, case):
    plain = {f"{MODULE}.bias": torch.ones(32), "model.layers.0.mlp.up_proj.weight": drawn(56, 32)}
    config = {"quantization_config": {"quant_method": case}} if case in ("unknown", "float8 without scales") else {}
    run = lmfacts.scan_weights(checkpoint(tmp_path, PACKED[case] | plain, config), out=tmp_path / "w.lmfacts")
    assert set(run) == {"blocks.0.b_Q", "blocks.0.W_in"}
    assert run.metadata["skipped"].keys() == PACKED[case].keys()
    facts = str([fact.to_json() for fact in run.facts()])
    assert "blocks.0.W_in" in facts
    assert "blocks.0.W_Q" not in facts


def test_a_checkpoint_of_packed_weights_alone(tmp_path):
    with pytest.raises(ModelError, match="expected parameters of a floating-point type, got none"):
        lmfacts.scan_weights(checkpoint(tmp_path, PACKED["mxfp4"]))


def test_float8_that_nobody_scaled_are_numbers(tmp_path):
    values = float8(32, 48)
    tensor, found = read(checkpoint(tmp_path, {NAME: values}))
    assert (tensor.dtype, tensor.quantization) == ("float8_e4m3fn", None)
    np.testing.assert_array_equal(found, values.view(torch.uint8).numpy())


def test_torch_files_and_models_are_dequantized_too(tmp_path):
    values, scale = float8(32, 48), torch.linspace(0.1, 2, 32).reshape(32, 1)
    torch.save({NAME: values, f"{NAME}_scale": scale}, tmp_path / "x.bin")
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(values, requires_grad=False)
    model.weight_scale = torch.nn.Parameter(scale)
    expected = (values.float() * scale).numpy()
    np.testing.assert_array_equal(read(tmp_path / "x.bin")[1], expected)
    np.testing.assert_array_equal(read(model, "weight")[1], expected)
