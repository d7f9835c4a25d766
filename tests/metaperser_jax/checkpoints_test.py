"""Checkpoints survive what disks, kills and other runs do to them."""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import save_file

from metaperser_jax import checkpoints, trees
from metaperser_jax.checkpoints import (
    Checkpoints,
    load_meta_params,
    load_origin,
    refuse_origin,
    save_meta_params,
)
from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.typing import MetaParams


def make_tree(value=0.0):
    return {
        "params": {
            "kernel": jnp.full((2, 3), value, jnp.float32),
            "bias": jnp.full(3, -value, jnp.float32),
        },
        "step": jnp.int32(value),
    }


LOSSES = {0: 5.0, 2: 1.0, 4: 3.0, 6: 2.0}  # best at 2, latest at 6


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    with Checkpoints(folder) as store:
        for step, loss in LOSSES.items():
            store.save(step, make_tree(step), loss, {"note": f"step {step}"})
    return folder


@pytest.fixture
def folder(tmp_path, saved):
    return shutil.copytree(saved, tmp_path / "checkpoints")


def assert_trees_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


class TestRoundTrip:
    def test_gives_step_tree_and_info_back(self, folder):
        with Checkpoints(folder) as store:
            found = store.latest(make_tree())
        assert found.step == 6
        assert found.info == {"note": "step 6"}
        assert_trees_equal(found.tree, make_tree(6))

    def test_keeps_structure_and_dtypes_of_a_training_state(self, tmp_path):
        meta_params = MetaParams(
            {"projector": {"kernel": jnp.arange(6.0).reshape(2, 3)}},
            {"projector/kernel": jnp.full(5, 0.01, jnp.float32)},
        )
        tx = optax.inject_hyperparams(optax.adamw)(np.float32(1e-3))
        state = (meta_params, tx.init(meta_params), jnp.zeros((), jnp.int32))
        with Checkpoints(tmp_path) as store:
            store.save(1, state, 0.5, {})
            found = store.latest(state)
        assert_trees_equal(found.tree, state)
        for a, b in zip(*map(jax.tree.leaves, (found.tree, state)), strict=True):
            assert a.dtype == b.dtype

    def test_an_empty_folder_has_no_latest_and_no_best(self, tmp_path):
        with Checkpoints(tmp_path / "new") as store:
            assert store.latest(make_tree()) is None
            with pytest.raises(InputError, match=r"no checkpoint there\. Train first"):
                store.best(make_tree())

    def test_keeps_the_best_and_the_two_latest(self, folder):
        with Checkpoints(folder) as store:
            assert store.steps() == [2, 4, 6]
            assert store.latest(make_tree()).step == 6
            best = store.best(make_tree())
        assert best.step == 2
        assert_trees_equal(best.tree, make_tree(2))

    def test_a_step_that_would_be_dropped_is_refused(self, folder):
        """Orbax ignores a save at or before the latest step without a word."""
        with (
            Checkpoints(folder) as store,
            pytest.raises(ValueError, match="step 6 is not after 6"),
        ):
            store.save(6, make_tree(6), 0.1, {})


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def largest_file(step):
    return max(filter(pathlib.Path.is_file, step.rglob("*")), key=os.path.getsize)


