"""CSV files read line by line, so that one bad line costs one row and no more.

The tables of the corpus hold no line breaks within cells. A quote that is not closed
would swallow the rest of the file if it were read as CSV in general.
"""

import contextlib
import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from metaperser_jax.errors import InputError, did_you_mean

MAX_LINE = 100_000  # characters; a longer line is no row of these tables
_GZIP_MAGIC = b"\x1f\x8b"


class Row(NamedTuple):
    """A line: its cells, or what is wrong with it."""

    line: int
    cells: list[str]
    fault: str = ""


class Header(NamedTuple):
    """The columns of a table."""

    path: str
    names: tuple[str, ...]

    def columns(self, wanted: tuple[str, ...]) -> tuple[int, ...]:
        """Returns the places of columns.

        Raises:
          InputError: some are not there or are there twice; names them all.
        """
        faults = [self._fault(name) for name in wanted if self.names.count(name) != 1]
        if faults:
            found = ", ".join(map(repr, filter(None, self.names)))
            raise InputError(
                f"{self.path}: {'; '.join(faults)}. Found {found or 'no columns'}"
            )
        return tuple(self.names.index(name) for name in wanted)

    def _fault(self, name: str) -> str:
        if name in self.names:
            return f"column {name!r} is there twice"
        return f"no column {name!r}.{did_you_mean(name, self.names)}".rstrip(".")


@contextlib.contextmanager
def open_rows(path: str | os.PathLike) -> Iterator[tuple[Header, Iterator[Row]]]:
    """Opens a CSV file, plain or gzipped, with any line ends and a byte-order mark.

    Args:
      path: the file; bytes that are no UTF-8 become U+FFFD.

    Yields:
      The header, and the rows after it as they are read; blank lines are left out.

    Raises:
      InputError: the file cannot be read or decompressed, or is empty.
    """
    where = os.fspath(path)
    with _named_faults(where), _open_text(where) as file:
        lines = _numbered_lines(file)
        first = next(lines, None)
        if first is None:
            raise InputError(f"{where}: an empty file, expected a header and rows")
        if first[1].startswith("version https://git-lfs"):
            raise InputError(f"{where}: a Git LFS pointer: run `git lfs pull`")
        names = tuple(cell.strip() for cell in _split(*first).cells)
        yield Header(where, names), (_split(*line) for line in lines)


@contextlib.contextmanager
def _named_faults(where: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{where}: damaged gzip data ({error}): copy it again"
        ) from error
    except OSError as error:
        raise InputError(
            f"{where}: cannot be read ({error.strerror or error})"
        ) from error


@contextlib.contextmanager
def _open_text(where: str) -> Iterator[io.TextIOWrapper]:
    with open(where, "rb") as raw:
        packed = raw.peek(2)[:2] == _GZIP_MAGIC
        plain = gzip.GzipFile(fileobj=raw) if packed else raw
        with io.TextIOWrapper(plain, "utf-8-sig", errors="replace") as text:
            yield text


def _numbered_lines(file: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, line.rstrip("\r\n")


def _split(number: int, line: str) -> Row:
    if len(line) > MAX_LINE:
        return Row(number, [], f"a line of {len(line)} characters")
    if '"' not in line:
        return Row(number, line.split(","))
    try:
        return Row(number, next(csv.reader([line], strict=True)))
    except csv.Error as error:
        return Row(number, [], f"not CSV ({error})")
