"""Tasks that turn one text into another, and one harness for all of them.

A task is a function that draws an example, and the symbols of its two sides. The harness
makes batches of it, keeps a tenth of all sources for the exam, and marks answers.
"""

import datetime
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from transformer import numerals
from transformer.batching import Batch, make_batch
from transformer.checks import check_positive_int
from transformer.tokens import END, FIRST_TASK_TOKEN, PAD, START

#: A source and its target.
Pair = tuple[str, str]

LETTERS = "abcdefghij"
CIPHER_LETTERS = LETTERS[:6]
DIGITS = "0123456789"


class Decodes(Protocol):
    """What an exam needs of a model."""

    def greedy_decode(
        self, src: Tensor, max_len: int, start_token_id: int, end_token_id: int
    ) -> Tensor:
        """Ids `[batch, ≤ max_len]`, beginning with START."""


@dataclass(frozen=True)
class TextTask:
    """Turn a source into a target, symbol by symbol.

    Attributes:
        name: what the task is called.
        draw: makes an example of a given size, from random numbers.
        src_symbols: what sources are made of. The first has the id 3.
        tgt_symbols: what targets are made of, likewise.
        sizes: the sizes of training, drawn alike.
        split: cuts a source into its symbols; by default, into letters.
    """

    name: str
    draw: Callable[[Generator, int], Pair]
    src_symbols: Sequence[str]
    tgt_symbols: Sequence[str]
    sizes: Sequence[int] = range(3, 9)
    split: Callable[[str], Sequence[str]] = list

    @property
    def src_vocab_size(self) -> int:
        """Number of source ids, PAD, START and END included."""
        return FIRST_TASK_TOKEN + len(self.src_symbols)

    @property
    def tgt_vocab_size(self) -> int:
        """Number of target ids, PAD, START and END included."""
        return FIRST_TASK_TOKEN + len(self.tgt_symbols)

    def pairs(
        self,
        count: int,
        generator: Generator,
        *,
        held_out: bool | None,
        sizes: Sequence[int] | None = None,
    ) -> list[Pair]:
        """Draw `count` examples.

        Args:
            held_out: whether all of them are to be held out, or none; None takes all.
            sizes: draws from other sizes than those of training.

        Raises:
            ValueError: if no such example turns up in a thousand draws.
        """
        check_positive_int("count", count)
        drawn = self._draws(generator, held_out, sizes)
        return list(itertools.islice(drawn, count))

    def exam(
        self,
        count: int,
        generator: Generator,
        *,
        held_out: bool | None = True,
        sizes: Sequence[int] | None = None,
    ) -> list[Pair]:
        """Draw `count` examples whose sources differ; all of them where there are fewer.

        All means: the search ends when nothing new has come in two thousand of them.
        """
        check_positive_int("count", count)
        found: dict[str, str] = {}
        old = 0
        for source, target in self._draws(generator, held_out, sizes):
            old = old + 1 if source in found else 0
            found.setdefault(source, target)
            if len(found) == count or old == 2_000:
                return list(found.items())
        raise AssertionError("there is always another draw")

    def _draws(
        self, generator: Generator, held_out: bool | None, sizes: Sequence[int] | None
    ) -> Iterator[Pair]:
        sizes = self.sizes if sizes is None else sizes
        if not sizes or min(sizes) < 0:
            raise ValueError(
                f"sizes must be one or more, none below 0, got {list(sizes)}: leave "
                f"them out to draw those of training, {list(self.sizes)}"
            )
        misses = 0
        while misses < 1_000:
            size = sizes[random_int(0, len(sizes), generator)]
            pair = self.draw(generator, size)
            if held_out is None or is_held_out(pair[0]) == held_out:
                yield pair
                misses = 0
            else:
                misses += 1
        raise ValueError(
            f"of {misses:,} examples of {self.name!r}, none has "
            f"held_out={held_out}: ask for other sizes, or held_out=None"
        )

    def make_batch(self, pairs: Sequence[Pair]) -> Batch:
        """Write examples as tokens.

        Raises:
            ValueError: if there are no examples, or one has a symbol that is none.
        """
        if not pairs:
            raise ValueError("pairs holds 0 examples, and a batch needs 1 at least")
        return make_batch(
            [
                self._ids("source", self.split(source), self.src_symbols)
                for source, _ in pairs
            ],
            [self._ids("target", target, self.tgt_symbols) for _, target in pairs],
        )

    def _ids(self, side: str, text: Sequence[str], symbols: Sequence[str]) -> list[int]:
        ids = {symbol: id_ for id_, symbol in enumerate(symbols, FIRST_TASK_TOKEN)}
        try:
            return [ids[symbol] for symbol in text]
        except KeyError as error:
            raise ValueError(
                f"{error.args[0]!r} is none of the {len(symbols)} {side} symbols of "
                f"{self.name!r}, {' '.join(symbols)}"
            ) from None

    def batches(self, batch_size: int, generator: Generator) -> Iterator[Batch]:
        """Fresh random batches without end, of examples that are not held out."""
        check_positive_int("batch_size", batch_size)
        return (
            self.make_batch(self.pairs(batch_size, generator, held_out=False))
            for _ in itertools.count()
        )

    def read(self, tokens: Tensor) -> str:
        """What a decoded row says after its START, up to END.

        A row without END ends in `…`. PAD and START within an answer are mistakes of the
        model, shown as `·` and `⊢`.
        """
        ids = tokens.tolist()
        is_complete = END in ids
        written = ids[: ids.index(END)] if is_complete else ids
        names = {PAD: "·", START: "⊢"}
        names |= dict(enumerate(self.tgt_symbols, FIRST_TASK_TOKEN))
        text = "".join(names[id_] for id_ in written[1:])
        return text if is_complete else text + "…"

    def answers(self, model: Decodes, pairs: Sequence[Pair]) -> list[str]:
        """What a model writes for each source, decoded greedily."""
        source = self.make_batch(pairs).src
        # Room for END, and for a symbol too many.
        room = max(len(target) for _, target in pairs) + 3
        return [self.read(row) for row in model.greedy_decode(source, room, START, END)]

    def share_right(self, model: Decodes, pairs: Sequence[Pair]) -> float:
        """The share of examples that a model answers exactly."""
        answers = self.answers(model, pairs)
        right = [
            answer == target for answer, (_, target) in zip(answers, pairs, strict=True)
        ]
        return sum(right) / len(right)


