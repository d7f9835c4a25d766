"""What each method may adapt to, what it is tuned on, and what is kept of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax import evaluate, methods
from metaperser_jax.data import pools
from metaperser_jax.data.episodes import plan_evaluation, rows_of
from metaperser_jax.data.splits import Fold, check_leakage, make_folds
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.evaluation import evaluators
from metaperser_jax.experiment import Experiment, FoldData, prepare_fold
from metaperser_jax.settings import EvaluationSettings, MetaSettings, from_config
from metaperser_jax.typing import Corpus, MetaParams, Pool, Ratings

SPEC = methods.ModelSpec(1, 3, 2, 4, "none", "softmax", 0.0, False)
CLIPS = 20


def make_data(held_out=(0, 1, 2), training=(3, 4)):
    """Five listeners rated all clips; the odd ones are of the scenario."""
    rng = np.random.default_rng(0)
    annotator, clip = np.divmod(rng.permutation(5 * CLIPS), CLIPS)
    pool = Pool(
        rng.normal(size=(CLIPS, 1, 3)).astype(np.float32),
        clip.astype(np.int32),
        clip.astype(np.int32),
        annotator.astype(np.int32),
        np.eye(2, dtype=np.float32)[rng.integers(0, 2, 5 * CLIPS)],
        np.ones((5 * CLIPS, 2), bool),
    )
    test, train = np.array(held_out), np.array(training)
    everyone = np.ones(CLIPS, bool)
    fold = Fold(0, train, train, test, everyone, everyone, everyone)
    train_pool = pool._replace(
        annotator=np.where(np.isin(annotator, train), annotator, -1)
    )
    odd = pool.clip % 2 == 1
    return FoldData(fold, train_pool, train_pool, pool, {"odd": odd}, None, SPEC, ())


def make_plan(data, draws=3, most=4):
    pool = data.test
    there = np.where(data.scenario["odd"], pool.annotator, -1)
    return plan_evaluation(
        pool._replace(annotator=there), data.fold.test_listeners, most, draws, 4, 7
    )


def kept(rows):
    return rows[rows >= 0]


class TestWrongSupport:
    def draw(self, data, plan, seed=5):
        return evaluate.wrong_support(data, plan, data.scenario["odd"], seed)

    @pytest.mark.parametrize("held_out", [(0, 1, 2), (0,)])
    def test_it_is_one_other_listeners_and_never_on_a_query_clip(self, held_out):
        data = make_data(held_out)
        plan = make_plan(data)
        donors = held_out if len(held_out) > 1 else data.fold.train_listeners
        wrong = self.draw(data, plan)
        assert wrong.shape == plan.support.shape
        for place, listener in enumerate(plan.annotators):
            for rows, query in zip(wrong[place], plan.query[place], strict=True):
                rows, query = kept(rows), kept(query)
                assert len(set(rows)) == len(rows) == 4
                (donor,) = set(data.test.annotator[rows])
                assert donor in donors
                assert donor != listener
                assert data.scenario["odd"][rows].all()
                clips = data.test.clip
                assert not set(clips[rows]) & set(clips[query])

    def test_the_donor_changes_from_draw_to_draw_and_with_the_seed(self):
        data = make_data()
        plan = make_plan(data, draws=8)
        wrong = self.draw(data, plan)
        donors = data.test.annotator[wrong[0, :, 0]]
        assert len(set(donors)) == 2
        np.testing.assert_array_equal(wrong, self.draw(data, plan))
        assert not np.array_equal(wrong, self.draw(data, plan, seed=6))

    def test_without_another_listener_there_is_nothing_to_adapt_to(self):
        data = make_data((0,))
        nobody = np.where(data.test.annotator == 0, 0, -1)
        data = data._replace(test=data.test._replace(annotator=nobody))
        assert (self.draw(data, make_plan(data)) == -1).all()


class TestSupport:
    def test_the_oracle_has_all_of_the_listeners_data_outside_the_query(self):
        data = make_data()
        plan = make_plan(data)
        rest = evaluate.rest_of(data.test, plan)
        assert rest.shape[:2] == plan.query.shape[:2]
        for place, listener in enumerate(plan.annotators):
            for rows, query in zip(rest[place], plan.query[place], strict=True):
                own = set(rows_of(data.test, listener))
                assert set(kept(rows)) == own - set(query)

    @pytest.mark.parametrize("size", [1, 2, 4])
    def test_each_method_gets_the_first_k_of_its_own_source(self, size):
        data = make_data()
        plan = make_plan(data)
        rest, wrong = evaluate.rest_of(data.test, plan), plan.support + 1000

        def support(method):
            return evaluate.support_of(method, plan, rest, wrong, size)

        np.testing.assert_array_equal(support("full"), plan.support[..., :size])
        np.testing.assert_array_equal(support("base_rate"), support("fine_tune"))
        np.testing.assert_array_equal(support("wrong_listener"), wrong[..., :size])
        np.testing.assert_array_equal(support("oracle"), rest)

    @pytest.mark.parametrize(
        ("most", "used", "left_out"), [(9, 2, 0), (2, 2, 0), (1, 1, 1)]
    )
    def test_known_listeners_of_the_bank(self, most, used, left_out):
        data = make_data()
        rows, others = evaluate.listener_rows(data, most, seed=0)
        assert (len(rows), others) == (used, left_out)
        for known in rows:
            (listener,) = set(data.train.annotator[kept(known)])
            assert listener in data.fold.train_listeners
            assert len(kept(known)) == CLIPS


class TestTuning:
    RATES = {"head/kernel": jnp.array([0.1, 0.2, 0.3])}  # noqa: RUF012

    def tune(self, monkeypatch, method, scores, start=None):
        """Tunes with these scores in place of measured ones."""
        asked = {}

        def candidate_scores(*arguments, **options):
            asked.update(options, arguments=arguments)
            return jnp.asarray(scores)

        monkeypatch.setattr(evaluators, "candidate_scores", candidate_scores)
        learner = methods.make_learner("maml", SPEC, MetaSettings())
        meta_params = start or MetaParams({"p": jnp.ones(1)}, self.RATES)
        data = make_data()
        plan = make_plan(data)
        found = evaluate.tune(
            method,
            evaluate.Start(learner, SPEC, meta_params),
            pools.to_device(data.test),
            plan.support,
            plan.query,
        )
        return found, asked

    @pytest.mark.parametrize("best", range(len(methods.RATE_SCALES)))
    def test_the_candidate_with_the_lowest_loss_is_taken(self, monkeypatch, best):
        scores = np.ones((len(methods.RATE_SCALES), 1))
        scores[best] = 0.5
        found, asked = self.tune(monkeypatch, "full", scores)
        np.testing.assert_allclose(
            found.learning_rates["head/kernel"],
            methods.RATE_SCALES[best] * self.RATES["head/kernel"],
            rtol=1e-6,
        )
        assert float(found.params["p"][0]) == 1
        assert not asked["every_step"]
        support, query = asked["arguments"][5:7]
        assert support.shape == (9, 4)  # listeners x draws
        assert query.shape[0] == 9

    @pytest.mark.parametrize("steps", range(4))
    def test_fine_tuning_chooses_its_number_of_steps_too(self, monkeypatch, steps):
        options = methods.candidates("fine_tune", MetaParams({}, self.RATES))
        scores = np.ones((len(options), 4))
        scores[3, steps] = 0.5
        found, asked = self.tune(monkeypatch, "fine_tune", scores)
        expected = np.where(np.arange(3) < steps, options[3]["head/kernel"], 0)
        np.testing.assert_array_equal(found.learning_rates["head/kernel"], expected)
        assert asked["every_step"]

    def test_where_there_is_nothing_to_choose_nobody_is_asked(self, monkeypatch):
        start = MetaParams({"p": jnp.ones(1)}, {})
        found, asked = self.tune(monkeypatch, "no_adaptation", None, start)
        assert asked == {}
        assert found.learning_rates == {}

    def test_a_rate_that_helps_is_found_on_real_scores(self, rng):
        """Listeners who hear the opposite of the shared model need large rates."""
        data = make_data()
        learner = methods.make_learner(
            "maml", SPEC, MetaSettings(init_learning_rate=0.05)
        )
        model = methods.make_model(SPEC)
        params = model.init_fn(jax.random.key(0))
        opposite = 1 - np.round(model.predict_fn(params, data.test.inputs))
        pool = data.test._replace(targets=opposite[data.test.row].astype(np.float32))
        plan = make_plan(data)
        found = evaluate.tune(
            "full",
            evaluate.Start(learner, SPEC, learner.init(params)),
            pools.to_device(pool),
            plan.support,
            plan.query,
        )
        scale = float(found.learning_rates["classifier/bias"][0]) / 0.05
        np.testing.assert_allclose(scale, max(methods.RATE_SCALES), rtol=1e-5)


class TestWhatIsKept:
    def test_they_depend_on_all_settings_and_hashes(self, tmp_path):
        settings = from_config({"corpus": "synthetic"})
        more = settings._replace(evaluation=EvaluationSettings(num_draws=3))
        nothing = np.zeros(0)
        base = Experiment(
            settings, tmp_path, None, {}, nothing, nothing, [], {"corpus": "a"}, None
        )
        changed = [base._replace(settings=more), base._replace(hashes={"corpus": "b"})]
        hashes = {evaluate.evaluation_hash(e) for e in (base, *changed)}
        assert len(hashes) == 3

    def test_what_was_chosen_can_be_read(self):
        tuned = {("full", 4): MetaParams({}, {"head/kernel": jnp.array([0.1, 0.25])})}
        assert evaluate.describe_tuned(tuned) == {
            "full K=4": {"head/kernel": [0.1, 0.25]}
        }


def test_listeners_left_out_or_short_of_clips_are_counted():
    problems = Problems()
    data = make_data()
    plan = make_plan(data)._replace(num_left_out=3, num_short=2)
    evaluate.note_plan(plan, "unseen", data, EvaluationSettings(), problems)
    assert problems.counts() == {
        "warning listener_left_out": 1,
        "warning short_support": 1,
    }
    assert all(row.where == "fold 0, unseen" for row in problems.rows)
    assert problems.rows[0].message.startswith("3 listener(s)")
    assert problems.rows[1].message.startswith("2 listener(s)")


class TestMemoriser:
    """A model that knows every labelled pair it may see by heart, and nothing else."""

    CLIPS, LISTENERS, CLASSES = 200, 6, 4

    def experiment(self, tmp_path, **split):
        """Each clip has one true label, drawn; all listeners give it."""
        rng = np.random.default_rng(3)
        pairs = np.arange(self.CLIPS * self.LISTENERS)
        clip, annotator = np.divmod(pairs, self.LISTENERS)
        label = rng.integers(0, self.CLASSES, self.CLIPS)
        targets = np.eye(self.CLASSES, dtype=np.float32)[label[clip]]
        features = rng.normal(size=(self.CLIPS, 1, 8)).astype(np.float32)
        session = np.arange(self.CLIPS) // 50
        corpus = Corpus(
            name="drawn",
            clips=tuple(f"clip {i}" for i in range(self.CLIPS)),
            annotators=tuple(f"listener {i}" for i in range(self.LISTENERS)),
            classes=tuple("abcd"),
            dimensions=(),
            speakers=np.array([f"speaker {i}" for i in np.arange(self.CLIPS) // 25]),
            sessions=np.array([f"s{i}" for i in session]),
            ratings=Ratings(
                clip.astype(np.int32), annotator.astype(np.int32), targets,
                np.ones_like(targets, bool), np.zeros((len(clip), 0), np.float32),
            ),
            content_hashes=tuple(map(str, range(self.CLIPS))),
            read_audio=None,
            features=features,
            ground_truth=None,
            summary={},
        )  # fmt: skip
        settings = from_config(
            {
                "corpus": "manifest",
                "data": {"root": "none"},
                "features": {"inputs": "precomputed"},
                "split": {"group_by": "session", **split},
                "evaluation": {"num_draws": 3, "num_support": (16,)},
            }
        )
        everything = np.ones(self.CLIPS, bool)
        folds = make_folds(corpus, settings.split)
        return Experiment(
            settings, tmp_path, corpus, {}, features, everything, folds, {}, Problems()
        )

    def accuracy(self, experiment, scenario):
        """Of the memoriser, over all folds; what it does not know it guesses."""
        right = []
        rng = np.random.default_rng(0)
        for fold in experiment.folds:
            data = prepare_fold(experiment, fold)
            plan = evaluate.plan_scenarios(experiment, data)[scenario]
            known = {}
            for pool in (data.train, data.dev):
                for row in np.flatnonzero(pool.annotator >= 0):
                    known[pool.inputs[pool.row[row]].tobytes()] = pool.targets[row]
            for support, query in zip(
                plan.support.reshape(-1, plan.support.shape[-1]),
                plan.query.reshape(-1, plan.query.shape[-1]),
                strict=True,
            ):
                test = data.test
                own = {
                    test.inputs[test.row[r]].tobytes(): test.targets[r]
                    for r in kept(support)
                }
                for row in kept(query):
                    key = test.inputs[test.row[row]].tobytes()
                    guess = np.eye(self.CLASSES)[rng.integers(self.CLASSES)]
                    said = own.get(key, known.get(key, guess))
                    right.append(said.argmax() == test.targets[row].argmax())
        return np.mean(right), len(right)

    @pytest.mark.parametrize(
        "split",
        [
            {"unseen_fraction": 0.25},
            {"partitions": ((("s0", "s1"), ("s2",), ("s3",)),)},
            {"partitions": ((("s0", "s1"), ("s2",), ("s3",)),), "num_dev_listeners": 0},
        ],
    )
    def test_it_is_right_on_seen_clips_and_at_chance_on_unseen_ones(
        self, tmp_path, split
    ):
        experiment = self.experiment(tmp_path, **split)
        assert self.accuracy(experiment, "seen")[0] == 1
        found, count = self.accuracy(experiment, "unseen")
        chance = 1 / self.CLASSES
        assert abs(found - chance) < 4 * np.sqrt(chance * (1 - chance) / count)

    def test_a_fold_that_leaks_would_show(self, tmp_path):
        """What `check_leakage` refuses would make the memoriser right."""
        experiment = self.experiment(tmp_path, unseen_fraction=0.25)
        leaking = [
            fold._replace(train_clips=np.ones(self.CLIPS, bool))
            for fold in experiment.folds
        ]
        found, _ = self.accuracy(experiment._replace(folds=leaking), "unseen")
        assert found == 1
        with pytest.raises(InputError, match="leakage"):
            check_leakage(leaking[0], experiment.corpus, "session")


class TestUnseenSupport:
    def test_support_may_come_from_the_training_pools_clips(self, tmp_path):
        experiment = TestMemoriser().experiment(tmp_path, unseen_fraction=0.25)
        chosen = experiment.settings.evaluation._replace(unseen_support="seen")
        experiment = experiment._replace(
            settings=experiment.settings._replace(evaluation=chosen)
        )
        data = prepare_fold(experiment, experiment.folds[0])
        plan = evaluate.plan_scenarios(experiment, data)["unseen"]
        clip = data.test.clip
        assert data.fold.train_clips[clip[kept(plan.support.ravel())]].all()
        assert data.fold.unseen_clips[clip[kept(plan.query.ravel())]].all()
        assert len(kept(plan.query[0, 0])) == 50  # the whole session
