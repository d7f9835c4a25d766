"""The adapter of local models on a real audio language model of random weights.

A Qwen2-Audio of one layer, its processor and a tokenizer of bytes are built from
nothing and saved; what the command line makes of recordings and instructions is
compared with greedy decoding by hand.
"""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from benchmark.__main__ import main
from benchmark.errors import InputError, Problems
from benchmark.models import ModelSettings, NoAnswerError, make_model
from benchmark.typing import Audio, Example
from benchmark.writing import write_instance

INSTANCE = "SuperbER_RAVDESS"
RATE, WINDOW = 16_000, 2  # Hz, seconds
MARKS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"),
)
MAX_TOKENS = 8


def make_processor():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, *MARKS])}
    tokens = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(MARKS[1:]),
    )
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=8, chunk_length=WINDOW
    )
    return transformers.Qwen2AudioProcessor(extractor, tokenizer)


def make_network(tokenizer):
    size = {"encoder_attention_heads": 2, "encoder_layers": 1, "encoder_ffn_dim": 16}
    hears = {"num_mel_bins": 8, "d_model": 8, "max_source_positions": 50 * WINDOW}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    writes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    writes |= {"model_type": "qwen2", "initializer_range": 1.0}
    config = transformers.Qwen2AudioConfig(
        audio_config={**size, **hears, "initializer_range": 1.0},
        text_config={"vocab_size": len(tokenizer), **heads, **writes},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    torch.manual_seed(0)
    network = transformers.Qwen2AudioForConditionalGeneration(config)
    attention = network.model.language_model.layers[0].self_attn
    with torch.no_grad():  # attend to all alike, so that what is heard matters
        for values in attention.q_proj.parameters():
            values.zero_()
        network.get_input_embeddings().weight.mul_(0.05)
        for token, row in tokenizer.get_vocab().items():
            if not (token.isascii() and token.isalpha()):  # and write letters
                network.lm_head.weight[row] = 0
    network.generation_config.eos_token_id = tokenizer.eos_token_id
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "model"
    processor = make_processor()
    processor.save_pretrained(path)
    make_network(processor.tokenizer).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def wavs(tmp_path_factory):
    """Recordings of one second, each of another pitch and with another end."""
    path, rng = tmp_path_factory.mktemp("wavs"), np.random.default_rng(0)
    for i in range(4):
        phase = 2 * np.pi * 200 * 2**i * np.arange(RATE) / RATE
        wave = 0.3 * np.sin(phase) + 0.05 * rng.standard_normal(RATE)
        wave[RATE * (i + 1) // 4 :] = 0
        soundfile.write(path / f"{i}.wav", wave, RATE, "PCM_16")
    return [path / f"{i}.wav" for i in range(4)]


def by_hand(folder, audios, text):
    """Greedy decoding over the whole sequence, a forward pass a token."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    network = transformers.AutoModelForMultimodalLM.from_pretrained(folder)
    heard = "".join(
        f"Audio {i}: <|audio_bos|><|AUDIO|><|audio_eos|>\n"
        for i in range(1, len(audios) + 1)
    )
    prompt = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n{heard}{text}<|im_end|>\n<|im_start|>assistant\n"
    )
    waves = [soundfile.read(path, dtype="float32")[0] for path in audios]
    extra = {"audio": waves, "sampling_rate": RATE} if waves else {}
    inputs = dict(processor(text=prompt, return_tensors="pt", **extra))
    said = []
    with torch.no_grad():
        for _ in range(MAX_TOKENS):
            token = network(**inputs).logits[:, -1].argmax(-1, keepdim=True)
            if token.item() == processor.tokenizer.eos_token_id:
                break
            said.append(token.item())
            inputs["input_ids"] = torch.cat([inputs["input_ids"], token], 1)
            one = torch.ones_like(token)
            inputs["attention_mask"] = torch.cat([inputs["attention_mask"], one], 1)
    return processor.tokenizer.decode(said, skip_special_tokens=True).strip()


def example(audios, text, *more):
    paths = tuple(Audio(path=str(path)) for path in audios)
    return Example("1.wav", INSTANCE, text, ("x",), paths, more)


def test_the_command_line_writes_what_greedy_decoding_says(folder, wavs, tmp_path):
    examples = [
        example([wav], f"What is it, {i}?")._replace(id=f"{i}.wav")
        for i, wav in enumerate(wavs)
    ]
    write_instance(tmp_path / "data" / INSTANCE, examples, Problems())
    out = tmp_path / "answers.jsonl"
    arguments = [
        *("run", f"--model=transformers:{folder}", "--name=tiny"),
        *(f"--data={tmp_path}/data", f"--out={out}", f"--max_tokens={MAX_TOKENS}"),
    ]
    assert main(arguments) == 0
    rows = {row["id"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert {row["model"] for row in rows.values()} == {"tiny"}
    for i, wav in enumerate(wavs):
        expected = by_hand(folder, [wav], f"What is it, {i}?")
        assert rows[f"{i}.wav"]["response"] == expected


@pytest.fixture
def problems():
    return Problems()


@pytest.fixture
def model(folder, problems):
    settings = ModelSettings(max_tokens=MAX_TOKENS, problems=problems)
    return make_model(f"transformers:{folder}", settings)


class TestAnswers:
    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_are_of_all_recordings_and_texts(self, model, folder, wavs, number):
        found = model.answer(example(wavs[:number], "Which?", " one"))
        assert found.response == by_hand(folder, wavs[:number], "Which? one")

    def test_depend_on_what_is_heard(self, model, wavs):
        said = {model.answer(example([wav], "Which?")).response for wav in wavs}
        assert len(said) > 1

    def test_to_what_is_over_the_window_come_with_a_warning(
        self, model, problems, tmp_path
    ):
        rng = np.random.default_rng(1)
        path = tmp_path / "long.wav"
        wave = 0.1 * rng.standard_normal(RATE * (WINDOW + 1))
        soundfile.write(path, wave, RATE, "PCM_16")
        assert model.answer(example([path], "Which?")).response is not None
        assert problems.counts() == {"warning audio_over_window": 1}
        assert "3.0 s, the processor's window holds 2 s" in problems.rows[0].message

    def test_that_the_model_cannot_give_are_failures_of_one_example(self, model, wavs):
        with pytest.raises(NoAnswerError, match="ValueError") as caught:
            model.answer(example(wavs[:1], "A second <|AUDIO|>?"))
        assert caught.value.kind == "failed"


@pytest.mark.parametrize("fault", ["damaged", "other weights", "no template", "none"])
def test_a_folder_that_is_no_such_model_is_refused(
    folder, fault, tmp_path, monkeypatch
):
    path = tmp_path / "model"
    shutil.copytree(folder, path)
    if fault == "damaged":
        (path / "model.safetensors").write_bytes(b"damaged")
    elif fault == "other weights":
        config = json.loads((path / "config.json").read_text())
        config["text_config"]["hidden_size"] = 32
        (path / "config.json").write_text(json.dumps(config))
    elif fault == "no template":
        (path / "chat_template.jinja").unlink()
        kind = transformers.Qwen2AudioProcessor
        monkeypatch.setattr(kind, "default_chat_template", None)
    else:
        shutil.rmtree(path)
    message = "no chat template" if fault == "no template" else "cannot be loaded"
    with pytest.raises(InputError, match=message):
        make_model(f"transformers:{path}")
