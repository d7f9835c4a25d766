"""The whole way, from files to report, on real listeners; fewer folds and draws.

Each fixture is one `python run.py`. What is asserted holds by a wide margin in the runs
of record (docs/results.md), which have all folds, draws and methods.
"""

import json

import numpy as np
import pytest

from metaperser_jax.encoders import drawn

SCENARIOS = ("seen", "unseen")
SHORT = {"evaluation.num_resamples": 100}


@pytest.fixture(scope="session")
def emotale(run_config):
    methods = ("full", "no_adaptation", "base_rate", "fine_tune", "wrong_listener")
    overrides = {
        "split.num_folds": 1,
        "meta.duration": "60 steps",
        "evaluation.num_draws": 4,
        "evaluation.num_support": (16,),
        "evaluation.methods": methods,
        **SHORT,
    }
    return run_config("emotale", "emotale", **overrides)


@pytest.fixture(scope="session")
def drawn_wavlm(run_config, tmp_path_factory):
    """EmoTale through a checkpoint of a tiny WavLM whose weights were drawn."""
    folder = tmp_path_factory.mktemp("encoders") / "wavlm_tiny"
    assert drawn.main(["wavlm_tiny", str(folder)]) == 0
    overrides = {
        "encoder.name": folder,
        "split.num_folds": 1,
        "meta.duration": "20 steps",
        "evaluation.num_draws": 2,
        "evaluation.num_support": (16,),
        "evaluation.methods": ("full", "no_adaptation", "base_rate"),
        **SHORT,
    }
    return run_config("manifest", "emotale", ":wavlm_tiny", **overrides)


@pytest.fixture(scope="session")
def whiser(run_config):
    methods = ("full", "no_adaptation", "base_rate", "wrong_listener")
    overrides = {
        "split.num_folds": 3,
        "evaluation.num_draws": 8,
        "evaluation.num_support": (16,),
        "evaluation.methods": methods,
        **SHORT,
    }
    return run_config("whiser", "whiser_votes", **overrides)


@pytest.fixture(scope="session")
def nsc(run_config):
    methods = ("full", "no_adaptation", "base_rate", "wrong_listener")
    overrides = {
        "split.num_folds": 3,
        "evaluation.num_draws": 8,
        "evaluation.num_support": (10,),
        "evaluation.methods": methods,
        **SHORT,
    }
    return run_config("nsc", "nsc_ratings", **overrides)


class TestEmotale:
    def test_every_recording_was_encoded_and_none_set_aside(self, emotale):
        provenance = json.loads((emotale.workdir / "run.json").read_text())
        assert provenance["corpus"]["clips"] == 550
        assert provenance["corpus"]["inputs"] == "audio"
        assert "550" in next(
            line for line in emotale.stderr.splitlines() if line.startswith("features")
        )
        assert (emotale.workdir / "problems.jsonl").read_text() == ""
        assert provenance["notes"] == []

    def test_each_method_has_all_its_numbers_in_both_scenarios(self, emotale):
        cells = {(r["scenario"], r["method"], r["metric"]) for r in emotale.records}
        assert len(emotale.methods()) == 5
        assert len(cells) == len(emotale.records) == 2 * 5 * 8
        for record in emotale.records:
            assert record["low"] - 1e-5 <= record["mean"] <= record["high"] + 1e-5
        assert {r["num_listeners"] for r in emotale.records} == {1}

    def test_there_is_a_report_of_it(self, emotale):
        report = (emotale.workdir / "report" / "report.html").read_text()
        assert "emotale" in report
        assert "data:image/" in report
        assert "Unseen utterances, K = 16" in emotale.stdout

    @pytest.mark.parametrize("scenario", SCENARIOS)
    @pytest.mark.parametrize("method", ["full", "no_adaptation", "fine_tune"])
    def test_what_was_heard_counts(self, emotale, scenario, method):
        for metric in ("macro_f1", "uar"):
            gain = emotale.mean(scenario, method, metric)
            assert gain > emotale.mean(scenario, "base_rate", metric) + 0.05

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_listeners_who_nearly_agree_lose_little_by_adaptation(
        self, emotale, scenario
    ):
        full, plain = (
            emotale.mean(scenario, m, "macro_f1") for m in ("full", "no_adaptation")
        )
        assert full > plain - 0.10


class TestAnEncoderFromACheckpoint:
    def test_every_recording_goes_through_it(self, drawn_wavlm):
        provenance = json.loads((drawn_wavlm.workdir / "run.json").read_text())
        assert provenance["corpus"]["clips"] == 550
        assert "550 encoded" in drawn_wavlm.stderr
        assert len(drawn_wavlm.methods()) == 3

    def test_nobody_can_take_the_numbers_for_real_ones(self, drawn_wavlm):
        report = (drawn_wavlm.workdir / "report" / "report.html").read_text()
        problems = (drawn_wavlm.workdir / "problems.jsonl").read_text()
        assert "random_weights" in problems
        assert "random_weights" in drawn_wavlm.stdout + drawn_wavlm.stderr
        assert "never trained" in report
        assert "wavlm" in report


class TestWhiser:
    """Medians where a single listener's NLL, which has no bound, could decide."""

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_a_few_labels_teach_a_listeners_habits(self, whiser, scenario):
        gains = whiser.gains(scenario, "full", "no_adaptation", "micro_f1")
        assert gains.mean() > 0.04
        gains = whiser.gains(scenario, "full", "no_adaptation", "nll")
        assert np.median(gains) < 0

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_another_listeners_labels_do_not(self, whiser, scenario):
        gains = whiser.gains(scenario, "wrong_listener", "no_adaptation", "nll")
        assert gains.mean() > 0
        gains = whiser.gains(scenario, "full", "wrong_listener", "micro_f1")
        assert gains.mean() > 0.10

    def test_no_listener_is_tested_twice(self, whiser):
        assert len(whiser.gains("seen", "full", "base_rate", "nll")) == 6
        assert {r["num_listeners"] for r in whiser.records} == {6}


class TestNsc:
    """Seven listeners a fold, about ten labels each: small gains, but gains."""

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_a_few_grades_help_and_another_listeners_harm(self, nsc, scenario):
        nll = {m: nsc.mean(scenario, m, "nll") for m in nsc.methods()}
        assert nll["full"] < nll["no_adaptation"] < nll["wrong_listener"]

    def test_on_known_voices_it_beats_the_listeners_base_rate(self, nsc):
        full, rate = (nsc.mean("seen", m, "nll") for m in ("full", "base_rate"))
        assert full < rate - 0.01

    def test_the_listeners_of_three_folds_were_tested(self, nsc):
        assert {r["num_listeners"] for r in nsc.records} == {21}
        assert "Unseen utterances, K = 10" in nsc.stdout
