"""The generated copy: the same from the same seed, and as planted."""

import csv
import hashlib
import wave

import numpy as np
import pytest

from metaperser_jax.data.crema_d import fake, fake_raters
from metaperser_jax.data.crema_d.names import EMOTIONS, clip_names
from metaperser_jax.data.crema_d.spec import LETTERS

SMALL = fake.FakeSize(num_clips=12, num_raters=4, seed=1)


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = [f"{x.relative_to(folder)}".encode() + x.read_bytes() for x in files]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def responses(folder):
    with (folder / "finishedResponses.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_size_and_a_seed_fix_every_byte(tmp_path):
    for name in ("a", "b"):
        fake.write_fake(fake.plan_fake(SMALL), tmp_path / name)
    fake.write_fake(fake.plan_fake(SMALL._replace(seed=2)), tmp_path / "c")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a") != digest(tmp_path / "c")


def test_it_is_made_once(tmp_path, monkeypatch):
    folder = fake.make_once(tmp_path / "copy", SMALL)
    before = digest(folder)
    monkeypatch.setattr(fake, "write_fake", None)
    assert digest(fake.make_once(tmp_path / "copy", SMALL)) == before
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_stopped_generation_leaves_nothing(tmp_path, monkeypatch):
    def stop(seed, clip):
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "render_clip", stop)
    with pytest.raises(KeyboardInterrupt):
        fake.make_once(tmp_path / "copy", SMALL)
    assert not list(tmp_path.iterdir())


def test_the_full_size_has_the_names_of_the_corpus():
    assert fake.choose_clips(fake.FakeSize(7442, 4)) == clip_names()


@pytest.mark.parametrize("num_clips", [12, 60, 500])
def test_actors_and_groups_take_turns(num_clips):
    clips = fake.choose_clips(fake.FakeSize(num_clips, 4))
    assert len(set(clips)) == num_clips
    assert set(clips) <= set(clip_names())
    assert len({clip[:4] for clip in clips}) == min(num_clips, 91)


def test_the_header_is_that_of_the_corpus(copy):
    header = (copy / "finishedResponses.csv").read_text().split("\n")[0]
    assert header == (
        '"","localid","pos","ans","ttr","queryType","numTries","clipNum","questNum",'
        '"subType","clipName","sessionNums","respEmo","respLevel","dispEmo","dispVal",'
        '"dispLevel"'
    )


def test_the_quirks_are_where_the_plan_says(plan, copy):
    quirks, rows = plan.quirks, responses(copy)
    assert set(quirks) == {
        *("duplicate", "missing_level", "bad_letter", "unknown_clip"),
        *("pointer", "empty", "unanswered"),
    }
    assert len(rows) == len(plan.answers.clip) + 3
    keys = [(row["localid"], row["clipName"], row["queryType"]) for row in rows]
    repeated = [key for key in keys if keys.count(key) > 1]
    twice, index = quirks["duplicate"], plan.answers
    assert (
        repeated[:2]
        == [
            (
                plan.raters[index.rater[twice]],
                plan.clips[index.clip[twice]],
                str(index.modality[twice] + 1),
            )
        ]
        * 2
    )
    assert [row["respLevel"] for row in rows if not row["respLevel"].isdigit()] == [
        LETTERS[index.label[quirks["missing_level"]]]
    ]
    assert sum(row["respEmo"] == "X" for row in rows) == 1
    assert sum(row["clipName"] == quirks["unknown_clip"] for row in rows) == 1
    audio = copy / "AudioWAV"
    assert len(list(audio.iterdir())) == len(plan.clips) + 1
    assert (audio / f"{quirks['unanswered']}.wav").stat().st_size > 10_000
    assert not (audio / f"{quirks['unknown_clip']}.wav").exists()
    pointer = (audio / f"{quirks['pointer']}.wav").read_text()
    assert pointer.startswith("version https://git-lfs.github.com/spec/v1\n")
    with wave.open(str(audio / f"{quirks['empty']}.wav")) as file:
        assert file.getnframes() == 0


