"""One of the processes of a run: prints its results, then trains until it is ended."""

import json
import logging
import os
import pathlib
import sys
import traceback

from metaperser_jax import mesh as meshes
from metaperser_jax import processes
from metaperser_jax.errors import MachineError
from tests.metaperser_jax import meshed

logging.basicConfig(level=logging.INFO, format="%(message)s")
TRAIN = ("reptile", 5, "first")


def main():
    count = processes.start("auto", timeout=int(sys.argv[1]))
    mesh = meshes.make_mesh()
    found = {
        "processes": count,
        "devices": mesh.size,
        "trained": meshed.train(mesh, *TRAIN),
        "evaluated": meshed.evaluate(mesh),
    }
    scratch = pathlib.Path(sys.argv[2] + ".part")
    scratch.write_text(json.dumps(found))
    scratch.replace(sys.argv[2])
    processes.meet("found")
    meshed.train(mesh, *TRAIN, 100_000)


if __name__ == "__main__":
    try:
        with processes.lost_told():
            main()
    except MachineError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    except Exception:
        traceback.print_exc()
        os._exit(1)
