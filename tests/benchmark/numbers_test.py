"""Numbers in prose: what is one, in which unit, and where none may be chosen."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.numbers import LARGEST, UNITS, parse_number
from benchmark.typing import Number

PLAIN = [
    ("3.5", 3.5, "digits"),
    ("3,5", 3.5, "digits"),
    ("0,125", 0.125, "digits"),
    ("1,234", 1234, "digits"),
    ("1,234,567.5", 1234567.5, "digits"),
    ("1.234,5", 1234.5, "digits"),
    ("1'234", 1234, "digits"),
    ("1\u202f234", 1234, "digits"),
    (".5", 0.5, "digits"),
    ("3.", 3, "digits"),
    ("Score: 3.5.", 3.5, "digits"),
    ("about 3.5", 3.5, "digits"),
    ("~4", 4, "digits"),
    ("x=3", 3, "digits"),
    ("(3)", 3, "digits"),
    ("**3.5**", 3.5, "digits"),
    ("\uff13\uff0e\uff15", 3.5, "digits"),
    ("-3.5", -3.5, "digits"),
    ("The score is -3.5.", -3.5, "digits"),
    ("- 3.5", 3.5, "digits"),  # a bullet
    ("\u22125", -5, "digits"),
    ("minus two", -2, "words"),
    ("negative 4", -4, "digits"),
    ("+4", 4, "digits"),
    ("1e3", 1000, "digits"),
    ("1.5e-2", 0.015, "digits"),
    ("2 x 10^3", 2000, "digits"),
    ("2 \u00d7 10^-1", 0.2, "digits"),
    ("three", 3, "words"),
    ("There are three speakers.", 3, "words"),
    ("three and a half", 3.5, "words"),
    ("3 and a half", 3.5, "digits"),
    ("3\u00bd", 3.5, "fraction"),
    ("3 1/2", 3.5, "fraction"),
    ("3-1/2", 3.5, "fraction"),
    ("2 - 3/4", 2.75, "fraction"),
    ("1/2", 0.5, "fraction"),
    ("twenty-one", 21, "words"),
    ("one hundred and five", 105, "words"),
    ("two thousand three hundred", 2300, "words"),
    ("a dozen", 12, "words"),
    ("two and three quarters", 2.75, "words"),
    ("three point one four", 3.14, "words"),
    ("zero", 0, "words"),
    ("十二", 12, "words"),
    ("二十一", 21, "words"),
    ("一百零五", 105, "words"),
    ("三点五", 3.5, "words"),
    ("有三个说话人", 3, "words"),
    ("一共三个", 3, "words"),
    ("两个", 2, "words"),
    ("3.5 out of 5", 3.5, "out_of"),
    ("four out of five", 4, "out_of"),
    ("3/5", 3, "out_of"),
    ("3.5/5", 3.5, "out_of"),
    ("45%", 45, "percent"),
    ("45 percent", 45, "percent"),
    ("3.5 ± 0.2", 3.5, "digits"),
    ("4 (four)", 4, "digits"),
    ("4.0, that is 4", 4, "digits"),
    ("not 3 but 4", 4, "digits"),
    ("one of the speakers; there are two", 2, "words"),
    ("1. The score is 3.5", 3.5, "digits"),
    ("In clip 2 I count 5.", 5, "digits"),
    ("audio_12.wav has 5 phones", 5, "digits"),
    ("2023-05-01: 4", 4, "digits"),
    ("Recorded in 2019: 4 speakers", 4, "digits"),
    ("2019", 2019, "digits"),
    ("The score is 3.5 on a scale of 1 to 5", 3.5, "digits"),
    ("Maybe 2 or 4. Final answer: 3", 3, "digits"),
    ("2, no, the answer is 3", 3, "digits"),
    (r"$\boxed{7}$", 7, "digits"),
    ("<answer>7</answer>", 7, "digits"),
    ("3ish", 3, "digits"),
    ("one half", 0.5, "words"),
    ("1.5\u00d710\u00b3", 1500, "digits"),
    ("3.5, give or take 1", 3.5, "digits"),
    ('{"score": 3.5, "confidence": 0.9}', 3.5, "digits"),
    ("Final answer: 3. Explanation: 4 is too high", 3, "digits"),
    ("There are 3 speakers: 2 male and 1 female", 3, "digits"),
    ("two speakers, one male and one female", 2, "words"),
]
WITHOUT = [
    (None, "empty"),
    ("", "empty"),
    ("  \n", "empty"),
    ("N/A", "none"),
    ("unknown", "none"),
    ("no idea", "none"),
    ("The speaker is fluent.", "none"),
    ("5th", "none"),
    ("the first", "none"),
    ("no one", "none"),
    ("b12", "none"),
    ("2 and 3", "several"),
    ("3, 4", "several"),
    ("1 234", "several"),
    ("two speakers and three clips", "several"),
    ("between 3 and 4", "range"),
    ("3-4", "range"),
    ("3-4/5", "range"),
    ("3\u20134", "range"),
    ("3 to 4", "range"),
    ("3 or 4", "range"),
    ("from 3 to 4 seconds", "range"),
    ("three to four", "range"),
    ("more than 3", "bound"),
    (">3", "bound"),
    ("at least three", "bound"),
    ("1e309", "not_finite"),
    ("-1e309", "not_finite"),
    ("1e16", "not_finite"),
    ("9" * 400, "not_finite"),
    ("NaN", "not_finite"),
    ("infinity", "not_finite"),
    ("1/0", "none"),
    ("> 3", "bound"),
    ("3+", "bound"),
    ("3 or more", "bound"),
    ("3 speakers or more", "bound"),
    ("3 at most", "bound"),
    ("minimum 3", "bound"),
    ("a maximum of 3", "bound"),
    ("not 3, 4", "several"),
    ("1,2,3", "several"),
    ("one third", "none"),
    ("two thirds", "none"),
    ("10\u00b2", "none"),
    ("pi/2", "none"),
    ("3, 2, 1", "several"),
    ("I cannot listen to audio, but the average is 3", "refusal"),
    ("Answer: 3 or 4", "range"),
    ("3 " + "x" * 30_000, "runaway"),
]
WITH_UNIT = [
    ("1500 ms", "s", 1.5, "digits"),
    ("1.5", "s", 1.5, "digits"),
    ("1.5 seconds", "ms", 1500, "digits"),
    ("12.25-second", "s", 12.25, "digits"),
    ("2 min 5 s", "s", 125, "compound"),
    ("1 hour and 3 minutes", "min", 63, "compound"),
    ("1:30", "s", 90, "clock"),
    ("01:02:03", "s", 3723, "clock"),
    ("half a second", "s", 0.5, "words"),
    ("三秒", "s", 3, "words"),
    ("2.5 kHz", "Hz", 2500, "digits"),
    ("12cm", "m", 0.12, "digits"),
    ("3 feet", "m", 0.9144, "digits"),
    ("-5 dB", "dB", -5, "digits"),
    ("90 degrees", "deg", 90, "digits"),
    ("3.14159265358979 rad", "deg", 180, "digits"),
    ("In 16 kHz audio it lasts 3.5 s.", "s", 3.5, "digits"),
    ("Speaker 1 is 2 m away", "m", 2, "digits"),
    ("3 people, 2.5 m", "m", 2.5, "digits"),
    ("half a minute", "s", 30, "words"),
    ("a minute", "s", 60, "words"),
    ("a minute and a half", "s", 90, "words"),
    ("1:30 minutes", "s", 90, "clock"),
    ("1:30 hours", "s", 5400, "clock"),
    ("2m 5s", "s", 125, "compound"),
    ("2min5s", "s", 125, "compound"),
    ("2 yards", "m", 1.8288, "digits"),
    ("from 1.2 to 3.4 s", "s", None, "range"),
    ("1.2-3.4 s", "s", None, "range"),
    ("between 1.2 and 3.4 seconds", "s", None, "range"),
    ("from 0 to 5 seconds", "s", None, "range"),
    ("3 m/s", "m", None, "other_unit"),
    ("3 m\u00b2", "m", None, "other_unit"),
    ("5 s", "points", None, "other_unit"),
    ("5 dB", "s", None, "other_unit"),
    ("2 s and 3 s", "s", None, "several"),
    ("1.5 s (1500 ms)", "s", 1.5, "digits"),
]
WITH_RANGE = [
    ("1,234", (0.0, 5.0), 1.234, "digits"),
    ("1,234", (0.0, 5000.0), 1234, "digits"),
    ("3/5", (1.0, 5.0), 3, "out_of"),
    ("3/5", (0.0, 1.0), 0.6, "fraction"),
    ("3/10", (1.0, 5.0), None, "other_scale"),
    ("4 out of 10", (1.0, 5.0), None, "other_scale"),
    ("4 out of 5", (1.0, 5.0), 4, "out_of"),
    ("Score (1-5): 4", (1.0, 5.0), 4, "digits"),
    ("Score (out of 5): 4", (1.0, 5.0), 4, "digits"),
    ("3.5 (range 1-5)", (1.0, 5.0), 3.5, "digits"),
    ("1-5", (1.0, 5.0), None, "range"),
    ("80%", (1.0, 5.0), None, "none"),
    ("I am 90% sure it's 3", (1.0, 5.0), 3, "digits"),
    ("4 with 80% confidence", (1.0, 5.0), 4, "digits"),
    ("4 (80% likely)", (1.0, 5.0), 4, "digits"),
    ("45%", (0.0, 1.0), 0.45, "percent"),
    ("45%", (0.0, 100.0), 45, "percent"),
    ("7", (1.0, 5.0), 7, "digits"),  # to clip is the scorer's business
]


@pytest.mark.parametrize(("text", "value", "reason"), PLAIN)
def test_a_number_is_read_from(text, value, reason):
    number = parse_number(text)
    assert number.value == pytest.approx(value, rel=1e-12)
    assert number.reason == reason


@pytest.mark.parametrize(("text", "reason"), WITHOUT)
def test_no_number_is_chosen_from(text, reason):
    assert parse_number(text) == Number(None, reason)


@pytest.mark.parametrize(("text", "unit", "value", "reason"), WITH_UNIT)
def test_units_are_converted(text, unit, value, reason):
    number = parse_number(text, unit)
    assert number.reason == reason
    if value is None:
        assert number.value is None
    else:
        assert number == Number(pytest.approx(value, rel=1e-9), reason, unit)


@pytest.mark.parametrize(("text", "value_range", "value", "reason"), WITH_RANGE)
def test_the_range_decides_between_two_readings(text, value_range, value, reason):
    number = parse_number(text, None, value_range)
    assert (number.value, number.reason) == (value, reason)


def test_without_a_wanted_unit_the_written_one_is_reported():
    assert parse_number("1.5 seconds").unit == "seconds"
    assert parse_number("45%").unit == "%"


@given(st.floats(-1e14, 1e14).map(lambda x: x if abs(x) > 1e-4 else 0.0))
def test_any_plain_number_is_read_back(value):
    assert parse_number(repr(value)).value == pytest.approx(value, rel=1e-15)


@given(st.integers(0, 999_999))
def test_grouped_digits_are_read_back(value):
    assert parse_number(f"{value:,}").value == value


PIECES = (
    *("1", "2.5", "-", "/", "0", " ", "and", "half", "one", "hundred", "e9", "point"),
    *("to", "of", "out of ", "s", "min", ":", ",", ".", "三", "十", "万", "点", "%"),
    *("1e309", "½", "answer: ", "dozen", "twenty", "\n"),
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=120),
        st.lists(
            st.sampled_from(PIECES),
            max_size=30,
        ).map("".join),
    ),
    st.sampled_from([None, "s", "dB", "nonsense", *sorted(UNITS)[:4]]),
    st.sampled_from([None, (0.0, 1.0), (1.0, 5.0), (0.0, 1000000.0)]),
)
def test_no_text_breaks_the_reader(text, unit, value_range):
    number = parse_number(text, unit, value_range)
    assert number.value is None or math.isfinite(number.value)
    assert number.value is None or abs(number.value) <= LARGEST
    assert number.reason


LONG = (
    *("1" * 1_000_000, "1 " * 9_000, "one " * 4_900, "1/" * 9_000, "三" * 19_000),
    *("1,000" * 3_900, "answer:" * 2_800, "1:" * 9_000, "-" * 19_000, "." * 19_999),
    *("one hundred " * 1_600, "1.1." * 4_900, "in 2019 " * 2_400, "1 s " * 4_900),
)


@pytest.mark.parametrize("text", LONG)
def test_runaway_text_is_bounded(text):
    begin = time.process_time()
    assert parse_number(text, "s").value is None or len(text) < 20_000
    assert time.process_time() - begin < 5.0
