"""Reads lists of (type, value) pairs from the forms in which models write them.

Read are, in this order: JSON; tuples of quoted strings; 'PLACE FILL europe SEP';
'B-city new york E-city', closed or not; and 'city: new york, date: today', the released
form, where 'new york (city)' and one pair a line do as well. Nothing raises; what is no
pair is counted.
"""

import collections
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from benchmark.metrics.sequence import ratio

MAX_CHARACTERS = 100_000  # what follows is not read
_TYPE_KEYS = ("type", "label", "tag", "slot", "slot_type", "entity_type", "category")
_VALUE_KEYS = ("value", "text", "entity", "phrase", "name", "slot_value", "word")
_TUPLE = re.compile(
    r"[(\[]\s{0,9}(?:'([^']{1,200})'|\"([^\"]{1,200})\")\s{0,9},\s{0,9}"
    r"(?:'([^']{0,200})'|\"([^\"]{0,200})\")\s{0,9}[)\]]"
)
_MARKER = re.compile(r"(?<![\w-])([BE])-(\w[\w.]{0,60})")
_KEY = re.compile(r"[\w][\w.\-/ ]{0,39}")
_BRACKETED = re.compile(r"(.{1,200}?)\s{0,9}[(\[]([^()\[\]]{1,40})[)\]]")
_NOTHING = re.compile(
    r"\W*(?:(?:there (?:is|are) )?(?:none|no|nothing|n/a|empty|null)(?: (?:named )?"
    r"(?:entity|entities|slots?)(?: (?:found|mentioned|present))?)?)?\W*",
    re.IGNORECASE,
)


class Pairs(NamedTuple):
    """What an answer lists."""

    pairs: tuple[tuple[str, str], ...]  # (type, value), as written, in order
    num_unread: int  # pieces that are no pair


def read_pairs(text: str) -> Pairs:
    """Returns the pairs in an answer; see the module for the forms.

    An answer such as 'none', '[]' or nothing at all is a list without pairs.
    """
    text = text[:MAX_CHARACTERS].strip().strip("`").strip()
    text = text.removeprefix("json").strip()
    if len(text) < 80 and _NOTHING.fullmatch(text):
        return Pairs((), 0)
    for read in (_json, _tuples, _fills, _spans):
        pairs = tuple(pair for pair in read(text) if pair[0].strip())
        if pairs:
            return Pairs(pairs, 0)
    return _listed(text)


def released_pairs(text: str) -> Pairs:
    """Reads 'type: value, type: value' as the released script does.

    That script raises on a piece that is not exactly one type and one value; here the
    piece is left out and counted.
    """
    pieces = [piece.strip().split(": ") for piece in text.split(", ")]
    sound = [tuple(map(str.strip, piece)) for piece in pieces if len(piece) == 2]
    return Pairs(tuple((a, b) for a, b in sound), len(pieces) - len(sound))


def _json(text: str) -> Iterator[tuple[str, str]]:
    if text[:1] not in ("[", "{"):
        return
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # not JSON, or nested without end
        return
    for item in found if isinstance(found, list) else [found]:
        yield from _json_item(item)


def _json_item(item: Any) -> Iterator[tuple[str, str]]:
    if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str):
        yield item[0], _plain(item[1])
    if not isinstance(item, dict):
        return
    folded = {str(key).lower(): value for key, value in item.items()}
    kind = next((folded[key] for key in _TYPE_KEYS if key in folded), None)
    value = next((folded[key] for key in _VALUE_KEYS if key in folded), None)
    if kind is not None and value is not None:
        yield _plain(kind), _plain(value)
        return
    for key, value in item.items():
        for one in value if isinstance(value, list) else [value]:
            yield str(key), _plain(one)


def _plain(value: Any) -> str:
    if isinstance(value, list | dict):  # no value is nested
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _tuples(text: str) -> Iterator[tuple[str, str]]:
    for single, double, value, quoted in _TUPLE.findall(text):
        yield single or double, value or quoted


def _fills(text: str) -> Iterator[tuple[str, str]]:
    """Reads 'TYPE FILL value SEP'; a missing last SEP is forgiven."""
    tokens = text.split()
    starts = [i for i, token in enumerate(tokens) if token == "FILL" and i > 0]
    for start, stop in itertools.pairwise([*starts, len(tokens) + 1]):
        value = tokens[start + 1 : stop - 1]
        end = value.index("SEP") if "SEP" in value else len(value)
        yield tokens[start - 1], " ".join(value[:end])


def _spans(text: str) -> Iterator[tuple[str, str]]:
    """Reads 'B-type value E-type'; a span ends at its bracket, a marker or the end."""
    markers = list(_MARKER.finditer(text))
    ends = [marker.start() for marker in markers] + [len(text)]
    for marker, end in zip(markers, ends[1:], strict=True):
        value = text[marker.end() : end].strip()
        if value.startswith("("):
            value = value.partition(")")[0]
        if marker[1] == "B":
            yield marker[2], value.strip(" \t\r\n()[]{}<>:,;")


def _listed(text: str) -> Pairs:
    """Reads 'type: value' pieces; a piece without a type continues the value before."""
    pairs: list[tuple[str, list[str]]] = []
    num_unread, continues = 0, False
    for piece in re.split(r"[,;\n]", text):
        piece = piece.replace("**", "").strip().strip("*\u2022-").strip()
        key, colon, value = (part.strip() for part in piece.partition(":"))
        bracketed = None if continues else _BRACKETED.fullmatch(piece)
        if colon and _KEY.fullmatch(key):
            pairs.append((key, [value]))
            continues = True
        elif bracketed:
            pairs.append((bracketed[2], [bracketed[1]]))
        elif continues and piece:
            pairs[-1][1].append(piece)
        else:
            num_unread += bool(piece)
    return Pairs(tuple((kind, ", ".join(parts)) for kind, parts in pairs), num_unread)


F1_STATS = ("true_positives", "false_positives", "false_negatives")


def overlap(
    reference: collections.Counter, hypothesis: collections.Counter
) -> tuple[int, int, int]:
    """Returns true positives, false positives and false negatives of two multisets."""
    common = (reference & hypothesis).total()
    return common, hypothesis.total() - common, reference.total() - common


def f1(sums: Float[np.ndarray, "*sets stats"]) -> Float[np.ndarray, "*sets"]:
    """Returns micro F1 of `F1_STATS`, NaN where nothing was expected nor answered."""
    both = 2 * sums[..., 0]
    return ratio(both, both + sums[..., 1] + sums[..., 2])
