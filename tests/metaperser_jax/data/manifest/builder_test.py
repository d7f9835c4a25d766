"""From a folder to a corpus, in the shapes in which real corpora come."""

import csv
import json
import pathlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile

from metaperser_jax.data.corpora import corpus_hash, describe, validate_corpus
from metaperser_jax.data.manifest import ManifestSpec, load_manifest
from metaperser_jax.data.ratings import other_raters_inputs
from metaperser_jax.errors import InputError, Problems

NAN = float("nan")


def write_tone(path, hertz=440, rate=16_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(rate // 10) / rate)
    soundfile.write(path, tone, rate)


def folder_of(tmp_path, **tables):
    for name, text in tables.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    return tmp_path


def load(root, problems=None, **options):
    spec = ManifestSpec(root, **options)
    return load_manifest(spec, problems or Problems(strict=True))


def facts(problems):
    return [(p.severity, p.kind, pathlib.Path(p.where).name) for p in problems.rows]


VOTES = "clip,annotator,label\na,x,happy\na,y,sad|happy\nb,y,sad\n"


class TestShapes:
    def test_votes_items_and_recordings(self, tmp_path):
        folder_of(
            tmp_path,
            votes=(
                "clip,annotator,label,arousal,valence\n"
                "DK_1.wav,a2,anger,4.0,1.5\n"
                "DK_1.wav,a1,sadness,2.5,\n"
                "EN_2.wav,a1,neutral,3.0,3.0\n"
            ),
            items="clip,speaker,session\nEN_2.wav,007,s2\nDK_1.wav,003,s1\nZ.wav,1,1\n",
        )
        for number, name in enumerate(("DK_1.wav", "EN_2.wav", "unrated.wav")):
            write_tone(tmp_path / "wav" / name, 300 + 100 * number)
        corpus = load(tmp_path, dimension_columns=("arousal", "valence"), name="emo")
        assert corpus.name == "emo"
        assert corpus.clips == ("DK_1.wav", "EN_2.wav")
        assert corpus.annotators == ("a1", "a2")
        assert corpus.classes == ("anger", "neutral", "sadness")
        assert corpus.speakers.tolist() == ["003", "007"]
        assert corpus.sessions.tolist() == ["s1", "s2"]
        np.testing.assert_array_equal(corpus.ratings.clip, [0, 0, 1])
        np.testing.assert_array_equal(corpus.ratings.annotator, [1, 0, 0])
        np.testing.assert_array_equal(corpus.ratings.targets.argmax(1), [0, 2, 1])
        expected = [[4, 1.5], [2.5, NAN], [3, 3]]
        np.testing.assert_array_equal(corpus.ratings.dimensions, expected)
        assert corpus.read_audio(1).shape == (1_600,)
        assert corpus.features is None
        assert corpus.summary["hours"] == pytest.approx(0.2 / 3600)
        assert corpus.summary["speakers"] == 2
        assert "hours" in describe(corpus.summary)

    def test_several_labels_a_cell_and_no_recordings(self, tmp_path):
        folder_of(
            tmp_path,
            votes=(
                "clip,annotator,primary,secondary,arousal\n"
                "1.wav,R04,Contempt,Contempt,4\n"
                "1.wav,R14,Angry,Angry|Annoyed,5\n"
                "2.wav,R14,Sad,Sad,3\n"
            ),
        )
        corpus = load(
            tmp_path, label_columns=("secondary",), dimension_columns=("arousal",)
        )
        assert corpus.classes == ("Angry", "Annoyed", "Contempt", "Sad")
        assert (corpus.read_audio, corpus.features) == (None, None)
        assert len(set(corpus.content_hashes)) == 2
        inputs, valid = other_raters_inputs(corpus.ratings)
        assert inputs.shape == (3, 1, 4 + 1 + 1)
        assert valid.tolist() == [True, True, False]
        assert "hours" not in corpus.summary
        assert corpus.summary["inputs"] == "other raters' votes"

    def test_graded_items_and_a_table_of_features(self, tmp_path):
        folder_of(
            tmp_path,
            ratings=(
                "annotator,clip,speaker_gender,bored,hearty,old\n"
                "Rater001,w1_stimulus.wav,female,51,50,90\n"
                "Rater002,w1_stimulus.wav,female,50,,10\n"
                "Rater002,m2_stimulus.wav,male,0,100.0,10\n"
            ),
            features="sample_heard,f0,f1\nm2_stimulus.wav,3,4\nw1_stimulus.wav,1,2\n",
        )
        corpus = load(
            tmp_path,
            graded_columns=("bored", "hearty"),
            threshold=50,
            features="features.csv",
        )
        assert corpus.classes == ("bored", "hearty")
        np.testing.assert_array_equal(corpus.ratings.targets, [[1, 0], [0, 0], [0, 1]])
        np.testing.assert_array_equal(corpus.ratings.mask, [[1, 1], [1, 0], [1, 1]])
        np.testing.assert_array_equal(corpus.features[:, 0], [[1, 2], [3, 4]])
        assert corpus.features.shape == (2, 1, 2)
        assert corpus.speakers.tolist() == ["", ""]

    def test_levels_in_one_column_a_class(self, tmp_path):
        folder_of(
            tmp_path,
            votes=(
                "item,clip,source,annotator,happy,sad,sentiment\n"
                "1,x_8.m4a,web,2,3,0,+2\n1,x_8.m4a,web,3,0,0,0\n2,y.m4a,lab,2,0,1,-1\n"
            ),
        )
        corpus = load(
            tmp_path,
            graded_columns=("happy", "sad"),
            dimension_columns=("sentiment",),
        )
        np.testing.assert_array_equal(corpus.ratings.targets, [[1, 0], [0, 0], [0, 1]])
        np.testing.assert_array_equal(corpus.ratings.dimensions[:, 0], [2, 0, -1])
        assert corpus.annotators == ("2", "3")
        assert corpus.summary["ratings_without_label"] == 1

    def test_answers_of_one_kind_may_be_chosen(self, tmp_path):
        text = (
            "clip,annotator,modality,label\n"
            "1001_DFA,R1,voice,A\n1001_DFA,R2,face,D\n1002_IEO,R1,voice,N\n"
        )
        (tmp_path / "sample.csv").write_text(text)
        options = {"ratings": "sample.csv", "keep_rows": [("modality", ["voice"])]}
        corpus = load(tmp_path, **options)
        assert corpus.classes == ("A", "N")
        assert corpus.summary["rows_not_wanted"] == 1
        assert corpus.summary["rows_skipped"] == 0
        with pytest.raises(InputError, match=r"never 'sound'; found 'face', 'voice'"):
            load(tmp_path, ratings="sample.csv", keep_rows=[("modality", ["sound"])])
        with pytest.raises(InputError, match="Did you mean 'modality'"):
            load(tmp_path, ratings="sample.csv", keep_rows=[("modalty", ["voice"])])

    def test_a_filter_may_stand_in_the_items(self, tmp_path):
        folder_of(tmp_path, votes=VOTES, items="clip,language\na,da\nb,en\n")
        corpus = load(tmp_path, keep_rows=[("language", ["en"])])
        assert corpus.clips == ("b",)
        assert corpus.classes == ("sad",)


class TestFindingTables:
    @pytest.mark.parametrize("name", ["ratings.csv", "votes.csv", "Labels.CSV"])
    def test_by_name(self, tmp_path, name):
        (tmp_path / name).write_text(VOTES)
        (tmp_path / "other.csv").write_text("x\n1\n")
        assert len(load(tmp_path).ratings.clip) == 3

    def test_as_the_only_jsonl_file(self, tmp_path):
        record = {"clip": "a", "annotator": "x", "label": ["happy"]}
        (tmp_path / "anything.jsonl").write_text(json.dumps(record))
        (tmp_path / "items.csv").write_text("clip\na\n")
        assert load(tmp_path).classes == ("happy",)

    def test_the_table_of_features_is_not_taken_for_it(self, tmp_path):
        columns = {"clip": ["a", "b"], "f0": [1.0, 2.0]}
        pyarrow.parquet.write_table(pa.table(columns), tmp_path / "f.parquet")
        folder_of(tmp_path, labels=VOTES)
        assert load(tmp_path, features="f.parquet").features.shape == (2, 1, 1)

    def test_none_or_several_are_an_error(self, tmp_path):
        (tmp_path / "other.csv").write_text(VOTES)
        with pytest.raises(InputError, match=r"which table.*found: other\.csv"):
            load(tmp_path)
        folder_of(tmp_path, votes=VOTES, ratings=VOTES)
        with pytest.raises(InputError, match=r"found: ratings\.csv, votes\.csv"):
            load(tmp_path)
        assert load(tmp_path, ratings="other.csv").clips == ("a", "b")

    def test_a_missing_folder_or_table_is_named(self, tmp_path):
        with pytest.raises(InputError, match="no such folder"):
            load(tmp_path / "none")
        with pytest.raises(InputError, match=r"mine\.csv: cannot be read"):
            load(tmp_path, ratings="mine.csv")
        folder_of(tmp_path, votes=VOTES)
        with pytest.raises(InputError, match=r"mine\.csv: cannot be read"):
            load(tmp_path, items="mine.csv")

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            (
                {"annotator_column": "rater"},
                r"votes\.csv: no column 'rater'; found 'clip'",
            ),
            ({"clip_column": "clop"}, "Did you mean 'clip'"),
            ({"label_columns": ("lable",)}, "Did you mean 'label'"),
            ({"graded_columns": ("happy",)}, "no column 'happy'"),
            ({"dimension_columns": ("arousal",)}, "no column 'arousal'"),
            ({"speaker_column": "talker"}, r"votes\.csv: no column 'talker'"),
            ({"session_column": "label2"}, "Did you mean 'label'"),
        ],
    )
    def test_missing_columns_are_named(self, tmp_path, options, word):
        with pytest.raises(InputError, match=word):
            load(folder_of(tmp_path, votes=VOTES), **options)


