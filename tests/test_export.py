import re
import sys

import pytest
import torch
from helpers import (
    SRC_VOCAB,
    TGT_VOCAB,
    assert_same_weights,
    lively_model,
    small_model,
    snapshot,
)
from torch import nn

from transformer import END, PAD, START, AdditionTask, CopyTask, Transformer, train
from transformer.decoding import without_token
from transformer.export import decode_with_ctranslate2, export_to_ctranslate2
from transformer.feed_forward import FeedForward

NORMS = pytest.mark.parametrize("norm_first", [False, True])
FINAL_NORMS = pytest.mark.parametrize("final_norm", [False, True])
needs_ctranslate2 = pytest.mark.usefixtures("ctranslate2")


@pytest.fixture(scope="module")
def ctranslate2():
    return pytest.importorskip("ctranslate2")


@pytest.fixture
def exported(ctranslate2, tmp_path):
    """A function that exports a model and opens what was written."""

    def export(model, *token_ids):
        export_to_ctranslate2(model, tmp_path / "exported", *token_ids)
        return ctranslate2.Translator(str(tmp_path / "exported"), intra_threads=1)

    return export


def sources(rows=60, special=(PAD, START, END)):
    """Sources of lengths 1 to 7 with every token but the special ones, filled with PAD.

    CTranslate2 takes a source such as `END 7` for an empty one.
    """
    ordinary = torch.tensor([t for t in range(SRC_VOCAB) if t not in special])
    src = ordinary[torch.randint(len(ordinary), (rows, 7))]
    for row in range(rows):
        src[row, 1 + row % 7 :] = special[0]
    return src


def clear(model, src, start=START, end=END):
    """Those of the sources for which no two tokens are about equally likely at any step.

    CTranslate2 rounds differently: it could take the second of two.
    """
    tokens = model.greedy_decode(src, model.max_len, start, end)
    with torch.no_grad():
        logits = without_token(model(src, tokens[:, :-1]), model.pad_token_id)
    best, second = logits.topk(2).values.unbind(-1)
    written = tokens[:, 1:] != model.pad_token_id
    is_clear = ((best - second > 1e-3) | ~written).all(dim=1)
    assert is_clear.float().mean() > 0.8
    return src[is_clear]


@NORMS
@FINAL_NORMS
@pytest.mark.parametrize("pad_token_id", [PAD, 6])
def test_greedy_tokens_are_those_of_the_model(
    exported, norm_first, final_norm, pad_token_id
):
    model = lively_model(
        norm_first=norm_first, final_norm=final_norm, pad_token_id=pad_token_id
    )
    translator = exported(model)
    src = clear(model, sources(special=(pad_token_id, START, END)))
    for max_len in (2, 3, 11, 23):
        expected = model.greedy_decode(src, max_len, START, END)
        tokens = decode_with_ctranslate2(
            translator, src, max_len, pad_token_id=pad_token_id
        )
        assert torch.equal(tokens, expected)
    assert len(expected.unique(dim=0)) > 9


@pytest.mark.parametrize(("start", "end"), [(5, 3), (0, 12), (9, 9)])
def test_other_tokens_may_start_and_end_a_target(exported, start, end):
    model = lively_model(pad_token_id=4)
    with torch.no_grad():
        model.output_projection.bias[end] += 1
    translator = exported(model, start, end)
    src = clear(model, sources(special=(4, start, end)), start, end)
    expected = model.greedy_decode(src, 23, start, end)
    tokens = decode_with_ctranslate2(translator, src, 23, start, pad_token_id=4)
    assert torch.equal(tokens, expected)
    lengths = (expected != 4).sum(dim=1)
    assert len(lengths.unique()) > 2


@pytest.mark.parametrize("layers", [(1, 3), (3, 1)])
def test_encoder_and_decoder_may_be_of_unequal_depth(exported, layers):
    model = lively_model(
        num_encoder_layers=layers[0], num_decoder_layers=layers[1], norm_first=True
    )
    src = clear(model, sources())
    tokens = decode_with_ctranslate2(exported(model), src, 23)
    assert torch.equal(tokens, model.greedy_decode(src, 23, START, END))


def test_width_and_number_of_heads_may_be_odd(exported):
    model = lively_model(d_model=15, num_heads=5)
    src = clear(model, sources())
    tokens = decode_with_ctranslate2(exported(model), src, 23)
    assert torch.equal(tokens, model.greedy_decode(src, 23, START, END))


def test_vocabularies_may_be_the_same(exported):
    # CTranslate2 then writes one file for both.
    torch.manual_seed(3)
    model = Transformer(11, 11, 14, 2, 1, 1, 19, max_len=23).double().eval()
    with torch.no_grad():
        model.tgt_embedding.weight.mul_(5)
    src = clear(model, sources())
    tokens = decode_with_ctranslate2(exported(model), src, 23)
    assert torch.equal(tokens, model.greedy_decode(src, 23, START, END))


