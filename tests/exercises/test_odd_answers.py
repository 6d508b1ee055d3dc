"""Every check answers in one line, whatever a reader's function returns, raises or does."""

import functools
import itertools
import warnings
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import exercise_checks

from transformer.exercises.self_check import LONGEST_TEXT, SelfCheck, difference, show
from transformer.exercises.troubleshooting import Reading

CHECKS = exercise_checks(SelfCheck)
each_check = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)


class Agrees:
    """Equal to everything, and unequal to everything."""

    __hash__ = None

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return True


class AnswersWith:
    """`==` gives this, `len` and the rest raise, and nobody may print it."""

    __hash__ = None

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value

    def __repr__(self):
        raise RuntimeError("no repr")


class LookedAt(BaseException):
    """No `Exception`, as `SystemExit` is none."""


class Explosive:
    """Raises, whoever looks at it."""

    __hash__ = None

    def explode(self, *_):
        raise LookedAt

    __eq__ = __repr__ = __len__ = __iter__ = __getitem__ = __bool__ = explode
    __float__ = __format__ = explode


class ExplosiveList(list):
    __iter__ = __len__ = __eq__ = __repr__ = Explosive.explode
    __hash__ = None


class ExplosiveError(Exception):
    def __str__(self):
        raise ValueError("no text")


class OwnNumber(int):
    """An int that is equal to everything and cannot be written."""

    __hash__ = None

    def __eq__(self, other):
        return True

    def __repr__(self):
        return "two\nlines"


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def endless():
    value = []
    value += [value] * 16
    return value


def yields():
    yield from (1, 2)


async def awaited(*_):
    return 1


def quietly(make):
    """PyTorch warns of kinds of tensors that are new, or about to go."""

    @functools.wraps(make)
    def quiet(*arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make(*arguments)

    return quiet


@quietly
def quantized():
    return torch.quantize_per_tensor(torch.rand(2, 3), 0.1, 0, torch.qint8)


@quietly
def sparse_rows():
    return torch.eye(3).to_sparse_csr()


@quietly
def nested_tensor(layout):
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)


VALUES = {
    "ndarray": lambda: np.zeros((2, 3)),
    "ndarray of objects": lambda: np.array([None, "a"], dtype=object),
    "empty ndarray": lambda: np.zeros(0),
    "NumPy float": lambda: np.float32(0.123),
    "NumPy int": lambda: np.int64(-77),
    "NumPy complex": lambda: np.complex64(1j),
    "NumPy long double": lambda: np.longdouble(0.123),
    "NumPy text": lambda: np.str_("odd"),
    "NumPy date": lambda: np.datetime64("2026-01-31"),
    "masked array": lambda: np.ma.masked_array([1, 2], mask=[True, False]),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": sparse_rows,
    "meta": lambda: torch.zeros(2, 3, device="meta"),
    "quantized": quantized,
    "complex tensor": lambda: torch.zeros(2, 3, dtype=torch.complex64),
    "8-bit floats": lambda: torch.zeros(2, 3).to(torch.float8_e4m3fn),
    "nested tensor": lambda: nested_tensor(torch.jagged),
    "strided nested tensor": lambda: nested_tensor(torch.strided),
    "NaN tensor": lambda: torch.full((2, 3), torch.nan),
    "empty tensor": lambda: torch.zeros(0),
    "tensor of no dimension": lambda: torch.tensor(-7.5),
    "expanded tensor": lambda: torch.zeros(1).expand(10**12),
    "weights": lambda: torch.nn.Parameter(torch.zeros(2)),
    "module": lambda: torch.nn.Linear(2, 3),
    "data type": lambda: torch.float32,
    "agrees": Agrees,
    "== gives None": lambda: AnswersWith(None),
    "== gives an array": lambda: AnswersWith(np.array([True, True])),
    "explosive": Explosive,
    "explosive list": lambda: ExplosiveList([1, 2, 3]),
    "list of explosives": lambda: [Explosive(), Explosive(), Explosive()],
    "mock": mock.MagicMock,
    "mock of a tensor": lambda: mock.MagicMock(spec=torch.Tensor),
    "anything": lambda: mock.ANY,
    "own number": lambda: OwnNumber(-77),
    "generator": yields,
    "range": lambda: range(2),
    "map": lambda: map(str, [1, 2]),
    "dict": lambda: {"a": 1},
    "set": lambda: {1, 2},
    "bytes": lambda: b"ab",
    "text": lambda: "two\nlines",
    "long text": lambda: "a" * 10**6,
    "half a character": lambda: "\ud800",
    "huge int": lambda: 10**5_000,
    "large int": lambda: 10**400,
    "infinity": lambda: float("inf"),
    "complex": lambda: 1j,
    "long list": lambda: [1.0] * 10**6,
    "deep list": lambda: nested(5_000),
    "list in itself": endless,
    "pair": lambda: (None, ...),
    "nothing in a list": lambda: [None],
    "class": lambda: Agrees,
    "function": lambda: yields,
    "exception": lambda: ValueError("returned"),
    "of a class without a name": type("", (), {}),
    "of a class with a long name": type("two\nlines" * 10**4, (), {}),
    "namespace": SimpleNamespace,
    "NotImplemented": lambda: NotImplemented,
}


