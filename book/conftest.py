"""Chapters run under nbval without progress bars: their last state depends on the clock."""

import os

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Tell the kernel that is about to start; the unit tests keep their bars."""
    os.environ["TQDM_DISABLE"] = "1"
