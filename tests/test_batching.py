import numpy as np
import pytest
import torch

from transformer import Batch, make_batch, pad_sequences


def test_short_rows_are_filled_on_the_right():
    padded = pad_sequences([[5, 6, 7], [8], []])
    assert padded.tolist() == [[5, 6, 7], [8, 0, 0], [0, 0, 0]]
    assert padded.dtype == torch.int64


def test_rows_can_be_made_longer_than_the_longest():
    assert pad_sequences([[5, 6], [7]], length=4).tolist() == [
        [5, 6, 0, 0],
        [7, 0, 0, 0],
    ]


def test_rows_of_exactly_the_length_are_left_as_they_are():
    assert pad_sequences([[5, 6], [7, 8]], length=2).tolist() == [[5, 6], [7, 8]]


def test_another_pad_fills_the_rows():
    assert pad_sequences([[5, 6], [7]], pad_token_id=9).tolist() == [[5, 6], [7, 9]]


def test_the_lists_given_are_not_changed():
    sequences = [[5, 6], [7]]
    pad_sequences(sequences)
    assert sequences == [[5, 6], [7]]


def test_tuples_and_ranges_are_sequences_too():
    assert pad_sequences([(5, 6), range(7, 10)]).tolist() == [[5, 6, 0], [7, 8, 9]]


def test_numpys_integers_are_token_ids_too():
    rows = [np.array([5, 6, 7]), [np.int32(8)]]
    padded = pad_sequences(rows, length=np.int64(4), pad_token_id=np.int64(9))
    assert padded.tolist() == [[5, 6, 7, 9], [8, 9, 9, 9]]
    assert padded.dtype == torch.int64
    batch = make_batch(np.array([[5, 6]]), np.array([[7]]), end_token_id=np.int64(4))
    assert [ids.tolist() for ids in batch] == [[[5, 6]], [[1, 7]], [[7, 4]]]


def test_start_stands_before_what_is_read_and_end_behind_what_is_predicted():
    batch = make_batch([[5, 6, 7], [8]], [[9], [3, 4]])
    assert batch.src.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.tgt_in.tolist() == [[1, 9, 0], [1, 3, 4]]
    assert batch.tgt_out.tolist() == [[9, 2, 0], [3, 4, 2]]


def test_what_is_predicted_is_what_is_read_one_position_later():
    batch = make_batch([[5]] * 3, [[9, 8, 7], [6], [4, 5, 6, 7]])
    has_next = batch.tgt_in[:, 1:] != 0
    assert torch.equal(batch.tgt_out[:, :-1][has_next], batch.tgt_in[:, 1:][has_next])


def test_an_empty_target_is_start_and_end():
    batch = make_batch([[5]], [[]])
    assert (batch.tgt_in.tolist(), batch.tgt_out.tolist()) == ([[1]], [[2]])


def test_other_special_tokens_can_be_named():
    batch = make_batch(
        [[5], [6, 7]], [[2], [0, 2]], start_token_id=3, end_token_id=4, pad_token_id=9
    )
    assert batch.src.tolist() == [[5, 9], [6, 7]]
    assert batch.tgt_in.tolist() == [[3, 2, 9], [3, 0, 2]]
    assert batch.tgt_out.tolist() == [[2, 4, 9], [0, 2, 4]]


def test_a_batch_moves_to_another_device_as_a_whole():
    batch = make_batch([[5]], [[6, 7]])
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    assert [tensor.device.type for tensor in moved] == ["meta"] * 3
    assert [list(tensor.shape) for tensor in moved] == [[1, 1], [1, 3], [1, 3]]


@pytest.mark.parametrize("name", ["src", "tgt_in", "tgt_out"])
def test_moving_a_batch_keeps_its_ids(name):
    batch = make_batch([[5]], [[6, 7]])
    assert torch.equal(getattr(batch.to("cpu"), name), getattr(batch, name))
