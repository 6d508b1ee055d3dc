"""Whole numbers in words and in Roman numerals.

A grammar for each language: irregular words stand in lists, the rest follows by rule.
"""

from transformer.checks import check_int

_ENGLISH_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_ENGLISH_TENS = [
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
]

_GERMAN_SMALL = [
    "null",
    "ein",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
    "dreizehn",
    "vierzehn",
    "fünfzehn",
    "sechzehn",
    "siebzehn",
    "achtzehn",
    "neunzehn",
]
_GERMAN_TENS = [
    "zwanzig",
    "dreißig",
    "vierzig",
    "fünfzig",
    "sechzig",
    "siebzig",
    "achtzig",
    "neunzig",
]

_JAPANESE_DIGITS = "零一二三四五六七八九"
_JAPANESE_PLACES = ((1_000, "千"), (100, "百"), (10, "十"))

_ROMAN = (
    (1_000, "M"),
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
)


def english(number: int) -> str:
    """A number from 0 to 999,999 in English, without hyphens: `forty two`.

    Without "and", too: `one hundred one`.
    """
    _check_range(number, 0, 999_999)
    if number < 20:
        return _ENGLISH_SMALL[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return " ".join(
            [_ENGLISH_TENS[tens - 2], *([_ENGLISH_SMALL[units]] if units else [])]
        )
    size, name = (1_000, "thousand") if number >= 1_000 else (100, "hundred")
    many, rest = divmod(number, size)
    return " ".join([english(many), name, *([english(rest)] if rest else [])])


def german(number: int) -> str:
    """A number from 0 to 999,999 in German, in one word: `zweiundvierzig`.

    One hundred is `einhundert` and one thousand `eintausend`, the long forms of `hundert`
    and `tausend`. A 1 at the end is `eins`, elsewhere `ein`.
    """
    _check_range(number, 0, 999_999)
    ends_in_one = number % 100 == 1
    return _german_before_a_noun(number) + ("s" if ends_in_one else "")


def _german_before_a_noun(number: int) -> str:
    if number < 20:
        return _GERMAN_SMALL[number]
    if number < 100:
        tens, units = divmod(number, 10)
        first = f"{_GERMAN_SMALL[units]}und" if units else ""
        return first + _GERMAN_TENS[tens - 2]
    size, name = (1_000, "tausend") if number >= 1_000 else (100, "hundert")
    many, rest = divmod(number, size)
    last = _german_before_a_noun(rest) if rest else ""
    return _german_before_a_noun(many) + name + last


def japanese(number: int) -> str:
    """A number from 0 to 999,999 in Japanese: `四十二`.

    No 一 stands before 十, 百 and 千; before 万 there is one.
    """
    _check_range(number, 0, 999_999)
    if number >= 10_000:
        many, rest = divmod(number, 10_000)
        return japanese(many) + "万" + (japanese(rest) if rest else "")
    words = ""
    for size, name in _JAPANESE_PLACES:
        many, number = divmod(number, size)
        if many:
            words += ("" if many == 1 else _JAPANESE_DIGITS[many]) + name
    return words + _JAPANESE_DIGITS[number] if number or not words else words


def roman(number: int) -> str:
    """A number from 1 to 3,999 in Roman numerals: `XLII`."""
    _check_range(number, 1, 3_999)
    letters = ""
    for size, name in _ROMAN:
        many, number = divmod(number, size)
        letters += many * name
    return letters


def _check_range(number: int, smallest: int, largest: int) -> None:
    if not smallest <= check_int("number", number) <= largest:
        raise ValueError(
            f"number must lie between {smallest} and {largest:,}, got {number}"
        )
