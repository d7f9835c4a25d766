"""The page of a corpus: verdict first, all of it inside, names of others escaped."""

import re

import numpy as np
import pytest

from metaperser_jax.data.agreement import Kappas
from metaperser_jax.data.survey import survey_corpus
from metaperser_jax.errors import Problems
from metaperser_jax.evaluation import corpus_page
from metaperser_jax.typing import Corpus, Ratings
from tests.metaperser_jax.evaluation.page import Page

EVIL = "<script>alert('x')</script>"


def make_corpus(multi=False, listeners=4, clips=60, **changes):
    rng = np.random.default_rng(0)
    annotator, clip = np.divmod(np.arange(listeners * clips), clips)
    own = annotator % 3
    label = np.where(rng.random(len(clip)) < 0.6, own, rng.integers(0, 3, len(clip)))
    targets = np.eye(3, dtype=np.float32)[label]
    if multi:
        targets = np.maximum(targets, rng.random(targets.shape) < 0.2)
    corpus = Corpus(
        name="toy",
        clips=tuple(f"c{i}" for i in range(clips)),
        annotators=tuple(f"l{i}" for i in range(listeners)),
        classes=("angry", "happy", "neutral"),
        dimensions=("arousal",),
        speakers=np.array([f"s{i % 4}" for i in range(clips)]),
        sessions=np.array([""] * clips),
        ratings=Ratings(
            clip.astype(np.int32), annotator.astype(np.int32),
            targets.astype(np.float32), np.ones(targets.shape, bool),
            rng.normal(size=(len(clip), 1)).astype(np.float32),
        ),
        content_hashes=tuple(map(str, range(clips))),
        read_audio=None, features=None, ground_truth=None, summary={},
    )  # fmt: skip
    return corpus._replace(**changes)


def look(**options):
    corpus = make_corpus(**options)
    return survey_corpus(corpus, Problems(), 24, "clip", num_permutations=99)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    def read(survey):
        path = corpus_page.write_corpus_page(survey, tmp_path_factory.mktemp("page"))
        assert path.name == "check.html"
        return Page(path.read_text(encoding="utf-8"))

    return read


@pytest.fixture(scope="module")
def survey():
    return look(multi=True, seconds=np.linspace(1, 5, 60))


@pytest.fixture(scope="module")
def page(read, survey):
    return read(survey)


def test_the_verdict_comes_first(page, survey):
    words = page.words()
    assert words.index("Verdict: listeners differ a lot") < words.index("What was")
    assert survey.verdict.text in words


def test_each_picture_is_inside_and_described(page):
    assert len(page.all("img")) == 6  # kappa, rates, counts, nulls, classes, lengths
    for image in page.all("img"):
        assert image["src"].startswith(("data:image/svg+xml", "data:image/png"))
        assert len(image["alt"]) > 20


def test_nothing_is_fetched_and_no_script_runs(page):
    policy = page.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    for attributes in (attributes for _, attributes in page.tags):
        assert attributes.get("href", "#").startswith("#")
    targets = {attributes.get("id") for _, attributes in page.tags}
    assert {link["href"][1:] for link in page.all("a")} <= targets


def test_its_numbers_are_those_of_the_survey(page, survey):
    words = page.words()
    for number in (
        f"{survey.differences.masi_alpha:.3f}",
        f"{survey.differences.dimension_alphas[0]:.3f}",
        f"{survey.differences.anywhere.observed:.3f}",
        f"{survey.differences.label_count.plug_in:.2f} bits plug-in",
    ):
        assert number in words
    for finding in survey.findings:
        assert finding.text in words
        assert finding.fix in words


def test_the_same_survey_gives_the_same_bytes(survey, tmp_path):
    first, again = (
        corpus_page.write_corpus_page(survey, tmp_path / name).read_bytes()
        for name in "ab"
    )
    assert first == again


def test_of_single_labels_there_is_no_picture_of_their_number(read):
    page = read(look(seconds=None))
    assert len(page.all("img")) == 4
    assert "lengths of single clips are not known" in page.words()
    assert "MASI" not in page.words()


def test_names_are_escaped(read):
    page = read(
        look(
            name=EVIL,
            annotators=(EVIL, "\x1b[31mred", "l2", "l3"),
            classes=(EVIL + "1", "b\u202e", "c"),
        )
    )
    assert EVIL in page.words()
    assert "script" not in {tag for tag, _ in page.tags}
    assert not re.search("[\x00-\x08\x1b\u202e]", "".join(page.text))


def test_without_common_clips_it_says_so_and_draws_no_kappa(read):
    annotator, clip = np.divmod(np.arange(240), 60)
    ratings = make_corpus().ratings
    ratings = ratings._replace(clip=(4 * clip + annotator).astype(np.int32))
    corpus = make_corpus(
        clips=240, listeners=1, annotators=("a", "b", "c", "d"), ratings=ratings
    )
    found = survey_corpus(corpus, Problems(), num_permutations=9)
    page = read(found)
    assert "it cannot be told whether listeners differ" in page.words()
    assert "no pair of the 4 listeners" in page.words()
    assert len(page.all("img")) == 3


def test_of_many_listeners_the_most_prolific_are_listed(read):
    page = read(look(listeners=70, clips=12))
    assert "60 of 70 listeners" in page.words()
    assert "shown are the 60 listeners with the most ratings" in page.words()


@pytest.mark.parametrize(
    ("kappa", "words"),
    [
        ([[np.nan, 0.25], [0.25, np.nan]], "median 0.25, from 0.25 to 0.25, over 1"),
        ([[np.nan, np.nan], [np.nan, np.nan]], "no pair of the 2 listeners"),
    ],
)
def test_kappa_in_words(kappa, words):
    kappas = Kappas(np.arange(2), np.array(kappa), np.full((2, 2), 20))
    assert words in corpus_page.kappa_sentence(kappas)
