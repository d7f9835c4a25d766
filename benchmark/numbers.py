"""Reads a number out of an answer in prose; nothing is ever guessed.

`parse_number` knows digits with either decimal sign, grouped digits, words, Chinese
numerals, percent, 'x out of y', units, compound times and clock times. A range, a
bound or several numbers that disagree have no value, for any choice among them would
be ours. The rules are described in docs/benchmark_parsing.md.
"""

import functools
import itertools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from benchmark import refusals, wording
from benchmark.typing import Number

LARGEST = 1e15  # beyond it a value is no measurement, and its square has no precision
MAX_NUMBERS = 400  # of an answer that are looked at

# name -> (dimension, size in the base unit)
UNITS = {
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds", "毫秒"),
                    ("time", 1e-3)),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "秒", "秒钟"),
                    ("time", 1.0)),
    **dict.fromkeys(("min", "mins", "minute", "minutes", "分钟", "分"), ("time", 60.0)),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "小时"), ("time", 3600.0)),
    **dict.fromkeys(("hz", "hertz", "赫兹"), ("frequency", 1.0)),
    **dict.fromkeys(("khz", "kilohertz"), ("frequency", 1e3)),
    **dict.fromkeys(("mhz", "megahertz"), ("frequency", 1e6)),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
                    ("length", 1e-3)),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres",
                     "厘米"), ("length", 1e-2)),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres", "米"), ("length", 1.0)),
    **dict.fromkeys(("km", "kilometer", "kilometers", "kilometre", "kilometres"),
                    ("length", 1e3)),
    **dict.fromkeys(("ft", "foot", "feet"), ("length", 0.3048)),
    **dict.fromkeys(("inch", "inches"), ("length", 0.0254)),
    **dict.fromkeys(("yd", "yard", "yards"), ("length", 0.9144)),
    **dict.fromkeys(("mile", "miles"), ("length", 1609.344)),
    **dict.fromkeys(("db", "decibel", "decibels", "dbs", "分贝"), ("level", 1.0)),
    **dict.fromkeys(("deg", "degs", "degree", "degrees", "°", "度"), ("angle", 1.0)),
    **dict.fromkeys(("rad", "rads", "radian", "radians"), ("angle", 180 / math.pi)),
    **dict.fromkeys(("%", "percent", "per cent", "percentage"), ("share", 1.0)),
}  # fmt: skip

_UNDER_TWENTY = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen"),
)
_ONES = {word: value for value, word in enumerate(_UNDER_TWENTY)}
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
NUMERALS = frozenset({*_ONES, *_TENS, *_SCALES, "dozen"})
_RAISED = re.compile("(?<!\\s)\u207b?[\u2070\xb9\xb2\xb3\u2074-\u2079]+")
_LOWERED = str.maketrans(
    "\u2070\xb9\xb2\xb3\u2074\u2075\u2076\u2077\u2078\u2079\u207b", "0123456789-"
)
_LISTING = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{1,3}){2,400}(?![\w,]|\.\d)")
_MINUTES = re.compile(r"(\d)\s?m\s?(?=\d{1,2}(?:\.\d{1,6})?\s?s(?:ec|\b))", re.I)
_PARTS = {"half": 0.5, "quarter": 0.25, "threequarters": 0.75}
_CJK_DIGITS = dict(zip("零一二三四五六七八九", range(10), strict=True)) | {
    "\u3007": 0, "两": 2, "兩": 2, "壹": 1, "貳": 2, "叁": 3,
}  # fmt: skip
_CJK_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4}
_VULGAR = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}

