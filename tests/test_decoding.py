import math
from types import SimpleNamespace

import pytest
import torch
from helpers import (
    SRC_VOCAB,
    TableModel,
    decisive_model,
    random_tokens,
    small_batch,
    table_of_chains,
)

from transformer import END, PAD, START
from transformer.beam_search import beam_search
from transformer.decoding import decode, decode_uncached, likeliest, without_token
from transformer.observation import record_attention
from transformer.sampling import Sampler

BOTH_LOOPS = pytest.mark.parametrize("loop", [decode, decode_uncached])
NORMS = pytest.mark.parametrize("norm_first", [False, True])


def chains():
    """Source 0 makes the target 5, 6, END; source 1 END at once; source 2 never ends."""
    return TableModel(
        table_of_chains(
            [START, 5, 6, END], [START, END], [START, 3, 4, 7, 3], [START, PAD]
        )
    )


@BOTH_LOOPS
def test_rows_begin_with_start_and_are_filled_with_pad_after_end(loop):
    tokens = loop(chains(), torch.tensor([[0], [1], [2]]), 6, START, END)
    assert tokens.tolist() == [
        [START, 5, 6, END, PAD, PAD],
        [START, END, PAD, PAD, PAD, PAD],
        [START, 3, 4, 7, 3, 4],
    ]


@BOTH_LOOPS
def test_decoding_stops_as_soon_as_every_row_has_ended(loop):
    tokens = loop(chains(), torch.tensor([[1], [0]]), 20, START, END)
    assert tokens.tolist() == [[START, END, PAD, PAD], [START, 5, 6, END]]


@BOTH_LOOPS
@pytest.mark.parametrize("max_len", [1, 2, 3, 4, 5])
def test_max_len_counts_start_and_end(loop, max_len):
    tokens = loop(chains(), torch.tensor([[0]]), max_len, START, END)
    assert tokens.tolist() == [[START, 5, 6, END][:max_len]]


@BOTH_LOOPS
def test_the_tokens_named_start_and_end_are_used(loop):
    tokens = loop(chains(), torch.tensor([[2]]), 20, 3, 7)
    assert tokens.tolist() == [[3, 4, 7]]


@BOTH_LOOPS
def test_end_may_be_the_token_that_starts(loop):
    model = TableModel(table_of_chains([START, 5, START]))
    assert loop(model, torch.tensor([[0]]), 9, START, START).tolist() == [
        [START, 5, START]
    ]


@BOTH_LOOPS
def test_pad_is_never_chosen_however_likely(loop):
    # After START, source 3 gives PAD nearly all probability, and crumbs to all others.
    tokens = loop(chains(), torch.tensor([[3]]), 5, START, END)
    assert (tokens != PAD).all()


