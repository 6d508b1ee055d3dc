from transformer import FeedForward
from transformer.masks import causal_mask
from transformer.notebook import show_source


def test_a_class_is_shown_as_a_python_block():
    shown = show_source(FeedForward).data
    assert shown.startswith("```python\nclass FeedForward(nn.Module):\n")
    assert shown.endswith("return self.contract(self.expand(x).relu())\n```")


def test_a_function_is_shown_as_a_python_block():
    shown = show_source(causal_mask).data
    assert shown.startswith("```python\ndef causal_mask(length: int")
    assert shown.endswith(".tril()\n```")