def test_the_empty_clip_of_the_corpus_is_empty_here_too():
    answers = fake.plan_fake(SMALL).answers
    clips = ("1001_DFA_ANG_XX", *sorted([fake.EMPTY_CLIP, "1090_IEO_NEU_XX"]))
    answers = answers._replace(clip=answers.clip % 3)
    assert fake._place_quirks(clips, answers)["empty"] == fake.EMPTY_CLIP


def test_clips_are_speech_like_and_short(plan):
    for clip in plan.clips[:4]:
        samples = fake.render_clip(plan.size.seed, clip)
        assert samples.dtype == np.int16
        assert 1.0 <= len(samples) / 16_000 <= 2.2
        assert np.abs(samples).max() > 500


@pytest.fixture(scope="module")
def dealt():
    rng = np.random.default_rng(0)
    return fake_raters.deal_clips(rng, num_clips=300, num_raters=200)


@pytest.fixture(scope="module")
def simulated():
    rng = np.random.default_rng(3)
    raters = fake_raters.sample_raters(rng, 300)
    emotion = rng.integers(0, 6, 900)
    answers = fake_raters.simulate_answers(rng, raters, emotion, np.full(900, 0.65))
    return raters, answers, emotion


class TestDesign:
    def test_a_rater_answers_thirty_clips_of_each_modality_and_none_twice(self, dealt):
        rater, clip, modality = dealt
        counts = np.bincount(rater)
        assert np.median(counts) == 90
        assert fake_raters.FEWEST_ANSWERS <= counts.min() < 90
        assert len(set(zip(rater, clip, strict=True))) == len(rater)
        for number in range(3):
            mine = (rater == 0) & (modality == number)
            assert mine.sum() == 30

    def test_clips_are_answered_about_equally_often(self, dealt):
        _, clip, modality = dealt
        for number in range(3):
            counts = np.bincount(clip[modality == number], minlength=300)
            assert np.ptp(counts) <= 5


class TestRaters:
    def test_probabilities_are_distributions(self, simulated):
        raters, answers, emotion = simulated
        evidence = fake_raters.perceivable(
            np.random.default_rng(0), emotion, np.full(900, 0.65)
        )
        shares = fake_raters.answer_probabilities(
            raters, evidence, answers.rater, answers.clip, answers.modality
        )
        np.testing.assert_allclose(shares.sum(1), 1.0, atol=1e-12)
        assert shares.min() > 0

    def test_voices_tell_less_than_faces_and_both_tell_most(self, simulated):
        _, answers, emotion = simulated
        right = answers.label == emotion[answers.clip]
        shares = [right[answers.modality == number].mean() for number in range(3)]
        assert 0.30 < shares[0] < 0.45
        assert 0.50 < shares[1] < shares[2] < 0.70

    def test_raters_differ_in_their_rate_of_neutral_and_in_their_scale(self, simulated):
        _, answers, _ = simulated
        voice = answers.modality == 0
        of_rater = np.bincount(answers.rater[voice])
        neutral = answers.label[voice] == EMOTIONS.index("NEU")
        rates = np.bincount(answers.rater[voice], neutral) / of_rater
        # far wider than the binomial spread of thirty answers alone
        assert rates.std() > 1.4 * np.sqrt(0.4 * 0.6 / 30)
        levels = np.bincount(answers.rater, answers.level) / np.bincount(answers.rater)
        assert levels.std() > 8

    def test_levels_and_questions_are_on_their_scales(self, simulated):
        _, answers, _ = simulated
        assert answers.level.min() >= 1
        assert answers.level.max() <= 100
        assert answers.question.min() == 1
        assert answers.question.max() == 30
        assert (answers.response_ms > answers.first_click_ms).all()

    def test_about_as_many_first_clicks_are_late_as_in_the_corpus(self, simulated):
        _, answers, _ = simulated
        late = answers.first_click_ms > 10_000
        assert 0.04 < late[answers.modality == 0].mean() < 0.09
        assert late[answers.modality > 0].mean() < 0.035

    def test_answers_hold_the_letters_of_the_classes(self, simulated):
        _, answers, _ = simulated
        assert set(answers.label) == set(range(len(LETTERS)))
        assert EMOTIONS == ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
