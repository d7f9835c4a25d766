"""What an evaluation leaves behind: results.json, CSV, the table and the report."""

import importlib.metadata
import json
import pathlib
import platform
from typing import Any

import jax

from metaperser_jax.checkpoints import load_origin
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.evaluation import protocol, report, tables
from metaperser_jax.evaluation.protocol import Predictions, Scores
from metaperser_jax.experiment import Experiment, outputs_of, stage_folder
from metaperser_jax.training.writers import read_curves

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
BOOTSTRAP_SEED = 301
GRAVE = ("random_weights",)  # kinds of problems that the report tells in full
PICTURED = ("no_adaptation", "fine_tune", "full")  # reliability
TRAINED_CURVES = ("tune", "pretrain", "full", "minus_lslr", "maml", "fomaml")


def write_results(
    experiment: Experiment,
    predictions: dict[str, Predictions],
    config: dict[str, Any],
    command: str,
    folder: pathlib.Path,
) -> report.ReportData:
    """Scores the predictions and writes everything a reader needs to the folder."""
    settings = experiment.settings
    chosen = settings.evaluation
    records, comparisons, listeners = [], [], []
    for scenario, found in predictions.items():
        scores = protocol.score_all(
            found,
            outputs_of(experiment),
            chosen.num_resamples,
            settings.seed * 1000 + BOOTSTRAP_SEED,
        )
        names = [experiment.corpus.annotators[i] for i in found.annotators]
        records += protocol.records(
            scores, experiment.corpus.name, scenario, chosen.num_draws
        )
        comparisons += protocol.comparisons(scores, scenario)
        listeners += protocol.per_listener(
            _headline(scores, experiment), scenario, names
        )
    data = report.ReportData(
        title=f"Adapting to new listeners: {experiment.corpus.name}",
        command=command,
        config=config,
        versions=versions() | encoder_facts(experiment),
        hashes=experiment.hashes,
        seeds={"seed": settings.seed},
        corpus=experiment.summary,
        records=records,
        comparisons=shown(comparisons),
        per_listener=listeners,
        learning_rates=learned_rates(experiment),
        **pictured(experiment, predictions),
        curves=training_curves(experiment),
        notes=notes(experiment),
    )
    write_json(folder / "results.json", records)
    write_json(folder / "comparisons.json", comparisons)
    write_json(folder / "per_listener.json", listeners)
    write_json(folder / "run.json", provenance(data))
    tables.write_csv(records, folder / "results.csv")
    return data


def shown(comparisons: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns what the report shows: the method, and the wrong-listener control."""
    control = ("wrong_listener", protocol.REFERENCE)
    return [
        row
        for row in comparisons
        if row["method"] == "full" or (row["method"], row["reference"]) == control
    ]


def _headline(
    scores: dict[tuple[str, int], Scores], experiment: Experiment
) -> dict[tuple[str, int], Scores]:
    headline = experiment.settings.evaluation.headline_support
    return {key: score for key, score in scores.items() if key[1] == headline}


def pictured(
    experiment: Experiment, predictions: dict[str, Predictions]
) -> dict[str, Any]:
    """Returns reliability and co-occurrence at the headline K, unseen if there."""
    found = predictions.get("unseen") or next(iter(predictions.values()))
    k = experiment.settings.evaluation.headline_support
    outputs = outputs_of(experiment)
    known = PICTURED if outputs.num_classes else ()
    present = [m for m in known if (m, k) in found.probs]
    return {
        "reliability": {m: protocol.reliability(found, m, k, outputs) for m in present},
        "cooccurrence": {
            m: protocol.cooccurrence(found, m, k, outputs)
            for m in present
            if m != "fine_tune"
        },
    }


def learned_rates(experiment: Experiment) -> dict[str, list[float]]:
    """Returns the full method's learned rates of the first fold."""
    from metaperser_jax.checkpoints import MODEL_FILE, load_meta_params

    folder = stage_folder(experiment.workdir, experiment.folds[0].index, "full")
    if not (folder / MODEL_FILE).exists():
        return {}
    rates = load_meta_params(folder).learning_rates
    return {path: [float(v) for v in vector] for path, vector in rates.items()}


def training_curves(experiment: Experiment) -> list[dict[str, Any]]:
    """Returns the training curves of the first fold."""
    rows = []
    for method in TRAINED_CURVES:
        folder = stage_folder(experiment.workdir, experiment.folds[0].index, method)
        for row in read_curves(folder / "curves.jsonl"):
            stage = method if method in ("tune", "pretrain") else "meta"
            rows += [
                {"method": method, "stage": stage, "step": row["step"], "name": name,
                 "value": value}
                for name, value in row.items()
                if name in ("train_loss", "dev_loss")
            ]  # fmt: skip
    return rows


def notes(experiment: Experiment) -> list[str]:
    """Returns what was skipped or doubtful, counted; what undoes all else, in full."""
    problems = experiment.problems
    return grave_notes(problems) + [
        f"{count} x {kind}: see problems.jsonl"
        for kind, count in problems.counts().items()
        if kind.split()[-1] not in GRAVE
    ]


def grave_notes(problems: Problems) -> list[str]:
    """Returns what undoes all else, in full, each once."""
    grave = [f"{p.where}: {p.message}" for p in problems.rows if p.kind in GRAVE]
    return list(dict.fromkeys(grave))


def versions() -> dict[str, str]:
    """Returns the versions and the machine that the numbers come from."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **found,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{jax.device_count()} x {device.device_kind}",
    }


def encoder_facts(experiment: Experiment) -> dict[str, str]:
    """Returns the encoder and what of it was trained; nothing where there is none."""
    chosen = experiment.settings.encoder
    if experiment.settings.features.inputs != "audio":
        return {}
    revision = f"revision {chosen.revision}" if chosen.revision else ""
    dtype = chosen.dtype if chosen.dtype != "float32" else ""
    name = ", ".join(filter(None, (chosen.name, revision, dtype)))
    if chosen.tuning == "frozen":
        return {"encoder": name}
    folder = stage_folder(experiment.workdir, experiment.folds[0].index, "tune")
    origin = load_origin(folder) or {}
    count, total = (origin[name] for name in ("num_trained", "num_parameters"))
    share = f"{count:,} of {total:,} parameters trained in each fold"
    return {"encoder": f"{name}, {chosen.tuning}: {share}"}


def provenance(data: report.ReportData) -> dict[str, Any]:
    """Returns what is needed to repeat the run."""
    names = ("command", "config", "versions", "hashes", "seeds", "corpus", "notes")
    return {name: getattr(data, name) for name in names}


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes JSON, complete or not at all."""
    scratch = path.with_name(f".{path.name}")
    text = json.dumps(value, indent=1, ensure_ascii=False, default=str)
    scratch.write_text(text + "\n", encoding="utf-8")
    scratch.replace(path)


def read_json(path: pathlib.Path) -> Any:
    """Returns what `write_json` wrote, None where nothing is.

    Raises:
      InputError: the file is no JSON.
    """
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path}: not JSON ({error}): delete it and run the same again."
        ) from error
