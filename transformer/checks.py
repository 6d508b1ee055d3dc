"""Checks at the door: wrong input is refused at once, with the numbers that show why.

A module checks its vectors at every call. Decoding with a cache checks ids before the first
step only: `next_logits` does not look at them.

A check of sizes returns them as plain ints, for NumPy's integers count as well. A check of
values steps aside where a tensor shows none: see `visible_value`.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

#: The types that ids may have.
TOKEN_DTYPES = (torch.int64, torch.int32)


def check_int(name: str, value: int) -> int:
    """Return `value` as a plain int; raise if it is none, as True and 2.0 are none."""
    if type(value) is int:
        return value
    try:
        if isinstance(value, (bool, Tensor)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an int, got {value!r} ({type(value).__name__})"
        ) from None


def check_positive_int(name: str, value: int) -> int:
    """Return `value` as a plain int; raise unless it is an integer of at least 1."""
    value = check_int(name, value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def check_bool(name: str, value: bool) -> None:
    """Raise unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(
            f"{name} must be True or False, got {value!r} ({type(value).__name__})"
        )


def check_number(name: str, value: float) -> None:
    """Raise unless `value` is a finite int or float."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(
            f"{name} must be a number, got {value!r} ({type(value).__name__})"
        )
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def check_dropout(dropout: float) -> None:
    """Raise unless `dropout` is a probability in [0, 1)."""
    check_number("dropout", dropout)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")


def check_heads(d_model: int, num_heads: int) -> tuple[int, int]:
    """Return both as plain ints; raise unless `num_heads` divides `d_model`."""
    d_model = check_positive_int("d_model", d_model)
    num_heads = check_positive_int("num_heads", num_heads)
    if d_model % num_heads:
        raise ValueError(
            f"num_heads ({num_heads}) must divide d_model ({d_model}): "
            f"{d_model} / {num_heads} leaves a remainder of {d_model % num_heads}"
        )
    return d_model, num_heads


def check_token_id(name: str, token_id: int, vocab_size: int) -> int:
    """Return `token_id` as a plain int; raise unless it is one of the vocabulary."""
    token_id = check_int(name, token_id)
    if not 0 <= token_id < vocab_size:
        raise ValueError(
            f"{name} ({token_id}) is outside the vocabulary: "
            f"ids run from 0 to {vocab_size - 1}"
        )
    return token_id


def visible_value(compute: Callable[[], Tensor]) -> int | None:
    """The integer or truth value that `compute` returns, or None where none can be seen.

    While a graph is traced (`torch.compile`, `torch.export`, `torch.jit.trace`), nothing
    is computed: a look at a value would break the graph in two. Meta and fake tensors hold
    no values, and those inside `torch.func.vmap` do not show them.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return None
    try:
        return int(compute())
    except RuntimeError:
        return None


def check_tokens(name: str, tokens: Tensor, vocab_size: int, max_len: int) -> None:
    """Raise unless `tokens` is a non-empty `[batch, length]` of ids in the vocabulary.

    Ids that cannot be seen (see `visible_value`) are not compared with the vocabulary.
    """
    if not isinstance(tokens, Tensor):
        raise TypeError(
            f"{name} must be a tensor of token ids, got {type(tokens).__name__}"
        )
    if tokens.dtype not in TOKEN_DTYPES:
        raise TypeError(
            f"{name} must hold integer token ids (torch.int64 or torch.int32), "
            f"got {tokens.dtype}"
        )
    if tokens.dim() != 2:
        raise ValueError(
            f"{name} must have 2 dimensions [batch, length], "
            f"got {tokens.dim()} with shape {list(tokens.shape)}"
        )
    if tokens.numel() == 0:
        raise ValueError(
            f"{name} is empty: its shape [batch, length] is {list(tokens.shape)}"
        )
    if tokens.size(1) > max_len:
        raise ValueError(
            f"{name} has length {tokens.size(1)}, longer than max_len ({max_len}): "
            "shorten it or build the model with a larger max_len"
        )
    smallest, largest = visible_value(tokens.min), visible_value(tokens.max)
    if smallest is None or largest is None:
        return
    if smallest < 0 or largest >= vocab_size:
        offender = smallest if smallest < 0 else largest
        raise ValueError(
            f"{name} contains token id {offender}, outside the vocabulary: "
            f"ids run from 0 to {vocab_size - 1}"
        )


