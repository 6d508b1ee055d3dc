"""Numbers in words and in Roman numerals: as written by hand, and read back."""

import re

import pytest

from transformer import numerals

BY_HAND = {
    numerals.english: {
        0: "zero",
        1: "one",
        10: "ten",
        13: "thirteen",
        18: "eighteen",
        20: "twenty",
        40: "forty",
        42: "forty two",
        99: "ninety nine",
        100: "one hundred",
        101: "one hundred one",
        119: "one hundred nineteen",
        555: "five hundred fifty five",
        999: "nine hundred ninety nine",
        7_005: "seven thousand five",
        342_017: "three hundred forty two thousand seventeen",
    },
    numerals.german: {
        0: "null",
        1: "eins",
        2: "zwei",
        7: "sieben",
        10: "zehn",
        11: "elf",
        12: "zwölf",
        13: "dreizehn",
        16: "sechzehn",
        17: "siebzehn",
        20: "zwanzig",
        21: "einundzwanzig",
        30: "dreißig",
        31: "einunddreißig",
        42: "zweiundvierzig",
        55: "fünfundfünfzig",
        60: "sechzig",
        66: "sechsundsechzig",
        70: "siebzig",
        77: "siebenundsiebzig",
        80: "achtzig",
        98: "achtundneunzig",
        100: "einhundert",
        101: "einhunderteins",
        111: "einhundertelf",
        117: "einhundertsiebzehn",
        121: "einhunderteinundzwanzig",
        200: "zweihundert",
        201: "zweihunderteins",
        212: "zweihundertzwölf",
        616: "sechshundertsechzehn",
        700: "siebenhundert",
        777: "siebenhundertsiebenundsiebzig",
        999: "neunhundertneunundneunzig",
        1_000: "eintausend",
        1_001: "eintausendeins",
        1_100: "eintausendeinhundert",
        21_000: "einundzwanzigtausend",
        101_000: "einhunderteintausend",
        101_101: "einhunderteintausendeinhunderteins",
    },
    numerals.japanese: {
        0: "零",
        1: "一",
        2: "二",
        3: "三",
        4: "四",
        5: "五",
        6: "六",
        7: "七",
        8: "八",
        9: "九",
        10: "十",
        11: "十一",
        14: "十四",
        20: "二十",
        42: "四十二",
        90: "九十",
        100: "百",
        101: "百一",
        110: "百十",
        111: "百十一",
        300: "三百",
        308: "三百八",
        615: "六百十五",
        777: "七百七十七",
        999: "九百九十九",
        1_000: "千",
        1_984: "千九百八十四",
        8_001: "八千一",
        10_000: "一万",
        11_111: "一万千百十一",
        100_000: "十万",
        210_000: "二十一万",
        999_999: "九十九万九千九百九十九",
    },
    numerals.roman: {
        1: "I",
        3: "III",
        4: "IV",
        8: "VIII",
        9: "IX",
        14: "XIV",
        40: "XL",
        42: "XLII",
        49: "XLIX",
        90: "XC",
        400: "CD",
        444: "CDXLIV",
        944: "CMXLIV",
        1_984: "MCMLXXXIV",
        2_026: "MMXXVI",
        3_999: "MMMCMXCIX",
    },
}