_DIGITS = (
    r"(?:\d{1,3}(?:[,'](?=\d{3}(?!\d))\d{3})+(?:\.\d+)?"  # 1,234.5
    r"|\d{1,3}(?:\.\d{3})+,\d+"  # 1.234,5
    r"|\d+[.,]\d+|\d+\.?|\.\d+)"
    r"(?:\s?[x\u00d7*]\s?10\s?(?:\^|\*\*)\s?[-+]?\d{1,4}|e[-+]?\d{1,6}(?!\w))?"
)
_WORD = "|".join(
    sorted([*_ONES, *_TENS, *_SCALES, "half", "dozen"], key=len, reverse=True)
)
_WORDS = (
    r"\ban?(?=\s(?:minute|hour|meter|metre)s?\b|\ssecond\sand\sa\shalf\b)"
    rf"|\b(?:an? (?=(?:half|hundred|thousand|million|dozen|quarter)\b))?"
    rf"(?:{_WORD})(?:[\s-]+(?:and[\s-]+)?(?:an?[\s-]+)?(?:{_WORD}|point|oh|quarters?))*\b"
)
_CJK = (
    r"[零\u3007一二三四五六七八九十百千万萬两兩壹貳叁]+"
    r"(?:点[零\u3007一二三四五六七八九]+)?半?"
)
# '3-1/2' is three and a half; '3-4/5' is no number, but three to four out of five.
_HYPHEN = r"\s?-\s?(?=(?:1\s?/\s?[2348]|2\s?/\s?3|3\s?/\s?4|[357]\s?/\s?8)(?!\d))"
_UNIT = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w.)])[-+]|\b(?:minus|negative)\s+)?"
    rf"(?:(?P<mixed>\d{{1,4}}(?:\s+|{_HYPHEN}))?(?P<up>\d{{1,4}}(?:\.\d{{1,6}})?)\s?/\s?"
    rf"(?P<down>\d{{1,4}})(?![\w/])"
    rf"|(?<![\w.,])(?P<clock>\d{{1,2}}(?::\d{{2}}){{1,2}}(?:\.\d+)?)(?![\w:])"
    rf"|(?<![\w])(?<![a-z]/)(?<!\d[.,])(?P<digits>{_DIGITS})"
    rf"|(?P<words>{_WORDS})|(?P<cjk>{_CJK}))"
    rf"(?P<half>\s+and\s+a\s+half)?"
    rf"(?:(?:(?<=half)\s+an?\s+|\s?-?)(?P<unit>{_UNIT})"
    rf"(?:(?P<rate>\s?/\s?[a-z]|\s+per\s|\^?\d)|(?P<late>\s+and\s+a\s+half\b)|(?![a-z\d]))"
    rf"|(?P<part>[\s-]+(?:third|fourth|fifth|sixth|eighth|tenth)s?\b)"
    rf"|(?:ish\b|pts?\b)|(?P<glued>[a-z_]\w*))?",
    re.I,
)
_MASKS = re.compile(
    r"\b\d{4}-\d{1,2}-\d{1,2}\b|\b\d{1,2}/\d{1,2}/\d{2,4}\b"  # dates
    r"|\b\d+\.\d+\.\d+(?:\.\d+)*\b"  # versions, addresses
    r"|\S{1,80}\.(?:wav|mp3|flac|ogg|m4a|json|txt)\b|https?://\S{1,300}"
    r"|\b(?:clip|audio|question|sample|step|example|option|track|channel|recording|file"
    r"|figure|table|item|no\.|speaker|segment|version|part|section|task)\s?#?\s?\d{1,6}"
    r"(?![\w.,]?\d|\s?(?:" + _UNIT + r")(?![a-z]))"
    r"|\b(?:in|since|of|year)\s(?:19|20)\d\d\b(?!\s?[.,]?\d|\s?(?:"
    + _UNIT
    + r")(?![a-z]))"
    r"|(?:on|using)\s(?:a|the)\sscale\s(?:of|from)\s\S{1,8}\s?(?:to|-|through)\s?\S{1,8}"
    r"|(?:±|\+/-|\+-|give or take)\s?\d+(?:\.\d+)?"
    r"|(?<![x\u00d7*\d.])(?<![x\u00d7*]\s)\d{1,9}(?:\^|\*\*)-?\d{1,4}|(?<![\w])\^\d{1,4}"
    r"|\bconfidence(?: level| score| of| is|[\"'])*\s?[:=]?"
    r"\s?\d{1,3}(?:\.\d{1,4})?\s?%?"
    r"|\b\d{1,3}(?:\.\d{1,4})?\s?%\s(?:sure|certain|confiden\w{1,4})\b"
    r"|第[零\u3007一二三四五六七八九十百\d]+|一共|一些|一样|一起|一下|一定|一般|统一|唯一|一直|万一"
    r"|\b(?:one of|no one|this one|that one|which one|any one"
    r"|each one|the one|one another|one can|one could|someone|anyone|everyone"
    r"|one thing|second half|half of)\b",
    re.I,
)
_LISTED = re.compile(r"(?m)^\s*\d{1,3}[.)]\s+(?=\S)")  # masked if it begins with 1
_OUT_OF = re.compile(r"\s*(?:out of|of a possible|from a maximum of)\s*(?:a\s+)?", re.I)
_JOINED = re.compile(r"\s?(?:-|to|or|~|到|至)\s?$", re.I)
_BETWEEN = re.compile(r"\b(?:between|from)\s*$", re.I)
_BOUND = re.compile(
    r"(?:>=?|<=?|≥|≤|\b(?:(?:more|less|fewer|greater|longer|shorter) than|at least"
    r"|at most|over|under|above|below|beyond|up to|exceed(?:s|ing)?|(?:in excess"
    r"|upwards?|(?:a )?(?:minimum|maximum)) of|minimum|maximum))\s*(?:about )?$",
    re.I,
)
_BOUND_AFTER = re.compile(
    r"(?:\s[a-z]{1,20})?(?:\s?\+(?!\s?[\w.])|\s(?:or|and)\s(?:more|less|fewer|higher|lower"
    r"|above|below|over|under|up|greater|longer|shorter)\b|\sat\s(?:least|most)\b"
    r"|\s(?:minimum|maximum)\b)",
    re.I,
)
_DENIED = re.compile(
    r"\b(?:not|isn't|never|rather than|instead of)\s+(?:about |only )?$", re.I
)
_FINAL = re.compile(
    r"(?:\bfinal\s+(?:answer|score|value|estimate|rating|result)|\banswer|答案)"
    r"\s*(?:is|:|=|为|是)+\s*|\\boxed\s*\{|<answer>",
    re.I,
)
_INFINITE = re.compile(r"(?<!\w)[-+]?(?:nan|inf|infinity|infinite|∞)(?!\w)", re.I)
_ABSENT = re.compile(r"^\W*(?:n/?a|none|null|unknown)\W*$", re.I)


