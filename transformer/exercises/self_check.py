"""Compare a reader's function with the truth, and answer with a hint, not a traceback."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LARGEST_SHOWN = 16


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
        print(self.verdict(answer))

    def verdict(self, answer: Callable) -> str:
        """One line: right, or what is wrong on the first input that shows it."""
        if not callable(answer):
            return (
                "✗ Pass your function itself, without calling it: "
                f"this is a value of type {type(answer).__name__}."
            )
        for arguments in self.cases():
            problem = self._problem(answer, arguments)
            if problem:
                return f"✗ {self._hint(answer) or problem}"
        return f"✓ Right on all {len(self.cases())} inputs."

    def _problem(self, answer: Callable, arguments: tuple) -> str | None:
        given = self._describe(arguments)
        received = copy.deepcopy(arguments)
        try:
            result = answer(*received)
        except Exception as error:  # whatever a reader's code raises
            return f"With {given}, your function raises {type(error).__name__}: {error}"
        if result is None or result is ...:
            return (
                "Your function returns nothing yet: fill it in, and end with `return`."
            )
        if difference(list(received), list(arguments)):
            return f"With {given}, your function changes its input. Work on a copy."
        expected = self.solution(*copy.deepcopy(arguments))
        found = difference(result, expected)
        return found and f"With {given}, {found}."

    def _hint(self, answer: Callable) -> str | None:
        theirs = self._outcomes(answer)
        for mistake in self.mistakes:
            if difference(theirs, self._outcomes(mistake.answer)) is None:
                return mistake.hint
        return None

    def _outcomes(self, answer: Callable) -> list:
        """What `answer` gives for each input; of an error, its class."""
        outcomes = []
        for arguments in self.cases():
            try:
                outcomes.append(answer(*arguments))
            except Exception as error:
                outcomes.append(type(error).__name__)
        return outcomes

    def _describe(self, arguments: tuple) -> str:
        names = inspect.signature(self.solution).parameters
        return ", ".join(
            f"{name} = {show(value)}"
            for name, value in zip(names, arguments, strict=False)
        )


def difference(result: Any, expected: Any) -> str | None:
    """What sets `result` apart from `expected`, or None if nothing does.

    Floats may differ by rounding. Tensors must agree in shape and kind of entries.
    """
    if isinstance(expected, Tensor):
        return _tensor_difference(result, expected)
    if isinstance(expected, (list, tuple)):
        return _sequence_difference(result, expected)
    if isinstance(result, Tensor):
        return (
            f"a {type(expected).__name__} is wanted, but your answer is a tensor: "
            "`.item()` takes the number out"
        )
    if isinstance(expected, float):
        close = isinstance(result, (int, float)) and math.isclose(
            result, expected, rel_tol=1e-4, abs_tol=1e-6
        )
        return None if close else _unlike(result, expected)
    return None if _same(result, expected) else _unlike(result, expected)


def _same(result: Any, expected: Any) -> bool:
    if isinstance(expected, bool) != isinstance(result, bool):
        return False
    return bool(result == expected)


def _unlike(result: Any, expected: Any) -> str:
    return f"your answer is {show(result)}, but {show(expected)} is right"


def _tensor_difference(result: Any, expected: Tensor) -> str | None:
    if not isinstance(result, Tensor):
        return f"a tensor is wanted, but your answer is a {type(result).__name__}"
    if result.shape != expected.shape:
        return (
            f"your shape is {list(result.shape)}, but {list(expected.shape)} is right"
        )
    kind, wanted = (_kind(x.dtype) for x in (result, expected))
    if kind != wanted:
        return f"your entries are {kind}, but they must be {wanted}"
    if result.isnan().any() and not expected.isnan().any():
        return "your answer has NaN in it"
    if expected.dtype.is_floating_point:
        same = torch.allclose(
            result.double(), expected.double(), rtol=1e-4, atol=1e-6, equal_nan=True
        )
    else:
        same = torch.equal(result.to(expected.dtype), expected)
    return None if same else _unlike(result, expected)


def _kind(dtype: torch.dtype) -> str:
    if dtype is torch.bool:
        return "True or False"
    return "floats" if dtype.is_floating_point else "whole numbers"


def _sequence_difference(result: Any, expected: Sequence) -> str | None:
    if not isinstance(result, (list, tuple)):
        return (
            f"a {type(expected).__name__} is wanted, "
            f"but your answer is a {type(result).__name__}"
        )
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
    """`value` in a few characters: a large tensor becomes its shape."""
    if isinstance(value, Tensor):
        if value.numel() > LARGEST_SHOWN:
            return f"a tensor {list(value.shape)}"
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(show, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
