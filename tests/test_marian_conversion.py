"""Companion C's conversion: a Marian's weights in our layers give a Marian's logits."""

import ast

import pytest
import torch
import torch.nn.functional as F
from helpers import defined_in

from benchmarks import modern
from transformer import FeedForward, Transformer
from transformer.notebook import read_results


@pytest.fixture(scope="module")
def convert():
    """`into_our_layers`, as the chapter defines it."""
    names = {
        "torch": torch,
        "F": F,
        "Transformer": Transformer,
        "FeedForward": FeedForward,
        "exchange": modern.exchange,
        "Activated": modern.Activated,
    }
    statements = defined_in("companion_c_anatomy", "OUR_NAMES", "into_our_layers")
    exec(compile(ast.Module(statements, []), "chapter", "exec"), names)
    return names["into_our_layers"]


@pytest.fixture(scope="module")
def marian_module():
    pytest.importorskip("transformers")
    from benchmarks import marian

    return marian


def stored_marian():
    stored = read_results("marian")
    weights = {
        name: torch.tensor(numbers).double() / 1_000
        for name, numbers in stored["weights_in_thousandths"].items()
    }
    logits = torch.tensor(stored["logits_in_millionths"]).double() / 1e6
    return stored, weights, logits


def logits_of_ours(model, sizes, source, target_in):
    vocab = sizes["vocab_size"]
    target_in = torch.as_tensor(target_in).clone()
    target_in[:, 0] = vocab
    with torch.no_grad():
        return model(torch.as_tensor(source), target_in)[..., :vocab]


def test_the_stored_logits_are_those_of_our_layers(convert):
    stored, weights, expected = stored_marian()
    model = convert(weights, stored["sizes"])
    logits = logits_of_ours(
        model, stored["sizes"], stored["source"], stored["target_in"]
    )
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("left_out", ["order", "activation", "start"])
def test_each_of_the_three_differences_matters(convert, left_out):
    stored, weights, expected = stored_marian()
    model = convert(weights, stored["sizes"])
    source, target_in = (torch.tensor(stored[key]) for key in ("source", "target_in"))
    vocab = stored["sizes"]["vocab_size"]
    if left_out == "order":
        # The positions of a stream that was not reordered.
        table = model.position_encoding.table
        model.position_encoding = modern.LearnedPositions(
            table[:, torch.arange(8).view(-1, 2).T.flatten()]
        )
    elif left_out == "activation":
        modern.exchange(
            model, modern.Activated, lambda old: modern.Activated(old, F.relu)
        )
    if left_out != "start":
        target_in[:, 0] = vocab
    with torch.no_grad():
        logits = model(source, target_in)[..., :vocab]
    assert (logits - expected).abs().max() > 0.01


@pytest.mark.parametrize("seed", [1, 2])
def test_fresh_weights_of_the_library_give_the_same_logits(
    convert, marian_module, seed
):
    theirs = marian_module.build_marian(seed)
    sizes = marian_module.SIZES | {"pad_token_id": marian_module.PAD}
    source = torch.tensor(marian_module.SOURCE)
    target_in = torch.tensor(marian_module.TARGET)
    model = convert(marian_module.weights_of(theirs), sizes)
    torch.testing.assert_close(
        logits_of_ours(model, sizes, source, target_in),
        marian_module.marian_logits(theirs, source, target_in),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize("seed", [0, 3])
def test_both_write_the_same(convert, marian_module, seed):
    theirs = marian_module.build_marian(seed)
    sizes = marian_module.SIZES | {"pad_token_id": marian_module.PAD}
    model = convert(marian_module.weights_of(theirs), sizes)
    with torch.no_grad():
        # PAD is written by neither.
        theirs.final_logits_bias[0, marian_module.PAD] = -1e4
        model.output_projection.bias[marian_module.PAD] = -1e4
    source = torch.tensor(marian_module.SOURCE)
    written = theirs.generate(
        input_ids=source,
        attention_mask=(source != marian_module.PAD).long(),
        max_new_tokens=9,
        do_sample=False,
        num_beams=1,
    )
    start = sizes["vocab_size"]
    ours = model.greedy_decode(source, 10, start, marian_module.END)
    assert torch.equal(ours[:, 1:], written[:, 1:])


def test_the_stored_file_is_what_the_library_gives_today(marian_module):
    stored, weights, _ = stored_marian()
    theirs = marian_module.weights_of(marian_module.build_marian(seed=0))
    assert weights.keys() == theirs.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-9)
    assert stored["source"] == marian_module.SOURCE
