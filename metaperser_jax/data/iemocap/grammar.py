"""The text files of IEMOCAP: evaluations and transcripts, both ways.

Pure functions from text to NamedTuples and back; `parse_evaluation` undoes
`format_evaluation`. Lines are told by how they begin, never by their number:

    [6.2901 - 8.2357]<TAB>Ses09F_made00_F000<TAB>neu<TAB>[2.5000, 2.5000, 2.5000]
    C-E2:<TAB>Neutral;<TAB>()                         labels of a rater
    A-E3:<TAB>val 3; act 2; dom  2;<TAB>(a comment)   dimensional ratings of a rater

A block is such a first line and the ratings below it, up to a blank line or the next
first line. Ratings that belong to no block that could be read are skipped, never given
to the block before: a wrong label is worse than a missing one. Nothing raises; what is
skipped or doubtful becomes a `Fault` with its line number.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from metaperser_jax.errors import did_you_mean

LABELS = (
    "Neutral",
    "Happiness",
    "Sadness",
    "Anger",
    "Surprise",
    "Fear",
    "Disgust",
    "Frustration",
    "Excited",
    "Other",
)
CODES = ("neu", "hap", "sad", "ang", "sur", "fea", "dis", "fru", "exc", "oth")
NO_CONSENSUS = "xxx"
SCALE_MIN, SCALE_MAX = 1, 5  # of the dimensional ratings
HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
APPLE_DOUBLE_MAGIC = b"\x00\x05\x16\x07"

_SPELLINGS = {
    **{label.lower(): label for label in LABELS},
    "neutral state": "Neutral",
    "happy": "Happiness",
    "sad": "Sadness",
    "angry": "Anger",
    "surprised": "Surprise",
    "disgusted": "Disgust",
    "frustrated": "Frustration",
    "excitement": "Excited",
}
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_PLAIN_NUMBER = re.compile(_NUMBER)
_FIRST_LINE = re.compile(
    rf"\[\s*({_NUMBER})\s*-\s*({_NUMBER})\s*\]\s+(\S+)\s+(\S+)(?:\s+(\[.*\]))?"
)
_TRIPLE = re.compile(rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]")
_RATING = re.compile(r"([CA])-\s*([A-Za-z][0-9]{1,4})\s*:(.*)", re.DOTALL)
_DIMENSION = re.compile(r"(val|act|dom)\b\s*(.*)", re.IGNORECASE | re.DOTALL)
_UTTERANCE = re.compile(r"((Ses[0-9]+)[A-Z]_(\w+?))_([A-Z])([0-9]{3,})", re.ASCII)
_DIALOG = re.compile(r"(Ses[0-9]+)[A-Z]_(\w+)", re.ASCII)
_SPOKEN = re.compile(rf"(\S+)\s*\[\s*({_NUMBER})\s*-\s*({_NUMBER})\s*\]\s*:?\s*(.*)")
_UNNAMED = re.compile(r"[A-Za-z]\s*:")


class Labels(NamedTuple):
    """One rater's labels for one utterance (a line `C-...`)."""

    rater: str  # 'E1' ... 'E6', or letter and session of an actor: 'F1', 'M5'
    labels: tuple[str, ...]  # of LABELS, in the order written; () = no annotation
    comment: str = ""


class Dimensions(NamedTuple):
    """One rater's dimensional ratings for one utterance (a line `A-...`)."""

    rater: str
    val: float | None  # as written, even outside 1-5; None = not rated
    act: float | None
    dom: float | None
    comment: str = ""


class Block(NamedTuple):
    """An utterance and all that was said about it."""

    utterance: str
    start: float  # seconds into the dialog
    end: float
    code: str  # consensus: one of CODES, or 'xxx' for none
    triple: tuple[float, float, float] | None  # valence, activation, dominance
    labels: tuple[Labels, ...] = ()
    dimensions: tuple[Dimensions, ...] = ()


class Fault(NamedTuple):
    """Something skipped ('error') or doubtful ('warning') in a text file."""

    severity: str
    kind: str
    line: int  # from 1
    message: str


class LineCounts(NamedTuple):
    """What became of the lines of a file; the three add up to all lines."""

    used: int
    skipped: int
    ignored: int  # blank or '%'


class Evaluation(NamedTuple):
    """What an evaluation file holds."""

    blocks: tuple[Block, ...]  # in the order of the file
    faults: tuple[Fault, ...]
    lines: LineCounts


class Spoken(NamedTuple):
    """One line of a transcript."""

    utterance: str
    start: float  # seconds into the dialog
    end: float
    text: str


class Transcript(NamedTuple):
    """What a transcript file holds."""

    spoken: tuple[Spoken, ...]
    without_id: int  # lines such as 'M: text', which name no utterance
    faults: tuple[Fault, ...]


class UtteranceName(NamedTuple):
    """The parts of an utterance id."""

    dialog: str  # 'Ses01F_impro01'
    session: str  # 'Ses01'
    scenario: str  # 'impro01'
    speaker: str  # 'Ses01M': session and the letter of who speaks


