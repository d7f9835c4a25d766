"""The page of --mode=check: what was loaded, whether it computes, who labels how."""

import csv
import json
import re
import shutil

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


@pytest.fixture(scope="module")
def drawn_encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "encoder"
    drawn.main(["wavlm_tiny", str(folder)])
    return folder


@pytest.fixture
def encoder(drawn_encoder, tmp_path):
    return shutil.copytree(drawn_encoder, tmp_path / "encoder")


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


def test_many_problems_of_one_kind_hide_no_other():
    problems = Problems()
    for line in range(50):
        problems.warning("bad_level", f"a.csv:{line}", "no number")
    problems.error("bad_label", "a.csv:9", "no label")
    assert check.problem_lines(problems) == [
        *(f"warning  a.csv:{line}: no number" for line in range(3)),
        "warning  and 47 more of this kind (bad_level)",
        "error    a.csv:9: no label",
    ]


def test_tensors_that_are_not_used_are_listed():
    dropped = {f"lm_head.{n}": "a head" for n in range(8)}
    report = LoadReport("a/b", files=(("x/model.safetensors", 8),), dropped=dropped)
    lines = list(check.encoder_lines(report._replace(config=drawn.TINY)))
    assert any("8 tensor(s), a head" in line for line in lines)
    assert lines[-1].endswith("lm_head.4, lm_head.5 and 2 more")


def test_a_missing_encoder_is_told_and_the_corpus_looked_at_all_the_same(
    corpus, tmp_path
):
    page, _ = make_page(corpus, tmp_path / "run", tmp_path / "nothing")
    assert page.exit_code == 2
    (line,) = [x for x in page.text.splitlines() if x.startswith("error ")]
    assert line.startswith("error    encoder")
    assert page.survey is not None
    assert "verdict: " in page.text


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


