"""From a copy on disk to a corpus: what was planted, exactly, and nothing else."""

import shutil
import subprocess
import sys
import wave

import numpy as np
import pytest

from metaperser_jax.data import builds
from metaperser_jax.data.crema_d import CremaDSpec, fake, load_crema_d
from metaperser_jax.data.crema_d.spec import CLASSES, MODALITIES
from metaperser_jax.errors import InputError, MachineError, Problems


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("builds")


@pytest.fixture(scope="module")
def loaded(copy, data_dir):
    problems = Problems()
    return load_crema_d(CremaDSpec(root=str(copy)), data_dir, problems), problems


@pytest.fixture
def own_copy(copy, tmp_path):
    return shutil.copytree(copy, tmp_path / "own")


def load(root, data_dir, **options):
    problems = Problems()
    spec = CremaDSpec(root=str(root), **options)
    return load_crema_d(spec, data_dir, problems), problems


def planned(plan, modality):
    """(rater, clip, class, level) of the planned answers to clips with sound."""
    unusable = {plan.quirks["pointer"], plan.quirks["empty"]}
    answers, rows = plan.answers, set()
    for i, number in enumerate(answers.modality):
        clip = plan.clips[answers.clip[i]]
        if MODALITIES[number] == modality and clip not in unusable:
            level = None if i == plan.quirks["missing_level"] else answers.level[i]
            rater = plan.raters[answers.rater[i]]
            rows.add((rater, clip, CLASSES[answers.label[i]], level))
    return rows


def given(corpus):
    ratings, rows = corpus.ratings, []
    levels = ratings.dimensions[:, 0]
    for clip, rater, target, level in zip(
        ratings.clip, ratings.annotator, ratings.targets, levels, strict=True
    ):
        label = corpus.classes[int(target.argmax())]
        number = None if np.isnan(level) else int(level)
        rows.append((corpus.annotators[rater], corpus.clips[clip], label, number))
    return rows


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_corpus_holds_the_planned_answers_of_a_modality(
    plan, copy, data_dir, loaded, modality
):
    corpus, _ = load(copy, data_dir, modality=modality)
    rows = given(corpus)
    assert len(rows) == len(set(rows))
    assert set(rows) == planned(plan, modality)


def test_the_corpus_keeps_the_contract(plan, loaded):
    corpus, _ = loaded
    ratings = corpus.ratings
    assert corpus.name == "crema_d"
    assert corpus.classes == ("angry", "disgust", "fear", "happy", "neutral", "sad")
    assert corpus.dimensions == ("level",)
    assert corpus.clips == tuple(sorted(corpus.clips))
    assert corpus.annotators == tuple(sorted(corpus.annotators))
    assert ratings.clip.dtype == ratings.annotator.dtype == np.int32
    assert ratings.targets.dtype == ratings.dimensions.dtype == np.float32
    assert ratings.targets.sum(1).tolist() == [1.0] * len(ratings.clip)
    assert ratings.mask.all()
    order = np.lexsort((ratings.clip, ratings.annotator))
    assert order.tolist() == list(range(len(order)))
    for clip, speaker, session in zip(
        corpus.clips, corpus.speakers, corpus.sessions, strict=True
    ):
        assert speaker == clip[:4]
        assert session == f"set{min((int(speaker) - 1001) // 18, 4) + 1}"
    assert set(corpus.sessions) == {f"set{number}" for number in range(1, 6)}


def test_the_audio_is_what_the_files_hold(plan, copy, loaded):
    corpus, _ = loaded
    for index in (0, len(corpus.clips) - 1):
        with wave.open(str(copy / "AudioWAV" / f"{corpus.clips[index]}.wav")) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        audio = corpus.read_audio(index)
        assert audio.dtype == np.float32
        np.testing.assert_array_equal(audio, samples / np.float32(32768))
        assert corpus.seconds[index] == len(samples) / 16_000