@pytest.fixture(scope="module")
def copying():
    """A model that has learned to copy, and sources it has not seen."""
    task = CopyTask(vocab_size=15)
    model = trained(15, task.batches(32, torch.Generator().manual_seed(0)))
    return model, task.sample(300, torch.Generator().manual_seed(1)).src


@pytest.fixture(scope="module")
def adding():
    """A model that has learned to add, and all sums of two digits."""
    task = AdditionTask(num_digits=1)
    pairs = task.all_pairs()
    batches = task.batches(pairs, 25, torch.Generator().manual_seed(0))
    return trained(task.vocab_size, batches), task.make_batch(pairs).src


def trained(vocab_size, batches):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Transformer(
            vocab_size, vocab_size, 32, 2, 1, 1, 64, max_len=12, dropout=0.0
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        history = train(model, batches, optimizer, 200, progress=False)
    assert history.loss[-1] < history.loss[0] / 4
    return model


@pytest.mark.trains
@pytest.mark.parametrize("task", ["copying", "adding"])
def test_a_trained_model_writes_the_same_tokens(exported, request, task):
    model, src = request.getfixturevalue(task)
    translator = exported(model)
    for max_len in (2, 5, 12):
        tokens = decode_with_ctranslate2(translator, src, max_len)
        assert torch.equal(tokens, model.greedy_decode(src, max_len, START, END))
    assert len(tokens.unique(dim=0)) > 9


def test_end_may_come_first_and_pad_never_comes(exported):
    model = lively_model()
    with torch.no_grad():
        model.output_projection.bias[END] = 100
        model.output_projection.bias[PAD] = 200
    tokens = decode_with_ctranslate2(exported(model), sources(5), 9)
    assert tokens.tolist() == [[START, END]] * 5


def test_beam_search_has_the_form_of_greedy_decoding(exported):
    model = lively_model()
    tokens = decode_with_ctranslate2(exported(model), sources(), 9, beam_size=3)
    assert tokens.size(0) == 60
    assert tokens.size(1) <= 9
    assert (tokens[:, 0] == START).all()
    for row in tokens.tolist():
        length = row.index(END) + 1 if END in row else 9
        assert PAD not in row[:length]
        assert set(row[length:]) <= {PAD}


def test_ids_of_an_int32_source_decode_to_int64(exported):
    translator, src = exported(lively_model()), sources()
    tokens = decode_with_ctranslate2(translator, src.int(), 9)
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens, decode_with_ctranslate2(translator, src, 9))


@needs_ctranslate2
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exporting_does_not_change_the_model(tmp_path, dtype):
    model = lively_model().to(dtype).train()
    model.decoder.eval()
    weights, table = snapshot(model), model.position_encoding.table.clone()
    modes = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()
    export_to_ctranslate2(model, tmp_path)
    assert_same_weights(model, weights)
    assert torch.equal(model.position_encoding.table, table)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_model_may_be_trained_further_without_changing_what_was_exported(exported):
    model = lively_model().float()
    translator, src = exported(model), sources()
    before = decode_with_ctranslate2(translator, src, 9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(decode_with_ctranslate2(translator, src, 9), before)


@needs_ctranslate2
def test_a_directory_may_be_new_or_empty_and_its_name_text(tmp_path):
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "empty", str(tmp_path / "one" / "more")):
        export_to_ctranslate2(small_model(), directory)
    files = {path.name for path in (tmp_path / "one" / "more").iterdir()}
    assert "model.bin" in files
    assert files == {path.name for path in (tmp_path / "empty").iterdir()}


