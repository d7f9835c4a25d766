import io
import json

import numpy as np
import pytest
import soundfile

from benchmark import demo, demo_audio, demo_classifier, demo_listener, demo_tasks
from benchmark.audio import SAMPLE_RATE
from benchmark.errors import InputError, Problems
from benchmark.instances import read_instance
from benchmark.results import read_results
from benchmark.tasks import load_tasks


@pytest.fixture(scope="module")
def clips():
    return demo_audio.generated_clips(num_speakers=8, per_emotion=2)


@pytest.fixture(scope="module")
def finished(clips, tmp_path_factory):
    """A whole small demonstration."""
    out = tmp_path_factory.mktemp("demo") / "out"
    patch = pytest.MonkeyPatch()
    patch.setattr(demo, "TRAINING", 24)
    patch.setattr(demo_audio, "generated_clips", lambda: clips)
    text = demo.run(demo.Settings(out, num_examples=12))
    patch.undo()
    return out, text


def test_no_speaker_is_in_both_parts_and_both_hear_men_and_women(clips):
    train, test = demo_tasks.split_speakers(clips)
    assert not {c.speaker for c in train} & {c.speaker for c in test}
    assert len(train) + len(test) == len(clips)
    for part in (train, test):
        assert {clip.gender for clip in part} == {"male", "female"}