PLANTED = {
    "error duplicate_answer": 1,
    "warning bad_level": 1,
    "error bad_label": 1,
    "error missing_audio": 1,
    "error unanswered_clip": 1,
    "error not_audio": 1,  # the pointer
    "error empty_audio": 1,
    "warning published_counts": 1,
}


def test_each_planted_quirk_is_counted_once(plan, loaded):
    _, problems = loaded
    assert problems.counts() == PLANTED
    message = {problem.kind: problem for problem in problems.rows}
    assert "git lfs pull" in message["not_audio"].message
    assert plan.quirks["pointer"] in message["not_audio"].where
    assert plan.quirks["empty"] in message["empty_audio"].where
    assert plan.quirks["unanswered"] in message["unanswered_clip"].where
    assert plan.quirks["unknown_clip"] in message["missing_audio"].message


def test_the_summary_accounts_for_every_row(plan, loaded):
    summary = loaded[0].summary
    read = len(plan.answers.clip) + 3
    assert summary["answers_read"] == read
    assert summary["answers_kept"] == read - 2  # the repeat and the letter X
    assert summary["answers_without_recording"] == 1
    assert summary["recordings_without_answer"] == 1
    assert summary["clips_usable"] == len(plan.clips) - 2
    assert summary["published_votes_different"] == 0
    assert summary["modality"] == "voice"
    assert summary["hours"] == pytest.approx(loaded[0].seconds.sum() / 3600)


def test_a_second_load_reads_neither_answers_nor_recordings(
    copy, data_dir, loaded, monkeypatch
):
    from metaperser_jax.data.crema_d import builder

    def refuse(*args):
        raise AssertionError("read again")

    monkeypatch.setattr(builder, "read_answers", refuse)
    monkeypatch.setattr(builder, "read_clip", refuse)
    corpus, problems = load(copy, data_dir)
    assert given(corpus) == given(loaded[0])
    assert problems.rows == loaded[1].rows


def test_a_changed_copy_is_built_apart(own_copy, data_dir, loaded, plan):
    path = own_copy / "finishedResponses.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-20]))
    corpus, _ = load(own_copy, data_dir)
    assert corpus.summary["answers_read"] == len(plan.answers.clip) + 3 - 20
    assert len(list((data_dir / "crema_d_clips").iterdir())) >= 2


def test_a_moved_copy_is_not_built_again(own_copy, data_dir, loaded):
    before = set((data_dir / "crema_d_clips").iterdir())
    corpus, _ = load(own_copy, data_dir)
    assert given(corpus) == given(loaded[0])
    assert set((data_dir / "crema_d_clips").iterdir()) == before


def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.asarray(samples, "<i2").tobytes())


NOISE = np.random.default_rng(0).integers(-3000, 3000, 12 * 16_000)
BAD_AUDIO = {
    "silence": (np.zeros(16_000), "error silent_audio"),
    "nearly nothing": (NOISE[:100], "error short_audio"),
    "long": (NOISE, "warning unusually_long"),
}


@pytest.mark.parametrize("case", BAD_AUDIO)
def test_a_recording_with_nothing_to_hear_is_skipped(own_copy, tmp_path, loaded, case):
    samples, kind = BAD_AUDIO[case]
    clip = loaded[0].clips[3]
    write_wav(own_copy / "AudioWAV" / f"{clip}.wav", samples)
    corpus, problems = load(own_copy, tmp_path)
    assert problems.counts() == {**PLANTED, kind: 1}
    assert (clip in corpus.clips) == kind.startswith("warning")


def test_what_is_longer_than_allowed_is_cut(own_copy, tmp_path):
    corpus, problems = load(own_copy, tmp_path, max_seconds=0.5)
    assert set(corpus.seconds) == {0.5}
    assert problems.counts()["warning long_audio"] == len(corpus.clips)


