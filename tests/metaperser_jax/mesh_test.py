"""Many devices give the numbers of one; what they do not divide is padded."""

import json
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from metaperser_jax import mesh as meshes
from metaperser_jax.checkpoints import Checkpoints
from metaperser_jax.errors import InputError
from tests.metaperser_jax import meshed

ON_EIGHT_DEVICES = """
import json, jax, pathlib, sys
from metaperser_jax import mesh as meshes
from metaperser_jax.checkpoints import Checkpoints
from tests.metaperser_jax import meshed

ONE = None
EIGHT = meshes.make_mesh()
FOUR_TIMES_TWO = meshes.make_mesh(num_data=2)

def both(fn, mesh, *options):
    return fn(ONE, *options), fn(mesh, *options)

found = {
    "devices": len(jax.devices()),
    "fewer tasks than devices": both(meshed.train, EIGHT, "reptile", 5, "first"),
    "more, in chunks": both(meshed.train, FOUR_TIMES_TWO, "maml", 27, "first"),
    "no adaptation": both(meshed.train, EIGHT, "no_adaptation", 11, "first"),
    "several steps at once": (
        meshed.train(ONE, "reptile", 5, "first", 3),
        meshed.train(EIGHT, "reptile", 5, "first", 3, at_once=True),
    ),
    "evaluated": both(meshed.evaluate, EIGHT),
}
pool = meshed.pools.to_device(meshed.make_pool(), EIGHT)
found["bytes"] = both(meshed.step_bytes, EIGHT)
found["whole"] = pool.inputs.sharding.is_fully_replicated
with Checkpoints(pathlib.Path(sys.argv[1])) as checkpoints:
    checkpoints.save(1, {"inputs": pool.inputs}, 0.5, {})
print(json.dumps(found))
"""


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert len(found[name]) == len(values)
        for a, b in zip(found[name], values, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=name)


def test_eight_devices_give_the_numbers_of_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ON_EIGHT_DEVICES, str(tmp_path)],
        env=meshed.on_devices(8),
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("devices") == 8
    assert found.pop("whole")
    of_one, of_each = found.pop("bytes")
    assert of_one / 8 < of_each < of_one / 4  # the parameters' gradients are not split
    assert len(found) == 5
    for one, many in found.values():
        assert_close(many, one)
    like = {"inputs": meshed.make_pool().inputs}
    with Checkpoints(tmp_path) as checkpoints:  # goes on with one device
        np.testing.assert_array_equal(
            checkpoints.restore(1, like).tree["inputs"], like["inputs"]
        )


class TestRule:
    @pytest.mark.parametrize(
        ("shape", "wanted"),
        [
            ((768, 3072), (None, meshes.AXES)),  # the longest axis
            ((3072, 768), (meshes.AXES,)),
            ((32, 48, 512), (None, None, meshes.AXES)),
            ((6, 1001), ()),  # no axis that 8 divides
            ((768,), ()),  # small
            ((), ()),
        ],
    )
    def test_how_eight_devices_hold_a_tensor(self, shape, wanted):
        assert meshes.rule(shape, 8) == PartitionSpec(*wanted)


class TestMakeMesh:
    def test_it_has_both_axes(self):
        mesh = meshes.make_mesh()
        assert mesh.axis_names == ("tasks", "data")
        assert mesh.size == 1

    @pytest.mark.parametrize("num_data", [0, 2])
    def test_an_axis_that_does_not_fit_is_refused(self, num_data):
        with pytest.raises(InputError, match=f"no axis of length {num_data}"):
            meshes.make_mesh(num_data=num_data)


class TestPadTo:
    @pytest.mark.parametrize(
        ("count", "multiple", "expected"),
        [
            (4, 4, [0, 1, 2, 3]),
            (3, 2, [0, 1, 2, 0]),
            (2, 8, [0, 1, 0, 1, 0, 1, 0, 1]),
            (5, 1, [0, 1, 2, 3, 4]),
        ],
    )
    def test_the_first_entries_are_repeated(self, count, multiple, expected):
        tree = {"a": np.arange(count), "b": jnp.arange(2 * count).reshape(count, 2)}
        padded, real = meshes.pad_to(tree, multiple)
        assert real == count
        np.testing.assert_array_equal(padded["a"], expected)
        np.testing.assert_array_equal(padded["b"][:, 0], 2 * np.array(expected))
