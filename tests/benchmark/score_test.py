import math

import jiwer
import numpy as np
import pytest
from sklearn import metrics

from benchmark import score
from benchmark.typing import Verdict
from tests.benchmark.answered import (
    CLOSED,
    LABELS,
    QUICK,
    SECONDS,
    WORDS,
    evaluate,
    examples_of,
    said,
)


def test_each_outcome_is_counted_and_nothing_is_guessed():
    found = evaluate(
        CLOSED,
        ["anger", "anger", "joy", "joy", "fear", "fear"],
        ["It is anger.", "joy", "anger or joy", "no idea", None, ""],
    )
    head = found.scores[0]
    assert head.metric == "accuracy"
    assert head.value == pytest.approx(1 / 6)
    outcomes = [row.outcome for row in found.rows]
    assert outcomes == ["matched", "other_option", "several", "none", "missing", "none"]
    assert (head.num_examples, head.num_answered, head.num_unreadable) == (6, 5, 3)
    assert head.provenance["outcomes"]["missing"] == 1
    assert head.low < head.value < head.high
    assert head.chance == pytest.approx(1 / 3)


def test_a_verdict_decides_what_the_parser_cannot_and_nothing_else():
    verdicts = {
        "0": Verdict("Emotions", "0", False, "gpt-4o", "line", "NO"),
        "1": Verdict("Emotions", "1", True, "gpt-4o", "line", "YES it is"),
        "2": Verdict("Emotions", "2", None, "gpt-4o", "unparsable"),
    }
    answers = (["anger", "joy", "fear"], ["anger", "a happy one?", "hm"])
    found = evaluate(CLOSED, *answers, verdicts)
    assert [row.correct for row in found.rows] == [True, True, False]
    assert [row.decided_by for row in found.rows] == ["parser", "judge", ""]
    assert found.rows[1].judge_text == "YES it is"
    assert found.scores[0].num_unreadable == 1
    always = evaluate(CLOSED, *answers, verdicts, QUICK._replace(judge_mode="always"))
    assert [row.correct for row in always.rows] == [False, True, False]
    assert always.scores[0].provenance["judged"] == 2
    parity = evaluate(CLOSED, *answers, verdicts, QUICK._replace(profile="parity"))
    assert [row.correct for row in parity.rows] == [False, True, False]


@pytest.mark.parametrize("changes", [{"judge_mode": "always"}, {"profile": "parity"}])
def test_a_verdict_that_cannot_be_read_is_wrong_and_counted(changes):
    verdicts = {"0": Verdict("Emotions", "0", None, "gpt-4o", "unparsable")}
    settings = QUICK._replace(**changes)
    head = evaluate(CLOSED, ["joy"], ["joy"], verdicts, settings).scores[0]
    assert (head.value, head.num_unreadable) == (0, 1)
    head = evaluate(CLOSED, ["joy"], ["joy"], verdicts, QUICK).scores[0]
    assert (head.value, head.num_unreadable) == (1, 0)


def test_a_verdict_gives_no_credit_to_an_answer_that_is_missing():
    verdicts = {"0": Verdict("Emotions", "0", True, "gpt-4o")}
    settings = QUICK._replace(judge_mode="always")
    found = evaluate(CLOSED, ["joy"], [None], verdicts, settings)
    assert found.scores[0].value == 0


NUMBERS = ["1", "2 s", "a couple and some", "hard to say", None, "4 or 5"]
VERDICTS = {
    "0": Verdict("Seconds", "0", None, "j", "number: line", value=9.0),
    "2": Verdict("Seconds", "2", None, "j", "number: line", "REWRITTEN", 3.0),
    "3": Verdict("Seconds", "3", None, "j", "n/a"),
    "4": Verdict("Seconds", "4", None, "j", "number: line", value=5.0),
    "5": Verdict("Seconds", "5", None, "j", "unparsable: no verdict"),
}
ERROR = SECONDS._replace(metric="audio_duration_prediction")


