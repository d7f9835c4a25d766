"""The cells of a sweep: what each is, where it is kept, which are done.

A cell is one method in one fold, with one seed and one encoder. When its predictions
are on disk a JSON line says so; a line is whole or it does not count.
"""

import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from metaperser_jax.errors import InputError, Problems
from metaperser_jax.experiment import Shard
from metaperser_jax.settings import Settings

SWEEP = "sweep"  # folder in the workdir
KEYS = ("encoder", "seed", "fold", "method", "hash", "predictions", "seconds")


class Variant(NamedTuple):
    """What the settings of a run differ in from those of another in one sweep."""

    encoder: str
    seed: int


class Cell(NamedTuple):
    """One method in one fold of one variant."""

    encoder: str
    seed: int
    fold: int
    method: str


Lines = dict[tuple[Cell, str], dict[str, Any]]  # (cell, hash of its settings) -> line


def variants(settings: Settings) -> list[Variant]:
    """Returns the encoders and seeds of a sweep, encoder by encoder."""
    chosen = settings.sweep
    encoders = chosen.encoders or (settings.encoder.name,)
    seeds = chosen.seeds or (settings.seed,)
    return [Variant(encoder, seed) for encoder in encoders for seed in seeds]


def variant_settings(settings: Settings, variant: Variant) -> Settings:
    """Returns the settings of one variant."""
    encoder = settings.encoder._replace(name=variant.encoder)
    return settings._replace(encoder=encoder, seed=variant.seed)


def variant_folder(workdir: pathlib.Path, variant: Variant) -> pathlib.Path:
    """Returns where a variant's checkpoints and predictions are kept."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", variant.encoder).strip("._") or "encoder"
    return workdir / SWEEP / name / f"seed_{variant.seed}"


def refuse_same_folders(workdir: pathlib.Path, settings: Settings) -> None:
    """Refuses encoders that would share a folder, and what is named twice.

    Raises:
      InputError: naming the two.
    """
    seen: dict[pathlib.Path, Variant] = {}
    for variant in variants(settings):
        other = seen.setdefault(variant_folder(workdir, variant), variant)
        if other is not variant:
            raise InputError(
                f"sweep: {other.encoder!r} with seed {other.seed} and "
                f"{variant.encoder!r} with seed {variant.seed} would share the folder "
                f"{variant_folder(workdir, variant)}: name each once."
            )


def cells_path(workdir: pathlib.Path, shard: Shard | None) -> pathlib.Path:
    """Returns the file that one process writes its finished cells to."""
    part = "" if shard is None else "_{}_of_{}".format(*shard)
    return workdir / f"cells{part}.jsonl"


def of_shard(numbers: list[Any], shard: Shard | None) -> list[Any]:
    """Returns every n-th thing, from the i-th, for the shard (i, n)."""
    return numbers if shard is None else numbers[shard[0] - 1 :: shard[1]]


def append_cell(path: pathlib.Path, row: dict[str, Any]) -> None:
    """Appends one line, so that it is on the disk when this returns.

    What a killed process left of a line is ended first: it then counts as damaged and
    spoils no other.
    """
    text = json.dumps(row, ensure_ascii=False) + "\n"
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            text = text if file.read(1) == b"\n" else "\n" + text
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def read_cells(workdir: pathlib.Path, problems: Problems) -> Lines:
    """Returns the line of each finished cell, those of other settings beside it.

    A line that is damaged, or whose predictions are gone, is counted: its cell is
    computed again.
    """
    found: Lines = {}
    for path in sorted(workdir.glob("cells*.jsonl")):
        for place, row in _rows(path, problems):
            if (workdir / row["predictions"]).is_file():
                cell = Cell(row["encoder"], row["seed"], row["fold"], row["method"])
                found[cell, row["hash"]] = row
            else:
                message = f"{row['predictions']} is not there: the cell counts as open"
                problems.warning("lost_predictions", place, message)
    return found


def _rows(
    path: pathlib.Path, problems: Problems
) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and row.keys() >= set(KEYS):
            yield place, row
        else:
            message = "not a line of a finished cell: it counts as open"
            problems.warning("damaged_cell", place, message)
