"""Run files that are changed at random: what reads them works, or says what is wrong, and never ends in a traceback.

`LMFACTS_FUZZ_CASES` is how many cases there are, and `LMFACTS_FUZZ_SEED` where they begin (`make fuzz`). A case that
went wrong once is a line of `corpus/run_files.jsonl`, and is tried every time.
"""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import lmfacts.cli  # noqa: F401  loads the module below, which the command hides
from lmfacts.comparison import compare
from lmfacts.errors import LmfactsError
from lmfacts.export import export_run
from lmfacts.facts import Inputs, check
from lmfacts.render import kinds
from lmfacts.render.page.build import build_page
from lmfacts.render.page.output import write_page
from lmfacts.render.terminal.comparison_view import render_comparison
from lmfacts.render.terminal.facts_table import render_facts
from lmfacts.run import load
from lmfacts.run.file import METADATA_KEY
from support.accumulated_runs import accumulated_run
from support.synthetic_weights import weights_run

N_CASES = int(os.environ.get("LMFACTS_FUZZ_CASES", "60"))
SEED = int(os.environ.get("LMFACTS_FUZZ_SEED", "0"))
CASES_A_TEST = 20
CASES_A_PAGE = 40  # drawing one takes as long as all else of ten cases

KEPT = [json.loads(line) for line in (Path(__file__).parent / "corpus" / "run_files.jsonl").read_text().splitlines()]


VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    7,
    2**31,
    2**63 - 1,
    2**63,
    -(2**63),
    10**30,
    0.5,
    -0.0,
    1e308,
    5e-324,
    1.7,
    "",
]
VALUES += [
    "x",
    "blocks.0.W_Q",
    "float32",
    "bfloat16",
    "rmsnorm",
    "weights",
    "activations",
    "\ud800",
    "\0\x1b[31m",
    "a/../b",
]
VALUES += [
    "\u202e",
    "x" * 5000,
    [],
    {},
    [0],
    [""],
    [[]],
    {"": None},
    {"a": {"b": []}},
    [1, "1", None],
    "1",
    "0:0",
    "NaN",
]
CODES = ["BOOL", "U8", "I8", "U16", "I16", "U32", "I64", "U64", "F16", "F32", "F64", "BF16", "F8_E4M3", "C64", "X7"]


def bases():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4, 512, 16))
    values[1:, :, 3] *= 30
    run = accumulated_run(
        lambda layer, sequence, position: values[layer + 1] * (1 + 50 * (position[:, None] == 0)),
        n_layers=3,
        n_sequences=16,
        n_positions=32,
        model={"norm_kind": "rmsnorm", "n_dims": 16, "family": "llama", "n_parameters": 1000, "revision": None},
    )
    run.metadata.update(
        {
            "coverage": {"embed": {"n_calls": 2, "n_tokens": 512, "n_copies": 0}},
            "absent": {"blocks.0.ln1_out": "the block has none"},
            "notes": ["A note."],
            "token_context": {"0:0": {"before": "", "token": "<s>", "after": " the"}},
            "settings": {"k": 64, "threshold": 6.0, "seq_len": 32, "batch_size": 8, "pack": True, "sites": "resid"},
            "corpus": {"kind": "files", "files": [{"path": "a.txt", "n_bytes": 5000}], "n_bytes": 5000, "packed": True},
            "timing": {"wall_s": 2.0, "model_s": 1.5, "lmfacts_s": 0.1},
            "state_bytes": 10_000,
        }
    )
    return {"activations": run, "weights": weights_run(2)}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """The runs, and the bytes of their files."""
    folder = tmp_path_factory.mktemp("originals")
    return {kind: (run, run.save(folder / f"{kind}.lmfacts").read_bytes()) for kind, run in bases().items()}


# Changes. A change is a JSON object, so that a case can be kept; `changed` applies several to a file.