DAMAGE = {
    "data truncated": lambda step: truncate(largest_file(step / "state")),
    "one bit of the data flipped": lambda step: flip_a_bit(
        largest_file(step / "state")
    ),
    "metadata truncated": lambda step: truncate(step / "state" / "_METADATA"),
    "losses truncated": lambda step: truncate(step / "metrics" / "metrics"),
    "info emptied": lambda step: (step / "info" / "metadata").write_text(""),
    "a file deleted": lambda step: (step / "state" / "manifest.ocdbt").unlink(),
    "digests half written": lambda step: truncate(step / checkpoints.DIGESTS),
    "killed before the digests": lambda step: (step / checkpoints.DIGESTS).unlink(),
}


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_of_the_latest_step_falls_back_loudly_to_the_one_before(
        self, folder, damage
    ):
        damage(folder / "6")
        problems = Problems()
        with Checkpoints(folder) as store:
            found = store.latest(make_tree(), problems)
        assert found.step == 4
        assert_trees_equal(found.tree, make_tree(4))
        assert problems.counts() == {"warning corrupt_checkpoint": 1}
        assert "the newest readable step is used" in problems.rows[0].message
        assert (folder / "6.unreadable").is_dir()  # nothing is deleted

    def test_is_fatal_in_strict_mode(self, folder):
        truncate(largest_file(folder / "6"))
        with Checkpoints(folder) as store, pytest.raises(InputError, match="strict"):
            store.latest(make_tree(), Problems(strict=True))

    def test_the_run_that_falls_back_saves_the_step_anew(self, folder):
        truncate(largest_file(folder / "6"))
        with Checkpoints(folder) as store:
            assert store.latest(make_tree()).step == 4
            store.save(6, make_tree(60), 0.5, {})
        with Checkpoints(folder) as store:
            found = store.latest(make_tree())
            assert_trees_equal(found.tree, make_tree(60))
            assert store.best(make_tree()).step == 6

    def test_of_every_step_starts_from_nothing(self, folder):
        for step in (2, 4, 6):
            truncate(largest_file(folder / str(step)))
        problems = Problems()
        with Checkpoints(folder) as store:
            assert store.latest(make_tree(), problems) is None
            store.save(0, make_tree(0), 5.0, {})
            assert store.steps() == [0]
        assert problems.counts() == {"warning corrupt_checkpoint": 3}

    def test_of_the_same_step_twice_keeps_both(self, folder):
        for _ in range(2):
            truncate(largest_file(folder / "6"))
            with Checkpoints(folder) as store:
                store.save(6, make_tree(6), 2.0, {})
        names = sorted(path.name for path in folder.glob("6*"))
        assert names == ["6", "6.unreadable", "6.unreadable1"]

    @pytest.mark.parametrize("contents", [[], ["notes.txt"], ["state/x", "info/y"]])
    def test_empty_and_foreign_numeric_folders_are_no_steps(self, folder, contents):
        (folder / "99").mkdir()
        for name in contents:
            path = folder / "99" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("not ours")
        (folder / "100").write_text("a file, not a folder")
        with Checkpoints(folder) as store:
            assert store.steps() == [2, 4, 6]
            assert store.latest(make_tree()).step == 6
            assert store.best(make_tree()).step == 2
            store.save(8, make_tree(8), 9.0, {})
            assert store.latest(make_tree()).step == 8

    def test_added_files_are_none(self, folder):
        (folder / "6" / ".DS_Store").write_text("left by a file browser")
        problems = Problems()
        with Checkpoints(folder) as store:
            assert store.latest(make_tree(), problems).step == 6
        assert not problems.rows


class TestOtherArchitectures:
    def test_are_refused_naming_the_first_ten_differing_tensors(self, tmp_path):
        saved = {f"layer{i:02d}": jnp.zeros(2) for i in range(12)}
        wanted = {
            **{f"layer{i:02d}": jnp.zeros(3) for i in range(12)},
            "new": jnp.ones(1),
        }
        del wanted["layer03"]
        with Checkpoints(tmp_path) as store:
            store.save(0, saved, 1.0, {})
            with pytest.raises(InputError) as error:
                store.latest(wanted)
        text = str(error.value)
        assert f"{tmp_path}/0: 13 tensor(s) do not fit the configured model" in text
        lines = text.splitlines()[1:]
        assert len(lines) == 10
        assert lines[0] == "  layer00: found float32[2], expected float32[3]"
        assert lines[3] == "  layer03: found float32[2], expected nothing"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"bias": jnp.zeros(3, jnp.float16)},
                "params/bias: found float32[3], expected float16[3]",
            ),
            (
                {"bias": jnp.zeros(3, jnp.int32)},
                "params/bias: found float32[3], expected int32[3]",
            ),
            (
                {"kernel": jnp.zeros((3, 2))},
                "params/kernel: found float32[2, 3], expected float32[3, 2]",
            ),
            (
                {"scale": jnp.zeros(())},
                "params/scale: found nothing, expected float32[]",
            ),
        ],
    )
    def test_other_dtypes_and_shapes_are_neither_cast_nor_guessed(
        self, folder, change, message
    ):
        like = make_tree()
        like["params"] |= change
        with Checkpoints(folder) as store:
            for read in (store.latest, store.best):
                with pytest.raises(InputError) as error:
                    read(like)
                assert message in str(error.value)
        assert (folder / "6").is_dir()  # a good step of another model stays

    def test_what_fits_is_let_through(self):
        checkpoints.refuse_other_shapes(make_tree(1), make_tree(2), "here")


