import copy
import math
import pickle

import pytest
import torch
from helpers import SRC_VOCAB, TGT_VOCAB, small_batch, small_model

from transformer import PositionalEncoding, Transformer
from transformer.position_encoding import MAX_TABLE_LENGTH, sinusoids


def test_position_zero_is_zeros_and_ones():
    assert sinusoids(3, 6)[0].tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("position", "column", "value"),
    [
        (1, 0, 0.8414709848),  # sin 1
        (1, 1, 0.5403023059),  # cos 1
        (1, 2, 0.0099998333),  # sin 0.01, as 10000^(2/4) = 100
        (1, 3, 0.9999500004),  # cos 0.01
        (50, 2, 0.4794255386),  # sin 0.5
        (50, 3, 0.8775825619),  # cos 0.5
        (2, 0, 0.9092974268),  # sin 2
        (2, 1, -0.4161468365),  # cos 2
    ],
)
def test_sinusoids_of_width_four_have_these_values(position, column, value):
    assert sinusoids(53, 4)[position, column].item() == pytest.approx(value, abs=1e-7)


def test_every_entry_follows_the_formula():
    table = sinusoids(29, 10)
    for position in range(29):
        for pair in range(5):
            angle = position / 10_000 ** (2 * pair / 10)
            assert table[position, 2 * pair].item() == pytest.approx(
                math.sin(angle), abs=1e-6
            )
            assert table[position, 2 * pair + 1].item() == pytest.approx(
                math.cos(angle), abs=1e-6
            )


def test_late_positions_are_as_exact_as_early_ones():
    # In float32 arithmetic the angle 4999 alone would be wrong by up to 2e-4.
    assert sinusoids(5000, 4)[4999, 0].item() == pytest.approx(math.sin(4999), abs=1e-7)


def test_an_odd_width_ends_in_a_sine():
    table = sinusoids(5, 3)
    assert table[2, 2].item() == pytest.approx(
        math.sin(2 / 10_000 ** (2 / 3)), abs=1e-7
    )
    assert sinusoids(5, 1)[4].tolist() == [pytest.approx(math.sin(4))]


def test_moving_by_a_fixed_distance_is_the_same_rotation_everywhere():
    table = sinusoids(31, 2).double()
    turn = torch.tensor(
        [[math.cos(3), math.sin(3)], [-math.sin(3), math.cos(3)]], dtype=torch.float64
    )
    torch.testing.assert_close(table[3:], table[:-3] @ turn.T, atol=1e-6, rtol=0)


def test_forward_adds_the_table_to_the_vectors():
    encoding = PositionalEncoding(6, max_len=11, dropout=0.0)
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(encoding(x) - x, sinusoids(11, 6)[:5].expand(2, 5, 6))


def test_start_shifts_the_positions():
    encoding = PositionalEncoding(6, max_len=11, dropout=0.0)
    x = torch.randn(2, 7, 6)
    for start in range(5):
        newest = x[:, start : start + 2]
        assert torch.equal(
            encoding(newest, start=start), encoding(x)[:, start : start + 2]
        )


def test_the_last_position_of_max_len_exists():
    encoding = PositionalEncoding(6, max_len=11, dropout=0.0)
    last = encoding(torch.zeros(1, 1, 6), start=10)
    assert torch.equal(last[0, 0], sinusoids(11, 6)[10])


def test_nothing_is_trained_and_nothing_is_stored():
    encoding = PositionalEncoding(6)
    assert list(encoding.parameters()) == []
    assert encoding.state_dict() == {}


def test_the_table_follows_the_module_to_another_dtype():
    assert PositionalEncoding(6).double().table.dtype == torch.float64


def test_dropout_is_applied_in_training_only():
    encoding = PositionalEncoding(6, dropout=0.5)
    x = torch.ones(3, 5, 6) * 10
    trained = encoding(x)
    evaluated = encoding.eval()(x)
    dropped = trained == 0
    assert dropped.any()
    torch.testing.assert_close(trained[~dropped], 2 * evaluated[~dropped])
    assert (evaluated != 0).all()


def on_meta(dtype=torch.float32):
    with torch.device("meta"):
        return PositionalEncoding(6, max_len=11, dropout=0.0).to(dtype)


def moved_to_meta_and_given_weights():
    encoding = PositionalEncoding(6, max_len=11, dropout=0.0).to("meta")
    encoding.load_state_dict({}, assign=True)
    return encoding


