"""Baselines that hear nothing, and a scripted model that talks too much.

`majority` and the offline `text_only` read the references of the very set they are
scored on. They are no models: they say how far one gets without listening.
"""

import collections
import random
import statistics
from collections.abc import Callable, Hashable, Iterable

from benchmark.errors import InputError
from benchmark.models.base import Model, ModelSettings, predict, require_options
from benchmark.typing import Example, Prediction

CHATTY_SHARE = 0.7  # of right answers


def make_chance(settings: ModelSettings) -> Model:
    """Returns a model that draws uniformly from the options, the same for a seed.

    What is no closed question is skipped.
    """
    name = settings.name or "chance"

    def answer(example: Example) -> Prediction:
        options = require_options(settings.options_of, example)
        return predict(name, example, _dice(settings.seed, example).choice(options))

    return Model(name, answer, info={"kind": "baseline", "seed": settings.seed})


def make_majority(settings: ModelSettings) -> Model:
    """Returns a model that gives each instance's most frequent reference.

    An oracle of the prior: it has seen the references that it is scored on. Where
    all references are numbers and there are no options, it gives their median.
    """
    by_instance = _most_frequent(settings, lambda example: example.instance)
    return _oracle("majority", by_instance, lambda example: example.instance, settings)


def make_text_only(settings: ModelSettings) -> Model:
    """Returns a model that gives the most frequent reference of an instruction.

    What the wording of the instruction gives away, at the most: it has seen the
    references, and an instruction that occurs once tells everything. With an endpoint
    a language model reads the text alone, which is the fairer baseline.
    """

    def text_of(example: Example) -> Hashable:
        return example.instance, example.instruction

    by_text = _most_frequent(settings, text_of)
    return _oracle("text_only", by_text, text_of, settings)


def make_chatty(settings: ModelSettings, share: str = "") -> Model:
    """Returns a model that wraps right and wrong answers in talk.

    Hedged, negated, listing the options, in a sentence or in bold, sometimes refusing
    or naming two: what a parser of answers has to cope with.

    Args:
      settings: seed, options and name.
      share: of answers meant to be right, as text; '' = `CHATTY_SHARE`.
    """
    name = settings.name or "chatty"
    right_share = _share(share)

    def answer(example: Example) -> Prediction:
        options = settings.options_of(example) or ()
        dice = _dice(settings.seed, example)
        right = dice.random() < right_share
        return predict(name, example, _talk(example, options, right, dice))

    info = {"kind": "scripted", "share": right_share, "seed": settings.seed}
    return Model(name, answer, info=info)


def _share(text: str) -> float:
    try:
        share = float(text) if text else CHATTY_SHARE
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"scripted:chatty:{text}: expected a share from 0 to 1")
    return share


def _dice(seed: int, example: Example) -> random.Random:
    """Returns a generator that depends on the seed and the example alone."""
    return random.Random(f"{seed} {example.instance} {example.id}")


def _oracle(
    own_name: str,
    answers: dict[Hashable, str],
    group_of: Callable[[Example], Hashable],
    settings: ModelSettings,
) -> Model:
    name = settings.name or own_name

    def answer(example: Example) -> Prediction | None:
        group = group_of(example)
        return predict(name, example, answers[group]) if group in answers else None

    return Model(name, answer, info={"kind": "baseline", "sees_references": True})


def _most_frequent(
    settings: ModelSettings, group_of: Callable[[Example], Hashable]
) -> dict[Hashable, str]:
    """Returns the most frequent reference of each group; ties go by the alphabet."""
    counts: dict[Hashable, collections.Counter[str]] = {}
    open_groups: dict[Hashable, bool] = {}
    for example in settings.examples:
        group = group_of(example)
        counter = counts.setdefault(group, collections.Counter())
        counter[", ".join(example.references)] += 1
        is_open = not settings.options_of(example)
        open_groups[group] = open_groups.get(group, True) and is_open
    return {
        group: _typical(counter, open_groups[group])
        for group, counter in counts.items()
    }


def _typical(counter: collections.Counter[str], is_open: bool) -> str:
    numbers = _numbers(counter.elements()) if is_open else []
    if numbers:
        return f"{statistics.median(numbers):g}"
    return min(counter, key=lambda text: (-counter[text], text))


def _numbers(texts: Iterable[str]) -> list[float]:
    """Returns the texts as numbers, or nothing where one is none."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return []


def _talk(
    example: Example, options: tuple[str, ...], right: bool, dice: random.Random
) -> str:
    answer = ", ".join(example.references)
    others = [option for option in options if option.lower() != answer.lower()]
    if not right:
        answer = dice.choice(others) if others else _spoilt(answer)
        others = [option for option in others if option != answer]
    if not others:
        return dice.choice(_OPEN_TALK)(answer)
    return dice.choice(_CLOSED_TALK)(answer, dice.choice(others), options)


def _spoilt(answer: str) -> str:
    """Returns a wrong answer to an open question."""
    numbers = _numbers([answer])
    if numbers:
        return f"{numbers[0] * 1.5 + 1:g}"
    return " ".join(answer.split()[1:][::-1]) or "nothing"


_OPEN_TALK: tuple[Callable[[str], str], ...] = (
    lambda x: x,
    lambda x: f"Sure! The answer is: {x}",
    lambda x: f"I listened to the recording twice.\n\n**Answer:** {x}",
)
_CLOSED_TALK: tuple[Callable[[str, str, tuple[str, ...]], str], ...] = (
    lambda x, y, options: x,
    lambda x, y, options: x.upper() + ".",
    lambda x, y, options: f"The answer is {x}.",
    lambda x, y, options: f"Sure! I listened to the recording twice.\n\n**{x}**",
    lambda x, y, options: f"It is not {y}. I would say that it is {x}.",
    lambda x, y, options: f"I am not entirely sure, but it is most likely {x}.",
    lambda x, y, options: f"At first I thought of {y}, but the answer is {x}.",
    lambda x, y, options: f"Of {', '.join(options)}, the best choice is {x}.",
    lambda x, y, options: f"Reasoning: the voice fits.\nFinal answer: {x}",
    lambda x, y, options: f"It could be {x} or {y}.",
    lambda x, y, options: "I am sorry, but I cannot hear any audio.",
)
