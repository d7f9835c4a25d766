"""A processor and a network of transformers, played by two small fakes."""

import importlib.util
import types

import numpy as np
import pytest
import soundfile

from benchmark.errors import InputError
from benchmark.models import ModelSettings, make_model
from benchmark.models.local import wrap
from benchmark.typing import Audio, Example


class Inputs(dict):
    def to(self, device, dtype):
        assert (device, dtype) == ("cpu", "bfloat16")
        return self


class Processor:
    feature_extractor = types.SimpleNamespace(sampling_rate=8_000)

    def apply_chat_template(self, conversation, **options):
        self.conversation, self.options = conversation, options
        return Inputs(input_ids=np.array([[5, 6, 7]]))

    def batch_decode(self, tokens, skip_special_tokens):
        assert skip_special_tokens
        return [" " + " ".join(map(str, row)) + "\n" for row in tokens.tolist()]


class Network:
    device, dtype = "cpu", "bfloat16"

    def generate(self, input_ids, **options):
        self.options = options
        return np.concatenate([input_ids, [[1, 2]]], axis=1)


def test_an_answer_is_what_follows_the_prompt(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(16_000, 0.1), 16_000)
    example = Example("1", "I", "What?", ("x",), (Audio(path=str(path)),), ("text",))
    processor, network = Processor(), Network()
    model = wrap("m", processor, network, ModelSettings(max_tokens=9))
    assert model.answer(example) == ("I", "1", "1 2", "m", ())
    (message,) = processor.conversation
    assert [part["type"] for part in message["content"]] == ["audio", "text", "text"]
    assert message["content"][0]["audio"].shape == (8_000,)
    assert processor.options["return_tensors"] == "pt"
    assert processor.options["add_generation_prompt"] is True
    assert network.options == {"do_sample": False, "max_new_tokens": 9}
    assert model.max_concurrency == 1


def test_an_answer_without_the_prompt_before_it_is_whole(tmp_path):
    class Speaker(Network):
        def generate(self, input_ids, **options):
            return np.array([[5, 1, 2, 3]])

    model = wrap("m", Processor(), Speaker(), ModelSettings())
    assert model.answer(Example("1", "I", "What?", ("x",))).response == "5 1 2 3"


def test_without_pytorch_the_way_out_is_named(monkeypatch):
    find_spec = importlib.util.find_spec
    absent = lambda name, *rest: None if name == "torch" else find_spec(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(InputError, match="needs PyTorch") as caught:
        make_model("transformers:some/model")
    assert "openai:URL#MODEL" in str(caught.value)
