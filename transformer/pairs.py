"""Pairs of sequences in a text file: one a line, source TAB target.

The text stays on the disk. What memory keeps of a pair, where its line begins and how long
its two sequences are, is 16 bytes: batches by length in random order need no more.
"""

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from transformer.checks import check_int
from transformer.vocabulary import Vocabulary

# How many bad lines an error names; it counts the others.
_MAX_NAMED = 5
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class PairFormat:
    r"""How the two sides of a line `source \t target` are cut into symbols."""

    source_separator: str = " "
    """What stands between two symbols of a source; "": every character is a symbol."""
    target_separator: str = " "
    """The same for targets."""

    def __post_init__(self) -> None:
        """Refuse separators that would cut the line elsewhere."""
        for name in ("source_separator", "target_separator"):
            separator = getattr(self, name)
            if not isinstance(separator, str):
                raise TypeError(
                    f"{name} must be a text, got {type(separator).__name__}"
                )
            if set(separator) & set("\t\r\n"):
                raise ValueError(
                    f"{name} must hold no TAB and no line break, got {separator!r}"
                )

    def read(self, line: bytes) -> tuple[list[str], list[str]]:
        """The symbols of the source and those of the target.

        Raises:
            ValueError: if the line is not UTF-8, has not exactly one TAB, or a side is
                empty or holds an empty symbol.
        """
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8: {error}") from None
        sides = text.rstrip("\r\n").split("\t")
        if len(sides) != 2:
            raise ValueError(f"{len(sides) - 1} TABs instead of one between the sides")
        return self.cut("source", sides[0]), self.cut("target", sides[1])

    def cut(self, side: str, text: str) -> list[str]:
        """The symbols of one side, "source" or "target"; errors as in `read`."""
        if not text:
            raise ValueError(f"the {side} is empty")
        separator = getattr(self, f"{side}_separator")
        symbols = text.split(separator) if separator else list(text)
        if "" in symbols:
            raise ValueError(
                f"symbol {symbols.index('') + 1} of the {side} is empty: {separator!r} at "
                "an end, or twice in a row"
            )
        return symbols


def read_pairs(
    path: str | os.PathLike[str], form: PairFormat | None = None
) -> Iterator[tuple[list[str], list[str]]]:
    """The symbols of one pair after the other; the file is read as they are asked for.

    Args:
        form: how lines are cut; None: symbols are separated by spaces.

    Raises:
        ValueError: at a line that is no pair, naming the file and the line.
    """
    form = PairFormat() if form is None else form
    for number, (_, line) in enumerate(_lines(path), 1):
        try:
            yield form.read(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Where every line begins, in bytes, and the line; a byte order mark is skipped."""
    with Path(path).open("rb") as file:
        if file.read(len(_BYTE_ORDER_MARK)) != _BYTE_ORDER_MARK:
            file.seek(0)
        place = file.tell()
        for line in file:
            yield place, line
            place += len(line)


class PairFile(Dataset):
    """The encoded pairs of a text file, read when they are asked for.

    `pairs[i]` is two lists of ids: those of the source, and those of the target without
    START and END, as `make_batch` wants them.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        src_vocabulary: Vocabulary,
        tgt_vocabulary: Vocabulary,
        form: PairFormat | None = None,
    ) -> None:
        """Read the file once, line by line, and remember where each pair stands.

        Args:
            path: UTF-8; a byte order mark and Windows' line ends do no harm.
            form: how lines are cut; None: symbols are separated by spaces.

        Raises:
            ValueError: if a line is no pair or holds a symbol that is not in its
                vocabulary, naming the first few such lines and counting the others; or if
                the file holds no pair.
        """
        self.path = Path(path)
        self.src_vocabulary, self.tgt_vocabulary = src_vocabulary, tgt_vocabulary
        self.form = PairFormat() if form is None else form
        self._state = _state_of_file(self.path)
        places, lengths, problems = array("q"), array("i"), []
        for number, (place, line) in enumerate(_lines(self.path), 1):
            try:
                source, target = self._encode(line)
            except ValueError as error:
                problems.append(f"line {number}: {error}")
                continue
            places.append(place)
            lengths.extend((len(source), len(target) + 1))
        if problems:
            named, rest = problems[:_MAX_NAMED], len(problems[_MAX_NAMED:])
            named += [f"and {rest} more lines"] if rest else []
            raise ValueError("\n  ".join([f"{self.path} cannot be used:", *named]))
        if not places:
            raise ValueError(f"{self.path} holds no pair")
        self._places = np.frombuffer(places, dtype=np.int64)
        self.lengths = np.frombuffer(lengths, dtype=np.int32).reshape(-1, 2)
        """Tokens of every source, and of every target with END: `[pairs, 2]`."""

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[list[int], list[int]]:
        """The ids of pair `index`; negative ones count from the end."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[list[int], list[int]]]:
        """The ids of several pairs; a `DataLoader` asks for a whole batch at once.

        Raises:
            IndexError: if there is no such pair, naming their number.
            RuntimeError: if the file has changed since it was read first.
        """
        if _state_of_file(self.path) != self._state:
            raise RuntimeError(
                f"{self.path} has changed since its pairs were counted: build PairFile anew"
            )
        # Nothing stays open: so worker processes can have a copy of this object.
        pairs = []
        with self.path.open("rb") as file:
            for index in indices:
                file.seek(self._places[check_int("index", index)])
                pairs.append(self._encode(file.readline()))
        return pairs

    def _encode(self, line: bytes) -> tuple[list[int], list[int]]:
        """The ids of both sides; a `ValueError` says which side is wrong."""
        ids = []
        for name, vocabulary, symbols in zip(
            ("source", "target"),
            (self.src_vocabulary, self.tgt_vocabulary),
            self.form.read(line),
            strict=True,
        ):
            try:
                ids.append(vocabulary.encode(symbols))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return ids[0], ids[1]


def _state_of_file(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
