"""Damaged checkpoints: whatever is in a header, there is a run or a sentence, soon and in little memory.

The suite tries some mutations of each kind of file; `make fuzz` tries many more, from another seed each time. An input
that breaks the rule is kept in the folder that the failure names. Once mended, it belongs to `corpus/checkpoints`, of
which every file is tried each time.
"""

from __future__ import annotations

import json
import math
import os
import pickletools
import random
import re
import resource
import shutil
import signal
import struct
import sys
import warnings
import zipfile
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import lmfacts
from lmfacts.errors import LmfactsError
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.weights_summary import render_weights_summary

CORPUS = Path(__file__).parent / "corpus" / "checkpoints"
N_CASES = int(os.environ.get("LMFACTS_FUZZ_CASES", "80"))
SEED = int(os.environ.get("LMFACTS_FUZZ_SEED", "0"))
MOST_SECONDS = 5.0
MOST_BYTES = 512 << 20

# Seeds: a folder each, of which one file is damaged

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 9,
    "tie_word_embeddings": True,
}
BLOCK = {
    "input_layernorm.weight": (8,),
    "self_attn.q_proj.weight": (8, 8),
    "self_attn.k_proj.weight": (4, 8),
    "mlp.up_proj.weight": (12, 8),
    "mlp.experts.3.up_proj.weight": (2, 8),
}


def tensors():
    generator = torch.Generator().manual_seed(0)
    shapes = {"model.embed_tokens.weight": (9, 8)}
    shapes |= {f"model.layers.{layer}.{name}": shape for layer in range(2) for name, shape in BLOCK.items()}
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    made["model.layers.1.mlp.up_proj.weight"] = made["model.layers.1.mlp.up_proj.weight"].bfloat16()
    return made | {"ids": torch.arange(3)}


def llama(folder, **more):
    (folder / "config.json").write_text(json.dumps(LLAMA | more))


def safetensors_file(folder):
    llama(folder)
    save_file(tensors(), folder / "model.safetensors", metadata={"format": "pt", "a.b": "model.embed_tokens.weight"})
    return folder / "model.safetensors"


def configuration(folder):
    safetensors_file(folder)
    return folder / "config.json"


