"""The device the code runs on; evaluation mode, and no interruption, for a while."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn


def choose_device() -> torch.device:
    """The best device present: CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


class HasModules(Protocol):
    """What `evaluation_mode` needs of a model; every `nn.Module` has it."""

    def modules(self) -> Iterator[nn.Module]:
        """All modules whose mode is to change, the model itself included."""


# The modules that are in some block now: how many blocks, and the mode before the first.
_lock = threading.Lock()
_num_blocks: Counter[nn.Module] = Counter()
_former_modes: dict[nn.Module, bool] = {}


@contextmanager
def evaluation_mode(model: HasModules) -> Iterator[None]:
    """Switch dropout off inside the block; then put every module into its former mode.

    Blocks may overlap, in one thread or in several, and share modules: a module gets its
    former mode back when the last of them ends.
    """
    # What torch.compile returns has no mode of its own, but shows that of what it wraps.
    modules = {getattr(module, "_orig_mod", module) for module in model.modules()}
    with _lock:
        for module in modules:
            _former_modes.setdefault(module, module.training)
            _num_blocks[module] += 1
            module.training = False
    try:
        yield
    finally:
        with _lock:
            for module in modules:
                _num_blocks[module] -= 1
                if not _num_blocks[module]:
                    del _num_blocks[module]
                    module.training = _former_modes.pop(module)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C waiting for the end of the block, so that it is run whole."""
    handler = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not callable(handler):
        yield  # Ctrl-C calls nothing here.
        return
    caught = []
    signal.signal(signal.SIGINT, lambda *arguments: caught.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if caught:
        handler(*caught[0])
