"""The text around the largest values: the right tokens, and no more places than there are outliers."""

from __future__ import annotations

import torch

import lmfacts
from lmfacts.demo import MODEL_DIR


def scanned(batch_sizes, k=4):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    ids = torch.randint(32, 127, (12, 60), generator=torch.Generator().manual_seed(0))
    with lmfacts.attach(model, sites="resid", k=k, tokenizer=tokenizer) as recorder, torch.no_grad():
        start = 0
        for size in batch_sizes:
            model(input_ids=ids[start : start + size])
            start += size
        return recorder.run(), ids, tokenizer


def test_contexts_are_those_of_the_text():
    run, ids, tokenizer = scanned([12])
    contexts = run.metadata["token_context"]
    places = {
        (int(o["sequence"]), int(o["position"]))
        for site in run
        for population in (run[site].first, run[site].rest)
        for o in population.outliers
    }
    assert {tuple(int(part) for part in key.split(":")) for key in contexts} == places
    for key, found in contexts.items():
        sequence, position = (int(part) for part in key.split(":"))
        row = ids[sequence].tolist()
        assert found["token"] == tokenizer.decode([row[position]])
        assert found["before"] == tokenizer.decode(row[max(0, position - 24) : position])
        assert found["after"] == tokenizer.decode(row[position + 1 : position + 9])


def test_batches_change_no_context():
    # The model's own last bits may depend on the batch; the largest few values of a trained model do not.
    one, many = (scanned(sizes, k=2)[0].metadata["token_context"] for sizes in ([12], [3, 1, 8]))
    assert one == many


def test_without_a_tokenizer_there_are_none():
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR)
    with lmfacts.attach(model, sites="resid") as recorder, torch.no_grad():
        model(input_ids=torch.arange(20)[None])
    assert recorder.run().metadata["token_context"] == {}
