"""Checks for the exercises of chapter 1."""

from transformer.exercises.self_check import Mistake, SelfCheck


def _device_name(has_cuda: bool, has_mps: bool) -> str:
    if has_cuda:
        return "cuda"
    return "mps" if has_mps else "cpu"


def _mps_first(has_cuda: bool, has_mps: bool) -> str:
    return "mps" if has_mps else _device_name(has_cuda, has_mps)


def _mps_forgotten(has_cuda: bool, _has_mps: bool) -> str:
    return _device_name(has_cuda, has_mps=False)


def _last_one_wins(_has_cuda: bool, has_mps: bool) -> str:
    return "mps" if has_mps else "cpu"


def _both_needed(has_cuda: bool, has_mps: bool) -> str:
    return "cuda" if has_cuda and has_mps else "cpu"


check_device_name = SelfCheck(
    solution=_device_name,
    cases=lambda: [(False, False), (False, True), (True, False), (True, True)],
    mistakes=(
        Mistake(
            _mps_first, "CUDA comes before MPS: with both, the answer is `'cuda'`."
        ),
        Mistake(_mps_forgotten, "Without CUDA, ask for MPS before you take the CPU."),
        Mistake(
            _last_one_wins,
            "A later `if` overwrites what an earlier one has chosen. "
            "Use `elif`, or return at once.",
        ),
        Mistake(_both_needed, "One accelerator is enough. Ask for each on its own."),
    ),
)