def changed(content, changes):
    """The bytes of a file after some changes of its document, arrays, header and bytes, in this order."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    document = json.loads(header["__metadata__"][METADATA_KEY])
    for change in changes:
        if change["in"] == "document":
            document = replaced(document, change["at"], change)
    header["__metadata__"][METADATA_KEY] = json.dumps(document)
    for change in changes:
        if change["in"] == "array" and change["at"] in header:
            begin, end = header[change["at"]]["data_offsets"]
            pattern = base64.b64decode(change["bytes"])
            data = data[:begin] + (pattern * ((end - begin) // len(pattern) + 1))[: end - begin] + data[end:]
    for change in changes:
        if change["in"] == "header":
            header = replaced(header, change["at"], change)
    text = json.dumps(header).encode()
    result = bytearray(struct.pack("<Q", len(text)) + text + data)
    for change in changes:
        if change["in"] == "bytes":
            at = int(change["at"] * len(result))
            result[at : at + change["remove"]] = base64.b64decode(change["insert"])
    return bytes(result)


def replaced(value, path, change):
    """A JSON value in which the part under a path was set, removed, or doubled."""
    if not path:
        return change.get("set")
    key, rest = path[0], path[1:]
    if isinstance(value, dict):
        if key not in value and "set" not in change:
            return value
        if not rest and "set" not in change:
            return {name: inner for name, inner in value.items() if name != key}
        return {**value, key: replaced(value.get(key), rest, change)}
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        if not rest and "set" not in change:
            return [*value[:key], *value[key + 1 :], *([value[key]] * 2 if change.get("double") else [])]
        return [*value[:key], replaced(value[key], rest, change), *value[key + 1 :]]
    return value


def paths(value, path=()):
    """The path of every part of a JSON value."""
    if path:
        yield list(path)
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(inner, (*path, key))


def random_changes(rng, content):
    """One change or a few of a file."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    document = json.loads(header["__metadata__"][METADATA_KEY])
    arrays = [name for name in header if name != "__metadata__"]
    changes = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        kind = rng.choice(["document", "document", "document", "header", "array", "array", "bytes"])
        change = {"in": str(kind)}
        if kind in ("document", "header"):
            # Keys of the document as often as those of its many sites.
            known = list(paths(document if kind == "document" else {name: header[name] for name in arrays}))
            depth = rng.integers(1, 1 + max(map(len, known)))
            known = [path for path in known if len(path) <= depth] or known
            change["at"] = known[rng.integers(len(known))]
            act = rng.random()
            if act < 0.8:
                change["set"] = VALUES[rng.integers(len(VALUES))]
                if kind == "header" and change["at"][-1] == "dtype":
                    change["set"] = CODES[rng.integers(len(CODES))]
            elif act > 0.95:
                change["double"] = True
        elif kind == "array":
            change["at"] = arrays[rng.integers(len(arrays))]
            patterns = [bytes(8), b"\xff" * 8, struct.pack("<d", np.inf), struct.pack("<d", -1e300), rng.bytes(64)]
            patterns += [struct.pack("<q", n) for n in (1, -1, 2**62, 7)] + [struct.pack("<d", 0.5), rng.bytes(4096)]
            change["bytes"] = base64.b64encode(patterns[rng.integers(len(patterns))]).decode()
        else:
            change["at"] = float(rng.random() * (rng.choice([1.0, length / len(content)])))
            change["remove"] = int(rng.choice([0, 1, 1, 8, 1 << 30]))
            change["insert"] = base64.b64encode(rng.bytes(rng.choice([0, 1, 1, 8]))).decode()
        changes.append(change)
    return changes


# What is done with a file


def use(path, original, *, page):
    """Everything that the commands do with a run file, but for drawing where that is not asked for."""
    console = Console(file=io.StringIO(), width=100)
    run = load(path)
    console.print(kinds.render_run(run))
    kinds.run_json(run)
    names = list(run)
    for name in {*names[:1], *names[len(names) // 2 :][:1], *names[-1:]}:
        console.print(kinds.render_record(run, name))
        kinds.record_json(run, name)
    inputs = Inputs.of([run])
    found = check(inputs)
    console.print(render_facts(inputs, found, []))
    json.dumps([fact.to_json() for fact in found], allow_nan=False)
    with suppress(LmfactsError):
        console.print(render_comparison(compare(run, original), 20))
    for table in ("statistics", "outliers", "codes"):
        export_run(run, path.with_suffix(".json"), table=table, sites=names[:2] or None)
    if page:
        write_page(build_page(inputs, found), path.with_suffix(".md"))
    run.save(path)


def attempt(case, originals, folder, *, page):
    """Use a changed file; True if that worked, False if it was refused."""
    original, content = originals[case["run"]]
    path = folder / "changed.lmfacts"
    path.write_bytes(changed(content, case["changes"]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nonsense values may overflow
            use(path, original, page=page)
    except LmfactsError as error:
        assert str(error)  # noqa: PT017  working is right too
        return False
    except Exception as error:
        error.add_note(f"The case: {json.dumps(case)}")
        raise
    return True


def test_the_runs_themselves_work(originals, tmp_path):
    for kind in originals:
        assert attempt({"run": kind, "changes": []}, originals, tmp_path, page=True)


@pytest.mark.parametrize("case", KEPT, ids=lambda case: case["why"])
def test_what_went_wrong_once(case, originals, tmp_path):
    attempt(case, originals, tmp_path, page=case.get("page", False))


@pytest.mark.parametrize("start", range(SEED, SEED + N_CASES, CASES_A_TEST))
def test_changes_at_random(start, originals, tmp_path):
    worked = []
    for number in range(start, start + CASES_A_TEST):
        rng = np.random.default_rng(number)
        kind = ("activations", "weights")[number % 2]
        case = {"run": kind, "changes": random_changes(rng, originals[kind][1])}
        worked.append(attempt(case, originals, tmp_path, page=number % CASES_A_PAGE == CASES_A_PAGE - 1))
    assert not all(worked)