@pytest.fixture(scope="module")
def votes(tmp_path_factory):
    """Labels only: 20 listeners of 60 clips, one with an untidy name, two of few."""
    root = tmp_path_factory.mktemp("votes")
    rng = np.random.default_rng(0)
    rows = [["clip", "annotator", "label", "speaker", "arousal"]]
    for listener in range(20):
        name = "x" * 60 + "\x1b[31m" if listener == 0 else f"l{listener:02d}"
        for clip in range(5 if listener > 17 else 60):
            own = rng.random() < 0.5
            label = ["angry", "happy", "neutral"][(listener if own else clip) % 3]
            both = "|sad" if listener % 5 == 0 and own else ""
            rows.append([f"c{clip}", name, label + both, f"s{clip % 6}", clip % 5])
    with (root / "ratings.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def look_at_votes(votes, workdir, **sections):
    config = {
        "corpus": "manifest",
        "data": {"root": str(votes), "audio": None, "dimension_columns": ("arousal",)},
        "features": {"inputs": "other_raters"},
        "loss": {"family": "sigmoid"},
        "split": {"group_by": "speaker"},
        **sections,
    }
    workdir.mkdir(exist_ok=True)
    return check.page(from_config(config), workdir, Problems())


@pytest.fixture(scope="module")
def looked(votes, tmp_path_factory):
    return look_at_votes(votes, tmp_path_factory.mktemp("runs") / "run")


class TestListeners:
    def section(self, page, title):
        body = page.text.split(f"\n\n{title}\n")[1]
        return body.split("\n\n")[0].splitlines()

    def test_no_line_is_wider_than_a_hundred_columns(self, looked):
        lines = looked.text.split("\n\nlisteners\n")[1].splitlines()
        assert 40 < len(lines) < 90
        assert max(map(len, lines)) <= 100

    def test_names_cannot_move_the_cursor(self, looked):
        assert "\x1b" not in looked.text

    def test_fifteen_listeners_have_a_line_and_the_rest_is_summarised(self, looked):
        lines = self.section(looked, "listeners")
        assert len(lines) == 1 + 15 + 3 + 1
        assert lines[-1].strip() == "5 more listeners are not shown"
        first = lines[1].split()
        assert first[:2] == ["l01", "60"]
        least, _, largest = (line.split() for line in lines[16:19])
        assert (least[3], largest[1]) == ("5", "60")

    def test_agreement_is_measured(self, looked):
        found = looked.survey.differences
        assert f"{found.alpha:.3f} (mean over the classes)" in looked.text
        assert f"{found.masi_alpha:.3f} (label sets, MASI)" in looked.text
        assert "1.000 (arousal)" in looked.text
        assert "Cohen's kappa: median" in looked.text

    def test_differences_stand_beside_their_nulls(self, looked):
        lines = self.section(looked, "do they differ (bits)")
        null = looked.survey.differences.same_clips
        (line,) = [line for line in lines if line.startswith("  I(class; listener), s")]
        assert line.split()[-5:] == [
            f"{null.observed:.3f}", f"{null.mean:.3f}", f"{null.high:.3f}",
            f"{null.p_value:.3f}", f"{null.excess:+.3f}",
        ]  # fmt: skip

    def test_what_is_odd_is_listed_with_what_to_do(self, looked):
        odd = [
            line for line in self.section(looked, "looked at")
            if line.startswith("  warning")
        ]  # fmt: skip
        assert "2 of 20 listeners have fewer than 12 clips" in odd[0]
        fixes = self.section(looked, "what to fix")
        assert [line[:4] for line in fixes if line[2].isdigit()] == ["  1."]

    def test_the_verdict_ends_the_page(self, looked):
        assert "\n\nverdict: listeners differ a lot\n" in looked.text
        assert looked.survey.verdict.grade == "a lot"
        assert looked.text.endswith("label-prior calibration.")

    def test_the_page_for_a_browser_holds_the_verdict(self, looked, tmp_path):
        path = check.write_page(looked, tmp_path)
        assert path == tmp_path / "check" / "check.html"
        assert "Verdict: listeners differ a lot" in path.read_text(encoding="utf-8")

    def test_what_a_listener_needs_is_read_from_the_settings(self, votes, tmp_path):
        few = {"num_support": (1,), "headline_support": 1, "min_query": 2}
        page = look_at_votes(votes, tmp_path / "run", evaluation=few)
        assert "0 of 20 listeners have fewer than 3 clips" in page.text
        assert page.text.count("nothing that was looked for") == 1

    def test_folds_that_cannot_be_had_do_not_hide_the_corpus(self, votes, tmp_path):
        page = look_at_votes(votes, tmp_path / "run", split={"num_test_listeners": 30})
        assert page.exit_code == 2
        assert "error    20 listeners cannot give 30 test" in page.text
        assert "verdict: listeners differ a lot" in page.text

    def test_without_a_corpus_there_is_no_page(self, tmp_path):
        page = look_at_votes(tmp_path / "nothing", tmp_path / "run")
        assert page.exit_code == 2
        assert check.write_page(page, tmp_path) is None
        assert list(tmp_path.glob("check*")) == []


def test_a_config_of_another_kind_is_told(corpus, encoder, tmp_path):
    config = json.loads((encoder / "config.json").read_text())
    config["model_type"] = "wavlmm"
    (encoder / "config.json").write_text(json.dumps(config))
    page, _ = make_page(corpus, tmp_path / "run", encoder)
    assert page.exit_code == 2
    (line,) = [x for x in page.text.splitlines() if x.startswith("error ")]
    assert "wavlm" in line


def test_of_iemocap_the_counts_and_the_matrix_are_shown(tmp_path):
    config = {
        "corpus": "iemocap",
        "data": {"fake": True, "fake_dialogs": 2, "fake_utterances": 8},
        "features": {"inputs": "other_raters"},
    }
    page = check.page(from_config(config), tmp_path, Problems())
    text = page.text
    assert "\nwhat was read\n" in text
    assert "  published counts: an invented tree" in text
    assert "  derived again: consensus 1 of " in text
    assert re.search(r"^rater +session +clips +frust", text, re.MULTILINE)
    assert len(re.findall(r"^E[1-6] +all ", text, re.MULTILINE)) == 6
