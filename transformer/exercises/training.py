"""Checks for the exercises of chapter 6."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.schedule import warmup_rate
from transformer.tokens import PAD
from transformer.training import next_token_loss, token_accuracy


def _loss(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return next_token_loss(logits, tgt_out)


def _predictions() -> list[tuple]:
    """Logits `[batch, length, vocab]` and targets whose rows hold 5, 2 and 1 tokens."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.tensor([[3, 5, 4, 6, 2], [4, 2, PAD, PAD, PAD], [2] + 4 * [PAD]])
    logits = torch.randn(3, 5, 7, generator=generator)
    # Right at three of the five tokens of the first row, at none of the second.
    logits[0, [0, 1, 2], [3, 5, 4]] = 4.0
    logits[0, [3, 4], [1, 1]] = 4.0
    logits[1, [0, 1], [PAD, PAD]] = 4.0
    logits[1:, 2:, PAD] = 4.0
    logits[2, :2, 2] = 4.0
    toy = torch.tensor([[[0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]])
    return [
        (toy, torch.tensor([[1, 2]])),
        (toy, torch.tensor([[1, PAD]])),
        (logits, targets),
    ]


def _loss_cases() -> list[tuple]:
    # A token that the model holds for impossible: e to the -2,000 is 0 in float32.
    far_apart = torch.tensor([[[0.0, 1_000.0, -1_000.0], [0.0, 3.0, 0.0]]])
    return [*_predictions(), (far_apart, torch.tensor([[2, 1]]))]


def _token_losses(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return F.cross_entropy(logits.transpose(1, 2), tgt_out, reduction="none")


def _loss_with_pad(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _token_losses(logits, tgt_out).mean()


def _divided_by_all(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return (_token_losses(logits, tgt_out) * (tgt_out != PAD)).mean()


def _loss_by_rows(logits: Tensor, tgt_out: Tensor) -> Tensor:
    is_token = tgt_out != PAD
    losses = _token_losses(logits, tgt_out) * is_token
    return (losses.sum(dim=1) / is_token.sum(dim=1)).mean()


def _sum_of_losses(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _token_losses(logits, tgt_out)[tgt_out != PAD].sum()


def _without_minus(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return -_loss(logits, tgt_out)


def _in_bits(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _loss(logits, tgt_out) / math.log(2)


def _mean_of(quantity: Tensor, tgt_out: Tensor) -> Tensor:
    """Minus the mean of `quantity [batch, length, vocab]` at the target tokens."""
    picked = quantity.gather(-1, tgt_out[:, :, None])[:, :, 0]
    return -picked[tgt_out != PAD].mean()


def _log_of_softmax(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _mean_of(logits.softmax(dim=-1).log(), tgt_out)


def _no_logarithm(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _mean_of(logits.softmax(dim=-1), tgt_out)


def _no_softmax(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _mean_of(logits, tgt_out)


def _softmax_twice(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _loss(logits.softmax(dim=-1), tgt_out)


def _softmax_over_positions(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _mean_of(logits.log_softmax(dim=1), tgt_out)


def _likeliest_token(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return -logits.log_softmax(dim=-1).amax(dim=-1)[tgt_out != PAD].mean()


check_loss = SelfCheck(
    solution=_loss,
    cases=_loss_cases,
    mistakes=(
        Mistake(
            _loss_with_pad,
            "PAD is counted. Keep only the positions where `tgt_out` is not PAD.",
        ),
        Mistake(
            _divided_by_all,
            "The sum leaves PAD out, but you divide by all positions. "
            "Divide by the number of tokens that are not PAD.",
        ),
        Mistake(
            _loss_by_rows,
            "That is a mean over rows of means over tokens, so a token of a short row "
            "counts more. Take one mean over all tokens.",
        ),
        Mistake(_sum_of_losses, "That is the sum over the tokens: the mean is wanted."),
        Mistake(
            _without_minus,
            "The sign is wrong: logarithms of probabilities are "
            "negative, and the loss is minus their mean.",
        ),
        Mistake(_in_bits, "Take the natural logarithm: yours is in bits, not in nats."),
        Mistake(
            _log_of_softmax,
            "An unlikely token has probability 0 after rounding, and its logarithm is "
            "infinite. `log_softmax` does both in one step and stays finite.",
        ),
        Mistake(
            _no_logarithm,
            "Those are probabilities. Take their logarithm before the mean.",
        ),
        Mistake(
            _no_softmax,
            "Logits are no log-probabilities yet: apply `log_softmax` first.",
        ),
        Mistake(
            _softmax_twice,
            "The softmax is applied twice: `cross_entropy` wants logits, "
            "not probabilities.",
        ),
        Mistake(
            _softmax_over_positions,
            "The softmax runs over the positions. It must run over the vocabulary, "
            "the last dimension.",
        ),
        Mistake(
            _likeliest_token,
            "That is the probability of the likeliest token. "
            "Take the one of the correct token.",
        ),
    ),
)


def _logit_gradient(logits: Tensor, tgt_out: Tensor) -> Tensor:
    """Softmax minus one-hot, divided by the number of tokens; 0 at PAD."""
    return _at_tokens(logits.softmax(dim=-1) - _one_hot(logits, tgt_out), tgt_out)


def _one_hot(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return F.one_hot(tgt_out, logits.size(-1)).to(logits.dtype)


def _at_tokens(gradient: Tensor, tgt_out: Tensor) -> Tensor:
    """`gradient [batch, length, vocab]` of a mean over the tokens that are not PAD."""
    is_token = tgt_out != PAD
    return gradient * is_token[:, :, None] / is_token.sum()


def _gradient_of_sum(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _logit_gradient(logits, tgt_out) * (tgt_out != PAD).sum()


def _gradient_with_pad(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return (logits.softmax(dim=-1) - _one_hot(logits, tgt_out)) / tgt_out.numel()


def _gradient_at_pad(logits: Tensor, tgt_out: Tensor) -> Tensor:
    gradient = logits.softmax(dim=-1) - _one_hot(logits, tgt_out)
    return gradient / (tgt_out != PAD).sum()


def _gradient_by_all(logits: Tensor, tgt_out: Tensor) -> Tensor:
    share = (tgt_out != PAD).float().mean()
    return _logit_gradient(logits, tgt_out) * share


def _gradient_by_rows(logits: Tensor, tgt_out: Tensor) -> Tensor:
    is_token = tgt_out != PAD
    gradient = (logits.softmax(dim=-1) - _one_hot(logits, tgt_out)) * is_token[
        ..., None
    ]
    return gradient / is_token.sum(dim=1)[:, None, None] / len(tgt_out)


def _no_one_hot(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _at_tokens(logits.softmax(dim=-1), tgt_out)


def _no_probabilities(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _at_tokens(-_one_hot(logits, tgt_out), tgt_out)


def _one_hot_minus_softmax(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return -_logit_gradient(logits, tgt_out)


def _correct_logits_alone(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _logit_gradient(logits, tgt_out) * _one_hot(logits, tgt_out)


def _logits_minus_one_hot(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _at_tokens(logits - _one_hot(logits, tgt_out), tgt_out)


def _log_softmax_minus_one_hot(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _at_tokens(logits.log_softmax(dim=-1) - _one_hot(logits, tgt_out), tgt_out)


def _gradient_over_positions(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return _at_tokens(logits.softmax(dim=1) - _one_hot(logits, tgt_out), tgt_out)


check_logit_gradient = SelfCheck(
    solution=_logit_gradient,
    cases=_predictions,
    mistakes=(
        Mistake(
            _gradient_of_sum,
            "That is the gradient of the sum over the tokens. The loss is their mean: "
            "divide by the number of tokens that are not PAD.",
        ),
        Mistake(
            _gradient_with_pad,
            "PAD is counted. Its positions are not in the loss, so their gradient is 0, "
            "and the mean divides by the other positions alone.",
        ),
        Mistake(
            _gradient_at_pad,
            "You divide by the right number, but positions whose target is PAD are not "
            "in the loss: their gradient is 0.",
        ),
        Mistake(
            _gradient_by_all,
            "The gradient is 0 at PAD, as it must be, but you divide by all positions. "
            "Divide by the number of tokens that are not PAD.",
        ),
        Mistake(
            _gradient_by_rows,
            "That belongs to a mean over rows of means over tokens. The loss is one mean "
            "over all tokens.",
        ),
        Mistake(
            _no_one_hot,
            "The one-hot vector is missing: subtract 1 at the correct token.",
        ),
        Mistake(
            _no_probabilities,
            "You derived the correct token's logit alone. The logarithm of the sum "
            "depends on every logit: it adds the probabilities.",
        ),
        Mistake(
            _one_hot_minus_softmax,
            "The sign is wrong: where a wrong token gets probability, the loss grows with "
            "its logit.",
        ),
        Mistake(
            _correct_logits_alone,
            "You have a gradient at the correct tokens only. The loss depends on every "
            "logit of a position, through the sum in the softmax.",
        ),
        Mistake(
            _logits_minus_one_hot,
            "Those are logits minus one-hot: the softmax is missing.",
        ),
        Mistake(
            _log_softmax_minus_one_hot,
            "Those are log-probabilities minus one-hot. The derivative holds the "
            "probabilities themselves: `softmax`.",
        ),
        Mistake(
            _gradient_over_positions,
            "The softmax runs over the positions. It must run over the vocabulary, "
            "the last dimension.",
        ),
    ),
)


def _accuracy(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return token_accuracy(logits, tgt_out)


def _accuracy_with_pad(logits: Tensor, tgt_out: Tensor) -> Tensor:
    return (logits.argmax(dim=-1) == tgt_out).float().mean()


def _right_of_all(logits: Tensor, tgt_out: Tensor) -> Tensor:
    is_right = logits.argmax(dim=-1) == tgt_out
    return (is_right & (tgt_out != PAD)).float().mean()


def _where_predicted(logits: Tensor, tgt_out: Tensor) -> Tensor:
    predicted = logits.argmax(dim=-1)
    return (predicted == tgt_out)[predicted != PAD].float().mean()


def _accuracy_by_rows(logits: Tensor, tgt_out: Tensor) -> Tensor:
    is_token = tgt_out != PAD
    is_right = (logits.argmax(dim=-1) == tgt_out) & is_token
    return (is_right.sum(dim=1) / is_token.sum(dim=1)).mean()


def _whole_rows(logits: Tensor, tgt_out: Tensor) -> Tensor:
    is_right = logits.argmax(dim=-1) == tgt_out
    return (is_right | (tgt_out == PAD)).all(dim=1).float().mean()


def _number_right(logits: Tensor, tgt_out: Tensor) -> Tensor:
    is_right = logits.argmax(dim=-1) == tgt_out
    return (is_right & (tgt_out != PAD)).float().sum()


check_accuracy = SelfCheck(
    solution=_accuracy,
    cases=_predictions,
    mistakes=(
        Mistake(
            _accuracy_with_pad,
            "PAD is counted. Look only at positions whose target is not PAD.",
        ),
        Mistake(
            _right_of_all,
            "You divide by all positions. Divide by those whose target is not PAD.",
        ),
        Mistake(
            _where_predicted,
            "The target decides which positions count, not the prediction: who "
            "predicts PAD for a token is wrong there.",
        ),
        Mistake(
            _accuracy_by_rows,
            "That is a mean over rows, so a token of a short row counts more. "
            "Divide all right tokens by all tokens.",
        ),
        Mistake(
            _whole_rows,
            "You count rows that are right from end to end. Count single tokens.",
        ),
        Mistake(
            _number_right, "That is how many are right: divide by how many there are."
        ),
    ),
)


def _norm(gradients: list[Tensor]) -> float:
    return math.sqrt(sum(gradient.pow(2).sum().item() for gradient in gradients))


def _scaled(gradients: list[Tensor], factor: float) -> list[Tensor]:
    return [gradient * factor for gradient in gradients]


def _clip(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    norm = _norm(gradients)
    return _scaled(gradients, max_norm / norm if norm > max_norm else 1.0)


def _gradients() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(5, 3, generator=generator)
    return [
        ([torch.tensor([3.0, 4.0])], 1.0),
        ([torch.tensor([0.3, 0.4])], 1.0),
        # Each is short enough; together they are not.
        ([torch.tensor([0.9]), torch.tensor([[0.0, -0.9]])], 1.0),
        ([matrix, 20 * torch.ones(7), torch.zeros(2)], 2.0),
        ([torch.zeros(3), torch.zeros(1, 2)], 1.0),
    ]


def _each_alone(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    return [_clip([gradient], max_norm)[0] for gradient in gradients]


def _clamped(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    return [gradient.clamp(-max_norm, max_norm) for gradient in gradients]


def _always(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    norm = torch.tensor(_norm(gradients))
    return [gradient * (max_norm / norm) for gradient in gradients]


def _always_but_zero(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    return _scaled(gradients, max_norm / (_norm(gradients) + 1e-6))


def _clip_by(norm: float, gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    return _scaled(gradients, max_norm / norm if norm > max_norm else 1.0)


def _by_sum_of_norms(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    norm = sum(gradient.norm().item() for gradient in gradients)
    return _clip_by(norm, gradients, max_norm)


def _by_square(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    return _clip_by(_norm(gradients) ** 2, gradients, max_norm)


def _by_sum(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    norm = sum(gradient.abs().sum().item() for gradient in gradients)
    return _clip_by(norm, gradients, max_norm)


def _to_unit(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    norm = _norm(gradients)
    return _scaled(gradients, 1 / norm if norm > max_norm else 1.0)


check_clipping = SelfCheck(
    solution=_clip,
    cases=_gradients,
    mistakes=(
        Mistake(
            _each_alone,
            "You clip each tensor by itself, which turns the direction. Compute one norm "
            "over all of them, and scale all by the same factor.",
        ),
        Mistake(
            _clamped,
            "You cut single entries, which turns the direction. Scale all entries by "
            "the same factor.",
        ),
        Mistake(
            _always,
            "Short gradients are made longer, and zeros become NaN. Scale only if the "
            "norm exceeds the limit.",
        ),
        Mistake(
            _always_but_zero,
            "Short gradients are made longer. Scale only if the norm exceeds the limit.",
        ),
        Mistake(
            _by_sum_of_norms,
            "Norms of parts do not add up. Add the squares of all entries, then take "
            "the root.",
        ),
        Mistake(_by_square, "The root is missing: that is the square of the norm."),
        Mistake(
            _by_sum,
            "That is the sum of the absolute values. Add the squares, then take the root.",
        ),
        Mistake(
            _to_unit, "Your gradients get norm 1. They should get norm `max_norm`."
        ),
    ),
)


def _rate(step: int, d_model: int, warmup_steps: int) -> float:
    return warmup_rate(step, d_model, warmup_steps)


def _rate_cases() -> list[tuple]:
    sizes = {"d_model": 64, "warmup_steps": 11}
    return [(step, *sizes.values()) for step in (1, 2, 11, 12, 500)] + [(1, 5, 1)]


def _larger(step: int, d_model: int, warmup_steps: int) -> float:
    return d_model**-0.5 * max(step**-0.5, step * warmup_steps**-1.5)


def _from_zero(step: int, d_model: int, warmup_steps: int) -> float:
    done = step - 1
    return d_model**-0.5 * min(done**-0.5, done * warmup_steps**-1.5)


def _one_late(step: int, d_model: int, warmup_steps: int) -> float:
    return _rate(step + 1, d_model, warmup_steps)


def _no_width(step: int, _d_model: int, warmup_steps: int) -> float:
    return _rate(step, 1, warmup_steps)


def _times_root_of_width(step: int, d_model: int, warmup_steps: int) -> float:
    return d_model * _rate(step, d_model, warmup_steps)


def _never_falls(step: int, d_model: int, warmup_steps: int) -> float:
    return d_model**-0.5 * step * warmup_steps**-1.5


def _never_rises(step: int, d_model: int, _warmup_steps: int) -> float:
    return d_model**-0.5 * step**-0.5


def _stays_up(step: int, d_model: int, warmup_steps: int) -> float:
    return _rate(min(step, warmup_steps), d_model, warmup_steps)


def _wrong_power(step: int, d_model: int, warmup_steps: int) -> float:
    return d_model**-0.5 * min(step**-0.5, step * warmup_steps**-0.5)


check_warmup = SelfCheck(
    solution=_rate,
    cases=_rate_cases,
    mistakes=(
        Mistake(
            _larger,
            "You take the larger of the two branches: the rate is highest at step 1. "
            "Take the smaller one.",
        ),
        Mistake(_from_zero, "You count from 0, but the first step is step 1."),
        Mistake(_one_late, "You are one step ahead: `step` counts from 1 already."),
        Mistake(_no_width, "The factor with `d_model` is missing."),
        Mistake(
            _times_root_of_width,
            "The exponent of `d_model` is -0.5: wider models get a lower rate.",
        ),
        Mistake(
            _never_falls, "Your rate never falls: the branch `step**-0.5` is missing."
        ),
        Mistake(
            _never_rises, "Your rate only falls: the branch that rises is missing."
        ),
        Mistake(
            _stays_up,
            "After warm-up your rate stays where it is. It should fall with `step**-0.5`.",
        ),
        Mistake(_wrong_power, "The exponent of `warmup_steps` is -1.5."),
    ),
)
