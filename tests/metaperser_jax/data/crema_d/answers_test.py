"""Whatever the file holds: each row is used, or counted with its place."""

import csv
import gzip
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax.data.crema_d.answers import read_answers
from metaperser_jax.data.crema_d.spec import CLASSES, LETTERS, MODALITIES
from metaperser_jax.errors import InputError, Problems

HEADER = (
    '"","localid","pos","ans","ttr","queryType","numTries","clipNum","questNum",'
    '"subType","clipName","sessionNums","respEmo","respLevel","dispEmo","dispVal",'
    '"dispLevel"'
)
ANGER, SADNESS = "1001_DFA_ANG_XX", "1091_IEO_SAD_LO"


def row(rater="SSI_1", clip=ANGER, modality=1, label="A", level="80", time="5000"):
    return (
        f'"1","{rater}",7,"{label}_{level}","{time}",{modality},0,12,3,4,"{clip}",'
        f'3961,"{label}","{level}","A",50,"X"'
    )


GOOD = [
    row(),
    row(clip=SADNESS, label="S", level="35.5", time="1200"),
    row(rater="SSI_2", modality=2, label="D"),
    row(rater="SSI_2", modality=3, label="N"),
]


def write(folder, lines, end="\n", name="finishedResponses.csv"):
    path = folder / name
    path.write_bytes(end.join([*lines, ""]).encode())
    return path


def read(path):
    problems = Problems()
    return read_answers(path, problems), problems


def spelled(answers):
    """The answers as text: rater, clip, modality, class, level, time."""
    return [
        (
            answers.raters[r["rater"]],
            answers.clips[r["clip"]],
            MODALITIES[r["modality"]],
            CLASSES[r["label"]],
            float(r["level"]),
            float(r["response_ms"]),
        )
        for r in answers.rows
    ]


EXPECTED = [
    ("SSI_1", ANGER, "voice", "angry", 80.0, 5000.0),
    ("SSI_1", SADNESS, "voice", "sad", 35.5, 1200.0),
    ("SSI_2", ANGER, "face", "disgust", 80.0, 5000.0),
    ("SSI_2", ANGER, "audio_visual", "neutral", 80.0, 5000.0),
]


def test_an_answer_is_a_rater_a_clip_a_modality_a_label_and_a_level(tmp_path):
    answers, problems = read(write(tmp_path, [HEADER, *GOOD]))
    assert spelled(answers) == EXPECTED
    assert answers.num_read == 4
    assert problems.counts() == {}
    assert answers.rows["line"].tolist() == [2, 3, 4, 5]
    assert set(answers.rows["session"]) == {3961}
    assert set(answers.rows["question"]) == {3}


def unquoted(line):
    return line.replace('"', "")