class Found(NamedTuple):
    """One number of an answer."""

    value: float  # in the base unit of its dimension
    how: str  # 'digits', 'words', 'fraction', 'clock'
    unit: str  # as written; '' = none
    start: int
    end: int


def parse_number(
    text: str | None,
    unit: str | None = None,
    value_range: tuple[float, float] | None = None,
) -> Number:
    """Reads the one number that an answer gives.

    Args:
      text: what a model wrote; None = no answer.
      unit: of the value that is wanted, for example 's'; numbers in units of the same
        kind are converted, those of another kind do not count. None = as written.
      value_range: lowest and highest possible value. It decides what can be read in
        two ways ('3/5', '1,234'), and is no filter: a value outside it is returned.

    Returns:
      A value, in `unit`, or None. `reason` says how or why not: 'digits', 'words',
      'fraction', 'out_of', 'percent', 'clock', 'compound', 'final' ...; 'none',
      'empty', 'refusal', 'several', 'range', 'bound', 'other_unit', 'other_scale',
      'not_finite', 'runaway'.
    """
    if text is None or not text.strip():
        return Number(None, "empty")
    if len(text) > wording.LIMIT:
        return _final(text[-wording.TAIL :], unit, value_range) or Number(
            None, "runaway"
        )
    return _final(text, unit, value_range) or _number(_clean(text), unit, value_range)


