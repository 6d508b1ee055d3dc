"""What the checks of companion C hold to be right, found in another way."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import modern
from transformer import FeedForward, Transformer
from transformer.exercises import anatomy


def cases(check):
    return [pytest.param(*case, id=str(n)) for n, case in enumerate(check.cases())]


def test_a_selectivity_counted_by_hand():
    # 3 of 4 are right on the fact, 1 of 4 on the control.
    said, fact, said_control, control = (
        torch.tensor([bit == "1" for bit in bits])
        for bits in ("1100", "1101", "1100", "0011")
    )
    control[0] = True
    found = anatomy.check_selectivity.solution(said, fact, said_control, control)
    assert found == pytest.approx(3 / 4 - 1 / 4)


@pytest.mark.parametrize(("d_ff", "multiple"), cases(anatomy.check_gated_width))
def test_one_multiple_less_would_hold_fewer_weights(d_ff, multiple):
    def num_weights(width):
        if width == 0:
            return 0
        return sum(w.numel() for w in modern.SwiGLU(3, width).parameters())

    ordinary = sum(w.numel() for w in FeedForward(3, d_ff).parameters() if w.dim() == 2)
    width = anatomy.check_gated_width.solution(d_ff, multiple)
    assert width % multiple == 0
    assert num_weights(width - multiple) < ordinary <= num_weights(width)


@pytest.mark.parametrize(("x", "start"), cases(anatomy.check_turn))
def test_hands_turn_as_in_the_chapter(x, start):
    torch.testing.assert_close(
        anatomy.check_turn.solution(x, start), modern.turn(x, start)
    )


@pytest.mark.parametrize(("source", "so_far"), [(5, 1), (7, 4)])
def test_pytorch_counts_the_same_for_a_step(source, so_far):
    model = Transformer(11, 13, 12, 3, 1, 2, 20, 16).eval()
    unfused = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with torch.no_grad():
        cache = model.start_cache(torch.full((1, source), 3), capacity=so_far)
        for _ in range(so_far - 1):
            model.next_logits(torch.tensor([4]), cache)
        with unfused, FlopCounterMode(display=False) as counter:
            model.next_logits(torch.tensor([4]), cache)
    found = anatomy.check_step_operations.solution(12, 20, 2, 13, source, so_far)
    assert counter.get_total_flops() == found


@pytest.mark.parametrize(
    ("table", "num_queries", "num_keys"), cases(anatomy.check_relative_bias)
)
def test_each_bias_is_looked_up_by_its_distance(table, num_queries, num_keys):
    found = anatomy.check_relative_bias.solution(table, num_queries, num_keys)
    limit = (table.size(1) - 1) // 2
    for head, query, key in itertools.product(
        range(len(table)), range(num_queries), range(num_keys)
    ):
        distance = max(-limit, min(limit, key - query))
        assert found[head, query, key] == table[head, limit + distance]
