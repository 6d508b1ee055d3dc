"""What a reader is told, whatever the answer."""

import torch

from transformer.exercises.self_check import Mistake, SelfCheck, difference, show

double = SelfCheck(
    solution=lambda x: 2 * x,
    cases=lambda: [(torch.tensor([0.0, 0.0]),), (torch.tensor([1.0, 3.0]),)],
    mistakes=(
        Mistake(lambda x: x**2, "That is the square."),
        Mistake(lambda x: x[5], "That is beyond the end."),
    ),
)


def test_right():
    assert double.verdict(lambda x: x + x) == "✓ Right on all 2 inputs."


def test_checking_prints_the_verdict(capsys):
    double(lambda x: x + x)
    assert capsys.readouterr().out == "✓ Right on all 2 inputs.\n"


def test_a_wrong_answer_is_shown_beside_the_right_one_and_its_input():
    assert double.verdict(lambda x: 3 * x) == (
        "✗ With x = [1, 3], your answer is [3, 9], but [2, 6] is right."
    )


def test_a_typical_mistake_gets_its_hint_also_if_it_raises():
    assert double.verdict(lambda x: x * x) == "✗ That is the square."
    assert double.verdict(lambda x: x[7]) == "✗ That is beyond the end."


def test_an_answer_that_is_like_a_mistake_on_some_inputs_only_gets_no_hint():
    verdict = double.verdict(lambda x: x**2 if x.sum() == 0 else x**3)
    assert verdict.startswith("✗ With x = [1, 3], your answer is [1, 27]")


def test_an_error_is_reported_and_not_raised():
    def answer(x):
        raise RuntimeError(f"no idea about {len(x)} numbers")

    assert double.verdict(answer) == (
        "✗ With x = [0, 0], your function raises RuntimeError: no idea about 2 numbers"
    )


def test_a_result_instead_of_a_function_is_refused():
    assert "without calling it: this is a value of type Tensor" in double.verdict(
        torch.tensor([2.0])
    )


def test_changing_the_input_is_noticed_even_if_the_result_is_right():
    assert "changes its input" in double.verdict(lambda x: x.mul_(2))


def test_shape_kind_and_nan_are_named():
    expected = torch.tensor([1.0, 2.0])
    assert "shape is [1, 2], but [2]" in difference(expected[None], expected)
    assert "are whole numbers, but they must be floats" in difference(
        torch.tensor([1, 2]), expected
    )
    assert "must be True or False" in difference(expected, expected > 1)
    assert "NaN" in difference(expected.log().sub(1).log(), expected)
    assert "a tensor is wanted" in difference([1.0, 2.0], expected)


def test_rounding_is_forgiven_and_more_is_not():
    expected = torch.tensor([1.0])
    assert difference(expected + 1e-6, expected) is None
    assert difference(expected + 1e-3, expected)
    assert difference(expected.double(), expected) is None
    assert difference(0.1 + 0.2, 0.3) is None
    assert difference(0.31, 0.3) == "your answer is 0.31, but 0.3 is right"


def test_lists_are_compared_item_by_item():
    assert difference([1, 2], [1, 2]) is None
    assert difference((1, 2), [1, 2]) is None
    assert difference([1], [1, 2]) == (
        "your answer has 1 items, but 2 are right: [1] instead of [1, 2]"
    )
    assert difference([1, 3], [1, 2]) == ("in item 1, your answer is 3, but 2 is right")
    assert "a list is wanted" in difference(3, [1, 2])


def test_true_is_not_one():
    assert difference(1, True)
    assert difference(True, 1)
    assert difference(True, True) is None


def test_a_tensor_is_not_a_number():
    assert difference(torch.tensor(3), 3)
    assert difference(torch.tensor(3.0), 3.0) == (
        "a float is wanted, but your answer is a tensor: `.item()` takes the number out"
    )


def test_large_tensors_are_shown_by_shape():
    assert show(torch.zeros(5, 7)) == "a tensor [5, 7]"
    assert show(torch.tensor([[1.0, 0.123456]])) == "[[1, 0.1235]]"