def is_held_out(source: str) -> bool:
    """Whether a source belongs to the tenth that is never trained on.

    Its checksum says so: no list must be kept, and every run agrees.
    """
    return zlib.crc32(source.encode()) % 10 == 0


def random_int(low: int, high: int, generator: Generator) -> int:
    """A number from `low` to `high - 1`."""
    return int(torch.randint(low, high, (), generator=generator))


def random_text(symbols: Sequence[str], size: int, generator: Generator) -> str:
    """`size` symbols, each drawn alike."""
    drawn = torch.randint(len(symbols), (size,), generator=generator)
    return "".join(symbols[index] for index in drawn.tolist())


def reverse(generator: Generator, size: int) -> Pair:
    """`cab` → `bac`."""
    word = random_text(LETTERS, size, generator)
    return word, word[::-1]


def sort(generator: Generator, size: int) -> Pair:
    """`cab` → `abc`."""
    word = random_text(LETTERS, size, generator)
    return word, "".join(sorted(word))


def remove_duplicates(generator: Generator, size: int) -> Pair:
    """`abacb` → `abc`: every letter once, where it comes first."""
    word = random_text(LETTERS[:6], size, generator)
    return word, "".join(dict.fromkeys(word))


def shifted(word: str, key: int) -> str:
    """Each letter `key` places further in the alphabet, and from its end to its start."""
    places = [CIPHER_LETTERS.index(letter) + key for letter in word]
    return "".join(CIPHER_LETTERS[place % len(CIPHER_LETTERS)] for place in places)


def shift(generator: Generator, size: int) -> Pair:
    """`cab` → `fde`: the key is always 3."""
    word = random_text(CIPHER_LETTERS, size, generator)
    return word, shifted(word, 3)


def shift_by_key(generator: Generator, size: int) -> Pair:
    """`2cab` → `ecd`: the source begins with the key, 1, 2 or 3."""
    word = random_text(CIPHER_LETTERS, size, generator)
    key = random_int(1, 4, generator)
    return f"{key}{word}", shifted(word, key)


def shift_by_hidden_key(generator: Generator, size: int) -> Pair:
    """`cab` → `ecd`, or `dbc`, or `fde`: nothing says which key was drawn."""
    source, target = shift_by_key(generator, size)
    return source[1:], target


