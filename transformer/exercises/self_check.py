"""Compare a reader's function with the truth, and answer with a hint, not a traceback."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transformer.notebook import print_anywhere

LARGEST_SHOWN = 16
LONGEST_TEXT = 300


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer, as a function, and what helps whoever gives it."""

    answer: Callable
    hint: str


@dataclass(frozen=True)
class SelfCheck:
    """Checks a function that an exercise asks for.

    Call it with your function: it prints one line that begins with ✓ or ✗.

    Attributes:
        solution: A function that answers the exercise.
        cases: Returns the inputs to try, a tuple of arguments each, made anew at each call.
        mistakes: Typical wrong answers. Who answers like one of them gets its hint.
    """

    solution: Callable
    cases: Callable[[], Sequence[tuple]]
    mistakes: tuple[Mistake, ...] = ()

    def __call__(self, answer: Callable) -> None:
        """Print what `verdict` says."""
        print_anywhere(self.verdict(answer))

    def verdict(self, answer: Callable) -> str:
        """One line: right, or what is wrong on the first input that shows it.

        Whatever `answer` returns, raises or does to its inputs, there is a verdict; only
        an interrupt from the keyboard gets through.
        """
        if not callable(answer):
            return (
                "✗ Pass your function itself, without calling it: "
                f"this is a value of type {_cut(type(answer).__name__)}."
            )
        # Where a reader has chosen another default device, the inputs stay as they are.
        with torch.device("cpu"):
            for arguments in self.cases():
                problem = self._problem(answer, arguments)
                if problem:
                    return f"✗ {self._hint(answer) or problem}"
            return f"✓ Right on all {len(self.cases())} inputs."

    def _problem(self, answer: Callable, arguments: tuple) -> str | None:
        given = self._describe(arguments)
        received = copy.deepcopy(arguments)
        result, error = attempt(answer, *received)
        if error is not None:
            name, text = _cut(type(error).__name__), one_line(error, str)
            return f"With {given}, your function raises {name}: {text}"
        if is_blank(result):
            return (
                "Your function returns nothing yet: fill it in, and end with `return`."
            )
        if difference(received, arguments):
            return f"With {given}, your function changes its input. Work on a copy."
        expected = self.solution(*copy.deepcopy(arguments))
        found = difference(result, expected)
        return found and f"With {given}, {found}."

    def _hint(self, answer: Callable) -> str | None:
        theirs = list(self._outcomes(answer))
        for mistake in self.mistakes:
            typical = self._outcomes(mistake.answer)
            if not any(map(difference, theirs, typical)):
                return mistake.hint
        return None

    def _outcomes(self, answer: Callable) -> Iterator[Any]:
        """What `answer` gives for each input; of an error, its class."""
        for arguments in self.cases():
            result, error = attempt(answer, *copy.deepcopy(arguments))
            yield result if error is None else type(error).__name__

    def _describe(self, arguments: tuple) -> str:
        names = inspect.signature(self.solution).parameters
        return ", ".join(
            f"{name} = {show(value)}"
            for name, value in zip(names, arguments, strict=False)
        )


def attempt(function: Callable, *arguments: Any) -> tuple[Any, BaseException | None]:
    """What `function` returns, and what it raises, be it `SystemExit`."""
    try:
        result = function(*arguments)
        if inspect.iscoroutine(result):
            # Nobody will await it, and Python would warn of that.
            result.close()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return None, error
    return result, None


def is_blank(answer: Any) -> bool:
    """Whether nothing has been filled in."""
    return answer is None or answer is ...


def difference(result: Any, expected: Any) -> str | None:
    """What sets `result` apart from `expected`, or None if nothing does.

    Floats may differ by rounding. Tensors must agree in shape and kind of entries. `result`
    may be anything, also what cannot be compared or shown.
    """
    found, error = attempt(_difference, result, expected)
    if error is not None:
        return f"your answer, {_kind(result)}, cannot be compared with {show(expected)}"
    return found


