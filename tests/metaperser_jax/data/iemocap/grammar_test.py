"""The evaluation and transcript files, their quirks, and any damage to them."""

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax.data.iemocap import grammar
from metaperser_jax.data.iemocap.grammar import (
    LABELS,
    Block,
    Dimensions,
    Labels,
    Spoken,
    format_block,
    format_evaluation,
    format_transcript,
    parse_evaluation,
    parse_transcript,
)

FIRST = "[6.2901 - 8.2357]\tSes09F_made00_F000\tneu\t[2.5000, 2.5000, 2.5000]"
EXAMPLE = f"""% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

{FIRST}
C-E2:\tNeutral;\t()
C-E5:\tAnger; Other;\t(two, made-up words)
C-F9:\t;\t()
A-E3:\tval 3; act 2; dom  2;\t(made-up)

"""
PARSED = Block(
    "Ses09F_made00_F000",
    6.2901,
    8.2357,
    "neu",
    (2.5, 2.5, 2.5),
    (
        Labels("E2", ("Neutral",)),
        Labels("E5", ("Anger", "Other"), "two, made-up words"),
        Labels("F9", ()),
    ),
    (Dimensions("E3", 3.0, 2.0, 2.0, "made-up"),),
)


def rating_line(line: str) -> grammar.Evaluation:
    return parse_evaluation(f"{FIRST}\n{line}")


def kinds(parsed) -> list[str]:
    return [f"{fault.severity} {fault.kind}" for fault in parsed.faults]


def test_the_example_of_the_format():
    parsed = parse_evaluation(EXAMPLE)
    assert parsed.blocks == (PARSED,)
    assert parsed.faults == ()
    assert parsed.lines == (5, 0, 4)  # used, skipped, ignored
    assert format_evaluation([PARSED]) == EXAMPLE


@pytest.mark.parametrize(
    ("line", "labels", "comment"),
    [
        ("C-E1:\tNeutral;\t()", ("Neutral",), ""),
        ("C-E1:\tNeutral state;\t()", ("Neutral",), ""),
        ("C-E1:\tneutral  STATE;\t()", ("Neutral",), ""),
        ("C-E1:\tHappy; Sad; Angry;\t()", ("Happiness", "Sadness", "Anger"), ""),
        ("C-E1:\tOther;\t(bored)", ("Other",), "bored"),
        ("C-E1:\t;\t()", (), ""),
        ("C-E1:\t\t()", (), ""),
        ("C-E1:", (), ""),
        ("C-E1:\tFear", ("Fear",), ""),
        ("C-E1: Fear; Anger; ()", ("Fear", "Anger"), ""),
        ("C-E1:\tFear;\t(a (b), c; d\te)", ("Fear",), "a (b), c; d\te"),
        ("C-E1:\tFear;\t(never closed", ("Fear",), "never closed"),
        ("C-E1:\tFear;\t(tail))  ", ("Fear",), "tail)"),
        ("C-E1:\tFear;\t( blanks )", ("Fear",), " blanks "),
        ("c-e1:\tFear;\t()", ("Fear",), ""),
        ("  C-E1:\tFear;\t()", ("Fear",), ""),
        (
            "C-E1:\tFear;\t(\x85\u2028 no line ends)",
            ("Fear",),
            "\x85\u2028 no line ends",
        ),
    ],
)
def test_label_lines(line, labels, comment):
    parsed = rating_line(line)
    assert parsed.blocks[0].labels == (Labels("E1", labels, comment),)
    assert parsed.faults == ()


