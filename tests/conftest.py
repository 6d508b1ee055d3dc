"""Every test runs on one thread, from the same seed, and leaves no figure open."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

plt.switch_backend("Agg")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _default_figures():
    with mpl.rc_context():
        yield
    plt.close("all")
