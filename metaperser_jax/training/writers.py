"""Training curves as JSON lines, CSV and TensorBoard events."""

import csv
import json
import math
import pathlib
from typing import Any


class Writer:
    """Appends scalars of one stage; a resumed run drops what it will write again."""

    def __init__(self, folder: pathlib.Path, tensorboard: bool = True):
        """Opens the files in `folder`."""
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "curves.jsonl"
        self._events = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(self.folder / "tensorboard"))

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()
        write_csv(read_curves(self.path), self.folder / "curves.csv")

    def drop_after(self, step: int) -> None:
        """Forgets rows beyond `step`, which the resumed run writes anew."""
        rows = [row for row in read_curves(self.path) if row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        scratch = self.path.with_suffix(".tmp")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(self.path)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Appends the scalars of a step; a number that is not finite becomes null."""
        row: dict[str, Any] = {"step": step}
        for name, value in scalars.items():
            row[name] = float(value) if math.isfinite(value) else None
            if self._events is not None:
                self._events.add_scalar(name, float(value), step)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


class NoWriter:
    """What a process that writes nothing has instead."""

    def __enter__(self) -> "NoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def drop_after(self, step: int) -> None:
        """Does nothing."""

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Does nothing."""


AnyWriter = Writer | NoWriter


def read_curves(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the rows written so far; a half-written last line is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def write_csv(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Writes the rows as CSV, one column for each scalar."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
