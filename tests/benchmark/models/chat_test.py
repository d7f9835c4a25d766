"""An endpoint gets instruction, texts and recordings; its answer comes back."""

import base64
import io

import numpy as np
import pytest
import soundfile

from benchmark.client import Budget
from benchmark.models import ModelSettings, NoAnswerError, make_model
from benchmark.typing import Audio, Example
from tests.benchmark.stub import error, in_turn, said, serve

FINE = in_turn(said("I hear a dog."))


def tone(rate, seconds=0.5, frequency=440):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)


def as_bytes(wave, rate, form="WAV"):
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=form)
    return file.getvalue()


@pytest.fixture
def example(tmp_path):
    path = tmp_path / "one.wav"
    soundfile.write(path, tone(16_000), 16_000)
    stereo = np.stack([tone(8_000)] * 2, axis=1)
    audios = (Audio(path=str(path)), Audio(data=as_bytes(stereo, 8_000, "FLAC")))
    return Example("1", "Sound", "What {is} heard?", ("dog",), audios, ("a text",))


def ask(behave, example, spec="openai:{}#ears", **fields):
    with serve(behave) as stub:
        model = make_model(spec.replace("{}", stub.url), ModelSettings(**fields))
        return model.answer(example), stub


class TestAudioChat:
    def test_gets_texts_and_numbered_recordings(self, example):
        found, stub = ask(FINE, example)
        assert found.response == "I hear a dog."
        assert (found.instance, found.id, found.model) == ("Sound", "1", "ears")
        (message,) = stub.bodies[0]["messages"]
        kinds = [part["type"] for part in message["content"]]
        assert kinds == ["text"] * 3 + ["input_audio", "text", "input_audio"]
        texts = [part["text"] for part in message["content"] if "text" in part]
        assert texts == ["What {is} heard?", "a text", "Recording 1:", "Recording 2:"]
        assert (stub.bodies[0]["temperature"], stub.bodies[0]["max_tokens"]) == (0, 512)

    def test_gets_mono_wav_at_16_khz_from_files_and_from_bytes(self, example):
        _, stub = ask(FINE, example)
        content = stub.bodies[0]["messages"][0]["content"]
        for part in content[3::2]:
            audio = part["input_audio"]
            assert audio["format"] == "wav"
            wave, rate = soundfile.read(io.BytesIO(base64.b64decode(audio["data"])))
            assert (rate, wave.shape) == (16_000, (8_000,))
            inner = slice(500, -500)  # the resampler's ends ring
            assert np.abs(wave - tone(16_000))[inner].max() < 2e-3

    def test_gets_a_single_recording_without_a_number(self, example):
        _, stub = ask(FINE, example._replace(audios=example.audios[:1]))
        content = stub.bodies[0]["messages"][0]["content"]
        assert [part["type"] for part in content] == ["text", "text", "input_audio"]

    def test_is_not_asked_about_a_recording_that_cannot_be_read(self, example):
        broken = example._replace(audios=(Audio(data=b"<html>"),))
        with serve(FINE) as stub:
            model = make_model(f"openai:{stub.url}#ears")
            with pytest.raises(NoAnswerError, match="recording in memory: not_audio"):
                model.answer(broken)
        assert stub.bodies == []

    @pytest.mark.parametrize(
        ("act", "text"),
        [
            (said(None, refusal="I will not."), "I will not."),
            (said(None, finish="content_filter"), ""),
            (said("cut", finish="length"), "cut"),
        ],
    )
    def test_refusals_and_cut_answers_are_answers(self, act, text, example):
        assert ask(in_turn(act), example)[0].response == text

    def test_an_endpoint_that_gives_up_gives_no_answer(self, example):
        with pytest.raises(NoAnswerError, match="HTTP 400: too long") as caught:
            ask(in_turn(error(400, "too long")), example)
        assert caught.value.kind == "failed"

    def test_a_spent_budget_gives_no_answer(self, example):
        with pytest.raises(NoAnswerError, match="budget of 0") as caught:
            ask(FINE, example, budget=Budget(0))
        assert caught.value.kind == "not_asked"


def test_the_text_only_baseline_gets_no_recording(example):
    found, stub = ask(FINE, example, "baseline:text_only:{}#reader")
    assert found.model == "text_only reader"
    content = stub.bodies[0]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text"] * 3
    assert "cannot be heard" in content[-1]["text"]