def close_brackets(generator: Generator, size: int) -> Pair:
    """`([]{` → `})`: close what is open, the innermost first."""
    closing = dict(zip("([{", ")]}", strict=True))
    source, still_open = "", []
    for opens in torch.rand(size, generator=generator) < 0.65:
        if opens or not still_open:
            source += random_text("([{", 1, generator)
            still_open.append(closing[source[-1]])
        else:
            source += still_open.pop()
    return source, "".join(reversed(still_open))


def common_prefix(generator: Generator, size: int) -> Pair:
    """`abcd,abef` → `ab`: what two words begin with. It may be nothing."""
    shared = random_text(LETTERS, random_int(0, size + 1, generator), generator)
    rest = size - len(shared)
    first, second = (shared + random_text(LETTERS, rest, generator) for _ in "12")
    same = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(first, second, strict=True)
    )
    return f"{first},{second}", "".join(letter for letter, _ in same)


def roman_to_digits(generator: Generator, _size: int) -> Pair:
    """`MCMLXXXIV` → `1984`, from 1 to 3,999."""
    number = random_int(1, 4_000, generator)
    return numerals.roman(number), str(number)


MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
DATE_FORMS = (
    "{day} {name} {year}",
    "{name} {day}, {year}",
    "{day}.{month}.{year}",
    "{year}年{month}月{day}日",
)


def date_to_iso(generator: Generator, _size: int) -> Pair:
    """`March 7, 1984` → `1984-03-07`, from 1900 to 2099, in four forms."""
    days = random_int(0, 73_049, generator)
    date = datetime.date(1900, 1, 1) + datetime.timedelta(days)
    form = DATE_FORMS[random_int(0, len(DATE_FORMS), generator)]
    source = form.format(
        day=date.day, month=date.month, name=MONTHS[date.month - 1], year=date.year
    )
    return source, date.isoformat()


def english_to_digits(generator: Generator, _size: int) -> Pair:
    """`forty two` → `42`, from 1 to 999."""
    number = random_int(1, 1_000, generator)
    return numerals.english(number), str(number)


def german_to_digits(generator: Generator, _size: int) -> Pair:
    """`zweiundvierzig` → `42`, from 1 to 999."""
    number = random_int(1, 1_000, generator)
    return numerals.german(number), str(number)


def japanese_to_digits(generator: Generator, _size: int) -> Pair:
    """`四十二` → `42`, from 1 to 999."""
    number = random_int(1, 1_000, generator)
    return numerals.japanese(number), str(number)


def fill_gap(generator: Generator, _size: int) -> Pair:
    """`zweiundvierzig` → source `zwAvierBg`, target `AeiundBzi`: two gaps, to be filled.

    A and B stand for what is missing, and before it in the target.
    """
    word = numerals.german(random_int(1, 1_000, generator))
    cuts = torch.randint(len(word) + 1, (4,), generator=generator).sort().values
    a, b, c, d = cuts.tolist()
    return f"{word[:a]}A{word[b:c]}B{word[d:]}", f"A{word[a:b]}B{word[c:d]}"


_SMALL_LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: The tasks, each of which is a function above and the symbols that it needs.
TEXT_TASKS = [
    TextTask("reverse", reverse, LETTERS, LETTERS),
    TextTask("sort", sort, LETTERS, LETTERS),
    TextTask("remove duplicates", remove_duplicates, LETTERS[:6], LETTERS[:6]),
    TextTask("shift by 3", shift, CIPHER_LETTERS, CIPHER_LETTERS),
    TextTask("shift by a key", shift_by_key, "123" + CIPHER_LETTERS, CIPHER_LETTERS),
    TextTask(
        "shift by a hidden key", shift_by_hidden_key, CIPHER_LETTERS, CIPHER_LETTERS
    ),
    TextTask("close brackets", close_brackets, "([{)]}", ")]}"),
    TextTask("common prefix", common_prefix, LETTERS + ",", LETTERS, range(1, 7)),
    TextTask("Roman numerals", roman_to_digits, "MDCLXVI", DIGITS),
    TextTask(
        "dates",
        date_to_iso,
        "".join(sorted({*DIGITS, *" ,.年月日", *"".join(MONTHS)})),
        DIGITS + "-",
    ),
    TextTask("English words", english_to_digits, _SMALL_LETTERS + " ", DIGITS),
    TextTask("German words", german_to_digits, _SMALL_LETTERS + "öüß", DIGITS),
    TextTask("Japanese words", japanese_to_digits, "一二三四五六七八九十百", DIGITS),
]