def _clean(text: str) -> str:
    for sign, fraction in _VULGAR.items():
        text = text.replace(sign, f" {fraction}")
    text = re.sub(r"(?<=\d)[\u202f\u2009\u00a0](?=\d{3}(?!\d))", "", text)
    text = _RAISED.sub(lambda sign: "^" + sign.group().translate(_LOWERED), text)
    text = _LISTING.sub(_spread, wording.squeeze(wording.fold(text)))
    text = re.sub(r"(?<=\d)(h|hrs?|mins?|m)(?=\d)", r"\1 ", text, flags=re.I)
    return _MINUTES.sub(r"\1 min ", text)


def _spread(listing: re.Match[str]) -> str:
    """'1,2,3' is a list, '1,234,567' one number."""
    grouped = re.fullmatch(r"\d{1,3}(?:,\d{3})+", listing.group())
    return listing.group() if grouped else listing.group().replace(",", ", ")


def _final(
    text: str, unit: str | None, value_range: tuple[float, float] | None
) -> Number | None:
    """Reads what follows the last 'answer:', if that is a number."""
    marks = list(_FINAL.finditer(text))
    if not marks:
        return None
    rest = text[marks[-1].end() :].lstrip()[:300]
    line = re.split(
        r"\n|(?<=[^\d\s])\.\s|\.\s+(?=[A-Za-z])|\}|</answer>", rest, maxsplit=1
    )[0]
    return _number(_clean(line), unit, value_range) if line.strip() else None


def _number(
    text: str, unit: str | None, value_range: tuple[float, float] | None
) -> Number:
    if _ABSENT.match(text):
        return Number(None, "none")
    if refusals.is_unable(text):
        return Number(None, "refusal")
    masked = _MASKS.sub(_mask, text)
    if value_range:
        masked = _own_scale(*value_range).sub(_mask, masked)
    first = _LISTED.search(masked)
    if first and first.group().strip() in ("1.", "1)"):
        shorter = _LISTED.sub(_mask, masked)
        masked = shorter if next(_found(shorter, value_range), None) else masked
    found = _compound(list(_found(masked, value_range)), masked)
    if not found:
        return Number(None, "not_finite" if _INFINITE.search(text) else "none")
    if len(found) > MAX_NUMBERS:
        return Number(None, "several")
    return _choose(found, masked, unit, value_range)


def _mask(match: re.Match[str]) -> str:
    return "\x01" * len(match.group())


@functools.lru_cache(maxsize=64)
def _own_scale(low: float, high: float) -> re.Pattern[str]:
    """'(1-5)', 'from 1 to 5' and '(out of 5)', where that is the task's own range."""
    ends = f"{low:g}", f"{high:g}"
    first, last = (re.escape(end) + r"(?:\.0)?" for end in ends)
    span = rf"(?<![\w.,]){first}\s?(?:to|-|through)\s?{last}(?!\.?\d)"
    return re.compile(
        r"(?:\brange[sd]?|\bscale|\bbetween|\bfrom|\bgoes|\()\s(?:from |of |is )?"
        rf"{span}|\({span}\)|\(out of {last}\)",
        re.I,
    )