class TestFaults:
    def test_faulty_rows_are_recorded_with_file_and_line_and_counted(self, tmp_path):
        folder_of(
            tmp_path,
            votes=(
                "clip,annotator,label\n"
                "a,x,happy\n"
                ",x,happy\n"  # 3: no clip
                "a,,happy\n"  # 4: no listener
                "b,x,\n"  # 5: no label
                "b,x,sad\n"
                "b,x,happy\n"  # 7: rated before
                "b,y,hapy\n"  # 8: unknown
                "c,y\n"  # 9: ragged
            ),
        )
        problems = Problems()
        corpus = load(tmp_path, problems, classes=("happy", "sad"))
        assert sorted(facts(problems)) == [
            ("error", "duplicate_rating", "votes.csv:7"),
            ("error", "no_id", "votes.csv:3"),
            ("error", "no_id", "votes.csv:4"),
            ("error", "no_label", "votes.csv:5"),
            ("error", "ragged_row", "votes.csv:9"),
            ("error", "unknown_label", "votes.csv:8"),
        ]
        assert len(corpus.ratings.clip) == 2
        assert corpus.annotators == ("x",)
        assert corpus.summary["rows_read"] == 8
        assert corpus.summary["rows_skipped"] == 6

    def test_bad_recordings_take_their_ratings_with_them(self, tmp_path):
        folder_of(tmp_path, votes=VOTES + "c,y,happy\n")
        write_tone(tmp_path / "wav" / "b.wav")
        write_tone(tmp_path / "wav" / "c.wav", hertz=500)
        (tmp_path / "wav" / "a.wav").write_bytes(b"RIFF")
        problems = Problems()
        corpus = load(tmp_path, problems)
        assert corpus.clips == ("b", "c")
        assert corpus.annotators == ("y",)
        assert facts(problems) == [("error", "not_audio", "votes.csv:2")]
        assert "its 2 ratings are skipped" in problems.rows[0].message
        assert corpus.summary["clips_skipped"] == 1
        assert corpus.summary["ratings_of_skipped_clips"] == 2
        assert corpus.summary["rows_skipped"] == 2

    def test_one_recording_under_two_names_is_one_clip(self, tmp_path):
        folder_of(tmp_path, votes="clip,annotator,label\na,x,p\nb,x,q\nb,y,q\n")
        for name in ("a.wav", "b.wav"):
            write_tone(tmp_path / "wav" / name)
        problems = Problems()
        corpus = load(tmp_path, problems)
        assert corpus.clips == ("a",)
        assert facts(problems) == [
            ("warning", "duplicate_clip", "clip 'b'"),
            ("error", "duplicate_rating", "votes.csv:3"),
        ]
        assert "votes.csv:2" in problems.rows[1].message

    def test_no_row_left_is_an_error_that_says_why(self, tmp_path):
        folder_of(tmp_path, votes=VOTES)
        with pytest.raises(InputError, match=r"no row can be used(.|\n)*unknown_label"):
            load(tmp_path, Problems(), classes=("angry",))
        write_tone(tmp_path / "wav" / "a.wav")
        (tmp_path / "wav" / "a.wav").write_bytes(b"")
        with pytest.raises(InputError, match=r"no row can be used(.|\n)*empty_audio"):
            load(tmp_path, Problems())

    def test_strict_stops_at_the_first(self, tmp_path):
        folder_of(tmp_path, votes=VOTES + "c,y,\n")
        with pytest.raises(InputError, match=r"votes\.csv:5: no label"):
            load(tmp_path)

    def test_faults_of_the_specification_come_first(self, tmp_path):
        with pytest.raises(InputError, match="min_ratings is 0"):
            load(tmp_path / "none", min_ratings=0)

    def test_items_may_have_gaps_and_repeats(self, tmp_path):
        folder_of(tmp_path, votes=VOTES, items="clip,speaker\na,s1\na,s2\n")
        problems = Problems()
        corpus = load(tmp_path, problems)
        assert corpus.speakers.tolist() == ["s1", ""]
        assert facts(problems) == [
            ("error", "duplicate_item", "items.csv:3"),
            ("warning", "unknown_attribute", "items.csv"),
        ]
        assert "1 clips have no speaker, for example 'b'" in problems.rows[1].message

    def test_a_clip_has_one_speaker(self, tmp_path):
        text = "clip,annotator,label,talker\na,x,p,s1\na,y,p,s2\nb,y,p,s2\n"
        problems = Problems()
        corpus = load(
            folder_of(tmp_path, votes=text), problems, speaker_column="talker"
        )
        assert corpus.speakers.tolist() == ["s1", "s2"]
        assert facts(problems) == [("warning", "conflicting_attribute", "votes.csv:3")]
        assert "talker 's2', 's1' before" in problems.rows[0].message


