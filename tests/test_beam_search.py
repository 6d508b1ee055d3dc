import itertools
import math

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

from transformer import END, PAD, START, Transformer
from transformer.beam_search import beam_search, n_best
from transformer.decoding import without_token

A, B = 3, 4


def two_ways():
    """Greedy goes to A (0.6), whose END has 0.5; B (0.4) ends with 0.9.

    P(START A END) = 0.6 * 0.5 = 0.3, P(START B END) = 0.4 * 0.9 = 0.36,
    P(START A B ...) = 0.6 * 0.5 = 0.3, and P(START A B END) = 0.3 * 0.9 = 0.27.
    """
    table = torch.full((1, 5, 5), 1e-12)
    table[0, START, A], table[0, START, B] = 0.6, 0.4
    table[0, A, END], table[0, A, B] = 0.5, 0.5
    table[0, B, END], table[0, B, A] = 0.9, 0.1
    table[0, END, END] = 1.0
    return TableModel(table)


def search(model, src, max_len, **options):
    return beam_search(model, src, max_len, START, END, **options)


def teacher_forced(model, src, tokens, length_penalty):
    """Score of each row of `tokens`, recomputed from the logits of the whole row."""
    with torch.no_grad():
        log_probs = without_token(model(src, tokens[:, :-1]), PAD).log_softmax(dim=-1)
    following = tokens[:, 1:]
    picked = log_probs.gather(2, following[:, :, None])[:, :, 0]
    written = following != PAD
    return picked.where(written, 0.0).sum(dim=1) / written.sum(dim=1) ** length_penalty


def test_two_beams_find_what_greedy_misses():
    source = torch.tensor([[0]])
    tokens, scores = search(two_ways(), source, 6, beam_size=2, length_penalty=0.0)
    assert tokens.tolist() == [[START, B, END]]
    assert scores.tolist() == pytest.approx([math.log(0.36)])


def test_an_early_end_does_not_stop_a_likelier_prefix():
    table = torch.full((1, 5, 5), 1e-12)
    table[0, START, END], table[0, START, A] = 0.499, 0.5
    table[0, A, END], table[0, A, B] = 0.05, 0.95
    table[0, B, END], table[0, B, A] = 0.05, 0.95
    source = torch.tensor([[0]])
    greedy = search(TableModel(table), source, 8, beam_size=1)
    wide = search(TableModel(table), source, 8, beam_size=2)
    assert (
        greedy.tokens.tolist() == wide.tokens.tolist() == [[START, A, B, A, B, A, B, A]]
    )
    torch.testing.assert_close(greedy.scores, wide.scores)


def one_step_table(after_start, after_a, after_b):
    """Probabilities of A, B and END after START, A and B; nearly nothing for the others."""
    table = torch.full((1, 5, 5), 1e-12)
    for token, probabilities in ((START, after_start), (A, after_a), (B, after_b)):
        table[0, token, torch.tensor([A, B, END])] = torch.tensor(probabilities)
    return TableModel(table)


def test_the_place_of_a_result_is_filled_by_another_prefix():
    # The two likeliest beginnings are A (0.40) and END (0.31). B (0.29) takes END's place:
    # START B END scores log(0.29 * 0.98) / 2 = -0.63. START END scores log 0.31 = -1.17,
    # and what A leads to, such as START A A, log(0.40 * 0.45) / 2 = -0.86.
    model = one_step_table((0.40, 0.29, 0.31), (0.45, 0.45, 0.10), (0.01, 0.01, 0.98))
    tokens, scores = search(model, torch.tensor([[0]]), 3, beam_size=2)
    assert tokens.tolist() == [[START, B, END]]
    assert scores.tolist() == pytest.approx([math.log(0.29 * 0.98) / 2])


