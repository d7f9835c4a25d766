"""Checkpoints over orbax: save, restore the latest good step, restore the best.

Orbax's traps are handled here: a full disk shows only when a save is waited for; an
empty or foreign numeric folder would count as the latest step; a corrupt latest step
has no fallback; shapes and dtypes that differ are not refused.
"""

import functools
import logging
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from metaperser_jax import trees
from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.typing import MetaParams

STATE, INFO = "state", "info"
MODEL_FILE = "meta_params.safetensors"


class Restored(NamedTuple):
    """What a checkpoint held."""

    step: int
    tree: Any
    info: dict[str, Any]  # what was saved beside the tree, JSON


def _loss(metrics: dict[str, float]) -> float:
    return metrics["loss"]


class Checkpoints:
    """The checkpoints of one training stage in one folder; close it after use."""

    def __init__(self, folder: pathlib.Path, num_latest: int = 2):
        """Opens (and creates) the folder; the best and the latest steps are kept."""
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as policies

        logging.getLogger("absl").setLevel(logging.ERROR)
        self.folder = pathlib.Path(folder).absolute()
        self._ocp = ocp
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

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, step: int, tree: Any, loss: float, info: dict[str, Any]) -> None:
        """Writes one step and waits until it is on disk.

        Raises:
          MachineError: the disk is full or not writable; earlier steps stay.
        """
        ocp = self._ocp
        args = ocp.args.Composite(
            **{STATE: ocp.args.StandardSave(tree), INFO: ocp.args.JsonSave(info)}
        )
        try:
            self._manager.save(step, args=args, metrics={"loss": float(loss)})
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise MachineError(
                f"{self.folder}: step {step} could not be saved: {error}. Earlier steps"
                " are kept; free some disk space and start the same command again."
            ) from error

    def steps(self) -> list[int]:
        """Returns the complete steps in order; empty or foreign folders are ignored."""
        return [s for s in sorted(self._manager.all_steps()) if self._is_complete(s)]

    def _is_complete(self, step: int) -> bool:
        return (self.folder / str(step) / STATE).is_dir()

    def latest(self, like: Any, problems: Problems | None = None) -> Restored | None:
        """Returns the newest readable step, or None; unreadable ones are reported."""
        for step in reversed(self.steps()):
            try:
                return self.restore(step, like)
            except InputError:
                raise
            except Exception as error:  # orbax raises many kinds for a damaged step
                if problems is None:
                    problems = Problems()
                problems.warning(
                    "corrupt_checkpoint",
                    f"{self.folder}/{step}",
                    f"cannot be read ({type(error).__name__}): the step before is used",
                )
        return None

    def best(self, like: Any) -> Restored:
        """Returns the step with the lowest loss.

        Raises:
          InputError: there is none, or it does not fit `like`.
        """
        step = self._manager.best_step()
        if step is None or not self._is_complete(step):
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


def save_meta_params(folder: pathlib.Path, meta_params: MetaParams) -> None:
    """Writes what was learned as one safetensors file, complete or not at all."""
    tensors = {
        f"{part}/{path}": np.ascontiguousarray(leaf)
        for part, tree in meta_params._asdict().items()
        for path, leaf in trees.flatten(tree).items()
    }
    scratch = folder / f".{MODEL_FILE}"
    save_file(tensors, scratch)
    scratch.replace(folder / MODEL_FILE)


def load_meta_params(folder: pathlib.Path) -> MetaParams:
    """Reads what `save_meta_params` wrote.

    Raises:
      InputError: it is not there (the stage is not complete) or cannot be read.
    """
    path = folder / MODEL_FILE
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: no trained model there ({error}). Train first (--mode=train) "
            "with the same --workdir."
        ) from error
    params: dict[str, Any] = {}
    rates: dict[str, Any] = {}
    for name, value in tensors.items():
        part, _, path_of = name.partition("/")
        if part == "learning_rates":
            rates[path_of] = value
        else:
            *parents, leaf = path_of.split("/")
            functools.reduce(lambda d, k: d.setdefault(k, {}), parents, params)[
                leaf
            ] = value
    return MetaParams(params, rates)