def test_listeners_with_few_ratings_are_left_out_and_counted(tmp_path):
    folder_of(tmp_path, votes=VOTES)
    corpus = load(tmp_path, min_ratings=2)
    assert corpus.annotators == ("y",)
    assert corpus.summary["listeners_below_min_ratings"] == 1
    assert corpus.summary["ratings_of_those"] == 1
    assert corpus.summary["listeners"] == 1
    with pytest.raises(InputError, match="no listener has 3 ratings"):
        load(tmp_path, min_ratings=3)


def test_dropped_labels_are_counted(tmp_path):
    corpus = load(
        folder_of(tmp_path, votes=VOTES),
        classes=("happy",),
        unknown_labels="drop_label",
    )
    assert corpus.summary["dropped_labels"] == {"sad": 2}
    assert corpus.summary["ratings_left_without_label"] == 1
    assert corpus.summary["rows_skipped"] == 1
    json.dumps(corpus.summary)


def test_a_loaded_corpus_passes_the_checks_again(tmp_path):
    corpus = load(folder_of(tmp_path, votes=VOTES))
    again = validate_corpus(corpus, Problems(strict=True))
    assert corpus_hash(again) == corpus_hash(corpus)


NAMES = st.text("abcäß語 .-_1", min_size=1, max_size=6).filter(
    lambda name: name == name.strip() and name not in {".", ".."}
)
LABELS = st.lists(
    st.sampled_from(["happy", "sad", "1", "2", "très triste"]),
    min_size=1,
    max_size=3,
    unique=True,
)
RATINGS = st.lists(
    st.tuples(NAMES, NAMES, LABELS, st.none() | st.integers(1, 7)),
    min_size=1,
    max_size=12,
    unique_by=lambda rating: rating[:2],
)


