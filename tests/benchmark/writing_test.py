"""What is written in the local form is read back."""

import json
import os

import numpy as np
import pytest
import soundfile

from benchmark.errors import InputError, MachineError, Problems
from benchmark.instances import load_audio, read_instance
from benchmark.typing import Audio, Example, Task
from benchmark.writing import write_instance
from tests.benchmark.recordings import encoded, tone

TASK = Task("T_D", "classification", "llm_classification", instances=("T_D",))


def read(source):
    problems = Problems()
    return list(read_instance(source, TASK, "T_D", problems)), problems.counts()


def examples_of(*ids, **changes):
    fields = {"audios": (Audio(data=encoded()),), **changes}
    return [Example(i, "T_D", f"How is {i}?", ("glad", "sad"), **fields) for i in ids]


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("a.wav", "a.wav"),
        ("a", "a.wav"),
        ("x/y\\z.flac", "x_y_z.flac.wav"),
        ("../up", "_up.wav"),
        ("ł ó.wav", "ł ó.wav"),
        ("a_pair2.wav", "a_pair2_~2.wav"),
        ("...", "clip.wav"),
        ("é" * 200, "é" * 90 + ".wav"),
    ],
)
def test_an_id_becomes_a_name_and_is_kept(tmp_path, identity, name):
    assert write_instance(tmp_path, examples_of(identity), Problems()) == 1
    assert (tmp_path / name).is_file()
    (example,), counts = read(tmp_path)
    assert example.id == identity
    assert counts == {}


def test_ids_that_would_share_a_name_do_not(tmp_path):
    ids = ["a", "A", "a.wav", "a_pair2", "x/a", "x_a"]
    assert write_instance(tmp_path, examples_of(*ids), Problems()) == 6
    found, _ = read(tmp_path)
    assert [example.id for example in found] == ids
    assert all(len(example.audios) == 1 for example in found)
    assert len({e.audios[0].path.casefold() for e in found}) == 6


def test_what_is_written_is_read_back(tmp_path):
    wrote = Example(
        id="clips/7",
        instance="T_D",
        instruction="Which?\n{x}",
        references=("a", "b", "c"),
        audios=(Audio(data=encoded()), Audio(data=encoded(880, "FLAC"))),
        texts=("one", "zwei"),
        speaker="ann",
        extra={"file": "clips/7", "start": 1.5, "options": ["a", "b"]},
    )
    write_instance(tmp_path / "new" / "folder", [wrote], Problems())
    (found,), counts = read(tmp_path / "new" / "folder")
    assert counts == {}
    assert found._replace(audios=()) == wrote._replace(audios=())
    for one, two in zip(found.audios, wrote.audios, strict=True):
        np.testing.assert_allclose(load_audio(one), load_audio(two), atol=1e-7)


def test_a_wav_is_copied_and_others_keep_rate_and_channels(tmp_path):
    samples = np.stack([tone(rate=44_100), tone(880, rate=44_100)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, 44_100, "FLOAT")
    soundfile.write(tmp_path / "b.flac", samples, 44_100, "PCM_24")
    audios = tuple(Audio(path=str(tmp_path / name)) for name in ("a.wav", "b.flac"))
    write_instance(tmp_path / "out", examples_of("x", audios=audios), Problems())
    out = tmp_path / "out"
    assert (out / "x.wav").read_bytes() == (tmp_path / "a.wav").read_bytes()
    found, rate = soundfile.read(out / "x_pair2.wav")
    assert rate == 44_100
    np.testing.assert_allclose(found, samples, atol=2**-15)
    assert soundfile.info(out / "x_pair2.wav").subtype == "PCM_16"


def test_examples_without_recordings_are_written(tmp_path):
    wrote = examples_of("a", "b", audios=())
    write_instance(tmp_path, wrote, Problems())
    found, counts = read(tmp_path)
    assert found == wrote
    assert counts == {"warning no_recordings": 1}
    empty = tmp_path / "empty"
    assert write_instance(empty, [], Problems()) == 0
    assert json.loads((empty / "metadata.json").read_text()) == {}


def test_an_example_whose_recording_fails_is_skipped_and_counted(tmp_path):
    bad = examples_of("b", audios=(Audio(data=encoded()), Audio(data=encoded()[:300])))
    problems = Problems()
    assert write_instance(tmp_path, [*examples_of("a"), *bad], problems) == 1
    assert problems.counts() == {"error truncated_audio": 1}
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "metadata.json"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="not empty"):
        write_instance(tmp_path, [], Problems())
    with pytest.raises(MachineError, match="cannot be written"):
        write_instance(tmp_path / "x", [], Problems())
