"""From symbols to the ids that a model reads, and back."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from transformer.checks import check_int, check_positive_int
from transformer.files import write_atomically
from transformer.tokens import FIRST_TASK_TOKEN


class Vocabulary:
    """Symbols and their ids; the ids before `FIRST_TASK_TOKEN` are PAD, START and END.

    A symbol is any text without line breaks: a letter, a phoneme, a word.
    """

    def __init__(self, symbols: Iterable[str]) -> None:
        """Give the symbols ids in the order in which they come.

        Raises:
            TypeError, ValueError: if there is no symbol, or one is no text, empty, there
                twice, or holds a line break, naming it and its place, counted from 1.
        """
        if isinstance(symbols, str):
            raise TypeError(
                f"symbols must be a collection of texts, got one text: list({symbols!r}) "
                "makes a symbol of every character"
            )
        self.symbols = tuple(symbols)
        """All symbols, in the order of their ids."""
        if not self.symbols:
            raise ValueError("a vocabulary needs at least one symbol")
        self._ids: dict[str, int] = {}
        for token_id, symbol in enumerate(self.symbols, FIRST_TASK_TOKEN):
            place = f"symbol {token_id - FIRST_TASK_TOKEN + 1}"
            _check_symbol(place, symbol)
            if symbol in self._ids:
                first = self._ids[symbol] - FIRST_TASK_TOKEN + 1
                raise ValueError(f"{place}, {symbol!r}, is symbol {first} already")
            self._ids[symbol] = token_id

    @classmethod
    def build(
        cls, sequences: Iterable[Sequence[str]], min_count: int = 1
    ) -> "Vocabulary":
        """The symbols of `sequences`, the most frequent first, ties in sorted order.

        Args:
            sequences: may be a generator; it is read once. A text is a sequence of its
                characters.
            min_count: leave out symbols that occur less often. `encode` refuses them.

        Raises:
            ValueError: if no symbol occurs `min_count` times, naming the largest count.
        """
        min_count = check_positive_int("min_count", min_count)
        counts = Counter(symbol for sequence in sequences for symbol in sequence)
        if max(counts.values(), default=0) < min_count:
            raise ValueError(
                f"no symbol occurs {min_count} times (min_count); the most frequent "
                f"occurs {max(counts.values(), default=0)} times"
            )
        frequent = [symbol for symbol, count in counts.items() if count >= min_count]
        return cls(sorted(frequent, key=lambda symbol: (-counts[symbol], symbol)))

    def __len__(self) -> int:
        """Number of ids, PAD, START and END included: the model's `vocab_size`."""
        return FIRST_TASK_TOKEN + len(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        """Whether `symbol` has an id."""
        return symbol in self._ids

    def __eq__(self, other: object) -> bool:
        """Whether both give the same symbols the same ids."""
        return isinstance(other, Vocabulary) and self.symbols == other.symbols

    def __hash__(self) -> int:
        """Equal vocabularies count as one."""
        return hash(self.symbols)

    def __repr__(self) -> str:
        """The number of symbols, and the first few."""
        shown = [repr(symbol) for symbol in self.symbols[:5]]
        shown += ["…"] if len(self.symbols) > 5 else []
        return f"Vocabulary of {len(self.symbols)} symbols: {', '.join(shown)}"

    def encode(self, sequence: Sequence[str]) -> list[int]:
        """The id of every symbol, without START and END, which `make_batch` adds.

        Raises:
            ValueError: if a symbol is unknown, naming it and its position, counted from 1.
        """
        try:
            return [self._ids[symbol] for symbol in sequence]
        except KeyError:
            position, unknown = next(
                (position, symbol)
                for position, symbol in enumerate(sequence, 1)
                if symbol not in self._ids
            )
            raise ValueError(
                f"symbol {position} of {len(sequence)}, {unknown!r}, "
                "is not in the vocabulary"
            ) from None

    def decode(self, token_ids: Iterable[int] | Tensor) -> list[str]:
        """The symbol of every id; PAD, START and END are left out.

        Args:
            token_ids: one row, such as one of those that `greedy_decode` returns.

        Raises:
            TypeError, ValueError: if an id is no id of the vocabulary, naming it and its
                position, counted from 1.
        """
        if isinstance(token_ids, Tensor):
            if token_ids.dim() != 1:
                raise ValueError(
                    f"token_ids must be one row, got shape {list(token_ids.shape)}"
                )
            token_ids = token_ids.tolist()
        symbols = []
        for position, token_id in enumerate(token_ids, 1):
            if not 0 <= check_int(f"id {position}", token_id) < len(self):
                raise ValueError(
                    f"id {position} is {token_id}, outside the vocabulary: "
                    f"ids run from 0 to {len(self) - 1}"
                )
            if token_id >= FIRST_TASK_TOKEN:
                symbols.append(self.symbols[token_id - FIRST_TASK_TOKEN])
        return symbols

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one symbol a line, in the order of their ids, in UTF-8."""
        text = "".join(f"{symbol}\n" for symbol in self.symbols)
        write_atomically(path, text.encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """Read what `save` wrote, or a list that somebody typed.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if the file is empty, or a line is not UTF-8, empty, or a symbol
                that stands on another line already, naming the file and the line.
        """
        first_lines: dict[str, int] = {}
        for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
            place = f"{path}, line {number}"
            try:
                symbol = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{place} is not UTF-8: {error}") from None
            _check_symbol(place, symbol)
            if symbol in first_lines:
                raise ValueError(
                    f"{place}: {symbol!r} stands on line {first_lines[symbol]} already"
                )
            first_lines[symbol] = number
        if not first_lines:
            raise ValueError(f"{path} is empty: a vocabulary needs at least one symbol")
        return cls(first_lines)


def _check_symbol(place: str, symbol: str) -> None:
    if not isinstance(symbol, str):
        raise TypeError(f"{place} must be a text, got {type(symbol).__name__}")
    if not symbol:
        raise ValueError(f"{place} is empty")
    if "\n" in symbol or "\r" in symbol:
        raise ValueError(f"{place}, {symbol!r}, holds a line break")
    if symbol.startswith("\ufeff"):
        raise ValueError(f"{place}, {symbol!r}, begins with a byte order mark")
    try:
        symbol.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{place}, {symbol!r}, is half a character: UTF-8 cannot write it"
        ) from None