@pytest.mark.parametrize(
    ("values", "expected", "fault"),
    [
        ("val 3; act 2; dom  1;", (3, 2, 1), None),
        ("val 3;act 2;dom 1", (3, 2, 1), None),
        ("dom 1; VAL 3; act 2;", (3, 2, 1), None),
        ("val 2.5; act .5e; dom  1;", (2.5, None, 1), "warning bad_dimension"),
        ("val ; act 2; dom  1;", (None, 2, 1), None),
        ("act 2;", (None, 2, None), None),
        (";", (None, None, None), None),
        ("val 3; act 2; dom  7;", (3, 2, 7), "warning dimension_out_of_range"),
        ("val 0; act 2; dom  1;", (0, 2, 1), "warning dimension_out_of_range"),
        ("val -1.5; act 2; dom 1;", (-1.5, 2, 1), "warning dimension_out_of_range"),
        ("val 3; val 4; act 2; dom  1;", (3, 2, 1), "warning bad_dimension"),
        ("val 3; pow 4; act 2; dom  1;", (3, 2, 1), "warning bad_dimension"),
        ("val " + "9" * 400 + "; act 2;", (None, 2, None), "warning bad_dimension"),
        ("val nan; act 2;", (None, 2, None), "warning bad_dimension"),
    ],
)
def test_dimension_lines(values, expected, fault):
    parsed = rating_line(f"A-E3:\t{values}\t(so, so)")
    assert parsed.blocks[0].dimensions == (Dimensions("E3", *expected, "so, so"),)
    assert kinds(parsed) == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("what is this", "bad_line", "begins neither"),
        ("C-: Anger;", "bad_rating", "expected 'C-E1: ...'"),
        ("C-E3 Anger;", "bad_rating", "expected 'C-E1: ...'"),
        ("C-E2:\tAnger;\t()", "repeated_rater", "C-E2 has rated Ses09F_made00_F000"),
        ("[1 - 2]", "bad_utterance", r"expected '\[start - end\]"),
        ("[1 - x]\tSes09F_made00_F001\tneu\t[1, 1, 1]", "bad_utterance", "expected"),
        ("[1 - 2]\tSes09F_F001\tneu\t[1, 1, 1]", "bad_utterance", "no utterance id"),
        (FIRST, "duplicate_utterance", "in line 1 too"),
    ],
)
def test_lines_that_are_skipped_are_named(line, kind, said):
    parsed = parse_evaluation(f"{FIRST}\nC-E2:\tFear;\t()\n{line}")
    (fault,) = parsed.faults
    assert (fault.severity, fault.kind, fault.line) == ("error", kind, 3)
    assert re.search(said, fault.message)
    assert parsed.blocks[0].labels == (Labels("E2", ("Fear",)),)
    assert parsed.lines == (2, 1, 0)


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        ("[8 - 6]\tSes09F_made00_F000\tneu\t[1, 1, 1]", "warning doubtful_times"),
        ("[6 - 8]\tSes09F_made00_F000\tbor\t[1, 1, 1]", "warning unknown_code"),
        ("[6 - 8]\tSes09F_made00_F000\tneu\t[1, one]", "warning bad_triple"),
        ("[6 - 8]\tSes09F_made00_F000\tneu", "warning bad_triple"),
    ],
)
def test_doubtful_first_lines_are_kept(first, kind):
    parsed = parse_evaluation(first + "\nC-E2:\tFear;\t()\n")
    assert kinds(parsed) == [kind]
    assert parsed.blocks[0].labels == (Labels("E2", ("Fear",)),)


def test_unknown_and_repeated_labels_leave_the_others():
    parsed = rating_line("C-E2:\tBoredom; Anger; Anger; Exited;\t()")
    assert parsed.blocks[0].labels[0].labels == ("Anger",)
    assert kinds(parsed) == [
        "error unknown_label",
        "warning repeated_label",
        "error unknown_label",
    ]
    assert "Did you mean 'Excited'?" in parsed.faults[2].message
    assert parsed.lines.skipped == 0


@pytest.mark.parametrize("gap", ["", "[broken - header\n"])
def test_ratings_never_move_to_the_block_before(gap):
    second = format_block(PARSED._replace(utterance="Ses09F_made00_M000"))[1:]
    text = "\n".join([FIRST, "C-E1:\tFear;\t()", gap + "\n".join(second)])
    parsed = parse_evaluation(text if gap else text.replace("\nC-E2", "\n\nC-E2"))
    assert parsed.blocks[0].labels == (Labels("E1", ("Fear",)),)
    assert parsed.blocks[0].dimensions == ()
    assert kinds(parsed).count("error orphan_rating") == len(second)


@pytest.mark.parametrize("end", ["\r\n", "\r", "\r\r\n"])
def test_any_line_end(end):
    assert parse_evaluation(EXAMPLE.replace("\n", end)).blocks == (PARSED,)


