"""Small tasks, examples and answers for the tests of scores."""

from benchmark import score
from benchmark.measures import Settings
from benchmark.typing import Example, Prediction, Task

LABELS = ("anger", "joy", "fear")
CLOSED = Task(
    "Emotions", "classification", "llm_classification", instances=("Emotions",),
    labels=LABELS, chance=1 / 3, phase="user",
)  # fmt: skip
WORDS = CLOSED._replace(
    name="Words", type="sequence_generation", metric="word_error_rate",
    instances=("Words",), labels=(), chance=None,
)  # fmt: skip
SECONDS = WORDS._replace(
    name="Seconds", type="regression", metric="pearson_correlation_coefficient",
    instances=("Seconds",), unit="s", value_range=(0.0, 60.0),
)  # fmt: skip
QUICK = Settings(num_resamples=200)


def examples_of(task, references, speakers=()):
    speakers = speakers or [""] * len(references)
    return [
        Example(str(i), task.name, "Which one?", (reference,), speaker=speaker)
        for i, (reference, speaker) in enumerate(zip(references, speakers, strict=True))
    ]


def said(*responses):
    return [
        None if text is None else Prediction("x", str(i), text)
        for i, text in enumerate(responses)
    ]


def evaluate(task, references, responses, verdicts=None, settings=QUICK, **source):
    examples = examples_of(task, references)
    return score.evaluate_instance(
        task, examples, said(*responses), verdicts, settings, {"model": "m", **source}
    )