def returns(make, *_):
    return make()


def raises(error, *_):
    raise error


def recurses(*arguments):
    return recurses(*arguments)


def needs_seven(a, b, c, d, e, f, g):
    return a + b + c + d + e + f + g


def fills_with_odd_things(*arguments):
    for argument in arguments:
        if isinstance(argument, list):
            argument[:] = [AnswersWith(None), Explosive(), argument]
        if isinstance(argument, torch.Tensor):
            argument.resize_(0)
        if hasattr(argument, "__dict__"):
            vars(argument).clear()
    return 1


FUNCTIONS = {
    f"returns {name}": functools.partial(returns, make) for name, make in VALUES.items()
} | {
    "raises SystemExit": functools.partial(raises, SystemExit(3)),
    "raises GeneratorExit": functools.partial(raises, GeneratorExit()),
    "raises what has no text": functools.partial(raises, ExplosiveError()),
    "raises in many lines": functools.partial(raises, ValueError("a\n" * 10**4)),
    "raises a group": functools.partial(
        raises, ExceptionGroup("all", [ValueError("one"), TypeError("two")])
    ),
    "recurses": recurses,
    "fills its input with odd things": fills_with_odd_things,
    "no parameter": lambda: 1,
    "many parameters": needs_seven,
    "keywords only": lambda *, a: a,
    "async": awaited,
    "returns a coroutine": lambda *_: awaited(),
    "a class": SimpleNamespace,
    "an abstract class": SelfCheck,
    "a module": torch.nn.Linear(2, 3),
    "a built-in function": len,
    "True": lambda *_: True,
    "changes its mind": functools.partial(
        returns, itertools.cycle([[], 1.5, "a", torch.rand(2)]).__next__
    ),
}


def is_one_short_line(text):
    return len(text.splitlines()) == 1 and len(text) < 5 * LONGEST_TEXT


@each_check
def test_every_odd_answer_gets_one_line(check):
    verdicts = {name: check.verdict(answer) for name, answer in FUNCTIONS.items()}
    assert {
        name: verdict
        for name, verdict in verdicts.items()
        if not verdict.startswith("✗ ") or not is_one_short_line(verdict)
    } == {}


@each_check
def test_odd_answers_leave_the_inputs_of_the_next_try_as_they_are(check):
    before = [check._describe(arguments) for arguments in check.cases()]
    check.verdict(fills_with_odd_things)
    assert [check._describe(arguments) for arguments in check.cases()] == before
    assert check.verdict(check.solution).startswith("✓")


@each_check
def test_an_interrupt_from_the_keyboard_gets_through(check):
    with pytest.raises(KeyboardInterrupt):
        check.verdict(functools.partial(raises, KeyboardInterrupt()))


def test_a_value_instead_of_a_function_gets_one_line():
    check, *_ = CHECKS.values()
    for make in VALUES.values():
        value = make()
        if not callable(value):
            verdict = check.verdict(value)
            assert verdict.startswith("✗ Pass your function itself")
            assert is_one_short_line(verdict)


def as_numpy(value):
    if isinstance(value, torch.Tensor):
        return value.numpy()
    return type(value)(map(as_numpy, value)) if isinstance(value, list) else value


@each_check
def test_the_right_numbers_in_numpy_are_told_how_to_become_a_tensor(check):
    def answer(*arguments):
        return as_numpy(check.solution(*arguments))

    solved = check.solution(*check.cases()[0])
    if isinstance(solved, torch.Tensor):
        assert check.verdict(answer).endswith(
            "a tensor is wanted, but your answer is a NumPy array: "
            "`torch.as_tensor` makes one of it."
        )


