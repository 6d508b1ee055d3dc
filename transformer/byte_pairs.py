"""Byte-pair encoding: symbols of several letters, learned from words.

Again and again, the pair of neighbouring symbols that is most frequent becomes one symbol.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from transformer.checks import check_int


def merge(symbols: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of `pair`, from the left: a symbol is joined once at most."""
    joined, is_whole = [], False
    for symbol in symbols:
        if joined and not is_whole and (joined[-1], symbol) == pair:
            joined[-1] += symbol
            is_whole = True
        else:
            joined.append(symbol)
            is_whole = False
    return joined


@dataclass(frozen=True)
class BytePairs:
    """A way to cut words into symbols.

    Attributes:
        letters: the symbols to begin with.
        merges: the pairs to join, in the order in which they were learned.
    """

    letters: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]

    @property
    def symbols(self) -> list[str]:
        """The letters, and what each merge has made; nothing twice."""
        made = ["".join(pair) for pair in self.merges]
        return list(dict.fromkeys([*self.letters, *made]))

    def split(self, word: str) -> list[str]:
        """Cut a word into symbols: every merge in turn, wherever it fits."""
        symbols = list(word)
        for pair in self.merges:
            symbols = merge(symbols, pair)
        return symbols


def learn_byte_pairs(words: Sequence[str], num_merges: int) -> BytePairs:
    """Learn merges from words; fewer than asked for if every word has become one symbol.

    Of two pairs that are equally frequent, the one whose symbols are older comes first.
    """
    if check_int("num_merges", num_merges) < 0:
        raise ValueError(f"num_merges must not be below 0, got {num_merges}")
    if isinstance(words, str):
        raise TypeError(f"words must be a list of words, got one string, {words!r}")
    letters = tuple(sorted(set("".join(words))))
    ages = {symbol: age for age, symbol in enumerate(letters)}
    texts, merges = [list(word) for word in words], []
    for _ in range(num_merges):
        counts = Counter(pair for text in texts for pair in pairwise(text))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], *(ages[s] for s in pair)))
        merges.append(best)
        ages.setdefault("".join(best), len(ages))
        texts = [merge(text, best) for text in texts]
    return BytePairs(letters, tuple(merges))
