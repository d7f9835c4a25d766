"""From a copy to a corpus: what is kept, what is left out, and what is said of it."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from metaperser_jax.data import builds
from metaperser_jax.data.iemocap import (
    IemocapSpec,
    fake,
    load_iemocap,
    loading,
    rater_table,
)
from metaperser_jax.data.iemocap.grammar import is_observer
from metaperser_jax.data.iemocap.spec import CLASS_OF_LABEL
from metaperser_jax.data.ratings import mutual_information
from metaperser_jax.errors import InputError, MachineError, Problems

NINE = tuple(CLASS_OF_LABEL.values())


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("corpora")


@pytest.fixture(scope="module")
def load(data_dir):
    def load(root, **options):
        problems = Problems()
        spec = IemocapSpec(str(root), **options)
        return load_iemocap(spec, data_dir, problems), problems

    return load


def expected_rows(planted, classes, wanted=lambda rater: True):
    """Returns {(clip, rater): (classes, values)} straight from what was planted."""
    rows = {}
    for utterance in planted.utterances:
        values = {x.rater: (x.val, x.act, x.dom) for x in utterance.block.dimensions}
        for row in utterance.block.labels:
            names = {CLASS_OF_LABEL.get(label, "other") for label in row.labels}
            if wanted(row.rater) and names & set(classes):
                kept = frozenset(names & set(classes))
                rated = values.get(row.rater, (None,) * 3)
                on_scale = (x if x and 1 <= x <= 5 else None for x in rated)
                rows[utterance.id, row.rater] = kept, tuple(on_scale)
    return rows


def found_rows(corpus):
    rows = {}
    for clip, who, targets, mask, values in zip(*corpus.ratings, strict=True):
        assert mask.all()
        names = frozenset(corpus.classes[k] for k in np.flatnonzero(targets))
        values = tuple(None if np.isnan(x) else float(x) for x in values)
        rows[corpus.clips[clip], corpus.annotators[who]] = names, values
    assert len(rows) == len(corpus.ratings.clip)
    return rows


@pytest.mark.parametrize("name", ["clean", "quirky"])
def test_the_corpus_holds_what_was_planted(load, request, name):
    planted = request.getfixturevalue(name)
    corpus, _ = load(planted.root)
    assert corpus.clips == tuple(x.id for x in planted.utterances)
    assert corpus.speakers.tolist() == [x.name.speaker for x in planted.utterances]
    assert corpus.sessions.tolist() == [x.name.session for x in planted.utterances]
    assert corpus.annotators == (*fake.OBSERVERS, "F1", "M1", "F2", "F3", "M3", "M5")
    assert corpus.groups == ("observer",) * 6 + ("self",) * 6
    assert corpus.classes == NINE
    assert corpus.dimensions == ("valence", "activation", "dominance")
    assert found_rows(corpus) == expected_rows(planted, NINE)
    pairs = list(zip(corpus.ratings.annotator, corpus.ratings.clip, strict=True))
    assert pairs == sorted(pairs)
    for index in (0, 7, len(corpus.clips) - 1):
        samples = planted.audio[corpus.clips[index]]
        wave = corpus.read_audio(index)
        assert wave.dtype == np.float32
        np.testing.assert_array_equal(wave, samples / np.float32(32768))
        assert corpus.seconds[index] == len(samples) / 16_000


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"raters": "observers"}, is_observer),
        ({"raters": "self"}, lambda rater: not is_observer(rater)),
        ({"other_class": True}, lambda rater: True),
        ({"raters": "self", "other_class": True}, lambda rater: not is_observer(rater)),
    ],
)
def test_raters_and_classes_can_be_chosen(load, quirky, options, wanted):
    corpus, _ = load(quirky.root, **options)
    classes = (*NINE, "other") if options.get("other_class") else NINE
    assert corpus.classes == classes
    assert found_rows(corpus) == expected_rows(quirky, classes, wanted)
    kinds = {"observers": {"observer"}, "self": {"self"}}
    assert set(corpus.groups) == kinds.get(options.get("raters"), {"observer", "self"})


def test_what_is_left_out_is_counted(load, quirky):
    rows = [row for x in quirky.utterances for row in x.block.labels]
    others = [row for row in rows if "Other" in row.labels]
    alone = [row for row in others if len(row.labels) == 1]
    assert len(alone) >= 1
    corpus, _ = load(quirky.root)
    summary = corpus.summary
    assert summary["other_labels_dropped"] == len(others)
    assert summary["ratings_with_other_only"] == len(alone)
    assert summary["ratings_with_empty_set"] == 1
    assert summary["dimension_values_out_of_range"] == 1
    assert summary["ratings"] == len(rows) - len(alone) - 1
    assert summary["ratings_of_other_raters"] == 0
    own, _ = load(quirky.root, raters="self")
    observed = [row for row in rows if is_observer(row.rater)]
    assert own.summary["ratings_of_other_raters"] == len(observed)


def test_listeners_with_few_ratings_are_left_out(load, clean):
    whole, _ = load(clean.root)
    counts = np.bincount(whole.ratings.annotator)
    corpus, _ = load(clean.root, min_ratings=int(counts.min()) + 1)
    few = int((counts == counts.min()).sum())
    assert len(corpus.annotators) == 12 - few
    assert corpus.summary["listeners_below_min_ratings"] == few
    assert corpus.summary["ratings_of_those"] == few * counts.min()
    with pytest.raises(InputError, match="no listener has 999 ratings"):
        load(clean.root, min_ratings=999)


def test_problems_are_those_planted_at_each_load(load, quirky):
    expected: dict[str, int] = {"warning published_counts": 1}
    for quirk in quirky.quirks:
        for kind, count in quirk.records.items():
            expected[kind] = expected.get(kind, 0) + count
    for _ in range(2):
        _, problems = load(quirky.root)
        assert problems.counts() == expected
    with pytest.raises(InputError, match="strict mode"):
        load_iemocap(IemocapSpec(str(quirky.root)), quirky.root.parent, Problems(True))


def test_the_summary_says_what_was_found(load, quirky):
    corpus, problems = load(quirky.root)
    summary = corpus.summary
    assert summary["utterances_evaluated"] == len(quirky.utterances) + 3  # no sound
    assert summary["utterances_usable"] == summary["clips"] == len(quirky.utterances)
    assert summary["utterances_by_kind"] == {"improvisation": 39, "script": 37}
    assert summary["without_transcript"] == 8 + 1
    assert summary["dialogs"] == 10
    hours = sum(len(quirky.audio[x]) for x in corpus.clips) / 16_000 / 3600
    assert summary["hours"] == pytest.approx(hours, rel=1e-9)
    assert "utterances Ses01: 16, published 1819" in summary["published_counts"]
    assert summary["derived_again"] == {
        "consensus": "1 of 79 differ",
        "triple": "1 of 79 differ",
    }
    assert summary["raters"]["M5"].startswith("self; Ses05 8; ")
    assert summary["evaluation_lines_skipped"] > 4
    (row,) = [x for x in problems.rows if x.kind == "consensus_mismatch"]
    (quirk,) = [x for x in quirky.quirks if x.name == "wrong_code"]
    assert quirk.where in row.message


def test_the_table_counts_what_is_used(load, clean):
    corpus, _ = load(clean.root)
    lines = [line.split() for line in rater_table(corpus).splitlines()]
    assert lines[0][:5] == ["rater", "session", "clips", "frust", "angry"]
    cells = {(line[0], line[1]): list(map(int, line[2:])) for line in lines[1:]}
    for key in (("E1", "Ses02"), ("M5", "Ses05")):
        mine = corpus.ratings.annotator == corpus.annotators.index(key[0])
        mine &= corpus.sessions[corpus.ratings.clip] == key[1]
        counts = corpus.ratings.targets[mine].sum(axis=0).astype(int).tolist()
        assert cells[key] == [int(mine.sum()), *counts]
    assert ("M5", "all") not in cells
    assert cells["E1", "all"][0] == sum(cells["E1", f"Ses0{k}"][0] for k in range(1, 6))


def test_builds_are_reused_and_never_mixed(load, clean, tmp_path, monkeypatch):
    first, _ = load(clean.root)
    copy = tmp_path / "renamed"
    shutil.copytree(clean.root, copy, symlinks=True)

    def refuse(*args):
        raise AssertionError("decoded again")

    from metaperser_jax.data.iemocap import builder

    with monkeypatch.context() as patch:
        patch.setattr(builder, "load", refuse)
        again, problems = load(copy)
        with pytest.raises(AssertionError, match="decoded again"):
            load(copy, max_seconds=1.5)
    assert again.content_hashes == first.content_hashes
    assert {row.where for row in problems.rows} == {str(copy)}  # not the first place
    (path,) = copy.rglob(f"{first.clips[0]}.wav")
    soundfile.write(path, np.zeros(20_000, np.int16), 16_000)
    changed, problems = load(copy)
    assert changed.content_hashes[0] != first.content_hashes[0]
    assert changed.content_hashes[1:] == first.content_hashes[1:]
    (row,) = [x for x in problems.rows if x.kind == "silent_audio"]
    assert row.where == str(path)
    assert load(clean.root)[0].content_hashes == first.content_hashes


def test_long_recordings_are_cut(load, clean):
    corpus, problems = load(clean.root, max_seconds=1.25)
    assert corpus.seconds.max() == 1.25
    cut = sum(len(samples) > 20_000 for samples in clean.audio.values())
    assert problems.counts()["warning long_audio"] == cut > 0


def test_equal_recordings_become_one_clip(load, clean, tmp_path):
    shutil.copytree(clean.root, tmp_path / "copy")
    paths = sorted((tmp_path / "copy").rglob("*.wav"))[:2]
    shutil.copyfile(paths[0], paths[1])
    corpus, problems = load(tmp_path / "copy")
    assert len(corpus.clips) == len(clean.utterances) - 1
    assert problems.counts()["warning duplicate_clip"] == 1


def test_an_utterance_that_nobody_rated_is_left_out(load, clean, tmp_path):
    shutil.copytree(clean.root, tmp_path / "copy")
    path = next((tmp_path / "copy").rglob("EmoEvaluation/Ses03F*.txt"))
    head, first, *blocks = path.read_text().split("\n\n")
    bare = first.splitlines()[0].rsplit("\t", 1)[0]
    path.write_text("\n\n".join([head, bare, *blocks]))
    corpus, problems = load(tmp_path / "copy")
    name = bare.split("\t")[1]
    assert set(corpus.clips) == {x.id for x in clean.utterances} - {name}
    assert problems.counts()["warning bad_triple"] == 1
    index = next(i for i, x in enumerate(clean.utterances) if x.id == name)
    wave = corpus.read_audio(index)  # the clips behind it have moved up
    np.testing.assert_array_equal(wave * 32768, clean.audio[corpus.clips[index]])


def test_actors_who_rate_others_are_named(load, clean, tmp_path):
    shutil.copytree(clean.root, tmp_path / "copy")
    path = next((tmp_path / "copy").rglob("EmoEvaluation/Ses03F*.txt"))
    path.write_text(path.read_text().replace("C-F3:", "C-M5:", 1))
    _, problems = load(tmp_path / "copy")
    (row,) = [x for x in problems.rows if x.kind == "self_rater_elsewhere"]
    assert row.message.startswith(
        "1 self-ratings of what another actor said: M5 on Ses03"
    )


def test_many_threads_may_read(load, clean):
    corpus, _ = load(clean.root)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waves = list(pool.map(corpus.read_audio, range(len(corpus.clips))))
    for clip, wave in zip(corpus.clips, waves, strict=True):
        np.testing.assert_array_equal(wave * 32768, clean.audio[clip])


def test_the_invented_tree_needs_no_root(tmp_path):
    spec = IemocapSpec(fake=True, fake_dialogs=2, fake_utterances=8, fake_seed=3)
    corpus = load_iemocap(spec, tmp_path, problems := Problems())
    assert corpus.name == "iemocap_fake"
    assert corpus.summary["published_counts"] == ["an invented tree"]
    assert "warning published_counts" not in problems.counts()
    again = load_iemocap(spec, tmp_path, Problems())
    assert again.content_hashes == corpus.content_hashes
    other = load_iemocap(spec._replace(fake_seed=4), tmp_path, Problems())
    assert not set(other.content_hashes) & set(corpus.content_hashes)


def test_who_listens_tells_about_the_labels(load, clean):
    ratings = load(clean.root)[0].ratings
    neutral = ratings.targets[:, NINE.index("neutral")].astype(int)
    rng = np.random.default_rng(0)
    chance = [
        mutual_information(neutral, rng.permutation(ratings.annotator)).plug_in
        for _ in range(50)
    ]
    assert mutual_information(neutral, ratings.annotator).plug_in > 2 * max(chance)


LIGHT = """
import sys
import metaperser_jax.data.iemocap
heavy = {"tensorflow_datasets", "tensorflow", "torch", "librosa", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
"""
KILLED = """
import os, sys
from metaperser_jax.data.iemocap import IemocapSpec, builder, load_iemocap
from metaperser_jax.errors import Problems
load, count = builder.load, 0
def load_some(*args):
    global count
    count += 1
    if count == 60:
        os._exit(9)  # as a kill: no clean-up runs
    return load(*args)
builder.load = load_some
load_iemocap(IemocapSpec(sys.argv[1]), sys.argv[2], Problems())
"""


def run_child(code: str, *args: str | os.PathLike) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True
    )


def test_importing_the_package_is_light():
    assert run_child(LIGHT).stdout == "[]\n"


def test_a_killed_build_is_built_anew(load, clean, tmp_path):
    child = run_child(KILLED, clean.root, tmp_path)
    assert child.returncode == 9, child.stderr
    assert list(tmp_path.rglob("incomplete.*"))
    corpus = load_iemocap(IemocapSpec(str(clean.root)), tmp_path, Problems())
    assert corpus.content_hashes == load(clean.root)[0].content_hashes


def test_damaged_files_are_named(clean, tmp_path):
    spec = IemocapSpec(str(clean.root / "Session1"))
    load_iemocap(spec, tmp_path, Problems())
    (path,) = tmp_path.rglob("*.array_record-*")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="Delete this folder and run again") as caught:
        load_iemocap(spec, tmp_path, Problems())
    assert str(path.parent) in str(caught.value)


def test_audio_that_is_not_what_was_written_is_refused(clean, tmp_path, monkeypatch):
    spec = IemocapSpec(str(clean.root / "Session1"))
    with monkeypatch.context() as patch:
        patch.setattr(builds, "samples_hash", lambda audio: str(len(audio)))
        load_iemocap(spec, tmp_path, Problems())
    corpus = load_iemocap(spec, tmp_path, Problems())
    with pytest.raises(InputError, match="F000 is not what was written"):
        corpus.read_audio(0)


def test_a_folder_that_cannot_be_written_is_the_machines_fault(clean, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match=r"file: .*choose another data_dir"):
        load_iemocap(IemocapSpec(str(clean.root)), tmp_path / "file", Problems())
    with pytest.raises(MachineError, match=r"could not be written"):
        load_iemocap(IemocapSpec(fake=True), tmp_path / "file", Problems())


def test_faults_of_the_specification_touch_no_disk(tmp_path):
    with pytest.raises(InputError, match="min_ratings"):
        load_iemocap(IemocapSpec("x", min_ratings=0), tmp_path / "new", Problems())
    with pytest.raises(InputError, match="no such folder"):
        load_iemocap(IemocapSpec(str(tmp_path / "x")), tmp_path / "new", Problems())
    assert not pathlib.Path(tmp_path / "new").exists()


def test_nothing_is_printed_without_a_terminal(clean, tmp_path, capfd, caplog):
    load_iemocap(IemocapSpec(str(clean.root / "Session1")), tmp_path, Problems())
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize(
    ("labels", "other_class", "classes"),
    [
        (("Neutral",), False, ["neutral"]),
        (("Other",), False, []),
        (("Other",), True, ["other"]),
        (("Other", "Excited"), False, ["excited"]),
        (("Other", "Excited"), True, ["other", "excited"]),
    ],
)
def test_labels_become_classes(labels, other_class, classes):
    assert loading.class_labels(labels, other_class) == classes