def test_an_end_that_is_not_among_the_likeliest_makes_no_result():
    # START END (0.4) is likelier as a whole than START A A (0.6 * 0.5), but END was not the
    # likeliest token, and one beam is greedy.
    model = one_step_table((0.60, 1e-12, 0.40), (0.50, 0.30, 0.20), (1e-12, 1e-12, 1.0))
    source = torch.tensor([[0]])
    tokens, _ = search(model, source, 3, beam_size=1, length_penalty=0.0)
    assert tokens.tolist() == [[START, A, A]]
    tokens, _ = search(model, source, 3, beam_size=2, length_penalty=0.0)
    assert tokens.tolist() == [[START, END]]


def test_poor_results_do_not_stop_a_better_prefix():
    # START END (0.2) and START A END (0.8 * 0.3) have ended after two steps. START A B
    # (0.8 * 0.7) scores better than both, and goes on to START A B END.
    model = one_step_table(
        (0.80, 1e-12, 0.20), (1e-12, 0.70, 0.30), (1e-12, 1e-12, 1.0)
    )
    tokens, scores = search(model, torch.tensor([[0]]), 9, beam_size=2)
    assert tokens.tolist() == [[START, A, B, END]]
    assert scores.tolist() == pytest.approx([math.log(0.56) / 3])


def test_a_row_is_done_when_no_prefix_beats_as_many_results_as_beams():
    # Step 1: START END (log 0.7 = -0.36) ends, START A goes on. Step 2: START A END ends,
    # log(0.27) / 2 = -0.65. START A B, log(0.03) / 2 = -1.75, is worse than the best.
    model = one_step_table((0.30, 1e-12, 0.70), (1e-12, 0.10, 0.90), (0.5, 0.5, 1e-12))
    steps = []
    model.next_logits = lambda *given: (
        steps.append(1) or TableModel.next_logits(model, *given)
    )
    tokens, scores = search(model, torch.tensor([[0]]), 9, beam_size=2)
    assert tokens.tolist() == [[START, END]]
    assert scores.tolist() == pytest.approx([math.log(0.7)])
    assert len(steps) == 2


@pytest.mark.parametrize("beam_size", [1, 2, 7])
def test_a_vocabulary_of_one_token_beside_pad_can_be_searched(beam_size):
    table = torch.tensor([[[0.5, 0.5], [0.1, 0.9]]])
    ends, never = TableModel(table), TableModel(torch.ones(1, 3, 3) / 3)
    source = torch.tensor([[0]])
    result = beam_search(ends, source, 9, START, START, beam_size=beam_size)
    assert result.tokens.tolist() == [[START, START]]
    assert result.scores.tolist() == [0.0]
    result = search(never, source, 4, beam_size=beam_size, length_penalty=0.0)
    assert result.scores.isfinite().all()


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_prediction_that_is_no_number_is_an_error_and_not_an_empty_result(
    value, beam_size
):
    model = TableModel(table_of_chains([START, 5, 6, END], [START, 5, 6, END]))
    model.table[1, START, 7] = value
    message = rf"^at position 1 of row 1 the largest logit is {value}, so no token"
    with pytest.raises(FloatingPointError, match=message):
        search(model, torch.tensor([[0], [1]]), 9, beam_size=beam_size)
    # What is predicted for places of the beam that are empty does not matter.
    model.table[1, START, 7] = 1e-9
    model.table[1, END] = model.table[1, PAD] = value
    tokens, _ = search(model, torch.tensor([[0], [1]]), 9, beam_size=beam_size)
    assert tokens.tolist() == [[START, 5, 6, END]] * 2


class Float32Table(TableModel):
    def next_logits(self, tokens, cache):
        return super().next_logits(tokens, cache).float()


def test_scores_of_16_bit_logits_are_computed_in_32_bits():
    table = two_ways().table.bfloat16()
    model, expected = TableModel(table), Float32Table(table)
    model.table = expected.table = table
    source = torch.tensor([[0]])
    result, wide = (search(each, source, 6, beam_size=2) for each in (model, expected))
    assert result.scores.dtype == torch.float32
    assert torch.equal(result.scores, wide.scores)
    assert torch.equal(result.tokens, wide.tokens)


