"""`--mode=check` on real listeners: the verdicts and the numbers behind them."""

import os
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from metaperser_jax.data import agreement
from metaperser_jax.data.manifest import ManifestSpec, load_manifest
from metaperser_jax.data.ratings import listener_information, mutual_information
from metaperser_jax.errors import Problems

ROOT = pathlib.Path(__file__).parents[2]


class Checked(NamedTuple):
    """What was printed, and the page for a browser."""

    text: str
    html: str

    def number(self, pattern):
        (found,) = re.findall(pattern, " ".join(self.text.split()))
        return float(found)


@pytest.fixture(scope="session")
def checked(data, tmp_path_factory):
    """(config, folder, flags) -> what the check of that corpus found."""

    def check(config, folder, **flags):
        workdir = tmp_path_factory.mktemp(config) / "run"
        command = [
            *(sys.executable, "run.py", f"--config=configs/{config}.py"),
            *(f"--config.data.root={data / folder}", f"--workdir={workdir}"),
            *(f"--config.{key}={value}" for key, value in flags.items()),
            "--mode=check",
        ]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"},
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        html = (workdir / "check" / "check.html").read_text(encoding="utf-8")
        return Checked(done.stdout, html)

    return check


INFORMATION = r"I\(label; listener\) = (\S+) bits plug-in"
STRENGTH = r"that is the listener's own: (\S+)%"


@pytest.fixture(scope="session")
def emotale(checked):
    return checked("emotale", "emotale")


@pytest.fixture(scope="session")
def whiser(checked):
    return checked("whiser", "whiser_votes")


@pytest.fixture(scope="session")
def primary(checked):
    """WHiSER by the one primary label of each rating, all listeners."""
    flags = {"data.label_columns": "('primary',)", "data.min_ratings": 1}
    return checked("whiser", "whiser_votes", **flags)


class TestEmotale:
    def test_its_listeners_barely_differ(self, emotale):
        assert "\nverdict: listeners barely differ\n" in emotale.text
        assert "Verdict: listeners barely differ" in emotale.html
        assert emotale.number(STRENGTH) < 1

    def test_the_listener_tells_nothing_about_the_label(self, emotale):
        assert emotale.number(INFORMATION) == 0.00
        assert emotale.number(r"own label rates save (\S+) of") == pytest.approx(
            0, abs=0.01
        )

    def test_they_agree(self, emotale):
        assert emotale.number(r"alpha: (\S+) \(of the label\)") > 0.6
        assert emotale.number(r"kappa: median (\S+),") > 0.5

    def test_lengths_are_told_as_far_as_they_are_known(self, emotale):
        assert "0.42 hours in all" in emotale.text


class TestWhiser:
    def test_its_listeners_differ_a_lot(self, whiser, primary):
        for page in (whiser, primary):
            assert "\nverdict: listeners differ a lot\n" in page.text
            assert "Verdict: listeners differ a lot" in page.html
            assert page.number(STRENGTH) > 20

    def test_of_label_sets_the_number_of_labels_is_a_habit(self, whiser):
        count = r"I\(number of labels; listener\) = (\S+) bits plug-in"
        assert whiser.number(count) == 0.56
        assert whiser.number(r"I\(class, mean; listener\) = (\S+) bits") == 0.09

    def test_the_listener_tells_half_a_bit_about_the_primary_label(self, primary):
        assert primary.number(INFORMATION) == 0.52

    def test_neutral_is_a_matter_of_taste(self, whiser):
        low, high = re.findall(r"rate of Neutral: (\d+) % to (\d+) %", whiser.text)[0]
        assert int(low) < 10
        assert int(high) > 95

    def test_they_hardly_agree(self, whiser, primary):
        assert whiser.number(r"alpha: (\S+) \(mean over the classes\)") < 0.1
        assert primary.number(r"alpha: (\S+) \(of the label\)") < 0.1

    def test_nothing_of_it_comes_from_the_clips(self, data):
        spec = ManifestSpec(
            data / "whiser_votes", label_columns=("primary",), audio=None
        )
        corpus = load_manifest(spec, Problems())
        ratings, size = corpus.ratings, len(corpus.annotators)
        null = agreement.permutation_null(ratings, size, num_permutations=49)
        assert null.observed == pytest.approx(
            listener_information(ratings)["plug_in"], abs=1e-9
        )
        assert null.p_value == pytest.approx(0.02)
        assert null.excess > 0.4

    def test_the_habits_show_once_it_is_known_what_the_others_said(self, data):
        spec = ManifestSpec(
            data / "whiser_votes", label_columns=("primary",), audio=None
        )
        ratings = load_manifest(spec, Problems()).ratings
        labels = ratings.targets.argmax(1)
        votes = np.zeros((ratings.clip.max() + 1, ratings.targets.shape[1]))
        np.add.at(votes, ratings.clip, ratings.targets)
        others = votes[ratings.clip] - ratings.targets
        found = mutual_information(labels, ratings.annotator, others.argmax(1))
        assert found.corrected == pytest.approx(0.56, abs=0.01)