def test_a_voice_says_the_same_twice_and_voices_differ():
    first, again, other = (
        demo_audio.utterance(speaker, "male", "anger", 0) for speaker in (0, 0, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or not np.allclose(first, other)
    assert np.abs(first).max() < 1


def test_noise_has_the_ratio_that_is_asked_for(rng):
    wave = 0.1 * rng.normal(size=16_000).astype(np.float32)
    for wanted in (0.0, 20.0):
        noise = demo_audio.add_noise(wave, wanted, rng) - wave
        found = 10 * np.log10(np.mean(wave**2) / np.mean(noise**2))
        assert found == pytest.approx(wanted, abs=0.01)


def test_reverberation_falls_by_60_db_in_its_time(rng):
    click = np.zeros(100, np.float32)
    click[0] = 1
    wet = demo_audio.add_reverberation(click, 0.5, rng)
    start = np.mean(wet[100:900] ** 2)
    end = np.mean(wet[7200:8000] ** 2)
    fall = 10 * np.log10(start / end)
    assert fall == pytest.approx(60 * 7100 / 8000, abs=3)


def test_digits_are_dialled_and_read_back(clips, rng):
    wave = demo_audio.join([clips[0].load(), demo_audio.dial("0123456789")], 0.4)
    assert demo_listener.dialled(wave) == list("0123456789")
    noisy = demo_audio.add_noise(demo_audio.dial("507"), 25.0, rng)
    assert demo_listener.dialled(noisy) == ["5", "0", "7"]


@pytest.mark.parametrize("number", [1, 3, 6])
def test_repetitions_are_counted(clips, number):
    wave = demo_audio.join([clips[0].load()[:16_000]] * number, 0.5)
    assert len(demo_listener.segments(wave)) == number


def test_answers_are_balanced_and_come_from_the_given_speakers(clips):
    some = [clip for clip in clips if clip.speaker in ("voice00", "voice01", "voice02")]
    for task in demo_tasks.demo_tasks(clips):
        questions = demo_tasks.make_questions(task, some, 12, 0)
        again = demo_tasks.make_questions(task, some, 12, 0)
        assert [q.answer for q in questions] == [q.answer for q in again]
        assert {q.speaker for q in questions} <= {clip.speaker for clip in some}
        if task.labels:
            counts = [[q.answer for q in questions].count(one) for one in task.labels]
            assert counts == [12 // len(task.labels)] * len(task.labels)
    assert len(demo_tasks.demo_tasks(clips)) == 12


def test_every_task_is_of_the_official_form(clips, tmp_path):
    for task in demo_tasks.demo_tasks(clips):
        demo_tasks.write_task(task, tmp_path, "test")
    problems = Problems()
    known = load_tasks([tmp_path], problems)
    assert set(problems.counts()) <= {"warning no_revision"}
    for task in demo_tasks.demo_tasks(clips):
        found = known[task.name]
        assert (found.type, found.metric) == (task.type, task.metric)
        assert found.labels == task.labels
        record = json.loads(
            (tmp_path / task.name.removesuffix("_Demo") / task.name / "instance.json")
            .read_text()
        )  # fmt: skip
        assert {"name", "description", "keywords", "metrics"} <= set(record)


def test_instructions_vary_and_name_every_option(clips):
    for task in demo_tasks.demo_tasks(clips):
        questions = demo_tasks.make_questions(task, clips, 12, 0)
        examples = demo_tasks.as_examples(task, questions, 0)
        assert len({example.instruction for example in examples}) == 12
        assert len({example.id for example in examples}) == 12
        for example in examples:
            assert all(label in example.instruction for label in task.labels)
        answers = [example.references[0] for example in examples]
        assert sorted(answers) == sorted(q.answer for q in questions)


def test_the_classifier_learns_what_is_there_to_learn(rng):
    def noise(bright):
        wave = 0.1 * rng.normal(size=8_000).astype(np.float32)
        return np.diff(wave) if bright else np.cumsum(wave) / 10

    waves = [noise(i % 2) for i in range(40)]
    answers = ["bright" if i % 2 else "dull" for i in range(40)]
    head = demo_classifier.train(waves, answers)
    for bright in (False, True):
        found = demo_classifier.posteriors(head, noise(bright))
        assert sum(found.values()) == pytest.approx(1)
        assert found["bright"] > 0.9 if bright else found["dull"] > 0.9


def test_padding_changes_no_feature(rng):
    wave = 0.1 * rng.normal(size=SAMPLE_RATE).astype(np.float32)
    longer = demo_classifier._features(np.pad(wave, (0, 3 * SAMPLE_RATE)), len(wave))
    # frames of padding have no part in it
    np.testing.assert_allclose(demo_classifier.features(wave), longer, atol=2e-3)


def test_a_classifier_is_saved_and_answers_by_its_place(tmp_path, rng, monkeypatch):
    waves = [rng.normal(size=8_000).astype(np.float32) for _ in range(8)]
    heads = {"Task_Demo": demo_classifier.train(waves, ["yes", "no"] * 4)}
    demo_classifier.save(heads, tmp_path / "c.npz")
    monkeypatch.setenv(demo_classifier.PLACE, str(tmp_path / "c.npz"))
    found = demo_classifier.classify(waves[0], SAMPLE_RATE)
    assert set(found) == {"Task_Demo: yes", "Task_Demo: no"}
    own = demo_classifier.labels_for(found, "Task_Demo")
    assert own == pytest.approx(
        demo_classifier.posteriors(heads["Task_Demo"], waves[0])
    )
    with pytest.raises(InputError, match="8000"):
        demo_classifier.classify(waves[0], 8_000)
    (tmp_path / "other.npz").write_text("no archive")
    with pytest.raises(InputError, match="no classifier"):
        demo_classifier.load(tmp_path / "other.npz")


def test_the_classifier_needs_its_place(monkeypatch):
    monkeypatch.delenv(demo_classifier.PLACE, raising=False)
    with pytest.raises(InputError, match="not set"):
        demo_classifier.classify(np.zeros(8_000, np.float32), SAMPLE_RATE)


def test_the_demonstration_runs_to_a_report(finished):
    out, text = finished
    assert f"report: {out / 'report.html'}" in text
    assert (out / "report.html").stat().st_size > 50_000
    assert {path.name for path in (out / "results").iterdir()} == {
        "classifier", "chance", "majority", "chatty",
    }  # fmt: skip


def test_every_task_has_a_score_and_measurements_are_right(finished):
    out, _ = finished
    found = {
        s.task: s for s in read_results(out / "results" / "classifier").task_scores
    }
    assert len(found) == 12
    assert all(score.num_answered == 12 for score in found.values())
    assert found["DialledNumberRecognition_Demo"].value < 0.2
    assert found["RepeatedSegmentCounting_Demo"].value > 0.99
    assert found["AudioDurationPrediction_Demo"].value < 0.1
    assert found["NoiseDetection_Demo"].value > 0.7


def test_baselines_hear_nothing(finished):
    out, _ = finished
    majority = read_results(out / "results" / "majority").task_scores
    for score in majority:
        if score.metric == "accuracy":
            assert score.value == pytest.approx(score.provenance["majority"])
    chance = read_results(out / "results" / "chance").task_scores
    silent = [s.task for s in chance if s.num_answered == 0]
    assert len(silent) == 4  # no closed questions


def test_the_data_can_be_read_back_with_two_recordings_where_two_are_compared(finished):
    out, _ = finished
    known = load_tasks([out / "tasks"])
    name = "SpeakerVerification_Demo"
    problems = Problems()
    examples = list(read_instance(out / "data", known[name], name, problems))
    assert (len(examples), problems.rows) == (12, [])
    assert all(len(example.audios) == 2 for example in examples)
    wave, rate = soundfile.read(examples[0].audios[0].path)
    assert (rate, wave.ndim) == (SAMPLE_RATE, 1)


def test_a_second_run_asks_nothing_twice_and_other_settings_are_refused(
    finished, clips, monkeypatch
):
    out, _ = finished
    said = {p: p.read_bytes() for p in (out / "predictions").iterdir()}
    monkeypatch.setattr(demo, "TRAINING", 24)
    monkeypatch.setattr(demo_audio, "generated_clips", lambda: clips)
    demo.run(demo.Settings(out, num_examples=12))
    assert {p: p.read_bytes() for p in (out / "predictions").iterdir()} == said
    with pytest.raises(InputError, match="other settings"):
        demo.run(demo.Settings(out, num_examples=13))


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        demo.run(demo.Settings(tmp_path))


def items_csv(folder, rows, header="file,speaker,gender,emotion"):
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def test_recordings_of_a_folder_are_found_beside_the_table_or_in_wav(tmp_path):
    folder = items_csv(
        tmp_path / "x", ["a.wav,1,M,joy", "b.wav,2,f,fear", "c.wav,3,f,x"]
    )
    (folder / "wav").mkdir()
    for place in (folder / "a.wav", folder / "wav" / "b.wav"):
        place.write_bytes(demo_tasks.encode_wav(np.full(1600, 0.1, np.float32)))
    found = demo_audio.read_clips(folder)
    assert [(c.speaker, c.gender, c.emotion) for c in found] == [
        ("1", "male", "joy"),
        ("2", "female", "fear"),
    ]
    assert found[0].load().shape == (1600,)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["a.wav,1,m,joy"], "file,speaker,gender,mood", "no column emotion"),
        (["a.wav,1,q,joy"], "file,speaker,gender,emotion", ":2: gender 'q'"),
        (["a.wav,1,m,joy"], "file,speaker,gender,emotion", "none of its recordings"),
    ],
)
def test_a_faulty_table_is_one_clear_error(tmp_path, rows, header, message):
    with pytest.raises(InputError, match=message):
        demo_audio.read_clips(items_csv(tmp_path / "x", rows, header))


def test_a_folder_without_a_table_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match=r"items.csv: no such file"):
        demo_audio.read_clips(tmp_path)


def test_too_few_speakers_are_refused(tmp_path, monkeypatch):
    few = demo_audio.generated_clips(num_speakers=4, per_emotion=1)
    monkeypatch.setattr(demo_audio, "generated_clips", lambda: few)
    with pytest.raises(InputError, match="expected at least 3 each"):
        demo.run(demo.Settings(tmp_path / "x"))


def test_wav_bytes_are_16_bit_and_never_wrap():
    wave, rate = soundfile.read(
        io.BytesIO(demo_tasks.encode_wav(np.array([0.0, 2.0, -2.0], np.float32)))
    )
    assert rate == SAMPLE_RATE
    np.testing.assert_allclose(wave, [0, 1, -1], atol=1e-4)