def check_same_batch(
    first_name: str, first: Tensor, second_name: str, second: Tensor
) -> None:
    """Raise unless both tensors have equally many rows."""
    if first.size(0) != second.size(0):
        raise ValueError(
            f"{first_name} and {second_name} must have the same batch size, "
            f"got {first.size(0)} and {second.size(0)}"
        )


def check_vectors(name: str, x: Tensor, d_model: int) -> None:
    """Raise unless `x` is a floating-point `[batch, length, d_model]` tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must hold floating-point vectors, got {x.dtype}")
    if x.dim() != 3 or x.size(2) != d_model:
        raise ValueError(
            f"{name} must have shape [batch, length, d_model={d_model}], "
            f"got {list(x.shape)}"
        )


def check_mask(mask: Tensor | None, shape: Iterable[int]) -> None:
    """Raise unless `mask` is boolean and broadcasts to `shape`."""
    if mask is None:
        return
    shape = list(shape)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(
            f"mask must be a boolean tensor (True = may attend), got {kind}"
        )
    padded = [1] * (len(shape) - mask.dim()) + list(mask.shape)
    if len(padded) != len(shape) or any(
        have not in (1, want) for have, want in zip(padded, shape, strict=True)
    ):
        raise ValueError(
            f"mask of shape {list(mask.shape)} does not broadcast to {shape}"
        )


def check_not_compiled(model: nn.Module) -> None:
    """Raise if `model` or a part of it is compiled: compiled code calls no new hook."""
    for name, module in model.named_modules():
        # What torch.compile returns keeps the module under the first of these names;
        # module.compile() sets the second.
        if hasattr(module, "_orig_mod") or module._compiled_call_impl is not None:
            raise ValueError(
                f"{'the model' if name == '' else name} is compiled, and compiled code "
                "calls no hook: use the model that was passed to torch.compile, or "
                "copy.deepcopy of a model that was compiled in place"
            )


def check_class(name: str, module: nn.Module | None, expected: type) -> None:
    """Raise unless `module` is exactly an `expected`: a subclass may compute anything."""
    if type(module) is not expected:
        raise TypeError(
            f"{name} must be a {expected.__module__}.{expected.__name__}, "
            f"got {type(module).__module__}.{type(module).__name__}"
        )


def check_same_classes(name: str, module: nn.Module, as_built: nn.Module) -> None:
    """Raise unless `module` has the parts of `as_built`, each of the same class."""
    found, expected = (
        dict(whole.named_modules(remove_duplicate=False))
        for whole in (module, as_built)
    )
    for part in expected | found:
        # Which function a layer of torch applies is another question, asked elsewhere.
        if not part.startswith("activation"):
            place = f"{name}.{part}" if part else name
            check_class(place, found.get(part), type(expected.get(part)))


def check_layer_norm_eps(module: nn.Module) -> None:
    """Raise if `module` is a layer norm of another eps than PyTorch's default."""
    if isinstance(module, nn.LayerNorm) and module.eps != nn.LayerNorm(1).eps:
        raise ValueError(
            f"layer_norm_eps must be {nn.LayerNorm(1).eps}, got {module.eps}"
        )


def check_weights(
    whose: str, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    """Raise unless `weights` has the names and shapes of `expected` and one float type.

    Args:
        whose: for the message, such as "of model".
    """
    problems = [f"{name} is missing" for name in expected.keys() - weights.keys()]
    problems += [f"{name} is unknown" for name in weights.keys() - expected.keys()]
    problems += [
        f"{name} has shape {list(weights[name].shape)}, not {list(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    dtypes = sorted({str(tensor.dtype) for tensor in weights.values()})
    if len(dtypes) > 1 or not all(map(torch.is_floating_point, weights.values())):
        problems.append(
            f"the numbers are {' and '.join(dtypes)}, not of one float type"
        )
    problems += [
        f"{name} holds no plain numbers ({tensor.device}, {tensor.layout})"
        for name, tensor in weights.items()
        if tensor.is_meta or tensor.layout != torch.strided
    ]
    if problems:
        problems.sort()
        named, rest = problems[:3], len(problems) - 3
        named += [f"and {rest} more"] if rest > 0 else []
        raise ValueError(
            f"the weights {whose} do not fit its configuration: {'; '.join(named)}"
        )