def test_listeners_with_few_ratings_are_left_out_and_counted(copy, data_dir, loaded):
    corpus, _ = loaded
    sizes = np.bincount(corpus.ratings.annotator)
    most = int(sizes.max())
    kept, _ = load(copy, data_dir, min_ratings=most)
    assert len(kept.annotators) == (sizes == most).sum()
    left = kept.summary["listeners_below_min_ratings"]
    assert left == len(corpus.annotators) - len(kept.annotators)
    with pytest.raises(InputError, match=rf"no listener has {most + 1} ratings"):
        load(copy, data_dir, min_ratings=most + 1)


def test_a_modality_that_nobody_answered_is_named(own_copy, tmp_path):
    path = own_copy / "finishedResponses.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if line.split(",")[5] != "2"))
    with pytest.raises(InputError, match=r"usable clips has an answer.*'face'"):
        load(own_copy, tmp_path, modality="face")


def test_strict_problems_are_raised_from_a_build_that_is_there(copy, data_dir, loaded):
    with pytest.raises(InputError, match="strict mode"):
        load_crema_d(CremaDSpec(root=str(copy)), data_dir, Problems(strict=True))


def test_a_generated_copy_is_made_and_loaded_by_its_size(tmp_path):
    spec = CremaDSpec(fake=True, fake_clips=12, fake_raters=4, fake_seed=9)
    problems = Problems()
    corpus = load_crema_d(spec, tmp_path, problems)
    assert corpus.name == "crema_d_fake"
    assert len(corpus.clips) == 10
    counts = dict(PLANTED)
    del counts["warning published_counts"]  # nobody expects them of a generated copy
    assert problems.counts() == counts
    again = load_crema_d(spec, tmp_path, Problems())
    assert given(again) == given(corpus)
    plan = fake.plan_fake(fake.FakeSize(12, 4, 9))
    assert set(given(corpus)) == planned(plan, "voice")


def test_a_stopped_build_leaves_nothing_and_is_begun_anew(
    copy, tmp_path, loaded, monkeypatch
):
    from metaperser_jax.data.crema_d import builder

    def stop(clip, *args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(builder, "read_clip", stop)
        with pytest.raises(KeyboardInterrupt):
            load(copy, tmp_path)
    assert not list(tmp_path.rglob("*.array_record*"))
    assert given(load(copy, tmp_path)[0]) == given(loaded[0])


def test_damaged_files_are_named(copy, tmp_path):
    load(copy, tmp_path)
    path = next(tmp_path.rglob("*set1.array_record-*"))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="Delete this folder and run again") as caught:
        load(copy, tmp_path)
    assert str(path.parent) in str(caught.value)


def test_audio_that_is_not_what_was_written_is_refused(copy, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(builds, "samples_hash", lambda audio: f"{audio.size:064d}")
        corpus, _ = load(copy, tmp_path)
    with pytest.raises(InputError, match="is not what was written"):
        corpus.read_audio(0)


def test_a_folder_that_cannot_be_written_is_the_machines_fault(copy, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match=r"file: .*choose another data_dir"):
        load(copy, tmp_path / "file")
    spec = CremaDSpec(fake=True, fake_clips=12, fake_raters=4)
    with pytest.raises(MachineError, match=r"file.*choose another data_dir"):
        load_crema_d(spec, tmp_path / "file", Problems())


def test_a_faulty_spec_touches_no_disk(tmp_path):
    with pytest.raises(InputError, match="root is ''"):
        load_crema_d(CremaDSpec(), tmp_path / "builds", Problems())
    assert not (tmp_path / "builds").exists()


def test_nothing_is_printed_without_a_terminal(copy, tmp_path, capfd, caplog):
    load(copy, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


CHILD = """
import sys
import metaperser_jax.data.crema_d
loaded = {name.split(".")[0] for name in sys.modules}
print(sorted(loaded & {"tensorflow_datasets", "tensorflow", "torch", "librosa"}))
"""


def test_importing_is_light():
    child = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True
    )
    assert child.stdout == "[]\n"
