import pytest
import torch
from torch import nn

from transformer import choose_device
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
