"""The sweep: methods x folds x listeners x seeds x encoders, cell by cell.

A stopped sweep goes on with the cell it was at. Processes share one workdir, each with
every n-th fold (`--shard=i/n`).
"""

import logging
import pathlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from tqdm import tqdm

from metaperser_jax import cells, methods
from metaperser_jax.cells import Cell, Variant
from metaperser_jax.data.splits import Fold
from metaperser_jax.errors import Problems
from metaperser_jax.evaluate import (
    evaluate_method,
    evaluation_hash,
    plan_scenarios,
    predictions_path,
    tested_methods,
)
from metaperser_jax.evaluation import protocol
from metaperser_jax.evaluation.protocol import Outputs, Predictions
from metaperser_jax.experiment import (
    Experiment,
    FoldData,
    Shard,
    open_experiment,
    outputs_of,
)
from metaperser_jax.results import encoder_facts, grave_notes, versions, write_json
from metaperser_jax.settings import Settings
from metaperser_jax.train import begin_fold, trainer
from metaperser_jax.tune import each_fold

log = logging.getLogger(__name__)


class Sweep(NamedTuple):
    """What a process works on."""

    settings: Settings
    workdir: pathlib.Path
    shard: Shard | None
    problems: Problems
    done: cells.Lines  # finished before this process began


def run_sweep(
    settings: Settings,
    workdir: pathlib.Path,
    problems: Problems,
    shard: Shard | None = None,
) -> int:
    """Computes the cells that are still open; returns how many there were.

    Args:
      settings: of the run; `settings.sweep` names encoders and seeds.
      workdir: where all processes of the sweep keep their cells.
      problems: collects what is skipped.
      shard: (i, n), this process' part of the folds; None for all.

    Raises:
      InputError: no fold can be evaluated, or a variant cannot be opened.
    """
    cells.refuse_same_folders(workdir, settings)
    plan = Sweep(
        settings, workdir, shard, problems, cells.read_cells(workdir, problems)
    )
    computed = 0
    jobs_before = 0  # folds of the variants before, so that shards take turns
    for variant in cells.variants(settings):
        experiment = open_variant(plan, variant)
        note_variant(plan, variant, experiment)
        folds = my_folds(experiment.folds, jobs_before, shard)
        jobs_before += len(experiment.folds)
        for cell, row in _open_cells(plan, variant, experiment, folds):
            cells.append_cell(cells.cells_path(workdir, shard), row)
            computed += 1
            log.info("%s: %.1f s", label(cell), row["seconds"])
    return computed


def open_variant(plan: Sweep, variant: Variant) -> Experiment:
    """Opens the corpus with one variant's encoder and seed."""
    folder = cells.variant_folder(plan.workdir, variant)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = cells.variant_settings(plan.settings, variant)
    return open_experiment(chosen, folder, plan.problems)


def my_folds(folds: list[Fold], first: int, shard: Shard | None) -> list[Fold]:
    """Returns this process' folds; `first` is the number of the first in the sweep."""
    if shard is None:
        return folds
    number, count = shard
    return [f for i, f in enumerate(folds, first) if i % count == number - 1]


def label(cell: Cell) -> str:
    """What the console calls a cell."""
    return f"{cell.encoder}, seed {cell.seed}, fold {cell.fold:02d}, {cell.method}"


def note_variant(plan: Sweep, variant: Variant, experiment: Experiment) -> None:
    """Writes what a variant's numbers come from beside them."""
    facts = {
        **variant._asdict(),
        "versions": versions() | encoder_facts(experiment),
        "hashes": experiment.hashes,
        "corpus": experiment.summary,
        "num_folds": len(experiment.folds),
        "methods": tested_methods(experiment),
        "notes": [
            note
            for note in grave_notes(experiment.problems)
            if note.startswith(f"encoder {variant.encoder}:")
        ],
    }
    write_json(experiment.workdir / "variant.json", facts)


def _open_cells(
    plan: Sweep, variant: Variant, experiment: Experiment, folds: list[Fold]
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Computes and yields a variant's open cells with their lines."""
    key = evaluation_hash(experiment)
    wanted = tested_methods(experiment)
    open_methods = {
        fold.index: [
            method
            for method in wanted
            if (Cell(*variant, fold.index, method), key) not in plan.done
        ]
        for fold in folds
    }
    left = [fold for fold in folds if open_methods[fold.index]]
    total = sum(map(len, open_methods.values()))
    bar = tqdm(total=total, desc=f"{variant.encoder} seed {variant.seed}", disable=None)
    for seen, fold in each_fold(experiment, training=True, folds=left):
        data = begin_fold(seen, fold)
        plans = plan_scenarios(seen, data)
        train_fn = trainer(seen, data)
        for method in open_methods[fold.index]:
            begun = time.monotonic()
            train_fn(methods.DERIVED.get(method, method))
            found = evaluate_method(seen, data, plans, method)
            cell = Cell(*variant, fold.index, method)
            path = predictions_path(seen, fold.index, method)
            yield (
                cell,
                {
                    **cell._asdict(),
                    **_fold_facts(seen, data),
                    "hash": key,
                    "predictions": str(path.relative_to(plan.workdir)),
                    "seconds": round(time.monotonic() - begun, 3),
                    "scores": scores_of(found, outputs_of(seen)),
                },
            )
            bar.update()
    bar.close()


def _fold_facts(experiment: Experiment, data: FoldData) -> dict[str, Any]:
    """Returns who is tested in a fold, and of which kind they are."""
    corpus, tested = experiment.corpus, data.fold.test_listeners.tolist()
    return {
        "corpus": corpus.name,
        "dimensions": list(outputs_of(experiment).dimensions),
        "num_classes": outputs_of(experiment).num_classes,
        "partition": data.fold.partition,
        "kind": corpus.groups[tested[0]] if corpus.groups else "",
        "annotators": tested,
        "listeners": [corpus.annotators[a] for a in tested],
    }


def scores_of(found: dict[str, Predictions], outputs: Outputs) -> dict[str, Any]:
    """Returns {scenario: {K: {metric: mean over listeners}}}, for a reader's eye."""
    return {
        scenario: {
            str(k): {name: _short(value) for name, value in values.items()}
            for (_, k), values in protocol.estimates(part, outputs).items()
        }
        for scenario, part in found.items()
    }


def _short(value: float) -> float | None:
    return round(value, 6) if value == value else None
