"""Changing what attention modules read while a model runs, through hooks.

A map shows where a head looks. Whether the model needs what it finds there, only a change
can tell. Nothing is left behind: the hooks go when the block ends.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from transformer.attention import MultiHeadAttention
from transformer.checks import check_not_compiled

#: Receives `(query, key, value, mask)` and returns these four, changed.
Edit = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]


@contextmanager
def edit_attention(model: nn.Module, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Change the inputs of attention modules inside the block.

    It acts on `model(src, tgt_in)` and on `decode_uncached`. Decoding with a cache calls
    the encoder as ever, so edits of the encoder act there, too. But the decoder then
    attends to keys and values that are in the cache and that no edit could reach: with an
    edit of the decoder, it is refused.

    Args:
        edits: from module name, such as `decoder.layers.1.cross_attention`, to a
            function that receives `(query, key, value, mask)`, vectors
            `[batch, length, d_model]` and a boolean mask, True = may attend, and returns
            these four, changed.

    Raises:
        AttributeError: if the model has no module of that name.
        TypeError: if the module of that name is no `MultiHeadAttention`.
        ValueError: if the model or a part of it is compiled; when an edited module of
            the decoder is to decode with a cache.
    """
    check_not_compiled(model)
    modules = {name: model.get_submodule(name) for name in edits}
    for name, module in modules.items():
        if not isinstance(module, MultiHeadAttention):
            raise TypeError(
                f"{name} must be a MultiHeadAttention, got {type(module).__name__}"
            )
    handles = [
        module.register_forward_pre_hook(
            partial(_edited, edits[name]), with_kwargs=True
        )
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _edited(
    edit: Edit, _module: nn.Module, inputs: tuple, options: dict
) -> tuple[tuple, dict]:
    if options.get("cache") is not None:
        raise ValueError(
            "attention cannot be edited while decoding with a cache: "
            "use model(src, tgt_in) or decode_uncached"
        )
    return edit(*inputs), options