def test_one_beam_takes_the_likeliest_way():
    tokens, scores = search(
        two_ways(), torch.tensor([[0]]), 3, beam_size=1, length_penalty=0.0
    )
    assert tokens[0, 1].item() == A
    assert scores.tolist() == pytest.approx([math.log(0.3)])


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0, 2.0])
def test_the_score_is_divided_by_the_length_after_start_to_the_penalty(length_penalty):
    model = TableModel(table_of_chains([START, 5, 6, END]))
    model.table = 0.9 * model.table + 0.1 / 8
    # PAD's share of 0.1 / 8 goes to the others.
    each = (0.9 + 0.1 / 8) / (1 - 0.1 / 8)
    tokens, scores = search(model, torch.tensor([[0]]), 9, beam_size=1)
    assert tokens.tolist() == [[START, 5, 6, END]]
    _, scores = search(
        model, torch.tensor([[0]]), 9, beam_size=1, length_penalty=length_penalty
    )
    assert scores.tolist() == pytest.approx(
        [3 * math.log(each) / 3**length_penalty], rel=1e-6
    )


def test_a_length_penalty_favours_longer_results():
    # START END scores log 0.5 = -0.69 with any penalty. START A B scores
    # log 0.5 + log 0.95 = -0.74 without a penalty, and half of that with penalty 1.
    table = torch.full((1, 5, 5), 1e-12)
    table[0, START, END], table[0, START, A] = 0.5, 0.5
    table[0, A, B], table[0, A, END] = 0.95, 0.05
    source = torch.tensor([[0]])
    short = search(TableModel(table), source, 3, beam_size=3, length_penalty=0.0)
    long = search(TableModel(table), source, 3, beam_size=3, length_penalty=1.0)
    assert short.tokens.tolist() == [[START, END]]
    assert long.tokens.tolist() == [[START, A, B]]
    assert long.scores.tolist() == pytest.approx([math.log(0.5 * 0.95) / 2])


def test_rows_end_at_their_own_time_and_are_filled_with_pad():
    model = TableModel(
        table_of_chains([START, 5, 6, END], [START, END], [START, 3, 4, 7, 3])
    )
    tokens, _ = search(model, torch.tensor([[0], [1], [2]]), 6, beam_size=2)
    assert tokens.tolist() == [
        [START, 5, 6, END, PAD, PAD],
        [START, END, PAD, PAD, PAD, PAD],
        [START, 3, 4, 7, 3, 4],
    ]


def test_pad_is_never_part_of_a_hypothesis():
    model = TableModel(table_of_chains([START, PAD]))
    tokens, scores = search(model, torch.tensor([[0]]), 5, beam_size=3)
    ended = (tokens[0] == END).nonzero()
    written = tokens[0, : ended[0] + 1] if len(ended) else tokens[0]
    assert (written != PAD).all()
    assert scores.isfinite().all()


def test_a_max_len_of_one_leaves_start_alone():
    tokens, scores = search(two_ways(), torch.tensor([[0], [0]]), 1, beam_size=3)
    assert tokens.tolist() == [[START], [START]]
    assert scores.tolist() == [0, 0]


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("max_len", [2, 11, 23])
def test_one_beam_equals_greedy(norm_first, max_len):
    model = decisive_model(norm_first=norm_first)
    src, _ = small_batch()
    greedy = model.greedy_decode(src, max_len, START, END)
    for end in (END, greedy[0, -1].item() or END):
        expected = model.greedy_decode(src, max_len, START, end)
        tokens, _ = model.beam_search(src, max_len, START, end, beam_size=1)
        assert torch.equal(tokens, expected)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_scores_equal_those_recomputed_by_teacher_forcing(beam_size, length_penalty):
    model = decisive_model()
    src, _ = small_batch()
    tokens, scores = search(
        model, src, 9, beam_size=beam_size, length_penalty=length_penalty
    )
    torch.testing.assert_close(
        scores, teacher_forced(model, src, tokens, length_penalty)
    )