@pytest.mark.parametrize(
    ("write", "number", "words"),
    [
        (write, number, words)
        for write, listed in BY_HAND.items()
        for number, words in listed.items()
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_number_is_written_as_one_would_by_hand(write, number, words):
    assert write(number) == words


def read_english(words):
    total = group = 0
    for word in words.split():
        if word == "thousand":
            total, group = total + 1_000 * group, 0
        elif word == "hundred":
            group *= 100
        else:
            small = [numerals.english(n) for n in (*range(20), *range(20, 100, 10))]
            index = small.index(word)
            group += index if index < 20 else 10 * (index - 18)
    return total + group


GERMAN_UNITS = ["null", "ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben"]
GERMAN_UNITS += ["acht", "neun"]
GERMAN_ROOTS = [
    "-",
    "zehn",
    "zwan",
    "drei",
    "vier",
    "fünf",
    "sech",
    "sieb",
    "acht",
    "neun",
]
GERMAN_TEENS = {"elf": 11, "zwölf": 12} | {
    f"{root}zehn": 10 + digit for digit, root in enumerate(GERMAN_ROOTS) if digit > 2
}


def read_german(word):
    """Read from the front, by rules that know nothing of how words are written."""
    if "tausend" in word:
        many, rest = word.split("tausend")
        return 1_000 * read_german(many) + (read_german(rest) if rest else 0)
    if "hundert" in word:
        many, rest = word.split("hundert")
        return 100 * read_german(many) + (read_german(rest) if rest else 0)
    if word in GERMAN_TEENS:
        return GERMAN_TEENS[word]
    if word == "zehn":
        return 10
    if (
        tens := re.fullmatch(
            r"(?:(.+)und)?(zwan|vier|fünf|sech|sieb|acht|neun)zig", word
        )
    ) or (tens := re.fullmatch(r"(?:(.+)und)?(drei)ßig", word)):
        units, root = tens.groups()
    else:
        return 1 if word == "eins" else GERMAN_UNITS.index(word)
    return 10 * GERMAN_ROOTS.index(root) + (GERMAN_UNITS.index(units) if units else 0)


def read_japanese(words):
    total = group = digit = 0
    for letter in words:
        if letter in "零一二三四五六七八九":
            digit = "零一二三四五六七八九".index(letter)
        elif letter == "万":
            total, group, digit = total + 10_000 * (group + digit), 0, 0
        else:
            group += (digit or 1) * {"十": 10, "百": 100, "千": 1_000}[letter]
            digit = 0
    return total + group + digit


def read_roman(letters):
    sizes = [dict(zip("IVXLCDM", (1, 5, 10, 50, 100, 500, 1_000), strict=True))[x]
             for x in letters]  # fmt: skip
    following = [*sizes[1:], 0]
    return sum(
        -size if size < after else size
        for size, after in zip(sizes, following, strict=True)
    )


READERS = {
    numerals.english: read_english,
    numerals.german: read_german,
    numerals.japanese: read_japanese,
    numerals.roman: read_roman,
}
by_language = pytest.mark.parametrize("write", READERS, ids=lambda w: w.__name__)


@by_language
def test_every_number_is_read_back_so_that_no_two_are_written_alike(write):
    smallest = 1 if write is numerals.roman else 0
    numbers = [*range(smallest, 4_000), 9_999]
    if write is not numerals.roman:
        numbers += [10_000, 10_001, 40_404, 99_999, 100_001, 560_310, 700_000, 999_999]
    else:
        numbers.remove(9_999)
    assert [READERS[write](write(number)) for number in numbers] == numbers
    assert len({write(number) for number in numbers}) == len(numbers)


def test_german_says_the_units_first_and_writes_one_word():
    for number in range(21, 100):
        tens, units = divmod(number, 10)
        word = numerals.german(number)
        assert " " not in word
        if units:
            assert word.endswith("und" + numerals.german(10 * tens))
        assert not re.search("dreizig|sechszig|sechszehn|siebenzig|siebenzehn", word)
    for number in range(1_000):
        word = numerals.german(number)
        # "eins" stands at the end alone; "ein" never does.
        assert re.search("eins?$", word) is None or number % 100 == 1
        assert "eins" not in word[:-4]
        assert not word.endswith("ein")


def test_japanese_has_no_one_before_ten_hundred_and_thousand():
    for number in range(10_000):
        words = numerals.japanese(number)
        assert not re.search("一[十百千]", words)
        assert ("零" in words) == (number == 0)
        assert words.endswith("一") == (number % 10 == 1)


@pytest.mark.parametrize("letters", ["IIII", "XXXX", "CCCC", "VV", "LL", "DD", "IXI"])
def test_roman_letters_come_in_the_patterns_that_are_allowed(letters):
    assert not any(letters in numerals.roman(number) for number in range(1, 4_000))


@pytest.mark.parametrize("write", [*READERS], ids=lambda w: w.__name__)
@pytest.mark.parametrize("number", [-1, 1_000_000])
def test_numbers_that_it_does_not_know_are_refused(write, number):
    with pytest.raises(ValueError, match=f"number must lie between .* got {number}"):
        write(number)


def test_half_a_number_has_no_words():
    with pytest.raises(TypeError, match="number"):
        numerals.german(2.5)
