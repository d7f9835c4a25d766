"""The protocol's numbers against hand-made ones and against scikit-learn."""

import json

import jax
import numpy as np
import pytest
from sklearn.metrics import f1_score

from metaperser_jax.evaluation import protocol
from metaperser_jax.evaluation.protocol import Outputs, Predictions, Scores

KEYS = {
    "corpus", "scenario", "num_support", "method", "metric",
    "mean", "sd", "low", "high", "num_listeners", "num_draws",
}  # fmt: skip
METHODS = ("full", "no_adaptation", "fine_tune")


def make_predictions(rng, listeners=3, draws=2, query=5, classes=4, sizes=(4, 8)):
    """Random predictions; each listener's last sample of draw 0 is padding."""
    shape = (listeners, draws, query)
    clip = rng.integers(10, 17, shape).astype(np.int32)
    clip[:, 0, -1] = -1
    kept = clip >= 0
    targets = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, shape)]
    probs = {
        (method, k): rng.dirichlet(np.ones(classes), shape).astype(np.float32)
        for method in METHODS
        for k in sizes
    }
    return Predictions(
        np.arange(listeners) + 20,
        clip,
        targets * kept[..., None],
        np.ones((*shape, classes), bool) & kept[..., None],
        probs,
    )


def score(found, family="softmax", seed=3):
    """Scores with few replicates; one shape, one compilation."""
    outputs = Outputs(family, found.targets.shape[-1])
    return protocol.score_all(found, outputs, 20, seed)


def cut(found, query):
    """Blanks the samples from `query` on: they become padding."""
    kept = np.arange(found.clip.shape[-1]) < query
    return found._replace(
        clip=np.where(kept, found.clip, -1),
        targets=found.targets * kept[:, None],
        mask=found.mask & kept[:, None],
    )


def make_scores(values, noise=(0.0, 0.0)):
    """A metric 'uar' and a loss 'nll' with these values, replicates around them."""
    values = np.asarray(values, np.float32)
    replicates = np.nanmean(values) + np.asarray(noise, np.float32)
    return Scores(
        {"uar": float(np.nanmean(values)), "nll": float(np.nanmean(values))},
        {"uar": values, "nll": values},
        {"uar": replicates, "nll": replicates},
    )


class TestConcatenate:
    def test_folds_follow_one_another_and_are_padded_to_the_longest(self, rng):
        short, long = make_predictions(rng, 2, 2, 3), make_predictions(rng, 4, 2, 6)
        long = long._replace(annotators=np.arange(4) + 22)
        joined = protocol.concatenate([short, long])
        assert joined.clip.shape == (6, 2, 6)
        np.testing.assert_array_equal(joined.annotators, [20, 21, 22, 23, 24, 25])
        np.testing.assert_array_equal(joined.clip[:2, :, :3], short.clip)
        np.testing.assert_array_equal(joined.clip[:2, :, 3:], -1)
        np.testing.assert_array_equal(joined.clip[2:], long.clip)
        assert not joined.mask[:2, :, 3:].any()
        assert list(joined.probs) == list(short.probs)
        np.testing.assert_array_equal(
            joined.probs["full", 4][2:], long.probs["full", 4]
        )

    def test_scores_do_not_depend_on_the_padding(self, rng):
        found = make_predictions(rng)
        first, others = (
            Predictions(
                *(array[chosen] for array in found[:4]),
                {key: probs[chosen] for key, probs in found.probs.items()},
            )
            for chosen in (slice(0, 1), slice(1, 3))
        )
        narrow = jax.tree.map(lambda x: x[:, :, :3] if x.ndim > 1 else x, first)
        whole = score(protocol.concatenate([narrow, others]))
        blank = protocol.concatenate([cut(first, 3), others])
        for key, expected in score(blank).items():
            for metric, values in expected.values.items():
                np.testing.assert_allclose(
                    whole[key].values[metric], values, rtol=1e-5, err_msg=metric
                )

    def test_a_listener_met_in_several_folds_counts_once_with_all_its_draws(self, rng):
        first, second = make_predictions(rng, 2, 2, 4), make_predictions(rng, 3, 3, 5)
        joined = protocol.concatenate([first, second])
        np.testing.assert_array_equal(joined.annotators, [20, 21, 22])
        assert joined.clip.shape == (3, 5, 5)
        np.testing.assert_array_equal(joined.clip[1, :2, :4], first.clip[1])
        np.testing.assert_array_equal(joined.clip[1, 2:], second.clip[1])
        np.testing.assert_array_equal(joined.clip[2, :3], second.clip[2])
        assert (joined.clip[2, 3:] == -1).all()  # no third fold: empty draws
        assert not joined.mask[2, 3:].any()
        alone = [score(part)["full", 4].values["nll"] for part in (first, second)]
        expected = [
            (2 * a + 3 * b) / 5 for a, b in zip(alone[0], alone[1], strict=False)
        ]
        found = score(joined)["full", 4].values["nll"]
        np.testing.assert_allclose(found, [*expected, alone[1][2]], rtol=1e-5)

    def test_methods_are_joined_and_listeners_chosen(self, rng):
        whole = make_predictions(rng)
        parts = [
            whole._replace(probs={k: v for k, v in whole.probs.items() if k[0] == m})
            for m in METHODS
        ]
        joined = protocol.join_methods(parts)
        jax.tree.map(np.testing.assert_array_equal, joined, whole)
        chosen = protocol.select_listeners(whole, np.array([True, False, True]))
        np.testing.assert_array_equal(chosen.annotators, [20, 22])
        np.testing.assert_array_equal(
            chosen.probs["full", 4], whole.probs["full", 4][::2]
        )

    def test_one_part_is_itself(self, rng):
        part = make_predictions(rng)
        jax.tree.map(np.testing.assert_array_equal, protocol.concatenate([part]), part)


