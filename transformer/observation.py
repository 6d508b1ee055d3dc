"""Looking inside a model while it runs, through forward hooks.

Nothing is left behind: the hooks go when the block ends.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import NamedTuple

from torch import Tensor, nn

from transformer.attention import MultiHeadAttention, SelfAttention
from transformer.checks import check_not_compiled


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the attention weights of every attention module that runs inside the block.

    Yields:
        A dictionary from module name, such as `encoder.layers.0.self_attention`, to the
        weights of its latest call: `[batch, heads, query, key]`, of a `SelfAttention`
        `[batch, query, key]`.

    Raises:
        ValueError: if the model or a part of it is compiled.
    """
    check_not_compiled(model)
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

    Tensors passed by keyword are listed behind the others.

    Yields:
        A list with one `ShapeRecord` a call, in the order in which the calls ended.

    Raises:
        ValueError: if the model or a part of it is compiled.
    """
    check_not_compiled(model)
    records: list[ShapeRecord] = []

    def hook_for(name: str) -> Callable:
        def keep(
            module: nn.Module, inputs: tuple, options: dict, output: Tensor | tuple
        ) -> None:
            inputs = (*inputs, *options.values())
            outputs = output if isinstance(output, tuple) else (output,)
            records.append(
                ShapeRecord(
                    name, type(module).__name__, _shapes(inputs), _shapes(outputs)
                )
            )

        return keep

    handles = [
        module.register_forward_hook(hook_for(name), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _shapes(values: tuple) -> list[list[int]]:
    return [list(value.shape) for value in values if isinstance(value, Tensor)]


def shape_ledger(records: Sequence[ShapeRecord], names: Mapping[int, str]) -> str:
    """Lay out what went into each module and what came out, in names and in numbers.

    Each record begins with a line `module: kind`. Below it stands one line a tensor:
    inputs left of the arrow, outputs right of it. (The arrow is ASCII: not every console
    can print →.)

        decoder.layers.0.cross_attention: MultiHeadAttention
          [batch, target, d_model] [3, 7, 16]   -> [batch, target, d_model]   [3, 7, 16]
          [batch, source, d_model] [3, 5, 16]      [batch, 2, target, source] [3, 2, 7, 5]
          [batch, source, d_model] [3, 5, 16]
          [batch, 1, 1, source]    [3, 1, 1, 5]

    Args:
        records: Calls that `record_shapes` has collected.
        names: What to call each size, such as `{3: "batch", 7: "target"}`. A size
            without a name stays a number. Let the sizes of your model and batch all
            differ, or one of them goes by the name of another.

    Raises:
        TypeError: if `names` is turned round, such as `{"batch": 3}`.
        ValueError: if there is no record, or a size that is named is below 1.
    """
    if not records:
        raise ValueError("records must hold at least one call, got none")
    for size, name in names.items():
        if not isinstance(size, int):
            raise TypeError(f"names must map sizes to names, got {size!r}: {name!r}")
        if size < 1:
            raise ValueError(f"sizes must be at least 1, got {size} for {name!r}")

    rows = [
        [
            (*_named_and_counted(entered, names), *_named_and_counted(left, names))
            for entered, left in zip_longest(record.inputs, record.outputs)
        ]
        or [("", "", "", "")]
        for record in records
    ]
    columns = zip(*(row for of_one_call in rows for row in of_one_call), strict=True)
    widths = [max(map(len, column)) for column in columns]

    lines = []
    for record, of_one_call in zip(records, rows, strict=True):
        lines.append(": ".join(filter(None, (record.module, record.kind))))
        for index, row in enumerate(of_one_call):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            cells.insert(2, "  " if index else "->")
            lines.append(f"  {' '.join(cells)}".rstrip())
    return "\n".join(lines)


def _named_and_counted(
    shape: list[int] | None, names: Mapping[int, str]
) -> tuple[str, str]:
    if shape is None:
        return "", ""
    named = ", ".join(names.get(size, str(size)) for size in shape)
    return f"[{named}]", str(shape)
