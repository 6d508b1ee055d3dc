from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from helpers import decisive_model, small_batch
from torch import nn

from transformer import END, START, choose_device, evaluate, make_batch
from transformer.decoding import decode_uncached
from transformer.packed import PackedTransformer
from transformer.runtime import evaluation_mode


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [
        (True, True, "cuda"),
        (True, False, "cuda"),
        (False, True, "mps"),
        (False, False, "cpu"),
    ],
)
def test_cuda_comes_before_mps_and_mps_before_the_cpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device() == torch.device(expected)


def test_evaluation_mode_gives_every_module_its_former_mode_back():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(2, 3)))
    model[1].eval()
    before = [module.training for module in model.modules()]
    assert before == [True, True, False, False, False]
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before


def test_evaluation_mode_leaves_an_evaluating_model_evaluating():
    model = nn.Dropout().eval()
    with evaluation_mode(model):
        pass
    assert not model.training


def test_evaluation_mode_restores_the_mode_after_an_error():
    model = nn.Dropout()
    with pytest.raises(KeyError), evaluation_mode(model):
        raise KeyError
    assert model.training


def test_overlapping_blocks_keep_dropout_off_until_the_last_of_them_ends():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(2, 3)))
    model[1][1].eval()
    whole, part = evaluation_mode(model), evaluation_mode(model[1])
    whole.__enter__()
    part.__enter__()
    whole.__exit__(None, None, None)
    assert [module.training for module in model.modules()] == [
        *(True, True),  # the whole and its own dropout
        *(False, False, False),  # the part, which is still in use
    ]
    part.__exit__(None, None, None)
    assert [module.training for module in model.modules()] == [True] * 4 + [False]


def test_a_compiled_model_and_the_model_inside_share_their_mode():
    model = nn.Sequential(nn.Dropout())
    compiled = torch.compile(model, backend="eager")
    whole, inside = evaluation_mode(compiled), evaluation_mode(model)
    whole.__enter__()
    inside.__enter__()
    whole.__exit__(None, None, None)
    assert not any(module.training for module in model.modules())
    inside.__exit__(None, None, None)
    assert all(module.training for module in model.modules())
    with evaluation_mode(compiled):
        assert not any(module.training for module in model.modules())
    assert all(module.training for module in model.modules())


class Door(nn.Module):
    """Lets two threads meet inside a model: the first leaves it while the second waits."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.visits = iter(())
        self.first_is_inside, self.second_is_inside, self.first_has_left = (
            Event() for _ in range(3)
        )

    def forward(self, *arguments):
        visit = next(self.visits, None)
        if visit == "first":
            self.first_is_inside.set()
            assert self.second_is_inside.wait(timeout=60)
        if visit == "second":
            self.second_is_inside.set()
            assert self.first_has_left.wait(timeout=60)
        return self.module(*arguments)


def on_the_model(name):
    return lambda model, src: getattr(model, name)(src, 7, START, END)


BATCH_TO_EVALUATE = make_batch([[7, 8, 9]], [[5, 6, 5]])
WAYS = {
    "greedy": on_the_model("greedy_decode"),
    "beam": on_the_model("beam_search"),
    "packed": lambda model, src: PackedTransformer(model).greedy_decode(
        src, 7, START, END
    ),
    "uncached": lambda model, src: decode_uncached(model, src, 7, START, END),
    "evaluate": lambda model, _src: evaluate(model, [BATCH_TO_EVALUATE]),
}


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
def test_a_thread_that_is_done_does_not_switch_dropout_on_for_another(first, second):
    model, (src, _) = decisive_model(dropout=0.5), small_batch()
    model.encoder = door = Door(model.encoder)
    expected = WAYS[second](model, src)
    model.train()
    model.decoder.layers[1].eval()
    modes = [module.training for module in model.modules()]
    door.visits = iter(["first", "second"])
    with ThreadPoolExecutor(2) as threads:
        leaving = threads.submit(WAYS[first], model, src)
        assert door.first_is_inside.wait(timeout=60)
        staying = threads.submit(WAYS[second], model, src)
        leaving.result()
        door.first_has_left.set()
        found = staying.result()
    for one, other in zip(flat(found), flat(expected), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    assert [module.training for module in model.modules()] == modes


def flat(result):
    return result if isinstance(result, tuple) else (result,)
