"""Checks for the exercises of the failure gallery, and its eleventh patient."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.training import next_token_loss
from transformer.transformer import Transformer

VOCAB_SIZE = 15
Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Patient:
    """A toy model: each position averages the tokens it sees.

    `leaks` lists the pairs (query, key) with a key in the future of the query.
    """

    name: str
    leaks: tuple[tuple[int, int], ...] = ()
    strength: float = 1.0
    only_row: int | None = None
    is_rounding: bool = False

    def __repr__(self) -> str:
        """What a hint calls it."""
        return f"⟨{self.name}⟩"

    def __call__(self, tgt_in: Tensor) -> Tensor:
        """Ids `[batch, length]` → logits `[batch, length, 15]`."""
        batch, length = tgt_in.shape
        weights = torch.ones(length, length).tril().repeat(batch, 1, 1)
        rows = slice(None) if self.only_row is None else self.only_row
        for query, key in self.leaks:
            weights[rows, query, key] = self.strength
        place = 1 + torch.arange(length)[:, None] / length
        logits = weights @ (F.one_hot(tgt_in, VOCAB_SIZE) * place)
        if self.is_rounding:
            logits = logits * (1 + 2e-7 * (tgt_in.sum() % 7))
        return logits


def _is_causal(model: Model, tgt_in: Tensor) -> bool:
    logits = model(tgt_in)
    for position in range(1, tgt_in.size(1)):
        changed = _change(tgt_in, position)
        if not torch.allclose(
            model(changed)[:, :position], logits[:, :position], atol=1e-5
        ):
            return False
    return True


def _change(tgt_in: Tensor, position: int) -> Tensor:
    changed = tgt_in.clone()
    changed[:, position] = 3 + (changed[:, position] - 2) % (VOCAB_SIZE - 3)
    return changed


def _causal_cases() -> list[tuple]:
    target_in = torch.tensor([[1, 5, 9, 12, 7], [1, 3, 3, 14, 4]])
    everything = tuple((i, j) for i in range(5) for j in range(i + 1, 5))
    patients = [
        Patient("healthy"),
        Patient("sees the whole future", everything),
        Patient("sees one step ahead", ((0, 1), (1, 2), (2, 3), (3, 4))),
        Patient("sees the second token from the first", ((0, 1),)),
        Patient("sees the last token from the first", ((0, 4),)),
        Patient("sees the future faintly", everything, strength=0.01),
        Patient("sees the future in row 1 alone", everything, only_row=1),
        Patient("healthy up to rounding", is_rounding=True),
    ]
    one_token = (Patient("healthy, with one token"), torch.tensor([[1]]))
    return [*((patient, target_in) for patient in patients), one_token]


def _exactly(model: Model, tgt_in: Tensor) -> bool:
    positions = range(1, tgt_in.size(1))
    logits = model(tgt_in)
    return all(
        torch.equal(model(_change(tgt_in, t))[:, :t], logits[:, :t]) for t in positions
    )


def _last_token_only(model: Model, tgt_in: Tensor) -> bool:
    changed = _change(tgt_in, -1)
    return torch.allclose(model(changed)[:, :-1], model(tgt_in)[:, :-1], atol=1e-5)


def _neighbour_only(model: Model, tgt_in: Tensor) -> bool:
    logits = model(tgt_in)
    return all(
        torch.allclose(model(_change(tgt_in, t))[:, t - 1], logits[:, t - 1], atol=1e-5)
        for t in range(1, tgt_in.size(1))
    )


def _changed_position_too(model: Model, tgt_in: Tensor) -> bool:
    logits = model(tgt_in)
    return all(
        torch.allclose(
            model(_change(tgt_in, t))[:, : t + 1], logits[:, : t + 1], atol=1e-5
        )
        for t in range(tgt_in.size(1))
    )


def _all_positions(model: Model, tgt_in: Tensor) -> bool:
    return tgt_in.size(1) == 1 or torch.allclose(
        model(_change(tgt_in, -1)), model(tgt_in), atol=1e-5
    )


def _likeliest_only(model: Model, tgt_in: Tensor) -> bool:
    chosen = model(tgt_in).argmax(dim=-1)
    return all(
        torch.equal(model(_change(tgt_in, t)).argmax(dim=-1)[:, :t], chosen[:, :t])
        for t in range(1, tgt_in.size(1))
    )


def _first_row_only(model: Model, tgt_in: Tensor) -> bool:
    return _is_causal(model, tgt_in[:1])


def _turned_round(model: Model, tgt_in: Tensor) -> bool:
    return not _is_causal(model, tgt_in)


def _always(_model: Model, _tgt_in: Tensor) -> bool:
    return True


check_is_causal = SelfCheck(
    solution=_is_causal,
    cases=_causal_cases,
    mistakes=(
        Mistake(
            _exactly,
            "A healthy model may differ in the last digit. Compare with "
            "`torch.allclose`, not with `torch.equal`.",
        ),
        Mistake(
            _last_token_only,
            "Some model looks ahead, but not at the last token. Change the later "
            "tokens one after the other.",
        ),
        Mistake(
            _neighbour_only,
            "Some model looks further ahead than one step. Compare all positions "
            "before the changed one.",
        ),
        Mistake(
            _changed_position_too,
            "A position may see its own token. Compare only the positions before the "
            "changed one.",
        ),
        Mistake(
            _all_positions,
            "At the token that you change, the logits may change too. Compare only "
            "the positions before it.",
        ),
        Mistake(
            _likeliest_only,
            "A faint leak moves the logits without changing the likeliest token. "
            "Compare the logits.",
        ),
        Mistake(_first_row_only, "Look at every row of the batch."),
        Mistake(
            _turned_round,
            "Your answer is turned round: True means that the future changes nothing.",
        ),
        Mistake(_always, "Your function calls every model healthy, sick ones too."),
    ),
)


def eleventh_patient(
    build: Callable[[], Transformer], learn: Callable[..., list[float]]
) -> tuple[Transformer, list[float]]:
    """A model trained with the eleventh bug, and the losses that its training reported."""

    def loss_of_probabilities(logits: Tensor, tgt_out: Tensor) -> Tensor:
        return next_token_loss(logits.softmax(dim=-1), tgt_out)

    model = build()
    return model, learn(
        model, loss_function=loss_of_probabilities, rate=2e-3, steps=400
    )


def _floor(vocab_size: int) -> float:
    return math.log(vocab_size - 1 + math.e) - 1


def _floor_cases() -> list[tuple]:
    return [(15,), (2,), (3,), (1_000,), (37_000,)]


def _knowing_nothing(vocab_size: int) -> float:
    return math.log(vocab_size)


def _honest_floor(_vocab_size: int) -> float:
    return 0.0


def _of_this_curve(_vocab_size: int) -> float:
    return _floor(15)


def _sum_alone(vocab_size: int) -> float:
    return math.log(vocab_size - 1 + math.e)


def _right_token_twice(vocab_size: int) -> float:
    return math.log(vocab_size + math.e) - 1


def _all_alike(vocab_size: int) -> float:
    return math.log(vocab_size) - 1


def _probability(vocab_size: int) -> float:
    return math.e / (vocab_size - 1 + math.e)


def _negative(vocab_size: int) -> float:
    return 1 - math.log(vocab_size - 1 + math.e)


def _two_logarithms(vocab_size: int) -> float:
    return math.log2(vocab_size - 1 + math.e) - math.log2(math.e)


check_floor = SelfCheck(
    solution=_floor,
    cases=_floor_cases,
    mistakes=(
        Mistake(
            _knowing_nothing,
            "That is the loss of knowing nothing, and the curve goes below it. What does "
            "this loop report of a model that is certain and right?",
        ),
        Mistake(
            _honest_floor,
            "A healthy loop can report 0. What does this one do to the logits, so that "
            "it cannot?",
        ),
        Mistake(
            _of_this_curve,
            "Right for 15 tokens. Now make it a formula of `vocab_size`.",
        ),
        Mistake(
            _sum_alone,
            "That is the logarithm of the sum alone. Subtract what stands at the right "
            "token.",
        ),
        Mistake(
            _right_token_twice,
            "You count the right token twice: the others are `vocab_size - 1`.",
        ),
        Mistake(
            _all_alike,
            "Almost: in the sum, the right token does not count like the others.",
        ),
        Mistake(
            _probability,
            "That is the probability of the right token. What is the loss that belongs "
            "to it?",
        ),
        Mistake(_negative, "A loss is the *negative* logarithm: change the sign."),
        Mistake(_two_logarithms, "Take the natural logarithm: the loss is in nats."),
    ),
)
