from benchmark.provenance import data_hash, scored_apart
from benchmark.typing import Verdict
from tests.benchmark.answered import CLOSED, QUICK, evaluate, examples_of


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


def test_data_of_unknown_revision_are_noted():
    task = CLOSED._replace(phase="core", revisions=("a" * 40,))
    notes = evaluate(task, ["joy"], ["joy"]).scores[0].notes
    assert "revision of the data not known, released: aaaaaaaaaaaa" in notes
    bare = evaluate(task._replace(revisions=("",)), ["joy"], ["joy"]).scores[0].notes
    assert "the revision of the released data is not known" in bare
    same = evaluate(task, ["joy"], ["joy"], data_revision="a" * 40).scores[0].notes
    assert not [note for note in same if "revision" in note]


def test_what_differs_beside_the_model_is_named():
    one = evaluate(CLOSED, ["joy"], ["joy"]).scores[0]
    other = evaluate(CLOSED, ["fear"], ["fear"]).scores[0]
    parity = QUICK._replace(profile="parity")
    third = evaluate(CLOSED, ["joy"], ["hm"], settings=parity).scores[0]
    verdict = {"0": Verdict("Emotions", "0", True, "gpt-4o")}
    judged = evaluate(CLOSED, ["joy"], ["hm"], verdict).scores[0]
    plain = evaluate(CLOSED, ["joy"], ["hm"]).scores[0]
    assert scored_apart([one, one, plain]) == []
    assert scored_apart([one, other]) == ["data"]
    assert scored_apart([one, third]) == ["profile"]
    assert scored_apart([judged, plain]) == ["judge"]
    assert scored_apart([judged, one]) == []  # it left nothing to a judge