@needs_ctranslate2
def test_a_directory_that_holds_something_is_left_as_it_was(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r" is not empty: choose another"):
        export_to_ctranslate2(small_model(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@needs_ctranslate2
def test_a_file_in_place_of_the_directory_is_left_as_it_was(tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(NotADirectoryError, match="model"):
        export_to_ctranslate2(small_model(), tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


@needs_ctranslate2
@pytest.mark.parametrize(
    ("token_ids", "error", "message"),
    [
        ((TGT_VOCAB, END), ValueError, r"^start_token_id \(13\) is outside the voc"),
        ((START, -1), ValueError, r"^end_token_id \(-1\) is outside the vocabulary"),
        ((START, 2.0), TypeError, r"^end_token_id must be an int, got 2\.0 \(float\)$"),
    ],
)
def test_special_tokens_outside_the_vocabulary_are_refused_before_anything_is_written(
    tmp_path, token_ids, error, message
):
    with pytest.raises(error, match=message):
        export_to_ctranslate2(small_model(), tmp_path / "new", *token_ids)
    assert not (tmp_path / "new").exists()


class SmoothFeedForward(FeedForward):
    def forward(self, x):
        return self.contract(nn.functional.gelu(self.expand(x)))


def test_a_model_whose_parts_were_exchanged_is_not_exported(tmp_path):
    model = small_model()
    model.decoder.layers[1].feed_forward = SmoothFeedForward(14, 19).double()
    message = r"^model\.decoder\.layers\.1\.feed_forward must be a .*FeedForward, got "
    with pytest.raises(TypeError, match=message):
        export_to_ctranslate2(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@needs_ctranslate2
@pytest.mark.parametrize(
    "name",
    [
        "encoder.layers.1.feed_forward.expand",
        "decoder.layers.2.self_attention_add_norm.norm",
    ],
)
def test_a_missing_bias_is_named_before_anything_is_written(tmp_path, name):
    model = small_model()
    model.get_submodule(name).bias = None
    with pytest.raises(ValueError, match=rf": {re.escape(name)}\.bias is missing$"):
        export_to_ctranslate2(model, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_model_with_two_epsilons_is_not_exported(tmp_path):
    model = small_model()
    model.encoder.layers[1].feed_forward_add_norm.norm.eps = 1e-3
    with pytest.raises(ValueError, match=r"^layer_norm_eps must be 1e-05, got 0\.001$"):
        export_to_ctranslate2(model, tmp_path / "new")


def test_without_ctranslate2_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.setitem(sys.modules, "ctranslate2.specs", None)
    with pytest.raises(ImportError, match=r"pip install ctranslate2$"):
        export_to_ctranslate2(small_model(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("src", "max_len", "error", "message"),
    [
        (
            [[3, 0, 4]],
            9,
            ValueError,
            r"^every row must hold a token, with PAD \(0\) only",
        ),
        (
            [[0, 3, 4]],
            9,
            ValueError,
            r"^every row must hold a token, with PAD \(0\) only",
        ),
        (
            [[3, 4], [0, 0]],
            9,
            ValueError,
            r"^every row must hold a token, with PAD \(0\)",
        ),
        ([[3, 4]], 1, ValueError, r"^max_len must be at least 2: CTranslate2 writes"),
        ([[3, 4]], 0, ValueError, r"^max_len must be at least 1, got 0$"),
        ([[3, 4]], 9.0, TypeError, r"^max_len must be an int, got 9\.0 \(float\)$"),
    ],
)
def test_what_ctranslate2_cannot_decode_is_refused_before_it_is_asked(
    src, max_len, error, message
):
    with pytest.raises(error, match=message):
        decode_with_ctranslate2(None, torch.tensor(src), max_len)


def test_pad_other_than_zero_is_looked_for_by_its_own_id():
    with pytest.raises(ValueError, match=r"with PAD \(6\) only at its end$"):
        decode_with_ctranslate2(None, torch.tensor([[3, 6, 4]]), 9, pad_token_id=6)


def test_no_source_is_too_long_to_be_read_to_its_end(exported):
    # CTranslate2 by itself stops reading after 1,024 tokens.
    model = lively_model(max_len=1201, num_encoder_layers=1, num_decoder_layers=1)
    src = torch.full((40, 1100), 3)
    src[:, 1024:] = torch.randint(4, SRC_VOCAB, (40, 1))
    src = src[
        (
            model.greedy_decode(src, 12, START, END)
            != model.greedy_decode(src[:, :1024], 12, START, END)
        ).any(dim=1)
    ]
    assert len(src) > 3
    tokens = decode_with_ctranslate2(exported(model), src, 12)
    assert torch.equal(tokens, model.greedy_decode(src, 12, START, END))


@pytest.mark.parametrize("source", [[START], [END, 7], [START, END, 7]])
def test_a_source_that_ctranslate2_takes_for_empty_is_refused(exported, source):
    with pytest.raises(ValueError, match=r"takes the source .* for an empty one"):
        decode_with_ctranslate2(exported(lively_model()), torch.tensor([source]), 9)


@needs_ctranslate2
@pytest.mark.parametrize("token_ids", [(PAD, END), (START, PAD)])
def test_start_and_end_must_not_be_pad(tmp_path, token_ids):
    with pytest.raises(ValueError, match=r"must differ from pad_token_id \(0\)$"):
        export_to_ctranslate2(small_model(), tmp_path / "new", *token_ids)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("src", [torch.tensor([[3.0, 4.0]]), torch.tensor([3, 4])])
def test_a_source_that_is_no_batch_of_ids_is_refused(src):
    with pytest.raises(
        TypeError, match=r"^src must hold integer token ids \[batch, len"
    ):
        decode_with_ctranslate2(None, src, 9)