@each_check
def test_a_number_may_be_numpys(check):
    def answer(*arguments):
        return np.asarray(check.solution(*arguments))[()]

    solved = check.solution(*check.cases()[0])
    if isinstance(solved, (bool, int, float, str)):
        assert check.verdict(answer).startswith("✓")


@pytest.mark.parametrize(
    ("result", "expected", "found"),
    [
        (torch.eye(2).to_sparse(), torch.eye(2), "torch.sparse_coo, but a dense one"),
        (
            torch.eye(2, device="meta"),
            torch.eye(2),
            "is on meta, but it must be on cpu",
        ),
        (VALUES["quantized"](), torch.zeros(2, 3), "`.dequantize()`"),
        (torch.zeros(2) + 0j, torch.zeros(2), "are complex numbers, but they must be"),
        ([1.0, 2.0], torch.zeros(2), "is a list: `torch.as_tensor` makes one of it"),
        (np.zeros(2), [0.0, 0.0], "is a NumPy array: `.tolist()` makes one of it"),
        (torch.zeros(2), [0.0, 0.0], "is a tensor: `.tolist()` makes one of it"),
        (yields(), [1, 2], "is a generator: `list` collects what it yields"),
        (
            np.zeros(1),
            0,
            "an int is wanted, but your answer is a NumPy array: `.item()`",
        ),
        ("3", 3, "an int is wanted, but your answer is a str"),
        (None, 3.5, "a float is wanted, but your answer is None"),
        (Agrees(), "cpu", "a str is wanted, but your answer is an Agrees"),
        (AnswersWith(None), [1], "a list is wanted, but your answer is an AnswersWith"),
        ([Agrees()], [True], "in item 0, a bool is wanted"),
        (OwnNumber(-77), 3, "your answer is two lines, but 3 is right"),
        (10**5_000, 3.5, "your answer, an int, cannot be compared with 3.5"),
        (ExplosiveList(), [1], "your answer, an ExplosiveList, cannot be compared"),
    ],
    ids=lambda _: "odd",
)
def test_what_is_wrong_with_an_odd_answer_is_said(result, expected, found):
    assert found in difference(result, expected)


class OwnText(str):
    """A text that is equal to everything."""

    __hash__ = None

    def __eq__(self, other):
        return True


@pytest.mark.parametrize(
    "expected", [3, 3.5, "cpu", True, [1], torch.zeros(2)], ids=str
)
def test_no_object_can_call_itself_right(expected):
    for own in (Agrees(), OwnNumber(-77), OwnText("no"), mock.ANY, mock.MagicMock()):
        assert difference(own, expected)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([1] * 17, "a list of 17 items"),
        (VALUES["list in itself"](), "[[[a list of 16 items, a list of 16 items, "),
        ([[[[[1]]]]], "[[[a list of 1 items]]]"),
        (AnswersWith(1), "an AnswersWith that cannot be shown"),
        (10**5_000, "an int that cannot be shown"),
        ("a\nb", r"'a\nb'"),
        ("a" * 999, f"'{'a' * 299}..."),
    ],
    ids=lambda _: "odd",
)
def test_whatever_it_is_is_shown_on_one_short_line(value, shown):
    assert show(value).startswith(shown)
    assert is_one_short_line(show(value))


def test_inputs_are_on_the_cpu_whatever_device_is_the_default():
    check = CHECKS["inference.check_top_k"]
    with torch.device("meta"):
        assert check.verdict(check.solution).startswith("✓")


READINGS = exercise_checks(Reading)


@pytest.mark.parametrize("check", READINGS.values(), ids=READINGS)
def test_every_odd_reading_gets_a_line(check):
    first, *_ = check.right
    for make in VALUES.values():
        verdict = check.verdict(dict(check.right) | {first: make()})
        assert verdict.startswith(f"✗ {first}")
        assert is_one_short_line(verdict)


@pytest.mark.parametrize("check", READINGS.values(), ids=READINGS)
def test_odd_readings_of_every_name_get_a_line_each(check):
    for make in VALUES.values():
        verdict = check.verdict({name: make() for name in check.right})
        assert len(verdict.splitlines()) == len(check.right)


class BrokenMapping(dict):
    get = Explosive.explode


@pytest.mark.parametrize("check", READINGS.values(), ids=READINGS)
def test_what_is_no_dictionary_of_readings_is_told_so(check):
    odd = [make() for make in VALUES.values()]
    for answers in [*odd, BrokenMapping(check.right)]:
        if not isinstance(answers, dict) or isinstance(answers, BrokenMapping):
            assert check.verdict(answers).startswith("✗ Pass a dictionary")