class TestFullDisk:
    @pytest.mark.parametrize("kind", [OSError, ValueError])
    @pytest.mark.parametrize("when", ["save", "wait_until_finished"])
    def test_is_the_machines_fault_and_keeps_earlier_steps(
        self, folder, monkeypatch, kind, when
    ):
        def fail(*_, **__):
            raise kind("No space left on device")

        with Checkpoints(folder) as store:
            monkeypatch.setattr(store._manager, when, fail)
            with pytest.raises(MachineError) as error:
                store.save(8, make_tree(8), 0.1, {})
            monkeypatch.undo()
        assert "step 8 could not be saved: No space left on device" in str(error.value)
        assert "free some disk space" in str(error.value)
        with Checkpoints(folder) as store:
            assert 6 in store.steps()

    def test_shows_when_the_system_refuses_the_write(self, folder):
        """A real refusal, by the limit on a file's size, through orbax's own writer."""
        noise = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
        tree = {"kernel": jnp.asarray(noise)}
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with Checkpoints(folder) as store:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
            try:
                with pytest.raises(MachineError, match="step 8 could not be saved"):
                    store.save(8, tree, 0.1, {})
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with Checkpoints(folder) as store:
            assert store.latest(make_tree()).step == 6


KILLED_WHILE_SAVING = """
import os, pathlib, signal, sys
import jax.numpy as jnp
from metaperser_jax import checkpoints

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

class Deadly(dict):  # kills when it is written out
    def items(self):
        die()

folder, moment = sys.argv[1:]
tree = {"kernel": jnp.arange(4.0)}
with checkpoints.Checkpoints(pathlib.Path(folder)) as store:
    store.save(0, tree, 1.0, {})
    store.save(1, {"kernel": tree["kernel"] + 1}, 0.9, {})
    if moment == "before the commit":
        os.rename = die
    if moment == "after the commit":
        checkpoints.write_digests = die
    info = Deadly(a=1) if moment == "in the middle" else {}
    print("saving", flush=True)
    store.save(2, {"kernel": tree["kernel"] + 2}, 0.5, info)
print("survived", flush=True)
"""


class TestKill:
    @pytest.mark.parametrize(
        "moment", ["in the middle", "before the commit", "after the commit"]
    )
    def test_while_saving_leaves_the_step_before_usable(self, tmp_path, moment):
        command = [sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path), moment]
        child = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert child.stdout == "saving\n", child.stderr
        assert child.returncode == -signal.SIGKILL
        assert list(tmp_path.glob("2*"))  # the step that was being saved, in part
        like = {"kernel": jnp.zeros(4)}
        with Checkpoints(tmp_path) as store:
            found = store.latest(like)
            assert found.step == 1
            np.testing.assert_array_equal(found.tree["kernel"], np.arange(4.0) + 1)
            store.save(2, like, 0.5, {})
            assert store.latest(like).step == 2


def make_meta_params(rng, rates=True):
    params = {
        "layers": {"weights": rng.normal(size=3).astype(np.float32)},
        "projector": {"kernel": rng.normal(size=(4, 2)).astype(np.float32)},
    }
    steps = {path: np.full(5, 0.01, np.float32) for path in trees.flatten(params)}
    return MetaParams(params, steps if rates else {})