def write_csv(path, ratings):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "annotator", "label", "arousal"])
        for clip, annotator, labels, arousal in ratings:
            writer.writerow([clip, annotator, "|".join(labels), arousal])


def write_jsonl(path, ratings):
    names = ("clip", "annotator", "label", "arousal")
    records = [dict(zip(names, rating, strict=True)) for rating in ratings]
    for record in records:  # numbers stay numbers here
        record["label"] = [int(x) if x.isdigit() else x for x in record["label"]]
        if record["clip"].isdecimal() and not record["clip"].startswith("0"):
            record["clip"] = int(record["clip"])
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_parquet(path, ratings):
    clips, annotators, labels, arousal = map(list, zip(*ratings, strict=True))
    columns = {"clip": clips, "annotator": annotators, "label": labels}
    columns["arousal"] = pa.array(arousal, pa.float64())
    pyarrow.parquet.write_table(pa.table(columns), path)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(ratings=RATINGS)
def test_the_same_ratings_in_any_format_give_the_same_corpus(tmp_path_factory, ratings):
    root = tmp_path_factory.getbasetemp() / "formats"
    root.mkdir(exist_ok=True)
    corpora = []
    for write, name in (
        (write_csv, "votes.csv"),
        (write_jsonl, "votes.jsonl"),
        (write_parquet, "votes.parquet"),
    ):
        write(root / name, ratings)
        corpora.append(load(root, ratings=name, dimension_columns=("arousal",)))
    assert len({corpus_hash(corpus) for corpus in corpora}) == 1
    corpus = corpora[0]
    rows = zip(
        (corpus.clips[i] for i in corpus.ratings.clip),
        (corpus.annotators[i] for i in corpus.ratings.annotator),
        (
            {corpus.classes[c] for c in np.flatnonzero(t)}
            for t in corpus.ratings.targets
        ),
        (None if np.isnan(d) else d for d in corpus.ratings.dimensions[:, 0]),
        strict=True,
    )
    assert list(rows) == [(c, a, set(labels), d) for c, a, labels, d in ratings]


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(
    kind=st.sampled_from(["csv", "jsonl", "parquet"]),
    content=st.binary(max_size=200)
    | st.text("clip,anotrbe\n\"'|{}:[]1 \t;é", max_size=200).map(str.encode)
    | st.text(',\n"|x1 é', max_size=60).map(
        lambda t: f"clip,annotator,label\n{t}".encode()
    ),
)
def test_any_bytes_give_a_corpus_or_input_error(tmp_path_factory, kind, content):
    root = tmp_path_factory.getbasetemp() / "bytes"
    root.mkdir(exist_ok=True)
    (root / f"votes.{kind}").write_bytes(content)
    try:
        corpus = load(root, Problems(), ratings=f"votes.{kind}")
    except InputError:
        return
    assert len(corpus.ratings.clip) > 0
    json.dumps(corpus.summary)