def quantized_file(folder):
    llama(folder, quantization_config={"quant_method": "fp8", "weight_block_size": [8, 8]})
    stored = {}
    for name, tensor in tensors().items():
        stored[name] = tensor.to(torch.float8_e4m3fn) if tensor.ndim == 2 else tensor
        if tensor.ndim == 2:
            stored[f"{name}_scale_inv"] = torch.ones(-(-tensor.shape[0] // 8), 1)
    save_file(stored, folder / "model.safetensors")
    return folder / "model.safetensors"


def index(folder):
    llama(folder)
    table = {}
    for number, (name, tensor) in enumerate(tensors().items()):
        file = f"model-{number % 2 + 1:05d}-of-00002.safetensors"
        table[name] = file
        tensors_of_file = {other: each for other, each in tensors().items() if table.get(other) == file}
        save_file(tensors_of_file, folder / file)
        assert tensor is not None
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return folder / "model.safetensors.index.json"


def torch_file(folder):
    llama(folder)
    torch.save({"state_dict": tensors() | {"t": torch.ones(3, 4).t()}, "epoch": 3}, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def old_torch_file(folder):
    llama(folder)
    torch.save(tensors(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    return folder / "pytorch_model.bin"


def gguf_file(folder):
    writer = gguf.GGUFWriter(folder / "x.gguf", "llama")
    for key, value in {"block_count": 1, "embedding_length": 32, "attention.head_count": 4}.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.rope.freq_base", 1e4)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "c"])
    writer.add_array("numbers", [1, 2, 3])
    values = np.random.default_rng(0).normal(size=(16, 32)).astype(np.float32)
    writer.add_tensor("blk.0.attn_q.weight", values)
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("blk.0.ffn_up.weight", gguf.quantize(values, kind), raw_dtype=kind)
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "x.gguf"


SEEDS = (safetensors_file, configuration, quantized_file, index, torch_file, old_torch_file, gguf_file)

# Mutations

NUMBERS = (0, 1, -1, 2, 7, 63, 64, 127, 255, 1 << 15, 1 << 16, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 40, 1 << 62)
NUMBERS = (*NUMBERS, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 10**30)
VALUES = [None, True, 0.5, -0.0, 1e300, "", "x", "../x", "a/b", [], {}, [[]], [1], {"a": {}}, "model", "\x1b]0;x"]
VALUES += ["\ud800", *NUMBERS]
NAMES = (
    "layers.99999999999.x.weight",
    "model.layers.1023.self_attn.q_proj.weight",
    "model.layers.2000000000.self_attn.q_proj.weight",
    "model.layers.0.mlp.experts.99999999999999.up_proj.weight",
    "model.layers.٣.self_attn.q_proj.weight",
    "model." * 3000 + "weight",
    "blocks.0.W_Q",
    "__metadata__",
    "a/rest",
    "\x00\x1b[31m",
)


def of_json(document, rng):
    """A document with one value, key or entry changed, however deep."""
    places = []
    waiting = [document]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list):
            keys = list(each) if isinstance(each, dict) else list(range(len(each)))
            places += [(each, key) for key in keys]
            waiting += [each[key] for key in keys]
    if not places:
        return deepcopy(rng.choice(VALUES))
    container, key = rng.choice(places)
    action = rng.randrange(6)
    if action == 0:
        del container[key]
    elif action == 1 and isinstance(container, dict):
        container[rng.choice(NAMES)] = container.pop(key)
    elif action == 2 and isinstance(container, dict):
        container[f"{key}{rng.choice(('_scale', '.base_layer', '_blocks', '1', '.qweight'))}"] = container[key]
    elif action == 3 and isinstance(container, list):
        container.insert(key, deepcopy(rng.choice(VALUES)))
    elif action == 4:
        other, other_key = rng.choice(places)
        if isinstance(other, list) and isinstance(other_key, int) and other_key >= len(other):
            return document
        container[key] = deepcopy(other.get(other_key) if isinstance(other, dict) else other[other_key])
    else:
        container[key] = deepcopy(rng.choice(VALUES))
    return document


SAME_WIDTH = {
    1: ("U8", "I8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ"),
    2: ("F16", "BF16", "I16", "U16"),
    4: ("F32", "I32", "U32"),
    8: ("F64", "I64", "U64", "C64"),
}
ROLES = ("self_attn.q_proj.weight", "mlp.experts.up_proj", "mlp.experts.gate_up_proj", "qkv_proj.weight", "attn.bias")
SUFFIXES = ("_scale", "_scale_inv", "_zero_point", ".absmax", "_blocks", "_scales", ".SCB", ".base_layer.weight", "")
LAST = (
    "qweight",
    "scales",
    "weight_packed",
    "weight_scale",
    "input_scale",
    "SCB",
    "scale",
    "codebooks",
    "_data",
    "bias",
)


def of_entries(document, rng):
    """A header that stays legal: other names, dtypes of the same width, shapes of as many values; empty tensors."""
    names = [name for name in document if name != "__metadata__"]
    name = rng.choice(names)
    entry = document[name]
    n_bytes = entry["data_offsets"][1] - entry["data_offsets"][0]
    action = rng.randrange(6)
    if action == 0:
        document[rng.choice((*NAMES[:7], *NAMES[8:]))] = document.pop(name)
    elif action == 1:
        module = rng.choice(names).rpartition(".")[0]
        document.setdefault(rng.choice((f"{name}{rng.choice(SUFFIXES)}", f"{module}.{rng.choice(LAST)}")), entry)
        if len(document) > len(names) + ("__metadata__" in document):
            del document[name]
    elif action == 2:
        document[f"model.layers.{rng.choice((0, 1, 1000, 1 << 40))}.{rng.choice(ROLES)}"] = document.pop(name)
    elif action == 3:
        width = rng.choice([width for width in SAME_WIDTH if n_bytes % width == 0])
        entry["dtype"] = rng.choice((*SAME_WIDTH[width], "X9"))
        entry["shape"] = [n_bytes // width]
    elif action == 4 and n_bytes:
        n_values = math.prod(entry["shape"])
        first = rng.choice([divisor for divisor in range(1, n_values + 1) if n_values % divisor == 0])
        entry["shape"] = [first, *[1] * rng.choice((0, 0, 1, 3, 70)), n_values // first]
    else:
        role = rng.choice((name, *ROLES))
        shape = rng.sample((0, rng.choice((1, 3, 1 << 40, 1 << 62)), rng.choice((0, 1, 5))), 3)
        if int(shape[0]) * int(shape[1]) < 1 << 60:
            at = entry["data_offsets"][0]
            document[f"model.layers.1.empty.{role}"] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at]}
    return document


def of_bytes(content, rng, end):
    """Bytes before `end` changed, dropped, doubled; or the file cut short."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(max(1, min(end, len(content))))
        action = rng.randrange(7)
        if action == 0:
            del content[at:]
        elif action == 1:
            del content[at : at + rng.choice((1, 4, 8))]
        elif action == 2:
            content[at:at] = content[at : at + rng.choice((1, 4, 8, 40))]
        elif action == 3:
            form = rng.choice(("<B", "<H", "<I", "<Q"))
            size = struct.calcsize(form)
            content[at : at + size] = struct.pack(form, rng.choice(NUMBERS) % (1 << (8 * size)))
        elif action == 4:
            content[at : at + 1] = bytes([rng.randrange(256)])
        elif content:
            content[at : at + 1] = bytes([(content[at : at + 1] or b"\0")[0] ^ (1 << rng.randrange(8))])
    return bytes(content)


def of_safetensors(content, rng):
    (length,) = struct.unpack_from("<Q", content)
    if rng.random() < 0.3:
        return of_bytes(content, rng, 8 + length)
    document = json.loads(content[8 : 8 + length])
    change = of_json if rng.random() < 0.4 else of_entries
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        document = change(document, rng)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def of_plain_json(content, rng):
    if rng.random() < 0.3:
        return of_bytes(content, rng, len(content))
    document = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        document = of_json(document, rng)
    return json.dumps(document).encode()


def of_archive(content, rng, folder):
    """The pickle in a zip archive changed and the archive written anew, or any bytes of it changed."""
    if rng.random() < 0.4:
        return of_bytes(content, rng, len(content))
    path = folder / "archive"
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records:
            archive.writestr(name, of_pickle(data, rng) if name.endswith("data.pkl") else data)
    content = path.read_bytes()
    path.unlink()
    return content


def of_pickle(content, rng):
    """Bytes changed, or whole instructions: dropped, doubled, moved, and their arguments replaced."""
    if rng.random() < 0.4:
        return of_bytes(content, rng, len(content))
    starts = [place for _, _, place in pickletools.genops(content)] + [len(content)]
    pieces = [content[start:end] for start, end in pairwise(starts)]
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(pieces))
        action = rng.randrange(4)
        if action == 0 and len(pieces) > 1:
            del pieces[at]
        elif action == 1:
            pieces.insert(rng.randrange(len(pieces)), pieces[at])
        elif action == 2:
            pieces[at] = b"\x8a\x08" + struct.pack("<Q", rng.choice(NUMBERS) % (1 << 64))
        else:
            pieces[at] = rng.choice(pieces)
    return b"".join(pieces)


def mutated(seed, content, rng, folder):
    if seed in (safetensors_file, quantized_file):
        return of_safetensors(content, rng)
    if seed in (configuration, index):
        return of_plain_json(content, rng)
    if seed is torch_file:
        return of_archive(content, rng, folder)
    if seed is old_torch_file:
        return of_bytes(content, rng, content.rindex(b".") + 20)
    return of_bytes(content, rng, 700)


# The rule


class TooLongError(BaseException):
    """More time than any header is worth."""


@contextmanager
def bounded():
    """Seconds of processor time, and memory: both end in an exception that the rule does not allow."""

    def stop(*_):
        raise TooLongError

    status = Path("/proc/self/status").read_text()
    used = int(re.search(r"VmData:\s+(\d+)", status)[1]) * 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (used + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def keeps_the_rule(folder, *, whole):
    """None, or what went wrong. With `whole`, all that is made of a run is made."""
    try:
        with bounded():
            run = lmfacts.scan_weights(folder, spectra=16 if whole else 0)
            if whole:
                lmfacts.load(run.save(folder / "w.lmfacts"))
                run.facts()
                to_text(render_weights_summary(run))
    except (LmfactsError, FileNotFoundError) as error:
        # Names are in messages as they are, and may be long.
        return None if 0 < len(str(error)) < 100_000 else f"a message of {len(str(error))} characters"
    except (Exception, TooLongError) as error:  # noqa: BLE001  what the rule forbids
        return f"{type(error).__name__}: {error}"
    return None


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded by RLIMIT_DATA, as Linux counts it")


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.__name__)
def test_a_damaged_header_is_a_run_or_a_sentence(tmp_path, seed):
    folder, kept = tmp_path / "checkpoint", tmp_path / "kept"
    folder.mkdir()
    path = seed(folder)
    content = path.read_bytes()
    assert keeps_the_rule(folder, whole=True) is None  # also loads what is loaded late, before memory is counted
    assert lmfacts.scan_weights(folder, spectra=0)
    rng = random.Random(f"{SEED} {seed.__name__}")
    broken = []
    for number in range(N_CASES):
        path.write_bytes(mutated(seed, content, rng, tmp_path))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            problem = keeps_the_rule(folder, whole=number % 8 == 0)
        if problem is not None:
            kept.mkdir(exist_ok=True)
            (kept / str(number)).mkdir()
            shutil.copytree(folder, kept / str(number), dirs_exist_ok=True)
            broken.append(f"{number}: {problem[:300]}")
    assert not broken, f"inputs kept in {kept}: " + "; ".join(broken[:10])


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()) if CORPUS.is_dir() else [], ids=lambda path: path.name)
def test_what_once_broke_the_rule(tmp_path, path):
    """Each file of the corpus, under its own suffix, with a configuration beside it."""
    if path.is_dir():
        shutil.copytree(path, tmp_path, dirs_exist_ok=True)
        asked = tmp_path
    else:
        llama(tmp_path)
        asked = tmp_path / path.name
        asked.write_bytes(path.read_bytes())
    assert keeps_the_rule(asked, whole=True) is None