class TestScores:
    def test_macro_f1_is_the_mean_over_draws_of_the_full_query_set(self, rng):
        found = make_predictions(rng)
        scores = score(found)["full", 4]
        for listener in range(3):
            per_draw = []
            for draw in range(2):
                kept = found.clip[listener, draw] >= 0
                truth = found.targets[listener, draw][kept] > 0.25
                said = found.probs["full", 4][listener, draw][kept] > 0.25
                present = (truth | said).any(0)
                per_draw.append(
                    f1_score(truth[:, present], said[:, present], average="macro")
                )
            np.testing.assert_allclose(
                scores.values["macro_f1"][listener], np.mean(per_draw), rtol=1e-5
            )
        expected = scores.values["macro_f1"].mean()
        np.testing.assert_allclose(scores.estimate["macro_f1"], expected, rtol=1e-6)

    def test_nll_by_hand(self, rng):
        found = make_predictions(rng)
        scores = score(found)["fine_tune", 8]
        logs = np.log(found.probs["fine_tune", 8])
        losses = -(found.targets * logs).sum(-1)  # [listeners, draws, query]
        kept = found.clip >= 0
        per_draw = (losses * kept).sum(-1) / kept.sum(-1)
        np.testing.assert_allclose(scores.values["nll"], per_draw.mean(-1), rtol=1e-5)

    def test_perfect_predictions(self, rng):
        found = make_predictions(rng)
        sure = dict.fromkeys(found.probs, found.targets + 0.0)
        scores = score(found._replace(probs=sure))
        for metric, best in {
            "macro_f1": 1,
            "exact_match": 1,
            "uar": 1,
            "brier": 0,
        }.items():
            np.testing.assert_allclose(
                scores["full", 4].estimate[metric], best, atol=1e-6, err_msg=metric
            )

    def test_methods_share_their_bootstrap_weights(self, rng):
        found = make_predictions(rng)
        twin = {**found.probs, ("fine_tune", 4): found.probs["full", 4]}
        scores = score(found._replace(probs=twin))
        jax.tree.map(
            np.testing.assert_array_equal, scores["full", 4], scores["fine_tune", 4]
        )
        again = score(found)["full", 4]
        other = score(found, seed=4)["full", 4]
        np.testing.assert_array_equal(
            again.replicates["nll"], scores["full", 4].replicates["nll"]
        )
        assert not np.array_equal(again.replicates["nll"], other.replicates["nll"])

    @pytest.mark.parametrize("family", ["softmax", "sigmoid"])
    def test_both_families_give_the_metrics_of_every_report(self, rng, family):
        found = score(make_predictions(rng), family)["full", 4].estimate
        assert {"macro_f1", "micro_f1", "uar", "nll", "ece", "brier"} <= set(found)