class TestMetaParamsFile:
    @pytest.mark.parametrize("rates", [True, False])
    def test_gives_back_what_was_learned(self, tmp_path, rng, rates):
        meta_params = make_meta_params(rng, rates)
        save_meta_params(tmp_path, jax.tree.map(jnp.asarray, meta_params))
        assert_trees_equal(load_meta_params(tmp_path), meta_params)
        assert [path.name for path in tmp_path.iterdir()] == [checkpoints.MODEL_FILE]

    def test_keeps_transposed_tensors_as_they_read(self, tmp_path, rng):
        kernel = rng.normal(size=(4, 3)).astype(np.float32).T
        save_meta_params(tmp_path, MetaParams({"kernel": kernel}, {}))
        found = load_meta_params(tmp_path).params["kernel"]
        np.testing.assert_array_equal(found, kernel)

    def test_that_is_missing_says_to_train_first(self, tmp_path):
        with pytest.raises(InputError) as error:
            load_meta_params(tmp_path)
        assert f"{tmp_path}/meta_params.safetensors: no trained model" in str(
            error.value
        )
        assert "--mode=train" in str(error.value)

    @pytest.mark.parametrize("kept", [0, 4, 100, -1])
    def test_that_is_truncated_says_to_delete_it(self, tmp_path, rng, kept):
        save_meta_params(tmp_path, make_meta_params(rng))
        path = tmp_path / checkpoints.MODEL_FILE
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(InputError, match=r"cannot be read .* Delete the file"):
            load_meta_params(tmp_path)

    def test_of_another_program_is_refused(self, tmp_path):
        save_file({"encoder.weight": np.ones(3)}, tmp_path / checkpoints.MODEL_FILE)
        with pytest.raises(InputError, match=r"'encoder.weight' belongs to no trained"):
            load_meta_params(tmp_path)

    def test_a_full_disk_leaves_the_file_before(self, tmp_path, rng, monkeypatch):
        before = make_meta_params(rng)
        save_meta_params(tmp_path, before)

        def half_a_file(tensors, path, note):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(checkpoints, "save_file", half_a_file)
        with pytest.raises(MachineError, match="No space left on device"):
            save_meta_params(tmp_path, make_meta_params(rng))
        assert_trees_equal(load_meta_params(tmp_path), before)


ORIGIN = {"base": "abc", "tuning": {"mode": "lora", "rank": 8}}


class TestOrigin:
    """What parameters build on is kept with them, and another one is refused."""

    @pytest.mark.parametrize("origin", [None, ORIGIN])
    def test_it_is_given_back(self, tmp_path, rng, origin):
        before = make_meta_params(rng)
        save_meta_params(tmp_path, before, origin)
        assert load_origin(tmp_path) == origin
        assert_trees_equal(load_meta_params(tmp_path), before)

    @pytest.mark.parametrize("data", [None, b"", b"half"])
    def test_a_file_that_cannot_be_read(self, tmp_path, data):
        if data is not None:
            (tmp_path / checkpoints.MODEL_FILE).write_bytes(data)
        message = "Train first" if data is None else "Delete the file"
        with pytest.raises(InputError, match=message):
            load_origin(tmp_path)

    @pytest.mark.parametrize("origin", [None, ORIGIN])
    def test_the_same_passes(self, origin):
        again = json.loads(json.dumps(origin))
        refuse_origin(again, origin, "here")

    @pytest.mark.parametrize(
        ("found", "line"),
        [
            (None, "base: nothing there, abc here"),
            ({**ORIGIN, "base": "abd"}, "base: abd there, abc here"),
            ({**ORIGIN, "more": 1}, "more: 1 there, nothing here"),
            ({**ORIGIN, "tuning": {"mode": "full"}}, "tuning: {'mode': 'full'} there"),
        ],
    )
    def test_another_one_is_named(self, found, line):
        with pytest.raises(InputError) as error:
            refuse_origin(found, ORIGIN, "folder/6")
        assert str(error.value).startswith("folder/6: these parameters build on")
        assert f"\n  {line}" in str(error.value)


def test_the_digests_cover_every_file_of_a_step(folder):
    step = folder / "6"
    wanted = json.loads((step / checkpoints.DIGESTS).read_text())
    files = {p.relative_to(step).as_posix() for p in step.rglob("*") if p.is_file()}
    assert set(wanted) == files - {checkpoints.DIGESTS}
    assert any("state/" in name for name in wanted)
    assert checkpoints.find_fault(step) is None
