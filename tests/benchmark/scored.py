"""Scored models for the tests of report and comparison."""

import numpy as np

from benchmark import results, score
from benchmark.measures import Settings
from benchmark.typing import Audio, Example, Prediction, Task, Verdict

LABELS = ("anger", "joy")
CLOSED = Task(
    "Emotions", "classification", "llm_classification", "Speech", "Paralinguistics",
    instances=("Emotions",), labels=LABELS, chance=0.5, phase="user",
)  # fmt: skip
FOLDED = CLOSED._replace(
    name="Genders", subdomain="Speaker", instances=("Genders_1", "Genders_2")
)
NOISE = CLOSED._replace(name="Noise", subdomain="Noise", instances=("Noise",))
WORDS = CLOSED._replace(
    name="Words", type="sequence_generation", metric="word_error_rate",
    instances=("Words",), labels=(), chance=None,
)  # fmt: skip
TASKS = (CLOSED, FOLDED, NOISE, WORDS)
SETTINGS = Settings(num_resamples=100)


def write_model(folder, model, share, tasks=TASKS, number=40, talk="{}", **changes):
    """Writes results of a model that is right on a share of the examples.

    Examples have ids '0', '1' ...; `talk` is what it wraps its answers in; `changes`
    replace fields of each example.
    """
    rng = np.random.default_rng(int(share * 100))
    evaluated = {}
    for task in tasks:
        for instance in task.instances:
            one = evaluate(task, instance, model, share, number, talk, rng, changes)
            evaluated.setdefault(task.name, []).append(one)
    folder.mkdir(parents=True, exist_ok=True)
    rows = (r for folds in evaluated.values() for one in folds for r in one.rows)
    lines = results.row_lines(rows)
    results.write_text(folder / results.EXAMPLES, "".join(lines))
    found = results.Results(
        folder,
        model,
        tuple(s for folds in evaluated.values() for one in folds for s in one.scores),
        tuple(score.average_folds(folds) for folds in evaluated.values()),
        {task.name: task for task in tasks},
        {"warning missing_prediction": 1},
    )
    results.write_results(found)
    return found


def evaluate(task, instance, model, share, number, talk, rng, changes):
    examples, predictions, verdicts = [], [], {}
    for row in range(number):
        reference = LABELS[row % 2]
        right = rng.random() < share
        fields = {
            "references": (reference,),
            "instruction": f"Which one, {row}?",
            "audios": (Audio(),),
        }
        examples.append(Example(str(row), instance, **{**fields, **changes}))
        said = reference if right else LABELS[(row + 1) % 2]
        predictions.append(Prediction(instance, str(row), talk.format(said), model))
        if "judge" in talk:
            verdicts[str(row)] = Verdict(
                instance, str(row), right, "gpt-4o", "line", f"<b>{said}</b> \x1b[2J"
            )
    given = {"model": model, "predictions": f"{model}.jsonl"}
    return score.evaluate_instance(
        task, examples, predictions, verdicts, SETTINGS, given
    )
