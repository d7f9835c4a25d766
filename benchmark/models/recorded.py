"""Answers that a model gave elsewhere, read from a file of predictions."""

import pathlib

from benchmark.errors import InputError, Problems
from benchmark.models.base import Model, ModelSettings
from benchmark.predictions import read_predictions
from benchmark.typing import Example, Prediction


def make_recorded(spec: str, settings: ModelSettings) -> Model:
    """Returns a model that answers as a file or folder of predictions does.

    Args:
      spec: path; any form of `benchmark.predictions`.
      settings: `name` chooses among the models of the file, or names the only one.

    Raises:
      InputError: several models and no `name` among them, or answers that differ.
    """
    path = pathlib.Path(spec)
    problems = settings.problems or Problems()
    rows = list(read_predictions(path, problems))
    found = sorted({row.model for row in rows})
    if len(found) > 1 and (not settings.name or settings.name not in found):
        raise InputError(
            f"{path}: holds answers of {', '.join(map(repr, found))}: choose one by "
            "its name"
        )
    chosen = settings.name if settings.name in found else "".join(found)
    name = settings.name or chosen or path.stem
    answers = _by_id([row for row in rows if row.model == chosen], path)

    def answer(example: Example) -> Prediction | None:
        place = (example.instance, example.id)
        row = answers.get(place) or answers.get(("", example.id))
        if row is None:
            return None
        return row._replace(instance=example.instance, model=name)

    return Model(name, answer, info={"kind": "recorded", "path": path.name})


def _by_id(
    rows: list[Prediction], path: pathlib.Path
) -> dict[tuple[str, str], Prediction]:
    answers: dict[tuple[str, str], Prediction] = {}
    for row in rows:
        if row.response is None:
            continue
        place = (row.instance, row.id)
        if answers.setdefault(place, row).response != row.response:
            raise InputError(
                f"{path}: {row.instance} {row.id}: two answers that differ; keep one"
            )
    return answers
