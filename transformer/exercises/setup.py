"""Checks for the exercises of chapter 1."""

from transformer.exercises.self_check import Mistake, SelfCheck


def _choose(wanted: str | None, **present: bool) -> str:
    """`wanted` if it is present, else the first that is."""
    names = [name for name, is_present in present.items() if is_present]
    return wanted if wanted in names else names[0]


def _device_name(wanted: str | None, has_cuda: bool, has_mps: bool) -> str:
    return _choose(wanted, cuda=has_cuda, mps=has_mps, cpu=True)


def _wish_ignored(_wanted: str | None, has_cuda: bool, has_mps: bool) -> str:
    return _device_name(None, has_cuda, has_mps)


def _wish_trusted(wanted: str | None, has_cuda: bool, has_mps: bool) -> str:
    return wanted or _device_name(None, has_cuda, has_mps)


def _cpu_instead(wanted: str | None, has_cuda: bool, has_mps: bool) -> str:
    chosen = _device_name(wanted, has_cuda, has_mps)
    return chosen if wanted in (None, chosen) else "cpu"


def _cpu_refused(wanted: str | None, has_cuda: bool, has_mps: bool) -> str:
    return _device_name(None if wanted == "cpu" else wanted, has_cuda, has_mps)


def _mps_first(wanted: str | None, has_cuda: bool, has_mps: bool) -> str:
    return _choose(wanted, mps=has_mps, cuda=has_cuda, cpu=True)


def _mps_forgotten(wanted: str | None, has_cuda: bool, has_mps: bool) -> str:
    return _device_name(wanted, has_cuda, has_mps and wanted == "mps")


check_device_name = SelfCheck(
    solution=_device_name,
    cases=lambda: [
        (wanted, has_cuda, has_mps)
        for wanted in (None, "cuda", "mps", "cpu")
        for has_cuda in (False, True)
        for has_mps in (False, True)
    ],
    mistakes=(
        Mistake(
            _wish_ignored, "A device that is wanted and present is taken, the CPU too."
        ),
        Mistake(
            _wish_trusted,
            "What is wanted may be missing. Then follow the order of preference.",
        ),
        Mistake(
            _cpu_instead,
            "If the wanted device is missing, follow the order of preference: another "
            "accelerator may be present.",
        ),
        Mistake(_cpu_refused, "The CPU is always present: who wants it gets it."),
        Mistake(
            _mps_first,
            "CUDA comes before MPS: if both are present and nothing is wanted, the "
            "answer is `'cuda'`.",
        ),
        Mistake(
            _mps_forgotten,
            "MPS counts, too, where it is not wanted by name: take it before the CPU.",
        ),
    ),
)