def _choose(
    found: list[Found],
    text: str,
    unit: str | None,
    value_range: tuple[float, float] | None,
) -> Number:
    """Keeps what may be meant; then all that is left must agree."""
    found, scale = _without_scales(found, text, value_range)
    if not scale:
        return Number(None, "other_scale")
    spans = _spans(found, text)
    found, loose = _without_denied(found, text)
    found, fitting = _of_kind(found, unit, value_range)
    if not found:
        return Number(None, "none" if fitting else "other_unit")
    found = _without_parts(found, text)
    reason = "several" if loose else _doubt(found, text, spans)
    if reason:
        return Number(None, reason)
    values = [_in_unit(one, unit, value_range) for one in found]
    if any(not math.isfinite(value) or abs(value) > LARGEST for value in values):
        return Number(None, "not_finite")
    if len(set(values)) > 1:
        return Number(None, "several")
    how = "out_of" if scale == "out_of" else _reason(found[0])
    return Number(values[0], how, unit or found[0].unit)


def _reason(one: Found) -> str:
    return "percent" if _kind(one.unit) == "share" else one.how


def _found(text: str, value_range: tuple[float, float] | None) -> Iterator[Found]:
    for count, match in enumerate(_NUMBER.finditer(text)):
        if count > MAX_NUMBERS:
            return
        read = None if match["glued"] or match["part"] else _read(match, value_range)
        if read is None:  # 'b12x', '3rd', 'two thirds'
            continue
        value, how = read
        sign = -1 if match["sign"] and match["sign"].strip().lower() != "+" else 1
        name = "rate" if match["rate"] else (match["unit"] or "").lower()
        size = UNITS[name][1] if name in UNITS else 1.0
        if how == "clock":
            size = 60.0 if size == 3600 and match["clock"].count(":") == 1 else 1.0
            name = "s" if _kind(name) == "time" else name
        value += 0.5 if match["half"] or match["late"] else 0.0
        yield Found(sign * value * size, how, name, match.start(), match.end())


def _read(
    match: re.Match[str], value_range: tuple[float, float] | None
) -> tuple[float, str] | None:
    if match["up"]:
        return _fraction(match, value_range)
    if match["clock"]:
        parts = [float(part) for part in match["clock"].split(":")]
        return math.fsum(p * 60**k for k, p in enumerate(reversed(parts))), "clock"
    if match["digits"]:
        return _digits(match["digits"], value_range), "digits"
    words = match["words"]
    value = _words(words.lower()) if words else _cjk(match["cjk"])
    return None if value is None else (value, "words")


def _fraction(
    match: re.Match[str], value_range: tuple[float, float] | None
) -> tuple[float, str] | None:
    """'3/5' is three out of five, or 0.6 if values end at 1; '3 1/2' is 3.5."""
    up, down = float(match["up"]), float(match["down"])
    if match["mixed"]:
        whole = float(match["mixed"].replace("-", " "))
        return (whole + up / down, "fraction") if 0 < up < down else None
    if down == 0:
        return None
    top = value_range[1] if value_range else None
    usual = down in (5, 7, 10, 100) or up != int(up)
    scale = usual if top is None else top > 1
    if scale and top is not None and top != down:
        return math.nan, "other_scale"
    return (up, "out_of") if scale else (up / down, "fraction")


def _digits(text: str, value_range: tuple[float, float] | None) -> float:
    """Tells a decimal comma from one that groups: '3,5', '1,234', '0,125'."""
    power = 0
    scaled = re.match(
        r"(.+?)\s?[x\u00d7*]\s?10\s?(?:\^|\*\*)\s?([-+]?\d+)$", text, re.I
    )
    if scaled:
        text, power = scaled.group(1), int(scaled.group(2))
    text = text.replace("'", "")
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+,\d+", text):
        text = text.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?:e.*)?", text, re.I):
        grouped, decimal = float(text.replace(",", "")), text.replace(",", ".", 1)
        one_comma = text.count(",") == 1 and "." not in text
        outside = value_range is not None and not _within(grouped, value_range)
        inside = one_comma and value_range and _within(float(decimal), value_range)
        text = decimal if outside and inside else text.replace(",", "")
    value = float(text.replace(",", "."))
    return value * 10.0**power if abs(power) < 300 else math.inf


def _within(value: float, value_range: tuple[float, float]) -> bool:
    return value_range[0] <= value <= value_range[1]


