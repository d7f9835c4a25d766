"""Checkpoints over orbax: save, restore the latest good step, restore the best.

Orbax's traps are handled here: a full disk shows only when a save is waited for; an
empty or foreign numeric folder counts as the latest step, and saves below it are
dropped without a word; flipped bits are read as numbers, a truncated latest step has
no fallback; shapes and dtypes that differ are not refused. So each step carries the
digests of its files, and what does not match them is set aside when the folder is
opened.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import logging
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from metaperser_jax import processes, trees
from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.typing import MetaParams

STATE, INFO = "state", "info"
MODEL_FILE = "meta_params.safetensors"
ORIGIN = "origin"  # key of the model file's metadata
DIGESTS = "digests.json"  # file of a step -> sha256, written last


class Restored(NamedTuple):
    """What a checkpoint held."""

    step: int
    tree: Any
    info: dict[str, Any]  # what was saved beside the tree, JSON


def _loss(metrics: dict[str, float]) -> float:
    return metrics["loss"]


class Checkpoints:
    """The checkpoints of one training stage in one folder; close it after use.

    Several processes of a run call it alike, on a folder that they share; the first
    one writes.
    """

    def __init__(self, folder: pathlib.Path, num_latest: int = 2):
        """Opens (and creates) the folder; the best and the latest steps are kept.

        Steps that are incomplete or damaged are renamed; `latest` reports them.
        """
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as policies

        logging.getLogger("absl").setLevel(logging.ERROR)
        self.folder = pathlib.Path(folder).absolute()
        self._ocp = ocp
        self._set_aside: list[tuple[pathlib.Path, str]] = []
        processes.by_leader("checkpoints are looked at", self._look_at_all)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(num_latest),
                    policies.BestN(get_metric_fn=_loss, reverse=True, n=1),
                ]
            ),
            best_fn=_loss,
            best_mode="min",
            enable_async_checkpointing=False,
            create=True,
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def _look_at_all(self) -> None:
        self._set_aside = set_aside_unreadable(self.folder)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, step: int, tree: Any, loss: float, info: dict[str, Any]) -> None:
        """Writes one step and waits until it is on disk.

        Raises:
          MachineError: the disk is full or not writable; earlier steps stay.
          ValueError: a step at or after this one is there.
        """
        newest = self._manager.latest_step()
        if newest is not None and step <= newest:  # orbax would drop it silently
            raise ValueError(f"{self.folder}: step {step} is not after {newest}.")
        ocp = self._ocp
        host = jax.tree.map(np.asarray, tree)  # restored on whatever devices there are
        args = ocp.args.Composite(
            **{STATE: ocp.args.StandardSave(host), INFO: ocp.args.JsonSave(info)}
        )
        try:
            self._manager.save(step, args=args, metrics={"loss": float(loss)})
            self._manager.wait_until_finished()
            digest = functools.partial(write_digests, self.folder / str(step))
            processes.by_leader("a checkpoint is complete", digest)
        except (OSError, ValueError) as error:  # a full disk is either
            raise MachineError(
                f"{self.folder}: step {step} could not be saved: {error}. Earlier steps"
                " are kept; free some disk space and start the same command again."
            ) from error

    def steps(self) -> list[int]:
        """Returns the readable steps in order."""
        return sorted(self._manager.all_steps())

    def latest(self, like: Any, problems: Problems | None = None) -> Restored | None:
        """Returns the newest readable step, or None; unreadable ones are reported.

        Raises:
          InputError: it does not fit `like`.
        """
        for path, fault in self._set_aside:
            if problems is not None:
                message = f"{fault}; set aside, the newest readable step is used"
                problems.warning("corrupt_checkpoint", str(path), message)
        self._set_aside = []
        steps = self.steps()
        return self.restore(steps[-1], like) if steps else None

    def best(self, like: Any) -> Restored:
        """Returns the step with the lowest loss.

        Raises:
          InputError: there is none, or it does not fit `like`.
        """
        step = self._manager.best_step()
        if step is None:
            raise InputError(
                f"{self.folder}: no checkpoint there. Train first (--mode=train) with "
                "the same --workdir."
            )
        return self.restore(step, like)

    def restore(self, step: int, like: Any) -> Restored:
        """Returns a step's tree with the structure, shapes and dtypes of `like`.

        Raises:
          InputError: it was saved from another architecture (the first ten differing
            tensors are named).
        """
        ocp = self._ocp
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(
                **{STATE: ocp.args.StandardRestore(), INFO: ocp.args.JsonRestore()}
            ),
        )
        refuse_other_shapes(found[STATE], like, f"{self.folder}/{step}")
        leaves = trees.flatten(found[STATE])
        ordered = [leaves[path] for path in trees.flatten(like)]
        tree = jax.tree.unflatten(jax.tree.structure(like), ordered)
        return Restored(step, tree, found[INFO])


def write_digests(folder: pathlib.Path) -> None:
    """Writes the sha256 of each file of a step, complete or not at all."""
    scratch = folder / f".{DIGESTS}"
    scratch.write_text(json.dumps(_digests(folder), indent=1), encoding="utf-8")
    scratch.replace(folder / DIGESTS)


def _digests(folder: pathlib.Path) -> dict[str, str]:
    def digest(path: pathlib.Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    kept = (path for path in files if not path.name.endswith(DIGESTS))
    return {path.relative_to(folder).as_posix(): digest(path) for path in kept}


def find_fault(folder: pathlib.Path) -> str | None:
    """Returns what is wrong with a step's files, None if nothing is."""
    try:
        wanted = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        found = _digests(folder)
    except (OSError, ValueError) as error:
        return f"no complete checkpoint ({type(error).__name__})"
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    return f"{differing[0]} is damaged or missing" if differing else None