class TestDimensions:
    """Classes and dimensions side by side, each judged by its own metrics."""

    OUTPUTS = Outputs("softmax", 4, ("valence", "arousal"))

    def both(self, rng):
        found = make_predictions(rng)
        shape = (*found.clip.shape, 2)
        values = rng.normal(size=shape).astype(np.float32)
        rated = (rng.random(shape) < 0.9) & (found.clip >= 0)[..., None]
        probs = {
            key: np.concatenate(
                [value, rng.normal(size=shape).astype(np.float32)], axis=-1
            )
            for key, value in found.probs.items()
        }
        return found, found._replace(
            targets=np.concatenate([found.targets, values * rated], -1),
            mask=np.concatenate([found.mask, rated], -1),
            probs=probs,
        )

    def test_the_classes_metrics_do_not_see_the_dimensions(self, rng):
        alone, joint = self.both(rng)
        found = protocol.score_all(joint, self.OUTPUTS, 20, 3)
        for key, expected in score(alone).items():
            for metric, values in expected.values.items():
                np.testing.assert_allclose(found[key].values[metric], values, rtol=1e-6)

    def test_the_dimensions_are_scored_by_hand(self, rng):
        _, joint = self.both(rng)
        score = protocol.score_all(joint, self.OUTPUTS, 20, 3)["full", 4]
        squared = []
        for draw in range(2):
            rated = joint.mask[0, draw, :, 4]
            errors = (
                joint.probs["full", 4][0, draw, :, 4] - joint.targets[0, draw, :, 4]
            )
            squared.append(np.sqrt((errors[rated] ** 2).mean()))
        np.testing.assert_allclose(
            score.values["rmse_valence"][0], np.mean(squared), rtol=1e-5
        )
        both = (score.values["rmse_valence"] + score.values["rmse_arousal"]) / 2
        np.testing.assert_allclose(score.values["rmse"], both, rtol=1e-4)

    def test_what_a_report_shows(self):
        wanted = ("macro_f1", "nll")
        assert protocol.headline_metrics(wanted, Outputs("softmax", 4)) == [*wanted]
        means = ["ccc", "pearson", "rmse", "mae"]
        assert protocol.headline_metrics(wanted, self.OUTPUTS) == [*wanted, *means]
        alone = self.OUTPUTS._replace(num_classes=0)
        assert protocol.headline_metrics(wanted, alone) == means

    def test_estimates_are_those_of_the_scores(self, rng):
        _, joint = self.both(rng)
        scores = protocol.score_all(joint, self.OUTPUTS, 20, 3)
        for key, values in protocol.estimates(joint, self.OUTPUTS).items():
            for metric, value in values.items():
                expected = scores[key].estimate[metric]
                np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


class TestRecords:
    def test_a_record_has_exactly_the_public_keys(self):
        scores = {("full", 4): make_scores([0.2, 0.4])}
        for record in protocol.records(scores, "toy", "seen", 20):
            assert set(record) == KEYS

    def test_means_intervals_and_counts(self):
        scores = {
            ("full", 4): make_scores([0.2, np.nan, 0.4], np.linspace(-1, 1, 2001))
        }
        first = next(protocol.records(scores, "toy", "unseen", 20))
        assert (first["corpus"], first["scenario"]) == ("toy", "unseen")
        assert (first["method"], first["num_support"]) == ("full", 4)
        assert first["num_listeners"] == 2  # the metric is not defined for the other
        assert first["num_draws"] == 20
        np.testing.assert_allclose(first["sd"], np.std([0.2, 0.4], ddof=1), rtol=1e-5)
        np.testing.assert_allclose(
            [first["mean"], first["low"], first["high"]], [0.3, -0.65, 1.25], atol=1e-5
        )

    def test_one_record_for_each_method_size_and_metric(self, rng):
        scores = score(make_predictions(rng))
        rows = list(protocol.records(scores, "toy", "seen", 2))
        places = {(r["method"], r["num_support"], r["metric"]) for r in rows}
        assert len(places) == len(rows) == 3 * 2 * 8
        for row in rows:
            assert row["low"] <= row["mean"] <= row["high"]

    def test_what_is_not_defined_is_null_in_json(self):
        nan = float("nan")
        scores = {
            ("full", 4): Scores(
                {"uar": nan}, {"uar": np.array([nan, nan])}, {"uar": np.array([nan])}
            )
        }
        (record,) = json.loads(
            json.dumps(list(protocol.records(scores, "t", "seen", 1)))
        )
        assert (record["mean"], record["low"], record["high"]) == (None, None, None)
        assert record["num_listeners"] == 0


SCORES = {
    ("full", 4): make_scores([0.5, 0.6, 0.4], [-0.1, 0.0, 0.1]),
    ("no_adaptation", 4): make_scores([0.4, 0.6, 0.5], [0.0, 0.0, 0.0]),
    ("fine_tune", 4): make_scores([0.2, 0.1, 0.3], [0.1, 0.0, -0.1]),
    ("full", 8): make_scores([0.9, 0.9, 0.9]),
}