def _words(text: str) -> float | None:
    """'three and a half', 'twenty-one', 'one hundred and five', 'three point one'."""
    text = re.sub(r"\bthree[\s-]+quarters\b", "threequarters", text)
    text = re.sub(r"\bone[\s-]+(?=half\b|quarter\b)", "", text)
    if text in ("a", "an"):
        return 1.0
    joined = " and " in text
    words = [w for w in re.split(r"[\s-]+", text) if w not in ("and", "a", "an")]
    if "point" in words:
        return _spoken_decimal(words)
    total, group, last = 0.0, 0.0, ""
    for word in words:
        if word in _SCALES:
            group = (group or 1) * _SCALES[word]
            total, group = (total, group) if word == "hundred" else (total + group, 0.0)
        elif word == "dozen":
            group = (group or 1) * 12
        elif word in _PARTS:
            if last and not joined:
                return None  # 'two half'
            group += _PARTS[word]
        elif word in _TENS or word in _ONES:
            if last in _ONES or (last in _TENS and (word in _TENS or _ONES[word] > 9)):
                return None  # 'one two', 'twenty twelve'
            group += _TENS.get(word, _ONES.get(word, 0))
        else:
            return None
        last = word
    return total + group


def _spoken_decimal(words: list[str]) -> float | None:
    at = words.index("point")
    whole = _words(" ".join(words[:at])) if at else 0.0
    digits = [_ONES.get(word, 0 if word == "oh" else None) for word in words[at + 1 :]]
    if whole is None or not digits or any(d is None or d > 9 for d in digits):
        return None
    return whole + float("0." + "".join(map(str, digits)))


def _cjk(text: str) -> float | None:
    """三, 十二, 二十一, 一百零五, 三点五, 三半."""
    half = 0.5 if text.endswith("半") else 0.0
    whole, _, decimals = text.rstrip("半").partition("点")
    tail = "".join(str(_CJK_DIGITS[c]) for c in decimals)
    if not set(whole) & set(_CJK_SCALES):
        value = float("".join(str(_CJK_DIGITS[c]) for c in whole) or "0")
        return value + half + (float(f"0.{tail}") if tail else 0.0)
    total, section, digit = 0.0, 0.0, 0.0
    for c in whole:
        if c in _CJK_DIGITS:
            digit = float(_CJK_DIGITS[c])
        elif _CJK_SCALES[c] == 10**4:
            total, section, digit = (total + section + digit) * 10**4, 0.0, 0.0
        else:
            section, digit = section + (digit or 1) * _CJK_SCALES[c], 0.0
    return total + section + digit + half + (float(f"0.{tail}") if tail else 0.0)


def _compound(found: list[Found], text: str) -> list[Found]:
    """Adds '2 min 5 s' and '1 hour and 3 minutes' up."""
    merged: list[Found] = []
    for one in found:
        last = merged[-1] if merged else None
        between = text[last.end : one.start].strip(" ,").lower() if last else ""
        if (
            last is not None
            and between in ("", "and")
            and _kind(last.unit) == _kind(one.unit) in ("time", "length")
            and UNITS[last.unit.split(" ")[-1]][1] > UNITS[one.unit][1]
        ):
            total = last.value + one.value
            merged[-1] = Found(total, "compound", one.unit, last.start, one.end)
        else:
            merged.append(one)
    return merged


def _kind(unit: str) -> str:
    return UNITS[unit][0] if unit in UNITS else ""


def _without_scales(
    found: list[Found], text: str, value_range: tuple[float, float] | None
) -> tuple[list[Found], str]:
    """Drops the 5 of '3.5 out of 5'; '' says that it is not the task's scale."""
    kept: list[Found] = []
    how = "plain"
    for one in found:
        last = kept[-1] if kept else None
        if last and _OUT_OF.fullmatch(text[last.end : one.start]):
            how = "out_of"
            if value_range and one.value != value_range[1]:
                return kept, ""
        elif one.how == "other_scale":
            return kept, ""
        else:
            kept.append(one)
    return kept, how