@pytest.mark.parametrize(
    "text", [EXAMPLE.rstrip(), EXAMPLE[EXAMPLE.index("[6") :], EXAMPLE + "\n\n"]
)
def test_first_and_last_lines_may_lack(text):
    assert parse_evaluation(text).blocks == (PARSED,)


def test_blocks_keep_the_order_of_the_file_and_need_no_blank_line():
    late = PARSED._replace(utterance="Ses09F_made00_M001", start=1.0, end=2.0)
    lines = [*format_block(PARSED), *format_block(late)]
    assert parse_evaluation("\n".join(lines)).blocks == (PARSED, late)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfabc", "abc"),
        ("d\xe9j\xe0".encode(), "d\xe9j\xe0"),
        ("d\xe9j\xe0".encode("latin-1"), "d\xe9j\xe0"),
        ("d\xe9j\xe0".encode("utf-16"), "d\xe9j\xe0"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", None),
        (b"RIFF\x00\x00", None),
        (b"\xff\xfea", None),
        (b"", ""),
    ],
)
def test_encodings(data, text):
    assert grammar.decode(data) == text


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Ses01F_impro01_F000", ("Ses01F_impro01", "Ses01", "impro01", "Ses01F")),
        ("Ses01F_impro01_M000", ("Ses01F_impro01", "Ses01", "impro01", "Ses01M")),
        (
            "Ses05M_script01_1b_F012",
            ("Ses05M_script01_1b", "Ses05", "script01_1b", "Ses05F"),
        ),
        ("Ses01F_impro01", None),
        ("Ses01F_impro01_F00", None),
        ("Ses01F_impro01_FXX0", None),
        ("", None),
    ],
)
def test_utterance_ids(name, parts):
    assert grammar.split_utterance(name) == parts
    if parts:
        assert grammar.dialog_session(parts[0]) == parts[1]


def test_transcripts():
    text = (
        "Ses01F_impro01_F000 [006.2901-008.2357]: Made: [LAUGHTER] up.\r\n"
        "M: said by nobody known\n"
        "Ses01F_impro01_FXX0 [010.0000-011.0000]: (BREATHING)\n"
        "\n"
        "no line of a transcript\n"
        "Ses01F_impro01_F000 [006.2901-008.2357]: again"
    )
    parsed = parse_transcript(text)
    assert parsed.spoken == (
        Spoken("Ses01F_impro01_F000", 6.2901, 8.2357, "Made: [LAUGHTER] up."),
        Spoken("Ses01F_impro01_FXX0", 10.0, 11.0, "(BREATHING)"),
    )
    assert parsed.without_id == 1
    assert [(fault.kind, fault.line) for fault in parsed.faults] == [
        ("bad_transcript_line", 5),
        ("duplicate_transcript", 6),
    ]
    assert format_transcript(parsed.spoken[:1]) == text.splitlines()[0] + "\n"


# Anything that can be written can be read.

number = st.integers(-(10**7), 10**9).map(lambda n: n / 10_000)
letter = st.sampled_from("FM")
comments = st.text(
    st.characters(blacklist_characters="\r\n\0", blacklist_categories=("Cs",)),
    max_size=20,
)
raters = st.builds("{}{}".format, st.sampled_from("EFM"), st.integers(1, 12))
label_sets = st.lists(st.sampled_from(LABELS), unique=True, max_size=4).map(tuple)
value = st.none() | st.integers(1, 5).map(float) | st.sampled_from([2.5, 1.25, 4.75])


def by_rater(rows):
    return st.lists(rows, unique_by=lambda row: row.rater, max_size=5).map(tuple)