class TestComparisons:
    def rows(self, metric="uar", **wanted):
        found = protocol.comparisons(SCORES, "seen")
        wanted = {"metric": metric, "num_support": 4, **wanted}
        return [r for r in found if all(r[key] == v for key, v in wanted.items())]

    def test_full_against_each_and_each_against_the_unadapted(self):
        pairs = [(row["method"], row["reference"]) for row in self.rows()]
        assert pairs == [
            ("full", "no_adaptation"),
            ("full", "fine_tune"),
            ("fine_tune", "no_adaptation"),
        ]

    def test_sizes_are_never_compared_with_one_another(self):
        assert self.rows(num_support=8) == []

    @pytest.mark.parametrize(
        ("method", "reference", "difference", "worse_uar", "worse_nll"),
        [
            ("full", "no_adaptation", 0.0, 1 / 3, 1 / 3),
            ("full", "fine_tune", 0.3, 0.0, 1.0),
            ("fine_tune", "no_adaptation", -0.3, 1.0, 0.0),
        ],
    )
    def test_difference_and_the_share_made_worse(
        self, method, reference, difference, worse_uar, worse_nll
    ):
        pair = {"method": method, "reference": reference}
        for metric, worse in {"uar": worse_uar, "nll": worse_nll}.items():
            (row,) = self.rows(metric, **pair)
            np.testing.assert_allclose(row["difference"], difference, atol=1e-6)
            np.testing.assert_allclose(row["share_worse"], worse, rtol=1e-6)
            assert row["num_listeners"] == 3

    def test_the_interval_is_that_of_the_paired_replicates(self):
        (row,) = self.rows(method="full", reference="fine_tune")
        # replicates -0.2, 0, 0.2 around 0.3; percentiles by linear interpolation
        np.testing.assert_allclose([row["low"], row["high"]], [0.11, 0.49], atol=1e-5)

    def test_p_values_are_corrected_within_a_family(self):
        for side in (
            [r for r in self.rows() if r["method"] == "full"],
            [r for r in self.rows() if r["method"] != "full"],
        ):
            smallest = min(side, key=lambda row: row["p_value"])
            np.testing.assert_allclose(
                smallest["p_holm"], min(1, len(side) * smallest["p_value"]), rtol=1e-6
            )
            assert all(row["p_holm"] >= row["p_value"] for row in side)

    def test_three_listeners_cannot_reach_a_small_p(self):
        (row,) = self.rows(method="full", reference="fine_tune")
        np.testing.assert_allclose(row["p_value"], 0.25)  # 2 of 8 sign patterns

    @pytest.mark.parametrize("methods", [("fine_tune",), ("full",), ("no_adaptation",)])
    def test_a_method_alone_has_nobody_to_be_compared_with(self, methods):
        scores = {(m, 4): make_scores([0.1, 0.2]) for m in methods}
        assert protocol.comparisons(scores, "seen") == []


def test_per_listener_names_each_value():
    scores = {("full", 4): make_scores([0.25, np.nan])}
    rows = list(protocol.per_listener(scores, "seen", ["ann", "bob"]))
    assert [(r["annotator"], r["metric"], r["value"]) for r in rows] == [
        ("ann", "uar", 0.25),
        ("bob", "uar", None),
        ("ann", "nll", 0.25),
        ("bob", "nll", None),
    ]


class TestPictures:
    def test_reliability_bins_hold_every_answered_cell(self, rng):
        found = make_predictions(rng)
        bins = protocol.reliability(
            found, "full", 4, Outputs("softmax", found.targets.shape[-1])
        )
        assert sum(bins["count"]) == found.mask.sum()
        probs, hits = found.probs["full", 4][found.mask], found.targets[found.mask]
        weights = np.array(bins["count"]) / found.mask.sum()
        used = weights > 0
        for name, values in {"confidence": probs, "frequency": hits}.items():
            held = np.array(bins[name], float)[used]
            np.testing.assert_allclose(
                (held * weights[used]).sum(), values.mean(), rtol=1e-5
            )

    def test_a_softmax_prediction_stands_for_a_share_of_the_label_set(self):
        probs = np.full((1, 1, 2, 2), 0.5, np.float32)
        both = np.ones((1, 1, 2, 2), np.float32)  # two labels: a half each
        found = Predictions(
            np.zeros(1, int),
            np.zeros((1, 1, 2), int),
            both,
            both > 0,
            {("full", 4): probs},
        )
        for family, frequency in {"softmax": 0.5, "sigmoid": 1.0}.items():
            bins = protocol.reliability(
                found, "full", 4, Outputs(family, found.targets.shape[-1])
            )
            (place,) = np.flatnonzero(bins["count"])
            assert bins["frequency"][place] == frequency

    def test_cooccurrence_by_hand(self):
        targets = np.array([[[[1, 0, 0], [1, 0, 0], [0, 1, 0]]]], np.float32)
        probs = np.array(
            [[[[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.1, 0.8, 0.1]]]], np.float32
        )
        found = Predictions(
            np.zeros(1, int), np.zeros((1, 1, 3), int), targets,
            np.ones(targets.shape, bool), {("full", 4): probs},
        )  # fmt: skip
        matrix = protocol.cooccurrence(
            found, "full", 4, Outputs("softmax", found.targets.shape[-1])
        )
        assert matrix[:2] == [[1.0, 0.5, 0.0], [0.0, 1.0, 0.0]]
        assert json.dumps(matrix)  # a class nobody gave has no row of numbers
