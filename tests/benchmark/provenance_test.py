from benchmark.provenance import data_hash
from benchmark.typing import Verdict
from tests.benchmark.answered import CLOSED, evaluate, examples_of


def test_what_limits_comparison_is_noted():
    task = CLOSED._replace(
        phase="core", replaces="IEMOCAP", revisions=("a" * 40,), num_examples=9,
        reconstructed=("metric",), metric_note="mean of something",
    )  # fmt: skip
    verdicts = {"0": Verdict("Emotions", "0", True, "other-judge")}
    found = evaluate(task, ["joy"], ["joy"], verdicts, data_revision="b" * 40)
    notes = "; ".join(found.scores[0].notes)
    for part in (
        "replace IEMOCAP",
        "revision bbbbbbbbbbbb, released: aaaaaaaaaaaa",
        "1 of 9 released examples",
        "metric reconstructed: mean of something",
        "judge other-judge; published: GPT-4o",
        "only what the parser could not",
    ):
        assert part in notes
    plain = evaluate(task, ["joy"], ["joy"]).scores[0].notes
    assert "read by the closed-label parser; published: judged by GPT-4o" in plain
    assert evaluate(CLOSED, ["joy"], ["joy"]).scores[0].notes == ()


def test_the_data_hash_depends_on_the_examples_and_not_on_their_order():
    examples = examples_of(CLOSED, ["joy", "fear"])
    changed = [examples[0], examples[1]._replace(references=("joy",))]
    assert data_hash(examples) == data_hash(examples[::-1])
    assert data_hash(examples) != data_hash(changed)