def every_hypothesis(max_len, words):
    """All rows that end before `max_len`, and all that are cut there."""
    for length in range(max_len):
        for middle in itertools.product(words, repeat=length):
            if length < max_len - 1:
                yield [START, *middle, END]
            else:
                yield [START, *middle]


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_beam_as_wide_as_the_search_space_finds_the_best_hypothesis(
    seed, length_penalty
):
    torch.manual_seed(seed)
    # Words beside PAD and END: START, 3 and 4.
    model = Transformer(7, 5, 14, 2, 1, 1, 19, max_len=11, dropout=0.0).double().eval()
    with torch.no_grad():
        model.output_projection.weight.mul_(3)
    src = random_tokens(7, 2, 5)
    hypotheses = list(every_hypothesis(4, [START, 3, 4]))
    assert len(hypotheses) == 1 + 3 + 9 + 27
    rows = torch.tensor([row + [PAD] * (4 - len(row)) for row in hypotheses])
    tokens, scores = search(model, src, 4, beam_size=41, length_penalty=length_penalty)
    for row in range(2):
        all_scores = teacher_forced(
            model, src[row].expand(len(rows), -1), rows, length_penalty
        )
        best = rows[all_scores.argmax()]
        found = torch.nn.functional.pad(tokens[row], (0, 4 - tokens.size(1)), value=PAD)
        assert torch.equal(found, best)
        torch.testing.assert_close(scores[row], all_scores.max())


def test_without_penalty_a_full_beam_is_at_least_as_good_as_greedy():
    model = decisive_model()
    src, _ = small_batch()
    greedy = model.greedy_decode(src, 4, START, END)
    _, scores = search(model, src, 4, beam_size=13**3, length_penalty=0.0)
    assert (scores >= teacher_forced(model, src, greedy, 0.0) - 1e-9).all()


def test_each_row_is_searched_as_it_is_alone():
    model = decisive_model()
    src, _ = small_batch()
    together, scores = search(model, src, 9, beam_size=3)
    for row in range(len(src)):
        alone, score = search(model, src[row : row + 1], 9, beam_size=3)
        width = alone.size(1)
        assert torch.equal(together[row, :width], alone[0])
        assert (together[row, width:] == PAD).all()
        torch.testing.assert_close(scores[row], score[0])


def test_a_beam_wider_than_the_vocabulary_is_allowed():
    model = decisive_model()
    src, _ = small_batch()
    tokens, scores = search(model, src, 5, beam_size=31, length_penalty=0.0)
    torch.testing.assert_close(scores, teacher_forced(model, src, tokens, 0.0))


def test_searching_in_training_mode_ignores_dropout_and_restores_the_mode():
    model = decisive_model(dropout=0.5)
    src = random_tokens(SRC_VOCAB, 3, 7)
    expected = search(model, src, 9)
    model.train()
    found = search(model, src, 9)
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.scores, expected.scores)
    assert all(module.training for module in model.modules())


def test_the_defaults_are_four_beams_and_scores_per_token():
    model = decisive_model()
    src, _ = small_batch()
    tokens, scores = model.beam_search(src, 9, START, END)
    expected = search(model, src, 9, beam_size=4, length_penalty=1.0)
    assert torch.equal(tokens, expected.tokens)
    assert torch.equal(scores, expected.scores)
    assert not scores.requires_grad


@pytest.mark.parametrize("max_len", [1, 7])
def test_tokens_and_scores_are_ordinary_tensors_to_train_on(max_len):
    model, (src, _) = decisive_model(), small_batch()
    tokens, scores = model.beam_search(src, max_len, START, END, beam_size=2)
    assert not tokens.is_inference()
    assert not scores.is_inference()
    # PyTorch would refuse to record a gradient through a tensor of inference mode.
    (model(src, tokens).sum(dim=(1, 2)) * scores).sum().backward()


def test_another_pad_fills_ended_rows():
    model = TableModel(
        table_of_chains([START, 5, END], [START, 3, 4, 7, END]), pad_token_id=6
    )
    tokens, _ = search(model, torch.tensor([[0], [1]]), 9, beam_size=2)
    assert tokens.tolist() == [[START, 5, END, 6, 6], [START, 3, 4, 7, END]]


