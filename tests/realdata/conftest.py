"""The real recordings and ratings, and the runs on them that the tests share."""

import json
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PATIENCE = 900  # seconds, for a machine that has other things to do


class Run(NamedTuple):
    """A finished run, as its files tell it."""

    workdir: pathlib.Path
    stdout: str
    stderr: str
    records: list[dict]
    per_listener: list[dict]

    def mean(self, scenario, method, metric):
        (found,) = {
            r["mean"]
            for r in self.records
            if (r["scenario"], r["method"], r["metric"]) == (scenario, method, metric)
        }
        return found

    def gains(self, scenario, method, reference, metric):
        """[listeners] method minus reference, listener by listener."""
        values = {
            (r["annotator"], r["method"]): r["value"]
            for r in self.per_listener
            if (r["scenario"], r["metric"]) == (scenario, metric)
        }
        names = sorted({annotator for annotator, _ in values})
        return np.array([values[n, method] - values[n, reference] for n in names])

    def methods(self):
        return {record["method"] for record in self.records}


def pytest_collection_modifyitems(items):
    here = pathlib.Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.realdata)


@pytest.fixture(scope="session")
def data():
    """The folder with one subfolder for each corpus; without it the tests fail."""
    folder = pathlib.Path(os.environ.get("METAPERSER_DATA", "../shared/data"))
    folder = (ROOT / folder).resolve()
    assert folder.is_dir(), f"METAPERSER_DATA: {folder} is no folder"
    return folder


@pytest.fixture(scope="session")
def run_config(data, tmp_path_factory):
    """Runs `python run.py` with a config, its choice and overrides; one cache."""
    place = tmp_path_factory.mktemp("realdata")

    def run(name, folder, choice="", **overrides):
        workdir = place / f"{name}{choice}"
        flags = [f"--config.{key}={value}" for key, value in overrides.items()]
        command = [
            *(sys.executable, "run.py", f"--config=configs/{name}.py{choice}"),
            *(f"--config.data.root={data / folder}", f"--workdir={workdir}", *flags),
            "--config.tensorboard=False",
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        tables = [
            json.loads((workdir / name).read_text(encoding="utf-8"))
            for name in ("results.json", "per_listener.json")
        ]
        return Run(workdir, done.stdout, done.stderr, *tables)

    return run
