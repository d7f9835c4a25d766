"""A closed-label emotion classifier: its posterior is mapped onto a task's options.

A classifier knows its own labels ('ang', 'Angry'), a task its own options ('anger').
The labels go to emotions by `aliases`, the emotions to options by the task's map, both
in option_maps.json. What has no option gets no mass; the rest is scaled to sum to 1.
"""

import functools
import importlib
import importlib.resources
import json
import math
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from benchmark.audio import SAMPLE_RATE
from benchmark.errors import InputError
from benchmark.models.base import (
    Model,
    ModelSettings,
    NoAnswerError,
    load_waveform,
    predict,
)
from benchmark.typing import Example, Prediction

Classify = Callable[[np.ndarray, int], Mapping[str, float]]


class OptionMap(NamedTuple):
    """How emotions become the options of one task."""

    options: Mapping[str, tuple[str, ...]] = {}  # emotion -> spellings of its option
    change: Mapping[str, tuple[str, ...]] = {}  # 'yes' and 'no' of a question of change


class OptionMaps(NamedTuple):
    """All that option_maps.json holds."""

    aliases: Mapping[str, str]  # folded label of a classifier -> emotion
    tasks: Mapping[str, OptionMap]


def make_classifier(spec: str, settings: ModelSettings) -> Model:
    """Returns a model that answers with the option of the highest posterior.

    The first recording is classified. A question of change compares two recordings,
    or the halves of one: p(change) = 1 - sum over emotions of p1 p2.

    Args:
      spec: 'package.module:function'; the function takes a waveform [samples] float32
        and its rate in Hz, and returns label -> posterior.
      settings: options, name, further option maps.

    Raises:
      InputError: no such function; an option map that cannot be read.
    """
    classify = find_function(spec)
    maps = read_option_maps(settings.option_maps)
    name = settings.name or spec.rpartition(":")[2]

    def answer(example: Example) -> Prediction:
        option_map = map_of(maps, example.instance)
        if option_map is None:
            raise NoAnswerError("skipped", f"no option map for {example.instance}")
        options = settings.options_of(example)
        if option_map.change:
            scores = _change_scores(
                example, option_map, options, classify, maps, settings
            )
        else:
            posterior = _posteriors(example, 1, classify, maps, settings)[0]
            scores = option_scores(posterior, option_map, options)
        return predict(name, example, max(scores, key=lambda o: scores[o]), scores)

    return Model(name, answer, info={"kind": "classifier", "function": spec})


def find_function(spec: str) -> Classify:
    """Imports 'package.module:function'; `InputError` where there is none."""
    module_name, _, name = spec.partition(":")
    expected = f"classifier:{spec}: expected package.module:function"
    if not module_name or not name:
        raise InputError(expected)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"{expected}; {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{expected}; {module_name} has no function {name!r}")
    return cast(Classify, function)


def option_scores(
    posterior: Mapping[str, float],
    option_map: OptionMap,
    options: Sequence[str] | None,
) -> dict[str, float]:
    """Returns the mass of each option, summing to 1.

    Args:
      posterior: emotion -> mass.
      option_map: of the task.
      options: of the example; None = the first spellings of the map.

    Raises:
      NoAnswerError: no emotion with mass has an option.
    """
    firsts = [spellings[0] for spellings in option_map.options.values()]
    options = tuple(options or dict.fromkeys(firsts))
    scores = dict.fromkeys(options, 0.0)
    for emotion, mass in posterior.items():
        option = _spelt(option_map.options.get(emotion, ()), options)
        if option is not None:
            scores[option] += mass
    total = sum(scores.values())
    if total <= 0:
        raise NoAnswerError("skipped", "the classifier gives no option any mass")
    return {option: mass / total for option, mass in scores.items()}


def map_of(maps: OptionMaps, instance: str) -> OptionMap | None:
    """Returns the map of an instance or of its task: a fold's number is left out."""
    task = re.sub(r"[-_]?fold[-_]?\d+$", "", instance, flags=re.IGNORECASE)
    return maps.tasks.get(instance) or maps.tasks.get(task)


