import pytest
import torch
from helpers import SRC_VOCAB, decisive_model, random_tokens

from transformer.kv_cache import KeyValueCache


def filled_cache(length, capacity):
    keys, values = torch.randn(2, 3, length, 5), torch.randn(2, 3, length, 5)
    return keys, values, KeyValueCache(keys, values, capacity)


def test_a_cache_starts_with_what_it_is_given():
    keys, values, cache = filled_cache(length=4, capacity=7)
    assert cache.length == 4
    assert torch.equal(cache.keys, keys)
    assert torch.equal(cache.values, values)


def test_appended_positions_stand_behind_the_earlier_ones():
    keys, values, cache = filled_cache(length=4, capacity=7)
    new_keys, new_values = torch.randn(2, 3, 2, 5), torch.randn(2, 3, 2, 5)
    all_keys, all_values = cache.append(new_keys, new_values)
    assert torch.equal(all_keys, torch.cat([keys, new_keys], dim=2))
    assert torch.equal(all_values, torch.cat([values, new_values], dim=2))
    assert torch.equal(cache.keys, all_keys)
    assert cache.length == 6


def test_appending_does_not_change_the_tensors_the_cache_was_made_from():
    keys, values, cache = filled_cache(length=4, capacity=7)
    before = keys.clone(), values.clone()
    cache.append(torch.randn(2, 3, 3, 5), torch.randn(2, 3, 3, 5))
    assert torch.equal(keys, before[0])
    assert torch.equal(values, before[1])


def test_a_cache_can_be_filled_to_its_capacity():
    _, _, cache = filled_cache(length=4, capacity=7)
    cache.append(torch.randn(2, 3, 3, 5), torch.randn(2, 3, 3, 5))
    assert cache.length == 7


def test_select_repeats_reorders_and_drops_rows():
    keys, values, cache = filled_cache(length=4, capacity=7)
    cache.select(torch.tensor([1, 1, 0]))
    assert torch.equal(cache.keys, keys[[1, 1, 0]])
    assert torch.equal(cache.values, values[[1, 1, 0]])


def test_repeated_rows_grow_apart():
    _, _, cache = filled_cache(length=4, capacity=7)
    cache.select(torch.tensor([1, 1, 0]))
    new = torch.randn(3, 3, 1, 5)
    keys, _ = cache.append(new, new)
    assert torch.equal(keys[:, :, 4:], new)


def test_the_decoders_cache_counts_positions_and_projects_the_memory_once():
    model = decisive_model()
    src = random_tokens(SRC_VOCAB, 3, 7)
    calls = []
    with torch.no_grad():
        cache = model.start_cache(src, capacity=5)
        for layer in model.decoder.layers:
            layer.cross_attention.key_projection.register_forward_hook(
                lambda module, _inputs, _output: calls.append(module)
            )
        for position in range(5):
            assert cache.length == position
            model.next_logits(torch.tensor([1, 4, 8]), cache)
    assert cache.length == 5
    assert calls == []


def test_selecting_rows_of_the_decoders_cache_equals_starting_with_these_rows():
    model = decisive_model()
    src = random_tokens(SRC_VOCAB, 3, 7)
    src[1, 3:] = 0
    rows = torch.tensor([2, 1, 1, 0, 1])
    prefix, newest = torch.tensor([1, 1, 1]), torch.tensor([9, 4, 6])
    with torch.no_grad():
        cache = model.start_cache(src, capacity=5)
        model.next_logits(prefix, cache)
        cache.select(rows)
        logits = model.next_logits(newest[rows], cache)
        expected = model(src[rows], torch.stack([prefix, newest], dim=1)[rows])[:, -1]
    torch.testing.assert_close(logits, expected)


def test_the_model_keeps_no_cache():
    model = decisive_model()
    before = {id(module): set(vars(module)) for module in model.modules()}
    model.greedy_decode(random_tokens(SRC_VOCAB, 3, 7), 9, 1, 2)
    assert {id(module): set(vars(module)) for module in model.modules()} == before


@pytest.mark.parametrize("capacity", [None, 4])
def test_a_full_cache_has_no_room(capacity):
    _, _, cache = filled_cache(length=4, capacity=capacity)
    with pytest.raises(
        ValueError, match="room for 4 positions, 4 are taken: no room for 2 more"
    ):
        cache.append(torch.randn(2, 3, 2, 5), torch.randn(2, 3, 2, 5))