def set_aside_unreadable(folder: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    """Renames numeric folders that are no readable step; returns them with why.

    Nothing is deleted: what was '6' becomes '6.unreadable'.
    """
    found = []
    for path in sorted(folder.glob("[0-9]*")):
        fault = find_fault(path) if path.name.isdecimal() and path.is_dir() else None
        if fault is not None:
            names = (f"{path.name}.unreadable{n or ''}" for n in itertools.count())
            free = next(n for n in names if not (folder / n).exists())
            found.append((path.rename(folder / free), fault))
    return found


def refuse_other_shapes(found: Any, like: Any, where: str) -> None:
    """Raises `InputError` if paths, shapes or dtypes differ, naming the first ten."""
    there, wanted = _describe(found), _describe(like)
    paths = sorted(set(there) | set(wanted))
    differing = [p for p in paths if there.get(p) != wanted.get(p)]
    if differing:
        lines = [
            f"  {path}: found {there.get(path, 'nothing')}, "
            f"expected {wanted.get(path, 'nothing')}"
            for path in differing[:10]
        ]
        raise InputError(
            f"{where}: {len(differing)} tensor(s) do not fit the configured model. Use "
            "the config the run was trained with, or another --workdir.\n"
            + "\n".join(lines)
        )


def _describe(tree: Any) -> dict[str, str]:
    def text(leaf: Any) -> str:
        array = np.asarray(leaf) if np.isscalar(leaf) else leaf
        return f"{array.dtype}{list(array.shape)}"

    return {path: text(leaf) for path, leaf in trees.flatten(tree).items()}


def save_meta_params(
    folder: pathlib.Path,
    meta_params: MetaParams,
    origin: dict[str, Any] | None = None,
) -> None:
    """Writes what was learned as one safetensors file, complete or not at all.

    Args:
      folder: of the file.
      meta_params: what was learned.
      origin: what it builds on, kept with it; JSON.

    Raises:
      MachineError: the disk is full or not writable; what was there stays.
    """
    tensors = {
        f"{part}/{path}": np.ascontiguousarray(leaf)
        for part, tree in meta_params._asdict().items()
        for path, leaf in trees.flatten(tree).items()
    }
    scratch = folder / f".{MODEL_FILE}"
    note = None if origin is None else {ORIGIN: json.dumps(origin, sort_keys=True)}
    try:
        save_file(tensors, scratch, note)
        scratch.replace(folder / MODEL_FILE)
    except (OSError, SafetensorError) as error:
        raise MachineError(
            f"{folder / MODEL_FILE}: could not be written: {error}. Free some disk "
            "space and start the same command again."
        ) from error


def load_meta_params(folder: pathlib.Path) -> MetaParams:
    """Reads what `save_meta_params` wrote.

    Raises:
      InputError: it is not there (the stage is not complete) or cannot be read.
    """
    path = folder / MODEL_FILE
    with _readable(path):
        tensors = load_file(path)
    if foreign := [n for n in tensors if n.partition("/")[0] not in MetaParams._fields]:
        raise InputError(
            f"{path}: tensor {foreign[0]!r} belongs to no trained model: expected "
            f"names that begin with {' or '.join(f'{n}/' for n in MetaParams._fields)}."
        )
    return MetaParams(
        _nested(_part(tensors, "params")), _part(tensors, "learning_rates")
    )


def load_origin(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns what the parameters that `save_meta_params` wrote build on.

    Raises:
      InputError: see `load_meta_params`.
    """
    path = folder / MODEL_FILE
    with _readable(path), safe_open(path, "numpy") as file:
        note = (file.metadata() or {}).get(ORIGIN)
        return None if note is None else json.loads(note)


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
    """Tells why a model file cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no trained model there. Train first (--mode=train) with the same "
            "--workdir."
        ) from error
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{path}: the trained model cannot be read ({error}). Delete the file and "
            "train again (--mode=train) with the same --workdir."
        ) from error


def refuse_origin(
    found: dict[str, Any] | None, wanted: dict[str, Any] | None, where: str
) -> None:
    """Raises `InputError` if parameters build on something else, naming it."""
    there, here = found or {}, wanted or {}
    differing = [k for k in {**there, **here} if there.get(k) != here.get(k)]
    if differing:
        lines = [
            f"  {key}: {there.get(key, 'nothing')} there, {here.get(key, 'nothing')} "
            "here"
            for key in differing
        ]
        raise InputError(
            f"{where}: these parameters build on something else than this run has. Use "
            "the config and the encoder they were trained with, or another --workdir.\n"
            + "\n".join(lines)
        )


def _part(tensors: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    start = f"{name}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def _nested(leaves: dict[str, Any]) -> dict[str, Any]:
    """{'projector/kernel': leaf} -> {'projector': {'kernel': leaf}}."""
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        *parents, leaf = path.split("/")
        inner = functools.reduce(lambda d, k: d.setdefault(k, {}), parents, tree)
        inner[leaf] = value
    return tree
