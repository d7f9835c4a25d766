"""What is there of the real CREMA-D: a sample of answers, a clip, the vote tables."""

import collections
import csv
import gzip

import numpy as np
import pytest

from metaperser_jax.data.crema_d import CremaDSpec, load_crema_d, names, published
from metaperser_jax.data.crema_d.answers import read_answers
from metaperser_jax.data.crema_d.spec import LETTERS, MODALITIES
from metaperser_jax.errors import Problems

CLIP = "1001_DFA_ANG_XX"


@pytest.fixture(scope="session")
def folder(data):
    return data / "crema_d"


@pytest.fixture(scope="session")
def answers(folder):
    problems = Problems()
    found = read_answers(folder / "perrater_sample.csv", problems)
    assert problems.counts() == {}
    return found


@pytest.fixture(scope="session")
def votes(folder):
    problems = Problems()
    found = published.read_votes(folder / "tabulatedVotes.csv.gz", problems)
    assert problems.counts() == {}
    return found


@pytest.fixture(scope="session")
def majority(folder):
    problems = Problems()
    found = published.read_majority(folder / "summaryTable.csv.gz", problems)
    assert problems.counts() == {}
    return found


@pytest.fixture(scope="session")
def loaded(folder, tmp_path_factory):
    spec = CremaDSpec(root=str(folder), responses="perrater_sample.csv")
    problems = Problems()
    return load_crema_d(spec, tmp_path_factory.mktemp("builds"), problems), problems


def test_the_sample_holds_301_answers_of_291_raters_to_10_clips(answers):
    assert answers.num_read == len(answers.rows) == 301
    assert len(answers.raters) == 291
    assert len(answers.clips) == 10
    by_modality = np.bincount(answers.rows["modality"]).tolist()
    assert dict(zip(MODALITIES, by_modality, strict=True)) == {
        "voice": 102,
        "face": 95,
        "audio_visual": 104,
    }
    by_label = np.bincount(answers.rows["label"]).tolist()
    assert LETTERS == "ADFHNS"
    assert by_label == [86, 69, 23, 25, 92, 6]
    assert answers.rows["level"].min() >= 1
    assert answers.rows["level"].max() <= 100


def test_all_cells_of_the_votes_are_there(votes):
    assert len(votes) == 3 * 7442
    assert {clip for clip, _ in votes} == set(names.clip_names())
    totals = collections.Counter()
    for (_, modality), counts in votes.items():
        totals[modality] += sum(counts)
    assert totals == {"voice": 68_568, "face": 71_654, "audio_visual": 71_778}


def test_the_summary_names_the_majority_of_the_votes(votes, majority):
    compared = published.compare_majority(votes, majority)
    assert compared == published.Comparison(3 * 7442, 0, [])


def test_no_vote_was_published_that_the_sample_does_not_hold(answers, votes):
    found = published.count_votes(answers)
    assert len(found) == 30
    sampled = {cell: votes[cell] for cell in found}
    assert published.compare_votes(found, sampled, exact=False).different == 0
    # The authors set answers with a late first click aside.
    assert published.compare_votes(found, sampled, exact=True).different == 10
    aside = sum(map(sum, found.values())) - sum(map(sum, sampled.values()))
    assert aside == 301 - sum(map(sum, sampled.values())) == 11


def test_the_one_recording_becomes_a_corpus_of_one_clip(folder, loaded):
    corpus, _ = loaded
    assert corpus.clips == (CLIP,)
    assert corpus.speakers.tolist() == ["1001"]
    assert corpus.sessions.tolist() == ["set1"]
    with (folder / "perrater_sample.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["clip"] == CLIP]
    wanted = sorted(
        (row["annotator"], LETTERS.index(row["label"]), float(row["level"]))
        for row in rows
        if row["modality"] == "voice"
    )
    ratings = corpus.ratings
    labels = ratings.targets.argmax(1).tolist()
    raters = [corpus.annotators[index] for index in ratings.annotator]
    levels = ratings.dimensions[:, 0].tolist()
    assert list(zip(raters, labels, levels, strict=True)) == wanted


def test_its_audio_is_that_of_the_file(folder, loaded):
    corpus, _ = loaded
    samples = np.frombuffer((folder / f"{CLIP}.wav").read_bytes()[-2 * 36_000 :], "<i2")
    audio = corpus.read_audio(0)
    assert corpus.seconds.tolist() == [len(audio) / 16_000]
    assert 2.2 < corpus.seconds[0] < 2.3
    np.testing.assert_array_equal(audio[-36_000:], samples / np.float32(32768))


def test_what_is_not_there_of_the_corpus_is_counted(loaded):
    corpus, problems = loaded
    assert problems.counts() == {
        "error missing_audio": 9,
        "warning published_votes": 1,
        "warning published_counts": 1,
    }
    assert corpus.summary["answers_without_recording"] == 301 - 30
    # All cells but the thirty of the sample lack their answers.
    assert corpus.summary["published_votes_different"] == 3 * 7442 - 30


def test_a_gzipped_table_is_the_same(folder, tmp_path, answers):
    path = tmp_path / "sample.csv.gz"
    path.write_bytes(gzip.compress((folder / "perrater_sample.csv").read_bytes()))
    again = read_answers(path, Problems())
    np.testing.assert_array_equal(again.rows, answers.rows)
    assert again.raters == answers.raters