@BOTH_LOOPS
@pytest.mark.parametrize("choose", [likeliest, Sampler(), Sampler(0.7, top_k=3)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_prediction_that_is_no_number_is_an_error_that_says_where(
    loop, choose, value
):
    model = chains()
    model.table[0, 6, 7] = value
    message = rf"^at position 3 of row 1 the largest logit is {value}, so no token"
    with pytest.raises(FloatingPointError, match=message):
        loop(model, torch.tensor([[1], [0]]), 9, START, END, choose)


@BOTH_LOOPS
def test_a_prediction_that_rules_out_every_token_is_an_error(loop):
    model = chains()
    model.table[0, START] = 0.0
    model.table[0, START, PAD] = 1.0
    with pytest.raises(
        FloatingPointError, match=r"^at position 1 of row 0 the largest logit is -inf"
    ):
        loop(model, torch.tensor([[0]]), 9, START, END)


@BOTH_LOOPS
@pytest.mark.parametrize("choose", [likeliest, Sampler()])
def test_what_is_predicted_for_a_row_that_has_ended_does_not_matter(loop, choose):
    model = chains()
    model.table[1, PAD] = math.nan
    tokens = loop(model, torch.tensor([[1], [0]]), 9, START, END, choose)
    assert tokens.tolist() == [[START, END, PAD, PAD], [START, 5, 6, END]]


@BOTH_LOOPS
def test_weights_of_nan_are_an_error(loop):
    model, (src, _) = decisive_model(), small_batch()
    with torch.no_grad():
        model.decoder.layers[1].feed_forward.expand.weight[3, 2] = math.nan
    with pytest.raises(
        FloatingPointError, match=r"^at position 1 of row 0 the largest"
    ):
        loop(model, src, 9, START, END)


@BOTH_LOOPS
def test_a_vocabulary_of_pad_alone_is_refused(loop):
    model = TableModel(torch.ones(1, 1, 1))
    with pytest.raises(ValueError, match=r"^start_token_id \(0\) must differ from pad"):
        loop(model, torch.tensor([[0]]), 9, PAD, PAD)


@BOTH_LOOPS
def test_a_choice_other_than_the_likeliest_is_respected(loop):
    tokens = loop(
        chains(),
        torch.tensor([[0], [1]]),
        4,
        START,
        END,
        lambda logits: logits.argmin(dim=-1) + 4,
    )
    # The least likely token is PAD, whose logit is -inf: PAD + 4 = 4 at every step.
    assert tokens.tolist() == [[START, 4, 4, 4], [START, 4, 4, 4]]


def test_decoding_can_go_on_up_to_the_models_max_len():
    model = decisive_model(max_len=9)
    src = random_tokens(SRC_VOCAB, 2, 9)
    with torch.no_grad():
        model.output_projection.bias[END] = -100
    tokens = model.greedy_decode(src, 9, START, END)
    assert tokens.shape == (2, 9)
    assert torch.equal(tokens, decode_uncached(model, src, 9, START, END))


@NORMS
@pytest.mark.parametrize("pad_token_id", [PAD, 6])
def test_cached_greedy_equals_uncached_greedy(norm_first, pad_token_id):
    model = decisive_model(norm_first=norm_first, pad_token_id=pad_token_id)
    src, _ = small_batch()
    expected = decode_uncached(model, src, 23, START, END)
    assert torch.equal(decode(model, src, 23, START, END), expected)
    # Some token that is written early serves as END, so that rows end at unequal times.
    end = expected[0, 3].item()
    assert torch.equal(
        decode(model, src, 23, START, end), decode_uncached(model, src, 23, START, end)
    )


@NORMS
@pytest.mark.parametrize("pad_token_id", [PAD, 6])
def test_cached_sampling_equals_uncached_sampling_from_the_same_seed(
    norm_first, pad_token_id
):
    model = decisive_model(norm_first=norm_first, pad_token_id=pad_token_id)
    src, _ = small_batch()
    for seed in range(2):
        cached, uncached = (
            loop(
                model,
                src,
                13,
                START,
                END,
                Sampler(
                    1.3,
                    top_k=7,
                    top_p=0.95,
                    generator=torch.Generator().manual_seed(seed),
                ),
            )
            for loop in (decode, decode_uncached)
        )
        assert torch.equal(cached, uncached)


def test_greedy_tokens_are_the_likeliest_under_teacher_forcing():
    model = decisive_model()
    src, _ = small_batch()
    tokens = model.greedy_decode(src, 11, START, END)
    logits = without_token(model(src, tokens[:, :-1]), PAD)
    written = tokens[:, 1:] != PAD
    assert torch.equal(logits.argmax(dim=-1)[written], tokens[:, 1:][written])


@NORMS
def test_each_row_decodes_as_it_does_alone(norm_first):
    model = decisive_model(norm_first=norm_first)
    src, _ = small_batch()
    together = model.greedy_decode(src, 11, START, END)
    for row in range(len(src)):
        alone = model.greedy_decode(src[row : row + 1], 11, START, END)[0]
        assert torch.equal(together[row, : len(alone)], alone)
        assert (together[row, len(alone) :] == PAD).all()


def test_more_source_padding_cannot_change_what_is_decoded():
    model = decisive_model()
    src, _ = small_batch()
    padded = torch.cat([src, src.new_full((3, 4), PAD)], dim=1)
    assert torch.equal(
        model.greedy_decode(padded, 11, START, END),
        model.greedy_decode(src, 11, START, END),
    )


@BOTH_LOOPS
def test_decoding_in_training_mode_ignores_dropout_and_restores_the_mode(loop):
    model = decisive_model(dropout=0.5)
    src, _ = small_batch()
    expected = loop(model, src, 11, START, END)
    model.train()
    model.decoder.eval()
    before = [module.training for module in model.modules()]
    for _ in range(3):
        assert torch.equal(loop(model, src, 11, START, END), expected)
    assert [module.training for module in model.modules()] == before


def test_decoding_restores_training_mode_after_an_error():
    model = decisive_model().train()

    def fail(_logits):
        raise KeyError

    with pytest.raises(KeyError):
        decode(model, small_batch()[0], 11, START, END, fail)
    assert all(module.training for module in model.modules())


@BOTH_LOOPS
def test_decoding_records_no_gradients(loop):
    model = decisive_model()
    seen = []

    def choose(logits):
        seen.append(logits.requires_grad)
        return likeliest(logits)

    loop(model, small_batch()[0], 5, START, END, choose)
    assert seen
    assert not any(seen)


@BOTH_LOOPS
def test_what_hooks_keep_while_decoding_can_be_trained_on_and_changed(loop):
    model, (src, _) = decisive_model(), small_batch()
    kept = []
    model.encoder.register_forward_hook(
        lambda _module, _inputs, memory: kept.append(memory)
    )
    with record_attention(model) as maps:
        loop(model, src, 7, START, END)
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    for tensor in (*kept, *maps.values()):
        assert not tensor.is_inference()
        # PyTorch would refuse both with a tensor of inference mode.
        (tensor * factor).sum().backward()
        tensor.zero_()
    assert factor.grad != 0


class Counting:
    """Writes 3, 4, 5, …; has what decoding needs, and is no module."""

    config = SimpleNamespace(src_vocab_size=2, tgt_vocab_size=9)
    max_len, pad_token_id = 9, PAD

    def modules(self):
        return iter(())

    def start_cache(self, _src, capacity):
        assert capacity == 6
        return SimpleNamespace(select=lambda _rows: None)

    def next_logits(self, tokens, _cache):
        return torch.eye(9)[tokens.clamp(min=2, max=7) + 1] * 99

    def __call__(self, _src, tgt_in):
        return self.next_logits(tgt_in, None)


def test_decoding_needs_nothing_of_a_model_but_the_interface():
    arguments = Counting(), torch.tensor([[0], [1]]), 6, START, 6
    expected = [[START, 3, 4, 5, 6]] * 2
    assert decode(*arguments).tolist() == expected
    assert decode_uncached(*arguments).tolist() == expected
    assert beam_search(*arguments, beam_size=2).tokens.tolist() == expected


@BOTH_LOOPS
def test_what_was_decoded_can_be_trained_on(loop):
    model, (src, _) = decisive_model(), small_batch()
    tokens = loop(model, src, 7, START, END)
    assert not tokens.is_inference()
    # PyTorch would refuse to record a gradient through a tensor of inference mode.
    model(src, tokens).sum().backward()
    assert (model.tgt_embedding.weight.grad[tokens.unique()] != 0).any()


def test_greedy_decoding_leaves_the_random_state_alone():
    model, (src, _) = decisive_model(), small_batch()
    before = torch.get_rng_state()
    model.greedy_decode(src, 11, START, END)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_decoder_reads_one_token_a_step_and_the_encoder_runs_once():
    model = decisive_model()
    lengths, encodings = [], []
    model.decoder.layers[0].self_attention.register_forward_pre_hook(
        lambda _module, inputs: lengths.append(inputs[0].size(1))
    )
    model.encoder.register_forward_pre_hook(
        lambda _module, _inputs: encodings.append(1)
    )
    tokens = model.greedy_decode(small_batch()[0], 11, START, END)
    assert lengths == [1] * (tokens.size(1) - 1)
    assert encodings == [1]


def test_likeliest_takes_the_largest_logit_of_each_row():
    assert likeliest(torch.tensor([[1.0, 3, 2], [0, -1, -2]])).tolist() == [1, 0]


def test_without_token_rules_out_one_token_and_changes_no_other():
    logits = torch.tensor([[[1.0, 3, 2]], [[0, -1, -2]]])
    inf = float("inf")
    assert without_token(logits, 1).tolist() == [[[1, -inf, 2]], [[0, -inf, -2]]]
    assert logits.isfinite().all()


def test_ids_of_an_int32_source_decode_to_int64():
    model, (src, _) = decisive_model(), small_batch()
    tokens = model.greedy_decode(src.int(), 11, START, END)
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens, model.greedy_decode(src, 11, START, END))