def split_utterance(name: str) -> UtteranceName | None:
    """Splits an utterance id; None if it is none.

    The first letter of the dialog names the actor with the motion-capture markers, the
    last one the speaker.
    """
    match = _UTTERANCE.fullmatch(name)
    if match is None:
        return None
    dialog, session, scenario, letter, _ = match.groups()
    return UtteranceName(dialog, session, scenario, session + letter)


def dialog_session(name: str) -> str | None:
    """Returns the session of a dialog id ('Ses01'), None if it is no dialog id."""
    match = _DIALOG.fullmatch(name)
    return match.group(1) if match else None


def canonical_label(text: str) -> str | None:
    """Returns the label of `LABELS` that is meant, or None."""
    return _SPELLINGS.get(" ".join(text.split()).lower())


def is_observer(rater: str) -> bool:
    """True for the six observers (E1 ... E6), False for actors rating themselves."""
    return rater.startswith("E")


def decode(data: bytes) -> str | None:
    """Decodes a text file: UTF-8 (with or without mark), UTF-16 with one, or latin-1.

    Returns:
      The text, or None for an AppleDouble side file and other binary data.
    """
    if data.startswith(APPLE_DOUBLE_MAGIC):
        return None
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if wide else ("utf-8-sig", "latin-1"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return None if "\0" in text else text
    return None


def split_lines(text: str) -> list[str]:
    """Splits at LF, CRLF, CR CR LF and CR only: a comment may hold other breaks."""
    return re.sub(r"\r+\n|\r", "\n", text).split("\n")


def parse_evaluation(text: str) -> Evaluation:
    """Parses an evaluation file; never raises, whatever the text is."""
    reader = _Reader()
    for number, line in enumerate(split_lines(text), start=1):
        reader.read(number, line.strip())
    reader.close()
    lines = LineCounts(reader.used, reader.skipped, reader.ignored)
    return Evaluation(tuple(reader.blocks), tuple(reader.faults), lines)


class _Reader:
    """The state between the lines of an evaluation file."""

    def __init__(self):
        self.blocks: list[Block] = []
        self.faults: list[Fault] = []
        self.block: Block | None = None  # the one that ratings belong to
        self.seen: dict[str, int] = {}  # utterance -> line
        self.used = self.skipped = self.ignored = 0

    def read(self, number: int, line: str) -> None:
        if not line:
            self.close()
        if not line or line.startswith("%"):
            self.ignored += 1
            return
        if line.startswith("["):
            good = self._read_first(number, line)
        elif line[:2].upper() in ("C-", "A-"):
            good = self._read_rating(number, line)
        else:
            message = "begins neither with '[' nor 'C-' nor 'A-'"
            good = self._error("bad_line", number, message, line)
        self.used += good
        self.skipped += not good

    def close(self) -> None:
        if self.block is not None:
            self.blocks.append(self.block)
        self.block = None

    def _error(self, kind: str, number: int, message: str, line: str = "") -> bool:
        shown = f": {line[:80]!r}" if line else ""
        self.faults.append(Fault("error", kind, number, f"{message}; skipped{shown}"))
        return False

    def _warn(self, kind: str, number: int, message: str) -> None:
        self.faults.append(Fault("warning", kind, number, message))

    def _read_first(self, number: int, line: str) -> bool:
        self.close()
        match = _FIRST_LINE.fullmatch(line)
        times = [float(x) for x in match.groups()[:2]] if match else [math.inf]
        if match is None or not all(map(math.isfinite, times)):
            expected = "expected '[start - end] id code [V, A, D]'"
            return self._error("bad_utterance", number, expected, line)
        name, code = match.group(3), match.group(4)
        if split_utterance(name) is None:
            message = f"{name!r} is no utterance id such as Ses01F_impro01_F000"
            return self._error("bad_utterance", number, message)
        if self.seen.setdefault(name, number) != number:
            message = f"{name} is in line {self.seen[name]} too, which is kept"
            return self._error("duplicate_utterance", number, message)
        if times[1] <= times[0]:
            self._warn("doubtful_times", number, f"{name} ends before it starts")
        if code not in (*CODES, NO_CONSENSUS):
            self._warn("unknown_code", number, f"{name} has the code {code!r}")
        triple = self._triple(number, name, match.group(5))
        self.block = Block(name, times[0], times[1], code, triple)
        return True

    def _triple(
        self, number: int, name: str, text: str | None
    ) -> tuple[float, float, float] | None:
        match = _TRIPLE.fullmatch(text or "")
        if match is not None:
            valence, activation, dominance = map(float, match.groups())
            if math.isfinite(valence + activation + dominance):
                return valence, activation, dominance
        self._warn("bad_triple", number, f"{name} has no [V, A, D] that can be read")
        return None

    def _read_rating(self, number: int, line: str) -> bool:
        if self.block is None:
            message = "no utterance above this rating that could be read"
            return self._error("orphan_rating", number, message, line)
        match = _RATING.fullmatch(line[0].upper() + line[1:])
        if match is None:
            message = "expected 'C-E1: ...' or 'A-E1: ...'"
            return self._error("bad_rating", number, message, line)
        kind, rater, rest = match.group(1), match.group(2).upper(), match.group(3)
        known = self.block.labels if kind == "C" else self.block.dimensions
        if any(row.rater == rater for row in known):
            message = f"{kind}-{rater} has rated {self.block.utterance} above"
            return self._error("repeated_rater", number, message, line)
        head, comment = _split_comment(rest)
        if kind == "C":
            row = Labels(rater, self._label_set(number, rater, head), comment)
            self.block = self.block._replace(labels=(*self.block.labels, row))
        else:
            val, act, dom = self._values(number, rater, head)
            row = Dimensions(rater, val, act, dom, comment)
            self.block = self.block._replace(dimensions=(*self.block.dimensions, row))
        return True

    def _label_set(self, number: int, rater: str, head: str) -> tuple[str, ...]:
        labels = []
        for text in filter(None, map(str.strip, head.split(";"))):
            label = canonical_label(text)
            where = f"{self.block.utterance if self.block else ''}, {rater}"
            if label is None:
                hint = did_you_mean(text[:80], LABELS)
                message = f"{where}: unknown label {text[:80]!r} is left out.{hint}"
                self.faults.append(Fault("error", "unknown_label", number, message))
            elif label in labels:
                self._warn("repeated_label", number, f"{where}: {label} twice")
            else:
                labels.append(label)
        return tuple(labels)

    def _values(
        self, number: int, rater: str, head: str
    ) -> tuple[float | None, float | None, float | None]:
        found: dict[str, float | None] = {}
        where = f"{self.block.utterance if self.block else ''}, {rater}"
        for text in filter(None, map(str.strip, head.split(";"))):
            match = _DIMENSION.fullmatch(text)
            key = match.group(1).lower() if match else ""
            value = parse_number(match.group(2)) if match else None
            if match is None or key in found or (match.group(2) and value is None):
                message = f"{where}: {text[:80]!r} is no rating: taken as not rated"
                self._warn("bad_dimension", number, message)
            elif value is not None and not SCALE_MIN <= value <= SCALE_MAX:
                message = f"{where}: {text!r}, expected {SCALE_MIN} to {SCALE_MAX}"
                self._warn("dimension_out_of_range", number, message)
            if match is not None:
                found.setdefault(key, value)
        return found.get("val"), found.get("act"), found.get("dom")


def parse_number(text: str) -> float | None:
    """Returns a finite decimal number, or None."""
    if not _PLAIN_NUMBER.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _split_comment(rest: str) -> tuple[str, str]:
    """Splits a rating at its first parenthesis; the last one closes the comment."""
    head, _, tail = rest.partition("(")
    return head, tail.removesuffix(")")


def format_evaluation(blocks: Sequence[Block]) -> str:
    """Writes an evaluation file as the release has it; see `parse_evaluation`."""
    lines = [HEADER, ""]
    for block in blocks:
        lines += [*format_block(block), ""]
    return "".join(line + "\n" for line in lines)


def format_block(block: Block) -> list[str]:
    """Writes one block as lines, without the blank line below it."""
    fields = [
        f"[{block.start:.4f} - {block.end:.4f}]",
        block.utterance,
        block.code,
    ]
    if block.triple is not None:
        fields.append("[" + ", ".join(f"{x:.4f}" for x in block.triple) + "]")
    lines = ["\t".join(fields)]
    for row in block.labels:
        labels = " ".join(f"{label};" for label in row.labels) or ";"
        lines.append(f"C-{row.rater}:\t{labels}\t({row.comment})")
    for row in block.dimensions:
        val, act, dom = map(_number_text, row[1:4])
        values = f"val {val}; act {act}; dom  {dom};"  # two blanks, as in the release
        lines.append(f"A-{row.rater}:\t{values}\t({row.comment})")
    return lines


def _number_text(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")


def parse_transcript(text: str) -> Transcript:
    """Parses a transcript, lines `id [start-end]: text`; never raises.

    Lines that name a speaker and no utterance ('M: text') are counted.
    """
    spoken: dict[str, Spoken] = {}
    faults, without_id = [], 0
    for number, line in enumerate(split_lines(text), start=1):
        line = line.strip()
        match = _SPOKEN.fullmatch(line)
        if match is None or not line.startswith("Ses"):
            without_id += bool(_UNNAMED.match(line))
            if line and not _UNNAMED.match(line):
                message = f"expected 'id [start-end]: text'; skipped: {line[:80]!r}"
                faults.append(Fault("warning", "bad_transcript_line", number, message))
            continue
        name, start, end, words = match.groups()
        row = Spoken(name, float(start), float(end), words)
        if spoken.setdefault(name, row) is not row:
            message = f"{name} is transcribed above, which is kept"
            faults.append(Fault("warning", "duplicate_transcript", number, message))
    return Transcript(tuple(spoken.values()), without_id, tuple(faults))


def format_transcript(spoken: Sequence[Spoken]) -> str:
    """Writes a transcript as the release has it."""
    return "".join(
        f"{row.utterance} [{row.start:08.4f}-{row.end:08.4f}]: {row.text}\n"
        for row in spoken
    )
