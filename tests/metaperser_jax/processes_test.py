"""Processes of one run: who is expected, equal numbers, and what a lost one means."""

import json
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from metaperser_jax import processes
from metaperser_jax.errors import InputError
from tests.metaperser_jax import meshed, two_processes

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 60  # seconds to join, and without a sign of life
PATIENCE = 600  # of this test, on a machine that has other work
BY_HAND = {
    "JAX_COORDINATOR_ADDRESS": "10.0.0.1:8482",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}


class TestExpected:
    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({}, (1, "nobody")),
            (BY_HAND, (2, "by hand")),
            ({"SLURM_STEP_NUM_TASKS": "4"}, (4, "Slurm (srun)")),
            ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "4"}, (1, "nobody")),
            ({"OMPI_COMM_WORLD_SIZE": "3"}, (3, "Open MPI")),
            ({"TPU_WORKER_HOSTNAMES": "a,b"}, (2, "the TPU's runtime")),
            ({"TPU_WORKER_HOSTNAMES": "localhost"}, (1, "nobody")),
            ({"JAX_NUM_PROCESSES": "two"}, (1, "nobody")),
        ],
    )
    def test_the_environment_tells(self, environ, expected):
        assert processes.expected(environ) == expected


class TestByHand:
    def test_what_jax_is_told(self):
        assert processes.by_hand(BY_HAND) == {
            "coordinator_address": "10.0.0.1:8482", "num_processes": 2,
            "process_id": 1,
        }  # fmt: skip
        assert processes.by_hand({"SLURM_STEP_NUM_TASKS": "4"}) == {}

    @pytest.mark.parametrize(
        "change",
        [
            {"JAX_PROCESS_ID": "2"},
            {"JAX_PROCESS_ID": ""},
            {"JAX_NUM_PROCESSES": "all"},
            {"JAX_COORDINATOR_ADDRESS": "10.0.0.1"},
            {"JAX_COORDINATOR_ADDRESS": ""},
        ],
    )
    def test_what_does_not_fit_is_refused(self, change):
        with pytest.raises(InputError, match="expected host:port of the first process"):
            processes.by_hand({**BY_HAND, **change})


@pytest.mark.parametrize(("choice", "environ"), [("off", BY_HAND), ("auto", {})])
def test_alone_nothing_is_joined(choice, environ):
    assert processes.start(choice, 1, environ) == 1
    assert not processes.joined()
    processes.meet("nobody waits")


def test_other_faults_stay_what_they_are():
    with pytest.raises(RuntimeError, match="gloo"), processes.lost_told():
        raise RuntimeError("gloo, but this process is alone")


def begin(index, port, folder, *arguments):
    """Starts one of two processes, each with two devices."""
    environment = {
        **meshed.on_devices(2),
        "PYTHONPATH": str(ROOT),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": str(index),
    }
    with (folder / f"out{index}").open("w") as out:
        return subprocess.Popen(
            [sys.executable, two_processes.__file__, *arguments],
            env=environment, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_for(index, folder, process):
    """Waits for what a process has found, and returns it."""
    path, end = folder / f"found{index}", time.monotonic() + PATIENCE
    while not path.exists():
        running = process.poll() is None and time.monotonic() < end
        assert running, (folder / f"out{index}").read_text()
        time.sleep(0.1)
    return json.loads(path.read_text())


def test_two_processes_give_the_numbers_of_one_and_a_lost_one_is_told(tmp_path):
    port = free_port()
    running = [
        begin(i, port, tmp_path, str(TIMEOUT), str(tmp_path / f"found{i}"))
        for i in range(2)
    ]
    try:
        expected = {
            "trained": meshed.train(None, *two_processes.TRAIN),
            "evaluated": meshed.evaluate(None),
        }
        for i, process in enumerate(running):
            assert_found(wait_for(i, tmp_path, process), expected)
        running[1].kill()
        assert running[0].wait(timeout=PATIENCE) == 3
    finally:
        for process in running:
            process.kill()
            process.wait()
    told = (tmp_path / "out0").read_text()
    assert f"waiting up to {TIMEOUT} s for the other 1 process(es)" in told
    assert f"(127.0.0.1:{port}): its port must be open in the firewall" in told
    assert "process 1 of 2" in told
    assert "process of this run has ended" in told


def assert_found(found, expected):
    assert (found["processes"], found["devices"]) == (2, 4)
    for part, values in expected.items():
        for name, leaves in values.items():
            for a, b in zip(found[part][name], leaves, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=name)


def test_one_that_never_comes_is_told(tmp_path):
    process = begin(1, free_port(), tmp_path, "2", str(tmp_path / "found"))
    try:
        assert process.wait(timeout=PATIENCE) == 3
    finally:
        process.kill()
        process.wait()
    told = (tmp_path / "out1").read_text()
    assert "could not be reached within 2 s" in told
    assert "its port must be open in the firewall" in told
