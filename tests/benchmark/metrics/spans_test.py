"""Times, labelled spans and notes in the forms in which models write them."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.metrics.spans import (
    LATEST,
    MAX_SPANS,
    Note,
    Span,
    read_notes,
    read_pitches,
    read_spans,
    read_times,
    released_turns,
)

TWO = (Span(0.5, 2.3, "speaker a"), Span(2.3, 4.0, "speaker b"))
SAME_SPANS = [
    "Speaker A: 0.5-2.3, Speaker B: 2.3-4.0",
    "Speaker A: 0.5 - 2.3\nSpeaker B: 2.3 - 4.0",
    "Speaker A: 0.5 to 2.3; Speaker B: 2.3 to 4.0",
    "0.5-2.3: Speaker A\n2.3-4.0: Speaker B",
    "[0.5, 2.3] Speaker A\n[2.3, 4.0] Speaker B",
    "[0:00.5 - 0:02.3] Speaker A\n[0:02.3 - 0:04] Speaker B",
    "0.5 2.3 Speaker A\n2.3 4.0 Speaker B",
    "Speaker A 0.5 2.3\nSpeaker B 2.3 4.0",
    "Speaker A:\n0.5 - 2.3\nSpeaker B:\n2.3 - 4.0",
    "1. Speaker A: 0.5s - 2.3s\n2. Speaker B: 2.3s - 4s",
    "**Speaker A** (0.5\u20132.3 s), **Speaker B** (2.3\u20134.0 s)",
    "Speaker A speaks from 0.5 to 2.3 s. Speaker B speaks from 2.3 to 4 seconds.",
    "Speaker A: 500 ms - 2300 ms\nSpeaker B: 2300 ms - 4000 ms",
    "Speaker A: start: 0.5, end: 2.3\nSpeaker B: start: 2.3, end: 4",
    "Speaker A: start 0.5 duration 1.8\nSpeaker B: start 2.3 duration 1.7",
    "label: Speaker A, onset: 0.5, offset: 2.3\n"
    "label: Speaker B, onset: 2.3, offset: 4",
    '[{"speaker": "Speaker A", "start": 0.5, "end": 2.3},'
    ' {"speaker": "Speaker B", "start": "2.3", "end": 4}]',
    '```json\n{"segments": [{"label": "Speaker A", "onset": 0.5, "offset": 2.3},'
    ' {"label": "Speaker B", "onset": 2.3, "offset": 4}]}\n```',
    "[{'speaker': 'Speaker A', 'start': 0.5, 'end': 2.3},"
    " {'speaker': 'Speaker B', 'start': 2.3, 'end': 4}]",
    '{"Speaker A": [[0.5, 2.3]], "Speaker B": [[2.3, 4]]}',
    '[["Speaker A", 0.5, 2.3], [2.3, 4, "Speaker B"]]',
    "SPEAKER f 1 0.5 1.8 <NA> <NA> Speaker-A <NA> <NA>\n"
    "SPEAKER f 1 2.3 1.7 <NA> <NA> Speaker-B <NA> <NA>",
    "<Speaker A> 0.5 - 2.3 <Speaker B> 2.3 - 4.0",
    "(Speaker A, 0.5, 2.3) (Speaker B, 2.3, 4.0)",
    "[('Speaker A', 0.5, 2.3), ('Speaker B', 2.3, 4.0)]",
    "Speaker A: 0.50000000000000001-2.2999999999999998, Speaker B: 2.3-4",
    "Speaker A: 0,5 - 2,3\nSpeaker B: 2,3 - 4,0",
]


@pytest.mark.parametrize("text", SAME_SPANS)
def test_spans_are_the_same_in_every_form(text):
    found = read_spans(text)
    assert [span.label for span in found.spans] == ["speaker a", "speaker b"]
    for span, expected in zip(found.spans, TWO, strict=True):
        assert span[:2] == pytest.approx(expected[:2], abs=1e-9)
    assert found.num_unread == 0


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("event_label : Speech,  onset: 0.000, offset: 2.081.",
         [Span(0.0, 2.081, "speech")]),
        ("speaker 1: 0-1, 2-3; speaker 2: 1-2",
         [Span(0, 1, "speaker 1"), Span(2, 3, "speaker 1"), Span(1, 2, "speaker 2")]),
        ("From 2.5 seconds to 4.1 seconds", [Span(2.5, 4.1)]),
        ("2.5s ~ 4.1s", [Span(2.5, 4.1)]),
        ("between 1 and 2 minutes", [Span(60, 120)]),
        ("Alarm/bell/ringing (0.5-2)", [Span(0.5, 2, "alarm bell ringing")]),
    ],
)  # fmt: skip
def test_labels_and_units_are_read(text, spans):
    assert list(read_spans(text).spans) == spans


@pytest.mark.parametrize("names", [("61", "1089"), ("19-198", "26-495"), ("s", "to")])
def test_the_name_of_a_turn_may_be_a_number_or_any_word(names):
    turns = " ".join(f"({name}, 0.02, 3.23)" for name in names)
    first, second = read_spans(turns).spans
    assert first[:2] == second[:2] == (0.02, 3.23)
    assert first.label != second.label
    assert read_spans(turns.replace(", ", ",")).spans == (first, second)


@pytest.mark.parametrize(
    ("text", "spans", "num_unread"),
    [
        ("(A, 0.5, 2) (a,  1,2.5)", [(0.5, 2, "A"), (1, 2.5, "a")], 0),
        ("A: 0.5-2", [], 0),
        ("(speaker 1, 0.5, 2)", [], 0),  # no name of two words
        ("(A, 0.5, 2) (B, x, 2) (B, 3, 2) (B, nan, 2) (B, -1, 2)", [(0.5, 2, "A")], 4),
        ("(" * 100_000 + "a," * 100_000, [], 0),
    ],
)
def test_released_turns_have_one_form(text, spans, num_unread):
    assert released_turns(text) == (tuple(Span(*one) for one in spans), num_unread)


@pytest.mark.parametrize(
    ("text", "num_unread"),
    [
        ("", 0),
        ("no events", 0),
        ("5 - 3", 1),
        ("3 - 3", 1),
        ("-1 - 2", 1),
        ("0 to 1e309", 1),
        ('[{"start": 1e999, "end": 2}]', 1),
        ('[{"start": NaN, "end": 2}]', 1),
        ('[{"start": 1, "end": ', 0),
        ("speaker 1: 0.5-", 0),
        ("speaker 1: -", 0),
        ("[" * 5000, 0),
        ('{"a": ' * 5000, 0),
    ],
)
def test_what_is_no_span_is_left_out_and_counted(text, num_unread):
    assert read_spans(text) == ((), num_unread)


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("0.5, 1.0, 1.5", (0.5, 1.0, 1.5)),
        ("[0.5,1.0,1.5]", (0.5, 1.0, 1.5)),
        ("1.5 0.5 0.5", (0.5, 1.5)),
        ("500 ms, 1 s", (0.5, 1.0)),
        ("In milliseconds: 500 1000", (0.5, 1.0)),
        ("Beat 1: 0.5s\nBeat 2: 1.0s", (0.5, 1.0)),
        ("1. 0.5\n2. 1.0", (0.5, 1.0)),
        ("The tempo is 120 BPM: 0.5, 1.0", (0.5, 1.0)),
        ("0:30, 1:00.5", (30.0, 60.5)),
        ("-1, 2, 1e300", (2.0,)),
        ("1.1234567890123456", (1.1234567890123456,)),
        ("none", ()),
    ],
)
def test_times_are_read(text, times):
    assert read_times(text) == times


@pytest.mark.parametrize(
    "text",
    [
        "C4: 0.5-1.0, E4: 1.0-1.5",
        "C4 at 0.5s, E4 at 1 s",
        "0.5 C4\n1.0 E4",
        "note 60 at 0.5, note 64 at 1.0",
        "60: 0.5-1.0, 64: 1.0-1.5",
        "(60, 0.5, 1.0) (64, 1.0, 1.5)",
        "[('C4', 0.5, 1.0), ('E4', 1.0, 1.5)]",
        "[{'pitch': 60, 'start': 0.5}, {'pitch': 'E4', 'start': 1.0}]",
        "MIDI note number 60: 0.5\nMIDI note number 64: 1.0",
        '[{"pitch": 60, "start": 0.5}, {"note": "E4", "onset": 1.0}]',
    ],
)
def test_notes_are_read(text):
    assert read_notes(text) == (Note(0.5, 60), Note(1.0, 64))


@pytest.mark.parametrize(
    ("text", "pitches"),
    [
        ("A4 C#5", (69, 73)),
        ("a4, c#5", (69, 73)),
        ("A4 Db5", (69, 73)),
        ("A4 D♭5", (69, 73)),
        ("A4 C♯5", (69, 73)),
        ("A4, then C sharp 5.", (69, 73)),
        ("The pitch is A4.", (69,)),
        ("C-1", (0,)),
        ("mp4 file", ()),
        ("A", ()),
    ],
)
def test_pitch_names_are_read(text, pitches):
    assert read_pitches(text) == pitches


PIECES = (
    *(
        "speaker 1",
        "0.5",
        "-",
        "2",
        ":",
        " ",
        "\n",
        "to",
        "[",
        "]",
        "{",
        "}",
        '"start"',
    ),
    *("1e309", "C4", "#", ",", "60", "ms", "s", "end", "duration", "NaN", "null", "-3"),
    *("SPEAKER ", "<NA>", "5-3", "1:30", "min", '"', "onset", "offset", "½"),
)
TEXTS = st.one_of(
    st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=60).map("".join)
)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_no_text_breaks_a_reader(text):
    for span in read_spans(text).spans:
        assert 0 <= span.start < span.end <= LATEST
    assert all(0 <= at <= LATEST for at in read_times(text))
    assert all(0 <= note.onset <= LATEST for note in read_notes(text))
    assert all(isinstance(pitch, int) for pitch in read_pitches(text))


@pytest.mark.parametrize(
    "piece",
    [
        "0.5 - 2 ",
        "a: 1-2\n",
        "1",
        "- ",
        "C4 1.0 ",
        "1:",
        "{",
        '[{"a":',
        "12 ms ",
        "(s, 0.1, ",
        "(",
        "0." + "1" * 50,
    ],
)
def test_long_text_is_bounded(piece):
    text = piece * (100_000 // len(piece))
    begin = time.process_time()
    assert len(read_spans(text).spans) <= MAX_SPANS
    read_times(text), read_notes(text), read_pitches(text)
    assert time.process_time() - begin < 8.0
