import torch

from transformer.masks import causal_mask, padding_mask, target_mask


def test_padding_mask_is_true_at_real_tokens():
    mask = padding_mask(torch.tensor([[5, 7, 0], [1, 0, 0]]))
    assert mask.tolist() == [[[[True, True, False]]], [[[True, False, False]]]]


def test_padding_mask_hides_whatever_id_is_pad():
    mask = padding_mask(torch.tensor([[5, 7, 0]]), pad_token_id=7)
    assert mask.tolist() == [[[[True, False, True]]]]


def test_causal_mask_shows_the_past_and_the_present():
    assert causal_mask(3).tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_causal_mask_is_made_on_the_device_asked_for():
    assert causal_mask(3, "meta").device.type == "meta"


def test_target_mask_hides_both_the_future_and_pad():
    mask = target_mask(torch.tensor([[1, 5, 7], [1, 0, 0]]))
    first = [[True, False, False], [True, True, False], [True, True, True]]
    second = [[True, False, False]] * 3
    assert mask.tolist() == [[first], [second]]


def test_target_mask_hides_whatever_id_is_pad():
    mask = target_mask(torch.tensor([[1, 5]]), pad_token_id=1)
    assert mask.tolist() == [[[[False, False], [False, True]]]]


def test_masks_are_boolean():
    tokens = torch.tensor([[5, 0]], dtype=torch.int32)
    for mask in (padding_mask(tokens), causal_mask(2), target_mask(tokens)):
        assert mask.dtype == torch.bool