names = st.builds(
    "Ses{:02d}{}_{}_{}{:03d}".format,
    st.integers(1, 12),
    letter,
    st.sampled_from(["impro01", "script01_1b", "made00"]),
    letter,
    st.integers(0, 999),
)
blocks = st.lists(
    st.builds(
        lambda name, start, length, code, triple, labels, dimensions: Block(
            name, start, start + length, code, triple, labels, dimensions
        ),
        names,
        st.integers(0, 9_999).map(float),
        st.integers(1, 30).map(float),
        st.sampled_from([*grammar.CODES, grammar.NO_CONSENSUS]),
        st.none() | st.tuples(number, number, number),
        by_rater(st.builds(Labels, raters, label_sets, comments)),
        by_rater(st.builds(Dimensions, raters, value, value, value, comments)),
    ),
    unique_by=lambda block: block.utterance,
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(blocks)
def test_parsing_undoes_formatting(rows):
    parsed = parse_evaluation(format_evaluation(rows))
    assert list(parsed.blocks) == rows
    missing = sum(row.triple is None for row in rows)
    assert kinds(parsed) == ["warning bad_triple"] * missing
    assert parsed.lines.skipped == 0


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Spoken,
            names,
            st.integers(0, 10**7).map(lambda n: n / 10_000),
            st.integers(0, 10**7).map(lambda n: n / 10_000),
            st.text(string.ascii_letters + " :[]()'", max_size=20).map(str.strip),
        ),
        unique_by=lambda row: row.utterance,
    )
)
def test_transcripts_come_back(rows):
    assert list(parse_transcript(format_transcript(rows)).spoken) == rows


# Damage: nothing raises, all lines are accounted for, and what was not touched stays.


def check_counts(text: str) -> grammar.Evaluation:
    parsed = parse_evaluation(text)
    lines = parsed.lines
    assert sum(lines) == len(grammar.split_lines(text))
    rows = sum(1 + len(b.labels) + len(b.dimensions) for b in parsed.blocks)
    assert lines.used == rows
    skipping = {f.line for f in parsed.faults if f.kind != "unknown_label"}
    assert lines.skipped <= len(skipping)
    assert len({b.utterance for b in parsed.blocks}) == len(parsed.blocks)
    return parsed


junk = st.one_of(
    st.text(st.characters(blacklist_characters="\r\n"), max_size=30),
    st.sampled_from(
        ["[", "[1 - 2]\tx\ty", "C-", "C-E1:\t;;;((", "A-E1:\tval;", "%", "C-E1:", "\0"]
    ),
)


@settings(deadline=None, max_examples=200)
@given(blocks, st.data())
def test_damaged_lines_harm_their_block_only(rows, data):
    which = data.draw(st.integers(0, len(rows) - 1))
    parts = [format_block(row) for row in rows]
    lines = parts[which]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines)))
        edit = data.draw(st.sampled_from(["delete", "repeat", "insert", "splice"]))
        if edit == "delete":
            lines = lines[:at] + lines[at + 1 :]
        elif edit == "repeat":
            lines = lines[:at] + lines[at : at + 2] + lines[at:]
        elif edit == "insert":
            lines = [*lines[:at], data.draw(junk), *lines[at:]]
        else:  # ratings of any block; a first line would be a block of its own
            other = [line for part in parts for line in part[1:]] or [""]
            lines = [*lines[:at], data.draw(st.sampled_from(other)), *lines[at:]]
    parts[which] = lines
    text = "\n".join([grammar.HEADER, "", *(x for part in parts for x in [*part, ""])])
    found = {block.utterance: block for block in check_counts(text).blocks}
    for index, row in enumerate(rows):
        if index != which:
            assert found[row.utterance] == row


@settings(deadline=None, max_examples=200)
@given(blocks, st.data())
def test_damaged_bytes_never_raise(rows, data):
    content = bytearray(format_evaluation(rows).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content)))
        end = at + data.draw(st.integers(0, 40))
        edit = data.draw(st.sampled_from(["delete", "repeat", "insert", "move"]))
        if edit == "delete":
            del content[at:end]
        elif edit == "repeat":
            content[at:at] = content[at:end]
        elif edit == "insert":
            content[at:at] = data.draw(st.binary(max_size=8))
        else:
            piece = bytes(content[at:end])
            del content[at:end]
            to = data.draw(st.integers(0, len(content)))
            content[to:to] = piece
    text = grammar.decode(bytes(content))
    if text is not None:
        check_counts(text)
        parse_transcript(text)


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_any_text_is_survived(text):
    check_counts(text)
    parse_transcript(text)