def read_option_maps(path: pathlib.Path | None = None) -> OptionMaps:
    """Returns the maps of the package, and over them those of a file of that form.

    Raises:
      InputError: the file cannot be read or has another form.
    """
    maps = _package_maps()
    if path is None:
        return maps
    try:
        more = _option_maps(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"{path}: no option map ({error}): expected "
            '{"aliases": {EMOTION: [LABELS]}, "tasks": {TASK: {"options": '
            "{EMOTION: [SPELLINGS]}}}}"
        ) from error
    return OptionMaps({**maps.aliases, **more.aliases}, {**maps.tasks, **more.tasks})


@functools.cache
def _package_maps() -> OptionMaps:
    resource = importlib.resources.files("benchmark.models") / "option_maps.json"
    return _option_maps(json.loads(resource.read_text(encoding="utf-8")))


def _option_maps(record: Mapping[str, Any]) -> OptionMaps:
    aliases = {
        fold(label): emotion
        for emotion, labels in record.get("aliases", {}).items()
        for label in (emotion, *labels)
    }
    tasks = {
        name: OptionMap(_spellings(row, "options"), _spellings(row, "change"))
        for name, row in record.get("tasks", {}).items()
    }
    return OptionMaps(aliases, tasks)


def _spellings(row: Mapping[str, Any], key: str) -> dict[str, tuple[str, ...]]:
    found = {}
    for emotion, spellings in row.get(key, {}).items():
        if not isinstance(spellings, list) or not spellings:
            raise ValueError(f"{key} of {emotion!r} are no list of spellings")
        found[emotion] = tuple(str(spelling) for spelling in spellings)
    return found


def fold(label: str) -> str:
    """Returns a label in small letters, with single spaces for any separator."""
    return re.sub(r"[\s_-]+", " ", label).strip().casefold()


def _spelt(spellings: Sequence[str], options: Sequence[str]) -> str | None:
    """Returns the option that one of these spellings names, or None."""
    by_fold = {fold(option): option for option in reversed(options)}
    return next((by_fold[fold(s)] for s in spellings if fold(s) in by_fold), None)


def _posteriors(
    example: Example,
    number: int,
    classify: Classify,
    maps: OptionMaps,
    settings: ModelSettings,
) -> list[dict[str, float]]:
    """Returns emotion -> mass for each of the first recordings of an example."""
    if not example.audios:
        raise NoAnswerError("skipped", "the example has no recording")
    waveforms = [load_waveform(a, settings.problems) for a in example.audios[:number]]
    if len(waveforms) < number:
        waveforms = np.array_split(waveforms[0], number)
    return [_emotions(classify(w, SAMPLE_RATE), maps) for w in waveforms]


def _emotions(posterior: Mapping[str, float], maps: OptionMaps) -> dict[str, float]:
    """Returns the posterior by emotion; labels of one emotion add up."""
    masses: dict[str, float] = {}
    for label, value in posterior.items():
        mass = float(value)
        if not math.isfinite(mass) or mass < 0:
            raise InputError(
                f"the classifier gives {label!r} the posterior {mass}: expected a "
                "finite number, 0 or more"
            )
        emotion = maps.aliases.get(fold(str(label)), str(label))
        masses[emotion] = masses.get(emotion, 0.0) + mass
    return masses


def _change_scores(
    example: Example,
    option_map: OptionMap,
    options: Sequence[str] | None,
    classify: Classify,
    maps: OptionMaps,
    settings: ModelSettings,
) -> dict[str, float]:
    first, second = _posteriors(example, 2, classify, maps, settings)
    total = sum(first.values()) * sum(second.values())
    if total <= 0:
        raise NoAnswerError("skipped", "the classifier gives no label any mass")
    same = sum(first[e] * second.get(e, 0.0) for e in first) / total
    masses = {"yes": 1 - same, "no": same}
    return option_scores(masses, OptionMap(option_map.change), options)
