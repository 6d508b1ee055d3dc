"""Checks for the companion on other tasks."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import pairwise

from transformer.byte_pairs import merge
from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.numerals import german


def _sorted_places(word: str) -> list[int]:
    return sorted(range(len(word)), key=lambda place: word[place])


def _sorting_cases() -> list[tuple]:
    return [("cab",), ("dbca",), ("baba",), ("a",), ("ccbad",), ("edcba",)]


def _ranks(word: str) -> list[int]:
    order = _sorted_places(word)
    return [order.index(place) for place in range(len(word))]


def _sorted_letters(word: str) -> list[str]:
    return sorted(word)


def _first_copy(word: str) -> list[int]:
    return [word.index(letter) for letter in sorted(word)]


def _descending(word: str) -> list[int]:
    return _sorted_places(word)[::-1]


def _last_copy_first(word: str) -> list[int]:
    return sorted(range(len(word)), key=lambda place: (word[place], -place))


def _from_one(word: str) -> list[int]:
    return [place + 1 for place in _sorted_places(word)]


check_sorted_places = SelfCheck(
    solution=_sorted_places,
    cases=_sorting_cases,
    mistakes=(
        Mistake(
            _ranks,
            "You say for each letter of the source where it goes. Say for each letter that "
            "is written where it comes from.",
        ),
        Mistake(
            _sorted_letters,
            "These are the letters. The places that they have are wanted.",
        ),
        Mistake(
            _first_copy,
            "Of several equal letters, you always name the first. Each place comes once.",
        ),
        Mistake(_descending, "Your order runs from the last letter to the first."),
        Mistake(
            _last_copy_first,
            "Of several equal letters, you name the last place first. Name the first.",
        ),
        Mistake(_from_one, "You count places from 1. Count from 0, as Python does."),
    ),
)


def _bag_bound(pairs: list[tuple[str, str]]) -> float:
    by_bag = defaultdict(Counter)
    for source, target in pairs:
        by_bag["".join(sorted(source))][target] += 1
    return sum(max(counts.values()) for counts in by_bag.values()) / len(pairs)


def _pair_cases() -> list[tuple]:
    words = ["ab", "ba", "aab", "aba", "baa", "cc"]
    return [
        ([(word, word[::-1]) for word in words],),
        ([(word, "".join(sorted(word))) for word in words],),
        ([("ab", "x"), ("ba", "x"), ("ab", "y"), ("c", "z")],),
        ([("aab", "1"), ("abb", "2"), ("ab", "3"), ("aba", "4")],),
    ]


def _share_of_bags(pairs: list[tuple[str, str]]) -> float:
    return len({"".join(sorted(source)) for source, _ in pairs}) / len(pairs)


def _sets_of_letters(pairs: list[tuple[str, str]]) -> float:
    return _bag_bound([("".join(set(source)), target) for source, target in pairs])


def _unambiguous(pairs: list[tuple[str, str]]) -> float:
    targets = defaultdict(set)
    for source, target in pairs:
        targets["".join(sorted(source))].add(target)
    sure = sum(len(targets["".join(sorted(source))]) == 1 for source, _ in pairs)
    return sure / len(pairs)


def _in_order(pairs: list[tuple[str, str]]) -> float:
    by_source = defaultdict(Counter)
    for source, target in pairs:
        by_source[source][target] += 1
    return sum(max(counts.values()) for counts in by_source.values()) / len(pairs)


def _number_right(pairs: list[tuple[str, str]]) -> float:
    return _bag_bound(pairs) * len(pairs)


def _mean_of_bags(pairs: list[tuple[str, str]]) -> float:
    by_bag = defaultdict(Counter)
    for source, target in pairs:
        by_bag["".join(sorted(source))][target] += 1
    shares = [max(counts.values()) / counts.total() for counts in by_bag.values()]
    return sum(shares) / len(shares)


check_bag_bound = SelfCheck(
    solution=_bag_bound,
    cases=_pair_cases,
    mistakes=(
        Mistake(
            _share_of_bags,
            "You count the bags, one right answer for each. A target that comes several "
            "times in a bag is right several times.",
        ),
        Mistake(
            _sets_of_letters,
            "You forget how often a letter comes. A bag knows that: `aab` is not `abb`.",
        ),
        Mistake(
            _unambiguous,
            "You count only bags with a single target. In the others, the most frequent "
            "target is right, too.",
        ),
        Mistake(
            _in_order,
            "You compare sources as they are. Without positions, `ab` and `ba` are one "
            "bag: sort the letters.",
        ),
        Mistake(
            _number_right, "You return a number of pairs. Divide by how many there are."
        ),
        Mistake(
            _mean_of_bags,
            "You average over bags. A bag with more pairs must count for more.",
        ),
    ),
)


def _guessing_loss(num_keys: int, length: int) -> float:
    return math.log(num_keys) / (length + 1)


def _key_cases() -> list[tuple]:
    return [(3, 3), (3, 8), (26, 5), (1, 4), (2, 1)]


def _every_letter(num_keys: int, _length: int) -> float:
    return math.log(num_keys)


def _without_end(num_keys: int, length: int) -> float:
    return math.log(num_keys) / length


def _in_bits(num_keys: int, length: int) -> float:
    return math.log2(num_keys) / (length + 1)


def _whole_answer(num_keys: int, length: int) -> float:
    return length * math.log(num_keys) / (length + 1)


def _share_and_not_loss(num_keys: int, _length: int) -> float:
    return 1 / num_keys


check_guessing_loss = SelfCheck(
    solution=_guessing_loss,
    cases=_key_cases,
    mistakes=(
        Mistake(
            _every_letter,
            "You let every token cost as much as the first. From the second letter on, the "
            "decoder can read the key off what it has written.",
        ),
        Mistake(
            _without_end, "You forget END, which is a token, too, and costs nothing."
        ),
        Mistake(_in_bits, "Your answer is in bits. The loss of this book is in nats."),
        Mistake(
            _whole_answer,
            "You let every letter cost as much as the first, and only END nothing. With "
            "the correct first letter before it, the decoder knows the key.",
        ),
        Mistake(
            _share_and_not_loss,
            "That is the probability of the right key. The loss is minus its logarithm, "
            "divided among the tokens.",
        ),
    ),
)

_UNITS = ["", "ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
_TENS = ["", "zehn", "zwanzig", "dreißig", "vierzig"]
_TENS += ["fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]


def _german_tens(number: int) -> str:
    return german(number)


def _number_cases() -> list[tuple]:
    return [(number,) for number in (42, 21, 66, 77, 30, 35, 90, 99, 20, 81)]


def _tens_first(number: int) -> str:
    tens, units = divmod(number, 10)
    return _TENS[tens] + (f"und{_UNITS[units]}" if units else "")


def _eins_und(number: int) -> str:
    return german(number).replace("einund", "einsund")


def _without_und(number: int) -> str:
    return german(number).replace("und", "")


def _regular_tens(number: int) -> str:
    word = german(number)
    for irregular, regular in [
        ("zwanzig", "zweizig"),
        ("dreißig", "dreizig"),
        ("sechzig", "sechszig"),
        ("siebzig", "siebenzig"),
    ]:
        word = word.replace(irregular, regular)
    return word


def _dreizig(number: int) -> str:
    return german(number).replace("dreißig", "dreizig")


def _long_sechzig(number: int) -> str:
    return german(number).replace("sechzig", "sechszig")


def _long_siebzig(number: int) -> str:
    return german(number).replace("siebzig", "siebenzig")


def _two_words(number: int) -> str:
    return german(number).replace("und", " und ")


def _always_und(number: int) -> str:
    tens, units = divmod(number, 10)
    return f"{_UNITS[units]}und{_TENS[tens]}"


check_german_tens = SelfCheck(
    solution=_german_tens,
    cases=_number_cases,
    mistakes=(
        Mistake(_tens_first, "You say the tens first. German says the units first."),
        Mistake(_eins_und, "21 is `einundzwanzig`: before `und`, the 1 is `ein`."),
        Mistake(_without_und, "You leave out `und` between the units and the tens."),
        Mistake(
            _regular_tens,
            "You form all tens alike. Irregular are `zwanzig`, `dreißig`, `sechzig` and "
            "`siebzig`.",
        ),
        Mistake(_dreizig, "30 is `dreißig`, with ß."),
        Mistake(_long_sechzig, "60 is `sechzig`: `sechs` loses its s."),
        Mistake(_long_siebzig, "70 is `siebzig`: `sieben` loses its en."),
        Mistake(_two_words, "German writes a number below a million in one word."),
        Mistake(
            _always_und,
            "Where there are no units, no `und` stands before the tens.",
        ),
    ),
)


def _longest_first(word: str, symbols: list[str]) -> list[str]:
    pieces = []
    while word:
        piece = max(
            (s for s in symbols if word.startswith(s)), key=len, default=word[0]
        )
        pieces.append(piece)
        word = word[len(piece) :]
    return pieces


def _symbol_cases() -> list[tuple]:
    letters = sorted(set("siebenundzwanzighkl"))
    german_symbols = [*letters, "un", "und", "ig", "zig", "sieb", "siebe", "nund"]
    return [
        ("siebenundzwanzig", german_symbols),
        ("abab", ["a", "b", "ab"]),
        ("aaa", ["a", "aa"]),
        ("abba", ["a", "b", "abb", "ab"]),
        ("abc", ["a", "b", "c", "bc", "ab", "abd"]),
        ("abcd", ["a", "b", "c", "d", "bcd", "ab"]),
    ]


def _letters_alone(word: str, _symbols: list[str]) -> list[str]:
    return list(word)


def _newest_merge_first(word: str, symbols: list[str]) -> list[str]:
    pieces = []
    while word:
        piece = next(s for s in reversed(symbols) if word.startswith(s))
        pieces.append(piece)
        word = word[len(piece) :]
    return pieces


def _oldest_merge_first(word: str, symbols: list[str]) -> list[str]:
    pieces = list(word)
    for symbol in symbols:
        for pair in set(pairwise(pieces)):
            if "".join(pair) == symbol:
                pieces = merge(pieces, pair)
    return pieces


def _from_the_end(word: str, symbols: list[str]) -> list[str]:
    backwards = [symbol[::-1] for symbol in symbols]
    return [piece[::-1] for piece in _longest_first(word[::-1], backwards)][::-1]


def _first_piece(word: str, symbols: list[str]) -> list[str]:
    return _longest_first(word, symbols)[:1]


def _every_symbol_in_it(word: str, symbols: list[str]) -> list[str]:
    return [symbol for symbol in symbols if symbol in word]


check_longest_first = SelfCheck(
    solution=_longest_first,
    cases=_symbol_cases,
    mistakes=(
        Mistake(
            _letters_alone,
            "You cut the word into letters. Take the longest symbol that fits, each time.",
        ),
        Mistake(
            _newest_merge_first,
            "You take the first symbol of the list's end that fits. The longest one that "
            "fits is wanted.",
        ),
        Mistake(
            _oldest_merge_first,
            "You join pairs, as byte-pair encoding does. Here, go through the word once "
            "and take the longest symbol that fits.",
        ),
        Mistake(
            _from_the_end,
            "You begin at the end of the word. Begin at its first letter.",
        ),
        Mistake(_first_piece, "You stop after the first piece. Go on with the rest."),
        Mistake(
            _every_symbol_in_it,
            "You list the symbols that occur in the word. Its pieces are wanted, which "
            "make up the word when joined.",
        ),
    ),
)