@pytest.mark.parametrize(
    ("verdicts", "mode", "value", "sources", "decided"),
    [
        (None, "undecided", 0.0, (2, 0, 4), ["parser", "parser", "", "", "", ""]),
        (
            *(VERDICTS, "undecided", 0.5 / 3, (2, 1, 3)),
            ["parser", "parser", "judge", "judge", "", ""],
        ),
        (
            *(VERDICTS, "always", 8.5 / 3, (1, 2, 3)),
            ["judge", "parser", "judge", "judge", "", ""],
        ),
    ],
)
def test_a_number_is_parsed_or_rewritten_or_none(
    verdicts, mode, value, sources, decided
):
    references = ["1", "2", "2.5", "3", "4", "5"]
    settings = QUICK._replace(judge_mode=mode)
    found = evaluate(ERROR, references, NUMBERS, verdicts, settings)
    head = found.scores[0]
    assert head.value == pytest.approx(value)
    names = ("parsed", "rewritten", "n/a")
    assert head.provenance["numbers"] == dict(zip(names, sources, strict=True))
    assert [row.decided_by for row in found.rows] == decided
    assert (head.num_answered, head.num_unreadable) == (5, 5 - sources[0] - sources[1])
    assert {row.outcome for row in found.rows if row.response is None} == {"missing"}


@pytest.mark.parametrize(
    "value", [0.0, -3.5, 1e-7, 1234.0, 1.234, 12345.678, 2019.0, 1e11, 1 / 3]
)
def test_a_rewritten_number_is_scored_as_it_is(value):
    task = ERROR._replace(value_range=None)
    verdicts = {"0": Verdict("Seconds", "0", None, "j", "number: line", value=value)}
    found = evaluate(task, ["0", "0"], ["hm", "0"], verdicts)
    assert found.scores[0].value == pytest.approx(abs(value) / 2, rel=1e-12)


def test_a_rewritten_number_is_said_to_be_one():
    released = ERROR._replace(phase="core")
    notes = evaluate(released, ["1"], ["1"]).scores[0].notes
    assert (
        "numbers read by the parser; published: rewritten by a language model" in notes
    )
    notes = evaluate(released, ["1"], ["1"], VERDICTS).scores[0].notes
    assert "numbers rewritten by j where the judge was asked" in notes


def test_accuracy_and_macro_f1_agree_with_scikit_learn(rng):
    truth = rng.choice(LABELS, 300)
    answers = np.where(rng.random(300) < 0.6, truth, rng.choice(LABELS, 300))
    found = evaluate(CLOSED, list(truth), list(answers))
    accuracy, f1 = found.scores
    assert accuracy.value == pytest.approx(metrics.accuracy_score(truth, answers))
    wanted = metrics.f1_score(truth, answers, average="macro")
    assert (f1.metric, f1.value) == ("macro_f1", pytest.approx(wanted))
    assert f1.low < f1.value < f1.high
    assert f1.chance is None
    counts = np.unique(truth, return_counts=True)[1]
    assert accuracy.provenance["majority"] == pytest.approx(counts.max() / 300)


def test_an_answer_without_a_label_lowers_the_recall_of_the_true_one(rng):
    truth = list(rng.choice(LABELS, 100))
    answers = [a if i % 4 else "no idea" for i, a in enumerate(truth)]
    found = evaluate(CLOSED, truth, answers)
    wanted = metrics.f1_score(
        truth, [a if a in LABELS else "?" for a in answers], labels=LABELS,
        average="macro",
    )  # fmt: skip
    assert found.scores[1].value == pytest.approx(wanted)


def test_word_errors_are_those_of_the_corpus_raw_and_without_preamble():
    references = ["one two three", "four"]
    answers = ["The transcription is: one two three", "five"]
    head, raw = evaluate(WORDS, references, answers).scores
    assert (head.metric, head.direction) == ("word_error_rate", "lower")
    assert head.value == pytest.approx(jiwer.wer(references, ["one two three", "five"]))
    assert raw.metric == "word_error_rate_raw"
    assert raw.value > head.value
    assert head.provenance["preambles_taken_off"] == 1


def test_parity_scores_the_raw_text_alone():
    settings = QUICK._replace(profile="parity")
    found = evaluate(WORDS, ["a b"], ["Transcription: a b"], settings=settings)
    assert [one.metric for one in found.scores] == ["word_error_rate"]
    assert found.scores[0].value == pytest.approx(0.5)
    assert any("parity" in note for note in found.scores[0].notes)


def test_a_missing_transcript_counts_as_deleted_words():
    head = evaluate(WORDS, ["a b", "c d"], ["a b", None]).scores[0]
    assert head.value == pytest.approx(0.5)
    assert head.num_answered == 1


