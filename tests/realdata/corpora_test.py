"""Every real corpus through the manifest reader: the counts its authors give."""

import csv

import numpy as np
import pytest

from benchmark import audio
from metaperser_jax.data.manifest import ManifestSpec, load_manifest
from metaperser_jax.errors import Problems

AROUSAL_AND_CO = ("arousal", "valence", "dominance")
NSC_ITEMS = (
    *("bored", "emotional", "not_irritated", "active", "pleasant", "sociable"),
    *("relaxed", "affectionate", "hearty", "calm", "friendly", "indifferent"),
    *("interesting", "cynical"),
)
EARKICK = ("happy", "sad", "fear", "disgust", "anger", "surprise")
SPECS = {
    "emotale": {"dimension_columns": AROUSAL_AND_CO},
    "whiser_votes": {
        "label_columns": ("secondary",),
        "dimension_columns": AROUSAL_AND_CO,
        "audio": None,
    },
    "nsc_ratings": {
        "graded_columns": NSC_ITEMS,
        "threshold": 50.0,
        "features": "egemaps88.csv",
        "audio": None,
    },
    "earkick_votes": {
        "graded_columns": EARKICK,
        "dimension_columns": ("sentiment",),
        "audio": None,
    },
    "crema_d": {"ratings": "perrater_sample.csv", "audio": None},
}
# clips, listeners, ratings, classes
COUNTS = {
    "emotale": (550, 3, 1650, 5),
    "whiser_votes": (4342, 26, 15235, 17),
    "nsc_ratings": (300, 69, 2713, 14),
    "earkick_votes": (348, 3, 1044, 6),
    "crema_d": (10, 291, 301, 6),
}


@pytest.fixture(scope="session")
def corpora(data):
    """name -> (corpus, problems)"""
    loaded = {}
    for name, options in SPECS.items():
        problems = Problems()
        corpus = load_manifest(ManifestSpec(data / name, **options), problems)
        loaded[name] = (corpus, problems)
    return loaded


@pytest.mark.parametrize("name", SPECS)
def test_it_has_the_counts_of_its_authors_and_nothing_is_set_aside(corpora, name):
    corpus, problems = corpora[name]
    found = [len(corpus.clips), len(corpus.annotators), len(corpus.ratings.clip)]
    assert (*found, len(corpus.classes)) == COUNTS[name]
    assert problems.counts() == {}


@pytest.mark.parametrize("name", SPECS)
def test_each_rating_says_something_and_stands_once(corpora, name):
    ratings = corpora[name][0].ratings
    pairs = set(zip(ratings.clip.tolist(), ratings.annotator.tolist(), strict=True))
    assert len(pairs) == len(ratings.clip)
    assert ratings.mask.any(1).all()
    assert set(np.unique(ratings.targets)) == {0.0, 1.0}


class TestEmotale:
    def test_one_label_a_rating_of_twelve_speakers(self, corpora):
        corpus, _ = corpora["emotale"]
        assert (corpus.ratings.targets.sum(1) == 1).all()
        assert len(set(corpus.speakers)) == 12

    def test_the_dimensions_are_on_their_scale(self, corpora):
        dimensions = corpora["emotale"][0].ratings.dimensions
        assert np.nanmin(dimensions) >= 1
        assert np.nanmax(dimensions) <= 5

    def test_every_recording_decodes_to_its_length_without_a_warning(
        self, corpora, data
    ):
        corpus, problems = corpora["emotale"]
        seconds = column(data / "emotale" / "items.csv", "clip", "duration_s")
        for i, clip in enumerate(corpus.clips):
            waveform = corpus.read_audio(i)
            assert waveform.dtype == np.float32
            assert len(waveform) / 16_000 == pytest.approx(
                float(seconds[clip]), abs=0.01
            )
        assert problems.counts() == {}


class TestWhiser:
    def test_several_labels_in_a_cell_are_told_apart(self, corpora, data):
        corpus, _ = corpora["whiser_votes"]
        with (data / "whiser_votes" / "votes.csv").open(newline="") as file:
            cells = [row["secondary"] for row in csv.DictReader(file)]
        wanted = [len(set(cell.split("|"))) for cell in cells]
        assert corpus.ratings.targets.sum(1).tolist() == wanted
        assert max(wanted) > 5

    def test_the_habits_of_the_listeners_differ_as_they_are_known_to(self, corpora):
        corpus, _ = corpora["whiser_votes"]
        neutral = corpus.ratings.targets[:, corpus.classes.index("Neutral")]
        rates = [
            neutral[corpus.ratings.annotator == i].mean()
            for i in range(len(corpus.annotators))
        ]
        assert max(rates) - min(rates) > 0.5


class TestNsc:
    def test_a_missing_grade_is_no_answer(self, corpora):
        corpus, _ = corpora["nsc_ratings"]
        unanswered = dict(zip(corpus.classes, (~corpus.ratings.mask).sum(0),
                              strict=True))  # fmt: skip
        assert unanswered.pop("hearty") == 162
        assert not any(unanswered.values())

    def test_a_grade_above_the_threshold_is_a_label(self, corpora, data):
        corpus, _ = corpora["nsc_ratings"]
        with (data / "nsc_ratings" / "ratings.csv").open(newline="") as file:
            bored = [float(row["bored"]) > 50 for row in csv.DictReader(file)]
        assert corpus.ratings.targets[:, 0].tolist() == bored

    def test_each_voice_has_its_features(self, corpora):
        features = corpora["nsc_ratings"][0].features
        assert features.shape == (300, 1, 88)
        assert np.isfinite(features).all()


def test_every_recording_of_emodb_loads(data):
    folder, problems = data / "emodb", Problems()
    seconds = column(folder / "items.csv", "file", "duration_s")
    assert len(seconds) == 535
    for name, wanted in seconds.items():
        waveform = audio.load(folder / "wav" / name, problems=problems)
        assert len(waveform) / 16_000 == pytest.approx(float(wanted), abs=0.01)
        assert np.abs(waveform).max() <= 1
    assert problems.counts() == {}


def test_crema_d_by_modality(data):
    spec = ManifestSpec(
        data / "crema_d",
        ratings="perrater_sample.csv",
        audio=None,
        keep_rows=[("modality", ["voice"])],
    )
    corpus = load_manifest(spec, Problems())
    assert len(corpus.ratings.clip) == 102
    assert corpus.classes == ("A", "D", "F", "H", "N", "S")


def test_the_recording_of_crema_d_loads(data):
    problems = Problems()
    waveform = audio.load(data / "crema_d" / "1001_DFA_ANG_XX.wav", problems=problems)
    assert len(waveform) / 16_000 == pytest.approx(2.2756, abs=1e-3)
    assert problems.counts() == {}


def column(path, key, value):
    with path.open(newline="", encoding="utf-8") as file:
        return {row[key]: row[value] for row in csv.DictReader(file)}
