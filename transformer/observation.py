"""Looking inside a model while it runs, through forward hooks.

Nothing is left behind: the hooks go when the block ends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn

from transformer.attention import MultiHeadAttention, SelfAttention


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the attention weights of every attention module that runs inside the block.

    Yields:
        A dictionary from module name, such as `encoder.layers.0.self_attention`, to the
        weights of its latest call, `[batch, heads, query, key]`.
    """
    weights: dict[str, Tensor] = {}

    def hook_for(name: str) -> Callable:
        def keep(
            _module: nn.Module, _inputs: tuple, output: tuple[Tensor, Tensor]
        ) -> None:
            weights[name] = output[1].detach()

        return keep

    handles = [
        module.register_forward_hook(hook_for(name))
        for name, module in model.named_modules()
        if isinstance(module, (MultiHeadAttention, SelfAttention))
    ]
    try:
        yield weights
    finally:
        for handle in handles:
            handle.remove()


class ShapeRecord(NamedTuple):
    """One call of one module: what went in, what came out."""

    module: str
    kind: str
    inputs: list[list[int]]
    outputs: list[list[int]]


@contextmanager
def record_shapes(model: nn.Module) -> Iterator[list[ShapeRecord]]:
    """Collect the shapes of all tensors that enter and leave each module inside the block.

    Yields:
        A list with one `ShapeRecord` a call, in the order in which the calls ended.
    """
    records: list[ShapeRecord] = []

    def hook_for(name: str) -> Callable:
        def keep(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            records.append(
                ShapeRecord(
                    name, type(module).__name__, _shapes(inputs), _shapes(outputs)
                )
            )

        return keep

    handles = [
        module.register_forward_hook(hook_for(name))
        for name, module in model.named_modules()
    ]
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _shapes(values: tuple) -> list[list[int]]:
    return [list(value.shape) for value in values if isinstance(value, Tensor)]