def reordered(lines, extra=False):
    """The same table with its columns turned round."""
    rows = [list(reversed(cells)) for cells in csv.reader(lines)]
    if extra:
        rows = [[f"note{i}", *cells] for i, cells in enumerate(rows)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().splitlines()


FORMS = {
    "plain": "\n".join([HEADER, *GOOD]).encode(),
    "CRLF": "\r\n".join([HEADER, *GOOD, ""]).encode(),
    "byte-order mark": b"\xef\xbb\xbf" + "\n".join([HEADER, *GOOD, ""]).encode(),
    "no quotes": "\n".join(map(unquoted, [HEADER, *GOOD])).encode(),
    "other order": "\n".join(reordered([HEADER, *GOOD])).encode(),
    "extra column": "\n".join(reordered([HEADER, *GOOD], extra=True)).encode(),
    "blank lines": "\n\n".join([HEADER, *GOOD, "  "]).encode(),
    "gzip": gzip.compress("\n".join([HEADER, *GOOD]).encode()),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_the_file_makes_no_difference(tmp_path, form):
    path = tmp_path / "answers"
    path.write_bytes(FORMS[form])
    answers, problems = read(path)
    assert spelled(answers) == EXPECTED
    assert answers.num_read == 4
    assert problems.counts() == {}


def test_the_layout_of_the_small_sample_is_read_too(tmp_path):
    lines = [
        "clip,annotator,modality,label,level,response_ms",
        f"{ANGER},R001,voice,A,18,9229",
        f"{SADNESS},R002,face,d,84,5077",
        f"{SADNESS},R002,audiovisual,S,,5077",
    ]
    answers, problems = read(write(tmp_path, lines))
    assert spelled(answers)[:2] == [
        ("R001", ANGER, "voice", "angry", 18.0, 9229.0),
        ("R002", SADNESS, "face", "disgust", 84.0, 5077.0),
    ]
    assert spelled(answers)[2][2:4] == ("audio_visual", "sad")
    assert np.isnan(answers.rows["level"][2])
    assert set(answers.rows["session"]) == {-1}
    assert problems.counts() == {"warning bad_level": 1}


SKIPPED = {
    "letter": (row(label="X"), "bad_label", "label 'X'"),
    "no letter": (row(label=""), "bad_label", "label ''"),
    "two letters": (row(label="AD"), "bad_label", "label 'AD'"),
    "modality": (row(modality=4), "bad_modality", "modality '4'"),
    "practice": (row(clip="ANG_HI_practice"), "bad_clip_name", "'ANG_HI_practice'"),
    "no clip": (row(clip=""), "bad_clip_name", "1001_DFA_ANG_XX"),
    "file name": (row(clip=f"{ANGER}.wav"), "bad_clip_name", "ANG_XX.wav"),
    "no rater": (row(rater=" "), "no_rater", "expected an id"),
    "ragged": (row() + ",9", "ragged_row", "18 cells under 17 columns"),
    "short": ("1,2", "ragged_row", "2 cells under 17 columns"),
    "open quote": (row().replace('"SSI_1"', '"SSI_1'), "ragged_row", "not CSV"),
    "endless": (row(rater="x" * 200_000), "ragged_row", "characters"),
    "again": (row(label="S"), "duplicate_answer", "line 2, voice) with another label"),
    "the same": (row(), "duplicate_answer", "with the same label; the first is kept"),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_a_bad_row_is_named_and_the_others_are_used(tmp_path, case):
    line, kind, words = SKIPPED[case]
    answers, problems = read(write(tmp_path, [HEADER, *GOOD, line, row("SSI_3")]))
    assert spelled(answers)[:4] == EXPECTED
    assert answers.raters[answers.rows["rater"][4]] == "SSI_3"
    assert len(answers.rows) == 5
    assert answers.num_read == 6
    (problem,) = problems.rows
    assert (problem.severity, problem.kind) == ("error", kind)
    assert problem.where.endswith("finishedResponses.csv:6")
    assert words in problem.message


def test_the_same_clip_in_another_modality_is_no_duplicate(tmp_path):
    lines = [HEADER, *(row(modality=number) for number in (1, 2, 3))]
    answers, problems = read(write(tmp_path, lines))
    assert len(answers.rows) == 3
    assert problems.counts() == {}


@pytest.mark.parametrize("level", ["H", "", "NA", "-1", "100.5", "inf", "1e99"])
def test_a_level_that_is_none_is_missing_and_the_answer_counts(tmp_path, level):
    answers, problems = read(write(tmp_path, [HEADER, row(level=level)]))
    assert np.isnan(answers.rows["level"]).all()
    assert answers.rows["label"].tolist() == [0]
    assert problems.counts() == {"warning bad_level": 1}


@pytest.mark.parametrize("level", ["0", "100", "54.5", " 7 "])
def test_the_ends_of_the_scale_belong_to_it(tmp_path, level):
    answers, problems = read(write(tmp_path, [HEADER, row(level=level)]))
    assert answers.rows["level"].tolist() == [float(level)]
    assert problems.counts() == {}


def test_a_negative_time_is_not_known(tmp_path):
    answers, problems = read(write(tmp_path, [HEADER, row(time="-12448")]))
    assert np.isnan(answers.rows["response_ms"]).all()
    assert problems.counts() == {"warning bad_response_time": 1}


NOT_A_TABLE = {
    "a column is gone": (
        [HEADER.replace('"localid"', '"localID"'), *GOOD],
        r"no column 'localid'\. Did you mean 'localID'\?",
    ),
    "two columns are gone": (
        [HEADER.replace("clipName", "x").replace("respEmo", "y"), *GOOD],
        r"no column 'clipName'.*; no column 'respEmo'.*Found 'localid'",
    ),
    "a column is twice": (
        [HEADER.replace('"pos"', '"localid"'), *GOOD],
        "column 'localid' is there twice",
    ),
    "no row": ([HEADER], "no answer can be used"),
    "no good row": ([HEADER, row(label="X")], r"1 x error bad_label: .*:2"),
    "nothing": ([""], "an empty file"),
    "a pointer": (["version https://git-lfs.github.com/spec/v1"], "git lfs pull"),
}


@pytest.mark.parametrize("case", NOT_A_TABLE)
def test_a_file_that_is_no_table_is_refused(tmp_path, case):
    lines, message = NOT_A_TABLE[case]
    path = write(tmp_path, lines)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        read(tmp_path / "none.csv")


def test_half_a_gzip_file_is_refused(tmp_path):
    path = tmp_path / "finishedResponses.csv.gz"
    path.write_bytes(gzip.compress("\n".join([HEADER, *GOOD * 99]).encode())[:-40])
    with pytest.raises(InputError, match="damaged gzip data"):
        read(path)


def test_strict_problems_stop_at_the_first_bad_row(tmp_path):
    path = write(tmp_path, [HEADER, *GOOD, row(label="X")])
    with pytest.raises(InputError, match=r":6: label 'X'"):
        read_answers(path, Problems(strict=True))


CELLS = st.one_of(
    st.sampled_from(["", '"', "A", "1", "-5", "nan", "1e400", ANGER, "\ufeff", "\0"]),
    st.text(max_size=6),
)


@st.composite
def mutated_rows(draw):
    """Rows in which some cells are replaced, dropped or added."""
    lines = []
    for _ in range(draw(st.integers(1, 8))):
        cells = draw(st.sampled_from(GOOD)).split(",")
        for _ in range(draw(st.integers(0, 3))):
            place = draw(st.integers(0, len(cells) - 1))
            cells[place : place + draw(st.integers(0, 2))] = [draw(CELLS)]
        lines.append(",".join(cells))
    return lines


@given(lines=mutated_rows(), tail=st.binary(max_size=12))
@settings(max_examples=150, deadline=None)
def test_each_row_is_used_or_counted_whatever_it_holds(tmp_path_factory, lines, tail):
    path = tmp_path_factory.getbasetemp() / "mutated.csv"
    text = "\n".join([HEADER, *GOOD, *lines])
    path.write_bytes(text.encode("utf-8", "surrogatepass") + tail)
    answers, problems = read(path)
    skipped = [problem for problem in problems.rows if problem.severity == "error"]
    assert len(answers.rows) + len(skipped) == answers.num_read
    assert answers.num_read >= len(GOOD)
    assert len({problem.where for problem in skipped}) == len(skipped)
    rows = answers.rows
    assert set(rows["modality"]) <= set(range(3))
    assert set(rows["label"]) <= set(range(len(LETTERS)))
    levels = rows["level"][~np.isnan(rows["level"])]
    assert ((levels >= 0) & (levels <= 100)).all()
    keys = {(r["rater"], r["clip"], r["modality"]) for r in rows}
    assert len(keys) == len(rows)


@given(data=st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_give_answers_or_one_clear_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"bytes\.csv"):
        read(path)
