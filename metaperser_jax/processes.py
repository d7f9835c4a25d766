"""Several processes of one run: how they find each other, and what a lost one means.

Where processes wait for one another, one that has ended would leave the others waiting.
JAX's coordination service notices and aborts them; here that becomes one clear message
and the exit code of a fault of the machine.
"""

import contextlib
import ctypes
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils

from metaperser_jax.errors import InputError, MachineError

log = logging.getLogger("metaperser_jax")

Choice = Literal["auto", "on", "off"]
ADDRESS, COUNT, INDEX = names = (
    "JAX_COORDINATOR_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
)
STARTERS = {  # variables that say how many processes there are -> who sets them
    COUNT: "by hand",
    "SLURM_STEP_NUM_TASKS": "Slurm (srun)",
    "OMPI_COMM_WORLD_SIZE": "Open MPI",
}
TPU_HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
LOST_WORDS = ("gloo", "unavailable", "deadline_exceeded", "barrier", "heartbeat")

_keep: list[Any] = []  # handlers that C code calls


def expected(environ: Mapping[str, str]) -> tuple[int, str]:
    """Returns how many processes the environment tells of, and who says so."""
    for name, starter in STARTERS.items():
        if environ.get(name, "").isdecimal() and int(environ[name]) > 1:
            return int(environ[name]), starter
    for name in TPU_HOSTS:
        if "," in environ.get(name, ""):
            return environ[name].count(",") + 1, "the TPU's runtime"
    return 1, "nobody"


def by_hand(environ: Mapping[str, str]) -> dict[str, Any]:
    """Returns what the variables of JAX say of this process; {} without them.

    Raises:
      InputError: some are missing or are no numbers that fit.
    """
    given = {name: environ[name] for name in (COUNT, INDEX) if environ.get(name)}
    if not given:
        return {}
    numbers = [given.get(name, "") for name in (COUNT, INDEX)]
    fits = all(n.isdecimal() for n in numbers) and int(numbers[1]) < int(numbers[0])
    port = environ.get(ADDRESS, "").rpartition(":")[2]
    if not fits or not port.isdecimal():
        found = ", ".join(f"{name}={environ.get(name, '')}" for name in names)
        raise InputError(
            f"{found}: expected host:port of the first process, the number of "
            f"processes, and this one's number from 0, for example {ADDRESS}="
            f"10.0.0.1:8482 {COUNT}=2 {INDEX}=0."
        )
    return {
        "coordinator_address": environ[ADDRESS],
        "num_processes": int(numbers[0]),
        "process_id": int(numbers[1]),
    }


def start(choice: Choice, timeout: int, environ: Mapping[str, str] = os.environ) -> int:
    """Joins the other processes, where there are to be any; returns how many there are.

    It must come before anything is computed.

    Args:
      choice: 'auto' joins where the environment tells of more than one process, 'on'
        insists on it, 'off' never does.
      timeout: seconds to wait for the others to come, and for a sign of life of one
        that has gone silent.
      environ: the environment variables.

    Raises:
      InputError: the environment variables contradict one another.
      MachineError: 'on', and there is no other process.
    """
    number, starter = expected(environ)
    if choice == "off" or (choice == "auto" and number == 1):
        return 1
    told = f"as {starter} tells it" if number > 1 else "none is named"
    where = environ.get(ADDRESS) or told
    hint = (
        f"The first process listens at the coordinator's address ({where}): its port "
        "must be open in the firewall between the machines, and the name must lead to "
        f"that machine. {ADDRESS}=host:port chooses another (port 8482 is usual)."
    )
    log.info("waiting up to %d s for %s", timeout, _others(number))
    log.info(hint)
    _end_when_aborted(
        f"error: a process of this run has ended, or could not be reached within "
        f"{timeout} s. See the lines above and the output of the others. {hint} "
        "--multihost_timeout waits longer.\n"
    )
    try:
        jax.distributed.initialize(
            **by_hand(environ),
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=timeout,
            shutdown_timeout_seconds=timeout,
        )
    except (ValueError, RuntimeError) as error:
        raise MachineError(
            f"--multihost={choice}: JAX cannot join the other processes ({error}). "
            f"Start them with srun or mpirun, or set {', '.join(names)}."
        ) from error
    if choice == "on" and jax.process_count() == 1:
        raise MachineError("--multihost=on, but this is the only process.")
    log.info("process %d of %d", jax.process_index() + 1, jax.process_count())
    return jax.process_count()


def _others(number: int) -> str:
    return f"the other {number - 1} process(es)" if number > 1 else "other processes"


def joined() -> bool:
    """Returns whether this process has joined others."""
    return jax.distributed.is_initialized()


def meet(name: str) -> None:
    """Waits until all processes have come here; alone, at once."""
    if joined():
        multihost_utils.sync_global_devices(name)


def leads() -> bool:
    """Returns whether this process writes what all share: the first, or one alone."""
    return not joined() or jax.process_index() == 0


def by_leader(name: str, write: Callable[[], None]) -> None:
    """Lets the first process do something for all; the others wait until it has."""
    if leads():
        write()
    meet(name)


def leader_first(name: str, read: Callable[[], Any]) -> Any:
    """Returns what is read, and made by the first process where it is not there."""
    if leads():
        found = read()
        meet(name)
        return found
    meet(name)
    return read()


def part() -> tuple[int, int] | None:
    """Returns (number from 1, count) of this process, None alone."""
    return (jax.process_index() + 1, jax.process_count()) if joined() else None


def least(value: float) -> float:
    """Returns the least value of all processes, so that they decide alike."""
    if not joined():
        return value
    return float(multihost_utils.process_allgather(np.float64(value)).min())


@contextlib.contextmanager
def lost_told() -> Iterator[None]:
    """Turns what computing says when a process is lost into a `MachineError`."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        text = str(error).partition("\n")[0]
        if not joined() or not any(word in text.lower() for word in LOST_WORDS):
            raise
        raise MachineError(
            f"another process of this run has ended or cannot be reached ({text}). "
            "See its output; start all of them again to go on."
        ) from error


def _end_when_aborted(message: str) -> None:
    """Makes an abort of this process print the message and end with exit code 3.

    The coordination service aborts from a thread of its own: no exception can be
    caught, and a signal handler in Python would wait for a main thread that waits.
    """

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def end(_number: int) -> None:
        os.write(2, message.encode())
        os._exit(MachineError.exit_code)

    _keep.append(end)
    ctypes.CDLL(None).signal(signal.SIGABRT, end)
