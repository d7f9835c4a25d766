"""From the finished cells of a sweep to its tables."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from metaperser_jax import cells
from metaperser_jax.cells import Cell
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.evaluate import hash_of
from metaperser_jax.evaluation import paper, protocol
from metaperser_jax.evaluation.predictions import load_predictions
from metaperser_jax.evaluation.protocol import Outputs, Predictions, Scores
from metaperser_jax.results import BOOTSTRAP_SEED, read_json, write_json
from metaperser_jax.settings import Settings

FILES = {  # what the tables were made from, as a run of --mode=all leaves it
    "records": "results.json",
    "comparisons": "comparisons.json",
    "per_listener": "per_listener.json",
}
Job = tuple[int, int]  # seed and fold


class Made(NamedTuple):
    """The tables."""

    text: str  # for the console
    paths: list[pathlib.Path]


class Rows(NamedTuple):
    """What the tables are made from, see `evaluation.paper`."""

    records: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    per_listener: list[dict[str, Any]]


class Finished(NamedTuple):
    """The cells of one encoder that count: whole jobs."""

    encoder: str
    methods: list[str]
    rows: dict[Job, dict[str, dict[str, Any]]]  # job -> method -> line
    planned: int  # cells
    done: int


def tabulate(
    settings: Settings,
    workdir: pathlib.Path,
    problems: Problems,
    config: dict[str, Any],
    command: str,
) -> Made:
    """Scores the finished cells and writes the tables to `<workdir>/tables`.

    A fold of a seed counts once all its methods are done, so that all methods are
    compared on the same listeners and clips.

    Raises:
      InputError: no fold is complete.
    """
    known = cells.read_cells(workdir, problems)
    finished = [
        one
        for encoder in dict.fromkeys(v.encoder for v in cells.variants(settings))
        if (one := find_finished(settings, workdir, encoder, known)).rows
    ]
    if not finished:
        raise InputError(
            f"{workdir}: no fold of a sweep with these settings is complete there "
            f"({len(known)} cells of any): give the settings of the sweep, or run "
            "--mode=sweep with these first."
        )
    rows = Rows([], [], [])
    for one in finished:
        for kind in sorted(_kinds(one)):
            score_kind(settings, workdir, one, kind, rows)
    origin = {
        "command": command,
        "config": config,
        "variants": _variant_notes(settings, workdir),
    }
    spec = make_spec(settings, finished, rows, origin)
    made = paper.write_tables(workdir / "tables", *rows, spec)
    for name, values in rows._asdict().items():
        write_json(workdir / FILES[name], values)
    write_json(workdir / "run.json", {**origin, "cells": spec.cells})
    notes = dict.fromkeys(n for v in origin["variants"] for n in v["notes"])
    return Made("\n\n".join([*notes, made.text]), made.paths)


def make_spec(
    settings: Settings, finished: list[Finished], rows: Rows, origin: dict[str, Any]
) -> paper.PaperSpec:
    """Returns what the tables are to hold, planned and not done included."""
    chosen = settings.evaluation
    outputs = _outputs(settings, finished[0])
    metrics = protocol.headline_metrics(chosen.headline_metrics, outputs)
    return paper.PaperSpec(
        title=f"Adapting to new listeners: {rows.records[0]['corpus']}",
        headline_support=chosen.headline_support,
        metrics=tuple(metrics),
        encoders=tuple(dict.fromkeys(v.encoder for v in cells.variants(settings))),
        scenarios=tuple(chosen.scenarios),
        supports=tuple(chosen.num_support),
        provenance=origin,
        cells={one.encoder: (one.done, one.planned) for one in finished},
    )


def find_finished(
    settings: Settings,
    workdir: pathlib.Path,
    encoder: str,
    known: cells.Lines,
) -> Finished:
    """Returns an encoder's complete (seed, fold) jobs, as the sweep planned them.

    Cells of other settings, of other draws say, do not count.
    """
    jobs: dict[Job, dict[str, dict[str, Any]]] = {}
    planned = done = 0
    methods: list[str] = []
    for variant in cells.variants(settings):
        note = read_json(cells.variant_folder(workdir, variant) / "variant.json")
        if variant.encoder != encoder or note is None:
            continue
        methods = note["methods"]
        key = hash_of(cells.variant_settings(settings, variant), note["hashes"])
        planned += note["num_folds"] * len(methods)
        for fold in range(note["num_folds"]):
            found = {
                method: row
                for method in methods
                if (row := known.get((Cell(encoder, variant.seed, fold, method), key)))
            }
            done += len(found)
            if len(found) == len(methods):
                jobs[variant.seed, fold] = found
    return Finished(encoder, methods, jobs, planned, done)


def score_kind(
    settings: Settings, workdir: pathlib.Path, one: Finished, kind: str, rows: Rows
) -> None:
    """Adds the rows of one kind of listeners to `rows`."""
    jobs = {j: r for j, r in one.rows.items() if _first(r)["kind"] == kind}
    names = {
        annotator: name
        for found in jobs.values()
        for annotator, name in zip(
            _first(found)["annotators"], _first(found)["listeners"], strict=True
        )
    }
    facts = {"encoder": one.encoder, "group": kind}
    counts = {
        "num_seeds": len({seed for seed, _ in jobs}),
        "num_folds": len({_first(found)["partition"] for found in jobs.values()}),
    }
    chosen = settings.evaluation
    corpus = _first(next(iter(jobs.values())))["corpus"]
    for scenario in chosen.scenarios:
        scores, annotators = score_methods(settings, workdir, jobs, scenario, one)
        if not scores:
            continue
        rows.records.extend(
            {**row, **facts, **counts}
            for row in protocol.records(scores, corpus, scenario, chosen.num_draws)
        )
        rows.comparisons.extend(
            {**row, **facts} for row in protocol.comparisons(scores, scenario)
        )
        heard = [names[a] for a in annotators]
        rows.per_listener.extend(
            {**row, **facts} for row in protocol.per_listener(scores, scenario, heard)
        )


def score_methods(
    settings: Settings,
    workdir: pathlib.Path,
    jobs: dict[Job, dict[str, dict[str, Any]]],
    scenario: str,
    one: Finished,
) -> tuple[dict[tuple[str, int], Scores], list[int]]:
    """Returns the scores of all methods, and the listeners they are of.

    Predictions of one method at a time are in memory.
    """
    outputs = _outputs(settings, one)
    scores: dict[tuple[str, int], Scores] = {}
    annotators: list[int] = []
    for method in one.methods:
        parts = list(_parts(workdir, jobs, scenario, method))
        if not parts:
            continue
        found = protocol.concatenate(parts)
        annotators = found.annotators.tolist()
        scores |= protocol.score_all(
            found,
            outputs,
            settings.evaluation.num_resamples,
            settings.seed * 1000 + BOOTSTRAP_SEED,
        )
    return scores, annotators


def _parts(
    workdir: pathlib.Path,
    jobs: dict[Job, dict[str, dict[str, Any]]],
    scenario: str,
    method: str,
) -> Iterator[Predictions]:
    for found in jobs.values():
        kept = load_predictions(workdir / found[method]["predictions"])
        if scenario in kept and len(kept[scenario].annotators):
            yield kept[scenario]


def _first(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns any line of a job: what belongs to the fold is the same in all."""
    return next(iter(found.values()))


def _outputs(settings: Settings, one: Finished) -> Outputs:
    row = _first(next(iter(one.rows.values())))
    dimensions = tuple(row["dimensions"])
    return Outputs(settings.loss.family, row["num_classes"], dimensions)


def _kinds(one: Finished) -> set[str]:
    return {_first(found)["kind"] for found in one.rows.values()}


def _variant_notes(settings: Settings, workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns what each variant's numbers come from: versions, hashes, seeds."""
    notes = []
    for variant in cells.variants(settings):
        note = read_json(cells.variant_folder(workdir, variant) / "variant.json")
        if note is not None:
            keys = (*variant._fields, "versions", "hashes", "corpus", "notes")
            notes.append({key: note[key] for key in keys})
    return notes