def test_a_regression_is_scored_on_what_is_a_number(rng):
    truth = rng.uniform(15, 45, 40)
    noisy = truth + rng.normal(0, 3, 40)
    answers = [f"about {x:.3f} seconds" for x in noisy]
    answers[3], answers[7] = "no idea", None
    found = evaluate(SECONDS, [f"{x:.3f}" for x in truth], answers)
    head = found.scores[0]
    kept = [i for i in range(40) if i not in (3, 7)]
    wanted = np.corrcoef(truth[kept].round(3), noisy[kept].round(3))[0, 1]
    assert head.value == pytest.approx(wanted, abs=1e-6)
    assert (head.num_answered, head.num_unreadable) == (39, 1)
    assert found.rows[3].outcome == "unreadable"
    assert found.rows[0].read_as.endswith("s")


def test_numbers_that_nobody_gave_have_no_score():
    head = evaluate(SECONDS, ["1", "2"], ["?", None]).scores[0]
    assert (head.value, head.low, head.high) == (None, None, None)


def test_folds_weigh_the_same_and_vary_each_by_itself(rng):
    folds = []
    for share, number in ((0.9, 400), (0.5, 100)):
        answers = np.where(rng.random(number) < share, "joy", "fear")
        folds.append(evaluate(CLOSED, ["joy"] * number, list(answers)))
    whole = score.average_folds(folds)
    values = [fold.scores[0].value for fold in folds]
    assert whole.value == pytest.approx(np.mean(values))
    assert whole.num_examples == 500
    errors = [
        math.sqrt(v * (1 - v) / n) for v, n in zip(values, (400, 100), strict=True)
    ]
    width = 2 * 1.96 * math.hypot(*errors) / 2
    assert whole.high - whole.low == pytest.approx(width, rel=0.2)
    assert score.average_folds(folds[:1]).value == values[0]
    none = folds[1].scores[0]._replace(value=None)
    broken = folds[1]._replace(scores=(none,))
    assert score.average_folds([folds[0], broken]).value is None


def test_folds_that_are_all_right_claim_no_certainty():
    perfect = evaluate(CLOSED, ["joy"] * 20, ["joy"] * 20)
    half = evaluate(CLOSED, ["joy"] * 20, ["joy", "fear"] * 10)
    whole = score.average_folds([perfect, perfect])
    assert whole.value == 1
    below = 1 - perfect.scores[0].low
    assert whole.low == pytest.approx(1 - below / math.sqrt(2))
    mixed = score.average_folds([perfect, half])
    steps = below, half.scores[0].value - half.scores[0].low
    assert mixed.low == pytest.approx(0.75 - math.hypot(*steps) / 2)


def test_a_mean_of_folds_keeps_the_provenance_of_each():
    folds = [evaluate(CLOSED, [label], ["joy"]) for label in ("joy", "fear")]
    source = score.average_folds(folds).provenance
    hashes = [fold.scores[0].provenance["data_sha256"] for fold in folds]
    assert source["data_sha256"] == hashes
    assert source["outcomes"] == [{"matched": 1}, {"other_option": 1}]
    assert source["profile"] == "strict"


def test_few_speakers_are_not_resampled_and_that_is_said():
    references = ["joy", "fear"] * 20
    for number, clusters in ((4, 0), (10, 10)):
        speakers = [f"s{i % number}" for i in range(40)]
        examples = examples_of(CLOSED, references, speakers)
        found = score.evaluate_instance(
            CLOSED, examples, said(*["joy"] * 40), settings=QUICK
        )
        assert found.scores[0].provenance["clusters"] == clusters
        noted = any("these 4 speakers" in note for note in found.scores[0].notes)
        assert noted == (number == 4)


def test_a_number_says_where_it_comes_from():
    head = evaluate(CLOSED, ["joy"], ["joy"], predictions_sha256="f" * 64).scores[0]
    assert head.model == "m"
    for name in (
        "predictions_sha256", "data_sha256", "task_record", "metric_version",
        "profile", "seed", "num_resamples", "judge", "versions",
    ):  # fmt: skip
        assert name in head.provenance, name


def test_the_short_form_returns_the_scores_alone():
    examples = examples_of(CLOSED, ["joy", "fear"])
    found = score.score_instance(CLOSED, examples, said("joy", "joy"), seed=3)
    assert [one.metric for one in found] == ["accuracy", "macro_f1"]
    assert found[0].provenance["seed"] == 3


def test_the_same_seed_gives_the_same_interval():
    answers = (["joy", "fear"] * 30, ["joy"] * 60)
    first, second = (evaluate(CLOSED, *answers).replicates for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = evaluate(CLOSED, *answers, settings=QUICK._replace(seed=5)).replicates
    assert not np.array_equal(first, other)