def test_the_results_of_a_small_tree_in_order():
    # END after A: 0.6 * 0.5 = 0.30; after B: 0.4 * 0.9 = 0.36; A B END: 0.3 * 0.9 = 0.27;
    # B A END: 0.4 * 0.1 * 0.5 = 0.02.
    source = torch.tensor([[0]])
    result = n_best(two_ways(), source, 6, START, END, 3, length_penalty=0.0)
    assert result.tokens.tolist() == [
        [[START, B, END, PAD], [START, A, END, PAD], [START, A, B, END]]
    ]
    expected = [math.log(p) for p in (0.36, 0.3, 0.27)]
    assert result.scores[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_the_best_of_several_is_that_of_one_and_all_are_scored_truly(length_penalty):
    model = decisive_model()
    src, _ = small_batch()
    best, best_scores = search(model, src, 9, length_penalty=length_penalty)
    for num_results in (1, 3, 4):
        tokens, scores = n_best(
            model, src, 9, START, END, 4, length_penalty, num_results
        )
        assert tokens.shape[:2] == scores.shape == (3, num_results)
        assert (scores.diff(dim=1) <= 0).all()
        for row in range(len(src)):
            results = {tuple(result) for result in tokens[row].tolist()}
            assert len(results) == num_results
        torch.testing.assert_close(
            scores.flatten(),
            teacher_forced(
                model,
                src.repeat_interleave(num_results, dim=0),
                tokens.flatten(0, 1),
                length_penalty,
            ),
        )
        if num_results == 1:
            assert torch.equal(tokens[:, 0], best)
            assert torch.equal(scores[:, 0], best_scores)


def test_a_wide_enough_beam_finds_the_best_of_all_sequences():
    # Every sequence of at most three tokens after START, ranked by hand.
    model = two_ways()
    source = torch.tensor([[0]])
    probabilities = {}
    for length in range(1, 4):
        for path in itertools.product((A, B, END), repeat=length):
            if END in path[:-1] or (length < 3 and path[-1] != END):
                continue
            steps = itertools.pairwise((START, *path))
            p = math.prod(model.table[0, a, b].item() for a, b in steps)
            probabilities[(START, *path)] = math.log(p)
    ranked = sorted(probabilities, key=probabilities.get, reverse=True)[:4]
    tokens, scores = n_best(model, source, 4, START, END, 9, 0.0, num_results=4)
    found = [tuple(t for t in row if t != PAD) for row in tokens[0].tolist()]
    assert found == ranked
    assert scores[0].tolist() == pytest.approx([probabilities[r] for r in ranked])


def test_fewer_results_than_asked_for_have_no_score():
    # One token after START: END or START, for PAD is never chosen.
    model = TableModel(torch.full((1, 3, 3), 1 / 3))
    tokens, scores = n_best(model, torch.tensor([[0]]), 2, START, END)
    assert sorted(tokens[0, :2].tolist()) == [[START, START], [START, END]]
    assert scores[0].tolist() == pytest.approx([math.log(1 / 2)] * 2 + [-math.inf] * 2)


def test_a_poor_last_result_does_not_stop_a_better_prefix():
    # START END scores log 0.7 = -0.36, START A END log(0.3 * 0.15) / 2 = -1.55. START A B,
    # log(0.3 * 0.85) / 2 = -0.68, is worse than the first and better than the second.
    model = one_step_table(
        (0.30, 1e-12, 0.70), (1e-12, 0.85, 0.15), (1e-12, 1e-12, 1.0)
    )
    tokens, scores = n_best(model, torch.tensor([[0]]), 9, START, END, 2)
    assert tokens[0].tolist() == [[START, END, PAD, PAD], [START, A, B, END]]
    expected = [math.log(0.7), math.log(0.3 * 0.85) / 3]
    assert scores[0].tolist() == pytest.approx(expected)


def test_more_results_than_beams_are_refused():
    message = r"^num_results \(5\) exceeds beam_size \(4\)"
    with pytest.raises(ValueError, match=message):
        n_best(two_ways(), torch.tensor([[0]]), 6, START, END, num_results=5)