def _difference(result: Any, expected: Any) -> str | None:
    if isinstance(result, np.generic):
        result = result.item()
    if isinstance(expected, Tensor):
        return _tensor_difference(result, expected)
    if isinstance(expected, (list, tuple)):
        return _sequence_difference(result, expected)
    is_number = isinstance(expected, (int, float)) and not isinstance(expected, bool)
    wanted = Real if is_number else type(expected)
    if not isinstance(result, wanted) or (is_number and isinstance(result, bool)):
        takes_out = isinstance(result, (Tensor, np.ndarray))
        return _wrong_kind(
            result, expected, "`.item()` takes the number out" * takes_out
        )
    if is_number:
        relative, absolute = (1e-4, 1e-6) if isinstance(expected, float) else (0, 0)
        same = math.isclose(result, expected, rel_tol=relative, abs_tol=absolute)
    else:
        # Asked this way, the expected value judges, not what a reader's class thinks.
        same = expected.__eq__(result) is True
    return None if same else _unlike(result, expected)


def _unlike(result: Any, expected: Any) -> str:
    return f"your answer is {show(result)}, but {show(expected)} is right"


def _wrong_kind(result: Any, expected: Any, remedy: str = "") -> str:
    wanted, own = _kind(expected), _kind(result)
    return f"{wanted} is wanted, but your answer is {own}{remedy and ': '}{remedy}"


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return "a NumPy array"
    name = "tensor" if isinstance(value, Tensor) else _cut(type(value).__name__)
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


def _tensor_difference(result: Any, expected: Tensor) -> str | None:
    if not isinstance(result, Tensor):
        holds_numbers = isinstance(result, (np.ndarray, list, tuple, Real))
        remedy = "`torch.as_tensor` makes one of it" if holds_numbers else ""
        return _wrong_kind(result, expected, remedy)
    if result.device != expected.device:
        return f"your tensor is on {result.device}, but it must be on {expected.device}"
    if result.layout is not torch.strided:
        return (
            f"your tensor is stored as {result.layout}, but a dense one is wanted: "
            "`.to_dense()` makes one of it"
        )
    if result.is_quantized:
        return "your tensor is quantized: `.dequantize()` makes floats of it"
    if result.shape != expected.shape:
        return (
            f"your shape is {list(result.shape)}, but {list(expected.shape)} is right"
        )
    entries, wanted = (_entries(x.dtype) for x in (result, expected))
    if entries != wanted:
        return f"your entries are {entries}, but they must be {wanted}"
    if expected.dtype.is_floating_point:
        result, expected = result.double(), expected.double()
        if result.isnan().any() and not expected.isnan().any():
            return "your answer has NaN in it"
        same = torch.allclose(result, expected, rtol=1e-4, atol=1e-6, equal_nan=True)
    else:
        same = torch.equal(result.to(expected.dtype), expected)
    return None if same else _unlike(result, expected)


def _entries(dtype: torch.dtype) -> str:
    if dtype is torch.bool:
        return "True or False"
    if dtype.is_complex:
        return "complex numbers"
    return "floats" if dtype.is_floating_point else "whole numbers"


def _sequence_difference(result: Any, expected: Sequence) -> str | None:
    if not isinstance(result, (list, tuple)):
        remedy = ""
        if isinstance(result, (Tensor, np.ndarray)):
            remedy = "`.tolist()` makes one of it"
        elif isinstance(result, Iterator):
            remedy = "`list` collects what it yields"
        return _wrong_kind(result, expected, remedy)
    if len(result) != len(expected):
        return (
            f"your answer has {len(result)} items, but {len(expected)} are right: "
            f"{show(result)} instead of {show(expected)}"
        )
    for index, (own, right) in enumerate(zip(result, expected, strict=True)):
        found = difference(own, right)
        if found:
            return f"in item {index}, {found}"
    return None


def show(value: Any) -> str:
    """`value` on one short line, whatever it is: a large tensor becomes its shape."""
    text, error = attempt(_text, value)
    return one_line(value) if error is not None else _cut(text)


def _text(value: Any, depth: int = 3) -> str:
    if isinstance(value, Tensor):
        if value.numel() > LARGEST_SHOWN:
            return f"a tensor {list(value.shape)}"
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        if len(value) > LARGEST_SHOWN or depth == 0:
            return f"a {type(value).__name__} of {len(value):,} items"
        return f"[{', '.join(_text(item, depth - 1) for item in value)}]"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def one_line(value: Any, as_text: Callable[[Any], str] = repr) -> str:
    """`as_text(value)` without line breaks and not too long, even if it raises."""
    text, error = attempt(as_text, value)
    if error is not None:
        return f"{_kind(value)} that cannot be shown"
    return _cut(text)


def _cut(text: str) -> str:
    text = " ".join(text.splitlines())
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."
