"""The page of --mode=check: what was loaded, whether it computes, what is cached."""

import csv
import json

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file, save_file

from metaperser_jax import check
from metaperser_jax.encoders import drawn
from metaperser_jax.encoders.pretrained import LoadReport
from metaperser_jax.errors import Problems
from metaperser_jax.experiment import extract_shard
from metaperser_jax.settings import from_config


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six clips, three listeners."""
    root = tmp_path_factory.mktemp("corpus")
    (root / "wav").mkdir()
    rng = np.random.default_rng(0)
    rows = [["clip", "annotator", "label"]]
    for clip in range(6):
        samples = 0.1 * rng.standard_normal(8000)
        soundfile.write(root / "wav" / f"c{clip}.wav", samples, 16_000)
        rows += [[f"c{clip}", f"l{n}", "abc"[(clip + n) % 3]] for n in range(3)]
    with (root / "ratings.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


@pytest.fixture
def encoder(tmp_path):
    folder = tmp_path / "encoder"
    drawn.main(["wavlm_tiny", str(folder)])
    return folder


def make_page(corpus, workdir, name="logmel", inputs="audio", **encoder):
    config = {
        "corpus": "manifest",
        "data": {"root": str(corpus)},
        "encoder": {"name": str(name), **encoder},
        "features": {"inputs": inputs},
        "split": {"group_by": "clip"},
    }
    workdir.mkdir(exist_ok=True)
    settings = from_config(config)
    return check.page(settings, workdir, Problems()), settings


@pytest.mark.parametrize(
    ("chosen", "code", "line"),
    [
        ({"tuning": "lora"}, 0, "ok       tuning lora: 4,608 of "),
        (
            {"tuning": "top_n"},
            2,
            "error    encoder.num_tuned_layers=4: expected 1 to 3",
        ),
        ({}, 0, "ok       corpus "),
    ],
)
def test_what_is_trained_of_the_encoder_is_counted(
    corpus, encoder, tmp_path, chosen, code, line
):
    page, _ = make_page(corpus, tmp_path / "run", encoder, **chosen)
    assert page.exit_code == code
    assert line in page.text
    assert ("ok       tuning" in page.text) is (chosen == {"tuning": "lora"})


def test_the_encoder_is_named_and_tested(corpus, encoder, tmp_path):
    page, _ = make_page(corpus, tmp_path / "run", encoder)
    assert page.exit_code == 0
    assert f"ok       encoder {encoder}: wavlm, 3 layers of width 48" in page.text
    assert "77 tensors, float32" in page.text
    assert "self-test: 4 hidden states of 48 channels, all finite" in page.text
    assert ": 6 clips, 3 listeners, 18 ratings" in page.text


def test_random_weights_are_a_warning(corpus, encoder, tmp_path):
    page, _ = make_page(corpus, tmp_path / "run", encoder)
    (line,) = [line for line in page.text.splitlines() if "RANDOM WEIGHTS" in line]
    assert line.startswith("warning")


def test_nothing_is_encoded_but_what_is_cached_is_counted(corpus, tmp_path):
    workdir = tmp_path / "run"
    page, settings = make_page(corpus, workdir)
    assert "features: 0 of 6 clips are cached" in page.text
    extract_shard(settings, workdir, Problems(), (1, 1))
    page, _ = make_page(corpus, workdir)
    assert "features: 6 of 6 clips are cached" in page.text


def test_tensors_that_are_not_used_are_listed():
    dropped = {f"lm_head.{n}": "a head" for n in range(8)}
    report = LoadReport("a/b", files=(("x/model.safetensors", 8),), dropped=dropped)
    lines = list(check.encoder_lines(report._replace(config=drawn.TINY)))
    assert any("8 tensor(s), a head" in line for line in lines)
    assert lines[-1].endswith("lm_head.4, lm_head.5 and 2 more")


def test_a_missing_encoder_ends_the_page_with_2(corpus, tmp_path):
    page, _ = make_page(corpus, tmp_path / "run", tmp_path / "nothing")
    assert page.exit_code == 2
    assert page.text.splitlines()[-1].startswith("error    encoder")


def test_an_encoder_that_computes_nonsense_ends_with_2(corpus, encoder, tmp_path):
    path = encoder / "model.safetensors"
    tensors = load_file(path)
    name = "encoder.layers.0.layer_norm.weight"
    tensors[name] = np.full_like(tensors[name], 3e38)  # finite, and overflows
    save_file(tensors, path)
    page, _ = make_page(corpus, tmp_path / "run", encoder)
    assert page.exit_code == 2
    assert "NaN or infinity in them" in page.text
    assert "6 clips, 3 listeners" in page.text  # the rest is checked all the same


def test_without_audio_no_encoder_is_looked_for(corpus, tmp_path):
    inputs = "other_raters"
    page, _ = make_page(corpus, tmp_path / "run", tmp_path / "nothing", inputs)
    assert page.exit_code == 0
    assert "self-test" not in page.text


def test_a_config_of_another_kind_is_told(corpus, encoder, tmp_path):
    config = json.loads((encoder / "config.json").read_text())
    config["model_type"] = "wavlmm"
    (encoder / "config.json").write_text(json.dumps(config))
    page, _ = make_page(corpus, tmp_path / "run", encoder)
    assert page.exit_code == 2
    assert "wavlm" in page.text.splitlines()[-1]