# Whatever was done to the module, and in which type it then is.
HISTORIES = {
    "half and back": (lambda e: e.half().float(), torch.float32),
    "to half": (lambda e: e.half(), torch.float16),
    "to bfloat16, then float64": (lambda e: e.bfloat16().double(), torch.float64),
    "to_empty": (lambda e: e.to_empty(device="cpu"), torch.float32),
    "a deep copy": (copy.deepcopy, torch.float32),
    "a pickle": (lambda e: pickle.loads(pickle.dumps(e)), torch.float32),
    "shared memory": (lambda e: e.share_memory(), torch.float32),
    "built on meta, to_empty": (
        lambda _: on_meta().to_empty(device="cpu"),
        torch.float32,
    ),
    "built on meta in float64, to_empty": (
        lambda _: on_meta(torch.float64).to_empty(device="cpu"),
        torch.float64,
    ),
    "moved to meta, then weights assigned": (
        lambda _: moved_to_meta_and_given_weights(),
        torch.float32,
    ),
}


@pytest.mark.parametrize(
    ("change", "dtype"), HISTORIES.values(), ids=list(HISTORIES.keys())
)
def test_the_table_is_the_formula_rounded_once_whatever_was_done_to_the_module(
    change, dtype
):
    encoding = change(PositionalEncoding(6, max_len=11, dropout=0.0))
    exact = sinusoids(11, 6, dtype=torch.float64)
    assert torch.equal(encoding.table, exact.to(dtype))
    x = torch.zeros(2, 11, 6, dtype=dtype)
    assert torch.equal(encoding(x), exact.to(dtype).expand(2, 11, 6))


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
def test_the_sum_has_the_type_of_the_vectors_whatever_the_type_of_the_table(dtype):
    x = torch.zeros(2, 5, 6, dtype=dtype)
    expected = sinusoids(7, 6, dtype=torch.float64)[2:].to(dtype)
    for table in (torch.float32, torch.float64, torch.bfloat16):
        encoding = PositionalEncoding(6, max_len=11, dropout=0.0).to(table)
        assert torch.equal(encoding(x, start=2), expected.expand(2, 5, 6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_built_in_another_default_type_works_in_it(dtype):
    torch.set_default_dtype(dtype)
    try:
        model = Transformer(SRC_VOCAB, TGT_VOCAB, 14, 2, 1, 1, 19, 23)
        logits = model(*small_batch())
    finally:
        torch.set_default_dtype(torch.float32)
    assert logits.dtype == dtype
    assert logits.isfinite().all()


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_a_model_built_on_meta_computes_as_the_one_whose_weights_it_loads(
    assign, default
):
    model, batch = small_model(), small_batch()
    torch.set_default_dtype(default)
    try:
        with torch.device("meta"):
            loaded = Transformer(SRC_VOCAB, TGT_VOCAB, 14, 2, 2, 3, 19, 23).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    if not assign:
        loaded.double().to_empty(device="cpu")
    loaded.load_state_dict(model.state_dict(), assign=assign)
    assert torch.equal(loaded(*batch), model(*batch))
    # Moving such a model on needs a table that is there.
    assert torch.equal(loaded.to("cpu", torch.float64)(*batch), model(*batch))


def test_the_sinusoids_are_made_on_the_cpu_for_not_every_device_knows_float64():
    with torch.device("meta"):
        assert torch.equal(sinusoids(5, 6), sinusoids(5, 6).cpu())
    assert sinusoids(5, 6).device.type == "cpu"


def test_later_rows_can_be_had_without_the_earlier_ones():
    assert torch.equal(sinusoids(13, 7, start=5), sinusoids(13, 7)[5:])


def test_a_table_is_kept_only_so_far_and_later_positions_have_the_same_sinusoids():
    encoding = PositionalEncoding(2, max_len=10**15, dropout=0.0)
    assert encoding.table.shape == (MAX_TABLE_LENGTH, 2)
    x = torch.zeros(1, 5, 2)
    start = MAX_TABLE_LENGTH - 3
    expected = sinusoids(start + 5, 2, start=start)
    assert torch.equal(encoding(x, start=start)[0], expected)
    far = 10**9
    assert encoding(x, start=far)[0, 0, 0].item() == pytest.approx(math.sin(far))


def test_a_table_that_was_changed_on_purpose_stays_until_it_is_moved_or_converted():
    encoding = PositionalEncoding(6, max_len=11, dropout=0.0)
    encoding.table.zero_()
    x = torch.randn(2, 5, 6)
    assert torch.equal(copy.deepcopy(encoding).eval().to("cpu")(x), x)
