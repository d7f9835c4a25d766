"""Text and JSON files read piece by piece: memory stays flat with their length.

A file may be gzipped, begin with a byte order mark, end its lines with CRLF and hold
bytes that are no UTF-8; what is replaced or lost is recorded.
"""

import codecs
import gzip
import itertools
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from benchmark.errors import InputError, Problems

CHUNK_BYTES = 1 << 20
MAX_RECORD_CHARS = 1 << 27  # of one line or one record; a 50 MB answer passes
_GZIP = b"\x1f\x8b"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NO_UTF_8 = re.compile("[\udc80-\udcff]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER_MAY_GO_ON = re.compile(r"[0-9.eE+-]*")  # at the edge of what was read
_CERTAIN = 64  # characters after a fault that show it is no cut


class Line(NamedTuple):
    """A line of a text file."""

    number: int  # from 1
    text: str | None  # without its end; None = longer than a record may be
    ended: bool  # by a line feed; False for a last line that has none


def read_chunks(path: str | os.PathLike, problems: Problems) -> Iterator[str]:
    """Yields the text of a file in pieces, without its byte order mark.

    Bytes that are no UTF-8 become U+FFFD, with one warning that counts them; a gzip
    stream that is cut ends early, with an error row.

    Args:
      path: file in UTF-8, gzipped or not.
      problems: collects `invalid_utf8` and `damaged_gzip`.

    Raises:
      InputError: the file cannot be read, or is UTF-16.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    replaced, is_first = 0, True
    for block in itertools.chain(_read_blocks(path, problems), [b""]):
        text = decoder.decode(block, final=not block)
        if not text.isascii():
            text, count = _NO_UTF_8.subn("\ufffd", text)
            replaced += count
        if text and is_first:
            text, is_first = text.removeprefix("\ufeff"), False
        if text:
            yield text
    if replaced:
        message = f"{replaced} places that are no UTF-8, read as U+FFFD"
        problems.warning("invalid_utf8", os.fspath(path), message)


def read_lines(
    chunks: Iterable[str], max_chars: int = MAX_RECORD_CHARS
) -> Iterator[Line]:
    """Yields the lines of a text; only a line feed ends one.

    Args:
      chunks: pieces of the text.
      max_chars: a longer line is read over, its text is None.
    """
    number, parts, size = 1, [], 0
    for chunk in chunks:
        *whole, rest = chunk.split("\n")
        for piece in whole:
            text = _joined(parts, piece, size, max_chars)
            yield Line(number, text, True)
            number, parts, size = number + 1, [], 0
        size += len(rest)
        parts = [*parts, rest] if size <= max_chars else []
    if size:
        yield Line(number, _joined(parts, "", size, max_chars), False)


def read_json_items(
    chunks: Iterable[str], where: str, max_chars: int = MAX_RECORD_CHARS
) -> Iterator[tuple[str, Any]]:
    """Yields the members of one JSON object, or the items of one array, as they come.

    A key that stands twice is yielded twice.

    Args:
      chunks: pieces of the text.
      where: name of the file in messages.
      max_chars: of one member.

    Yields:
      The key (of an array: the place, from 1) and the value.

    Raises:
      InputError: neither array nor object, damaged, or a member that is too long.
    """
    buffer = _Buffer(chunks, where, max_chars)
    closing = "]" if buffer.take("[{", "an array or an object") == "[" else "}"
    if buffer.peek() == closing:
        buffer.take(closing)
    else:
        for place in itertools.count(1):
            key = str(place)
            if closing == "}":
                key = buffer.key()
                buffer.take(":", "a colon")
            yield key, buffer.value()
            if buffer.take("," + closing, f"a comma or {closing}") == closing:
                break
    if buffer.peek():
        buffer.refuse("nothing after the end", buffer.position)


def parse_json(text: str) -> Any:
    """Parses one JSON value; control characters in texts pass, huge integers are text.

    Raises:
      ValueError: no JSON, or nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def clean_text(text: str) -> str:
    """Makes halves of surrogate pairs, which UTF-8 cannot hold, U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


class _Buffer:
    """What was read of a JSON text and not yet parsed."""

    def __init__(self, chunks: Iterable[str], where: str, max_chars: int):
        self.chunks, self.where, self.max_chars = iter(chunks), where, max_chars
        self.text, self.position, self.dropped = "", 0, 0

    def peek(self) -> str:
        """Returns the next character that is no space, '' at the end."""
        here = self.text[self.position : self.position + 1]
        if here and here not in " \t\r\n":
            return here
        while True:
            self.position = _SPACE.match(self.text, self.position).end()  # type: ignore
            if self.position < len(self.text):
                return self.text[self.position]
            if not self._grow():
                return ""

    def take(self, wanted: str, name: str = "") -> str:
        """Takes the next character, which must be one of those wanted."""
        found = self.peek()
        if not found or found not in wanted:
            self.refuse(name or wanted, self.position)
        self.position += 1
        return found

    def key(self) -> str:
        """Takes a key."""
        if self.peek() != '"':
            self.refuse("a key in quotes", self.position)
        return self.value()

    def value(self) -> Any:
        """Takes a value, reading on until it is whole."""
        self.peek()
        while True:
            start = self.position
            try:
                value, end = _DECODER.raw_decode(self.text, start)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated string")
                is_cut |= len(self.text) - error.pos < _CERTAIN
                if not is_cut:
                    self.refuse(f"JSON ({error.msg})", error.pos)
                if not self._grow():
                    self.refuse(f"JSON ({error.msg})", error.pos - start)
            except RecursionError:
                self.refuse("fewer levels of nesting", start)
            else:
                if not _NUMBER_MAY_GO_ON.fullmatch(self.text, end):
                    self.position = end
                    return value
                if not self._grow():
                    self.position = end - start
                    return value

    def refuse(self, expected: str, position: int) -> None:
        """Raises an InputError that names the place."""
        place = self.dropped + position
        found = self.text[position : position + 20]
        message = "cut off: copy it again" if not found else f"found {found!r}"
        raise InputError(
            f"{self.where}: damaged at character {place}: expected {expected}, "
            f"{message}"
        )

    def _grow(self) -> bool:
        """Doubles what is unparsed, so that a long value is not parsed too often."""
        self.text = self.text[self.position :]
        self.dropped, self.position = self.dropped + self.position, 0
        if len(self.text) > self.max_chars:
            raise InputError(
                f"{self.where}: at character {self.dropped} a record of more than "
                f"{self.max_chars} characters, or a damaged one: take it out"
            )
        parts, size = [], 0
        for chunk in self.chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= len(self.text):
                break
        self.text = "".join([self.text, *parts])
        return size > 0


def _read_blocks(path: str | os.PathLike, problems: Problems) -> Iterator[bytes]:
    """Yields the bytes of a file, unpacked where it is gzipped."""
    where = os.fspath(path)
    try:
        with open(where, "rb") as raw:
            head = raw.peek(2)[:2]
            if head in _UTF_16:
                raise InputError(f"{where}: is UTF-16; save it as UTF-8")
            file = gzip.GzipFile(fileobj=raw) if head == _GZIP else raw
            yield from _unpacked(file, where, problems)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{where}: cannot be read ({reason})") from error


def _unpacked(file: Any, where: str, problems: Problems) -> Iterator[bytes]:
    try:
        while block := file.read(CHUNK_BYTES):
            yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        message = f"the gzip stream is damaged ({error}): what follows is lost"
        problems.error("damaged_gzip", where, message)


def _joined(parts: list[str], piece: str, size: int, max_chars: int) -> str | None:
    if size + len(piece) > max_chars:
        return None
    return "".join([*parts, piece]) if parts else piece


def _int(digits: str) -> int | str:
    """Returns an integer, or the digits of one that Python does not convert."""
    return int(digits) if len(digits) <= 4_000 else digits


_DECODER = json.JSONDecoder(parse_int=_int, strict=False)
