"""Append-only JSON lines that survive a kill, and the lock of who appends.

A line is on disk when `append` returns, and safe from a kill of the process, though not
from a failure of power, before that. A kill can only cut the last line: it is skipped
when read and closed by the next append.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from benchmark.errors import InputError, MachineError

_APPENDING = threading.Lock()


def append(path: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Appends one record as a line of its own, flushed to the disk.

    Safe from several threads. Raises `MachineError` where the disk refuses.
    """
    line = json.dumps(record).encode() + b"\n"
    try:
        with open(path, "ab+") as file:
            with _APPENDING:
                if _is_cut(file):
                    line = b"\n" + line
                file.write(line)
                file.flush()
            # Only the slow half waits outside: a line of another thread is in the
            # system's hands, and safe from a kill, before this one is on the disk.
            os.fsync(file.fileno())
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror})") from error


def read(path: pathlib.Path) -> Iterator[dict[str, Any] | None]:
    """Yields the records of a file, None for a line that holds none; flat in memory.

    Raises `InputError` where the file cannot be read; a missing one holds nothing.
    """
    if not path.exists():
        return
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.strip():
                    yield _record(line)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def rewrite(path: pathlib.Path, records: Iterator[Mapping[str, Any]]) -> None:
    """Replaces a file by these records, at once: a kill leaves the old or the new."""
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            for record in records:
                file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror})") from error


@contextlib.contextmanager
def lock(path: pathlib.Path) -> Iterator[None]:
    """Holds `path` for this process; a killed process holds nothing.

    Raises:
      InputError: `path` is a folder.
      MachineError: another process holds it, or it cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file to be written")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            path.open("ab").close()  # refused now, before anything is paid for
        file = path.with_name(path.name + ".lock").open("a")
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MachineError(
                f"{path}: another run is writing it: wait for its end, or name "
                "another file"
            ) from error
        yield


def _is_cut(file: Any) -> bool:
    """True for a file whose last line was not finished."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
