"""Checks for the exercises of the failure gallery."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.exercises.self_check import Mistake, SelfCheck

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
