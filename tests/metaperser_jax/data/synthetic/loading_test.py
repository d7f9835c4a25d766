"""The corpus on disk: built once, whole or not at all, the same everywhere."""

import hashlib
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from metaperser_jax.data import builds
from metaperser_jax.data.synthetic import SyntheticSpec, load_synthetic, simulation
from metaperser_jax.errors import InputError, MachineError

SPEC = SyntheticSpec(
    seed=3, num_clips=24, num_speakers=8, num_listeners=6, clips_per_listener=12
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("corpora")


@pytest.fixture(scope="module")
def corpus(data_dir):
    return load_synthetic(SPEC, data_dir)


def array_record_of(folder: pathlib.Path) -> pathlib.Path:
    (path,) = folder.rglob("*.array_record-*")
    return path


def digest(corpus) -> str:
    parts = [
        *(corpus.read_audio(i).tobytes() for i in range(len(corpus.clips))),
        *(column.tobytes() for column in corpus.ratings),
        corpus.ground_truth.tobytes(),
        repr((corpus.clips, corpus.content_hashes, corpus.summary)).encode(),
    ]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def run_child(code: str, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True
    )


def test_corpus_keeps_the_contract(corpus):
    num_ratings = 6 * 12
    ratings = corpus.ratings
    assert len(corpus.clips) == len(set(corpus.clips)) == 24
    assert len(corpus.annotators) == len(set(corpus.annotators)) == 6
    assert corpus.classes[0] == "neutral"
    assert len(corpus.classes) == 8
    assert corpus.dimensions == ("valence", "arousal", "dominance")
    assert ratings.clip.dtype == ratings.annotator.dtype == np.int32
    assert ratings.targets.shape == ratings.mask.shape == (num_ratings, 8)
    assert ratings.targets.dtype == ratings.dimensions.dtype == np.float32
    assert ratings.dimensions.shape == (num_ratings, 3)
    assert ratings.mask.all()
    assert ratings.targets.sum(1).min() >= 1
    assert corpus.ground_truth.shape == (num_ratings, 8)
    assert corpus.features is None
    assert corpus.name == f"synthetic_seed3_{simulation.spec_hash(SPEC)}"


def test_speakers_and_sessions_belong_together(corpus):
    assert len(set(corpus.speakers)) == 8
    assert set(corpus.sessions) == {"session1", "session2"}
    for speaker in set(corpus.speakers):
        assert len(set(corpus.sessions[corpus.speakers == speaker])) == 1


def test_disk_holds_what_was_simulated(corpus):
    plan = simulation.plan_clips(SPEC)
    expected = simulation.simulate_ratings(SPEC, plan)
    ratings = corpus.ratings
    np.testing.assert_array_equal(ratings.clip, expected.clip)
    np.testing.assert_array_equal(ratings.annotator, expected.annotator)
    np.testing.assert_array_equal(ratings.targets, expected.targets)
    np.testing.assert_array_equal(ratings.dimensions, expected.dimensions)
    np.testing.assert_allclose(
        corpus.ground_truth, expected.ground_truth, rtol=1e-6, atol=1e-30
    )
    assert corpus.summary == simulation.summarize(SPEC, plan, expected)
    for clip in (0, 23):
        samples = simulation.render_clip(SPEC, plan, clip)
        audio = corpus.read_audio(clip)
        assert audio.dtype == np.float32
        np.testing.assert_array_equal(audio, samples / np.float32(32768))
        content = hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()
        assert corpus.content_hashes[clip] == content


def test_second_load_reuses_the_files(corpus, data_dir, monkeypatch):
    def refuse(*args):
        raise AssertionError("rendered again")

    monkeypatch.setattr(simulation, "render_clip", refuse)
    assert digest(load_synthetic(SPEC, data_dir)) == digest(corpus)


def test_another_spec_lives_beside_it(corpus, data_dir):
    other = load_synthetic(SPEC._replace(shuffle_listeners=True), data_dir)
    assert other.content_hashes == corpus.content_hashes  # the same clips
    assert not np.array_equal(other.ratings.targets, corpus.ratings.targets)
    assert digest(load_synthetic(SPEC, data_dir)) == digest(corpus)


def test_nothing_is_printed_without_a_terminal(tmp_path, capfd, caplog):
    load_synthetic(SPEC, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


CHILD = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("loading_test", sys.argv[2])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.digest(module.load_synthetic(module.SPEC, sys.argv[1])))
loaded = {name.split(".")[0] for name in sys.modules}
print(sorted(loaded & {"tensorflow", "torch"}))
"""


def test_another_process_builds_the_same_bytes_without_tensorflow(corpus, tmp_path):
    child = run_child(CHILD, tmp_path, __file__)
    assert child.stdout.split("\n")[:2] == [digest(corpus), "[]"], child.stderr
    assert child.stderr == ""


KILLED = """
import os, sys
from metaperser_jax.data.synthetic import SyntheticSpec, load_synthetic, simulation
render = simulation.render_clip
def render_some(spec, plan, index):
    if index == 20:
        os._exit(9)  # as a kill: no clean-up runs
    return render(spec, plan, index)
simulation.render_clip = render_some
load_synthetic(SyntheticSpec(*map(int, sys.argv[2:7])), sys.argv[1])
"""


def test_a_killed_build_is_built_anew(corpus, tmp_path):
    child = run_child(KILLED, tmp_path, *SPEC[:5])
    assert child.returncode == 9, child.stderr
    assert list(tmp_path.rglob("incomplete.*"))
    assert digest(load_synthetic(SPEC, tmp_path)) == digest(corpus)


def test_a_build_stopped_by_hand_leaves_nothing_behind(corpus, tmp_path, monkeypatch):
    def interrupt(spec, plan, index):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(simulation, "render_clip", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_synthetic(SPEC, tmp_path)
    assert not list(tmp_path.rglob("*.array_record*"))
    assert digest(load_synthetic(SPEC, tmp_path)) == digest(corpus)


def test_damaged_files_are_named(tmp_path):
    load_synthetic(SPEC, tmp_path)
    path = array_record_of(tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="Delete this folder and run again") as caught:
        load_synthetic(SPEC, tmp_path)
    assert str(path.parent) in str(caught.value)


def test_audio_that_is_not_what_was_written_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(builds, "samples_hash", lambda audio: "0" * 64)
        load_synthetic(SPEC, tmp_path)
    with pytest.raises(InputError, match="clip00000_speaker00 is not what was written"):
        load_synthetic(SPEC, tmp_path)


def test_a_folder_that_cannot_be_written_is_the_machines_fault(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match=r"file: .*choose another data_dir"):
        load_synthetic(SPEC, tmp_path / "file")


def test_impossible_specs_touch_no_disk(tmp_path):
    with pytest.raises(InputError, match="clips_per_listener"):
        load_synthetic(SPEC._replace(clips_per_listener=99), tmp_path / "corpora")
    assert not (tmp_path / "corpora").exists()