def _of_kind(
    found: list[Found], unit: str | None, value_range: tuple[float, float] | None
) -> tuple[list[Found], bool]:
    """Keeps numbers of the wanted kind; those that name the unit before the others."""
    wanted = _kind((unit or "").lower())
    if not wanted:
        found = found if _shares(value_range) else _other_than(found, "share")
        kept = [one for one in found if not unit or _kind(one.unit) in ("", "share")]
        return kept, not found
    clocks = [one._replace(unit="s") if one.how == "clock" and wanted == "time" else one
              for one in found]  # fmt: skip
    named = [one for one in clocks if _kind(one.unit) == wanted]
    bare = [one for one in clocks if not one.unit]
    return named or bare, not found


def _shares(value_range: tuple[float, float] | None) -> bool:
    """Whether a percentage can be a value of the range, or only a confidence."""
    return value_range is None or value_range[1] in (1, 100)


def _other_than(found: list[Found], kind: str) -> list[Found]:
    return [one for one in found if _kind(one.unit) != kind]


def _without_denied(found: list[Found], text: str) -> tuple[list[Found], bool]:
    """Drops the 3 of 'not 3 but 4'; 'not 3, 4' leaves the 4 open."""
    kept, loose = [], False
    for k, one in enumerate(found):
        if not _DENIED.search(text[max(0, one.start - 40) : one.start]):
            kept.append(one)
        elif k + 1 < len(found):
            loose |= text[one.end : found[k + 1].start].strip() == ","
    return kept, loose


def _without_parts(found: list[Found], text: str) -> list[Found]:
    """'Three speakers: two men and one woman' says three: the parts add up to it."""
    total, parts = found[0], found[1:]
    counted = all(
        re.match(r" [a-z]", text[one.end : one.end + 2], re.I) for one in parts
    )
    apart = len(parts) > 1 and re.search(r"\w|[:(]", text[total.end : parts[0].start])
    summed = math.isclose(total.value, math.fsum(one.value for one in parts))
    return [total] if counted and apart and summed else found


def _spans(found: list[Found], text: str) -> set[int]:
    """Returns where numbers start that are ends of a range: '3-4', 'from 3 to 4'."""
    ends: set[int] = set()
    for first, second in itertools.pairwise(found):
        between = text[first.end : second.start]
        paired = _BETWEEN.search(text[max(0, first.start - 20) : first.start]) and (
            between.strip().lower() == "and"
        )
        if first.value != second.value and (_JOINED.fullmatch(between) or paired):
            ends |= {first.start, second.start}
    return ends


def _doubt(found: list[Found], text: str, spans: set[int]) -> str:
    """Returns 'range' or 'bound' where the numbers are no plain values, or ''."""
    if any(one.start in spans for one in found):
        return "range"
    if all(
        _BOUND.search(text[max(0, one.start - 40) : one.start])
        or _BOUND_AFTER.match(text, one.end)
        for one in found
    ):
        return "bound"
    halves = (one for one in found if one.how == "words" and one.value in (0.25, 0.5))
    loose = any(text[: one.start][-5:].endswith(" and ") for one in halves)
    return "several" if loose else ""


def _in_unit(
    one: Found, unit: str | None, value_range: tuple[float, float] | None
) -> float:
    name = (unit or "").lower()
    if _kind(one.unit) == "share" and _kind(name) != "share":
        small = value_range is not None and value_range[1] <= 1
        return one.value / 100 if small else one.value
    size = UNITS[one.unit][1] if one.unit in UNITS else 1.0
    if not one.unit:
        return one.value
    target = UNITS[name][1] if _kind(name) == _kind(one.unit) and name else size
    value = one.value / target
    return float(f"{value:.12g}")
