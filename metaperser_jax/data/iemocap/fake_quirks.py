"""The quirks of real copies of IEMOCAP, each planted at a known place.

Three kinds: what raters wrote (content), how it is written down (text), and what lies
in the folders (files). `QUIRKS` lists all; each planted one says what it makes a reader
record.
"""

import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from metaperser_jax.data.iemocap import grammar
from metaperser_jax.data.iemocap.grammar import Block, Labels

QUIRKS = {
    "several_labels": "a rater gives two labels",
    "other_alone": "a rater gives 'Other' and nothing else",
    "empty_set": "a rater gives no label, which is not neutral",
    "odd_comments": "comments hold commas, parentheses, semicolons and tabs",
    "missing_value": "a dimension is not rated",
    "decimal_value": "a dimension is rated 2.5",
    "value_off_scale": "a dimension is rated 7 on a scale to 5",
    "wrong_code": "a consensus code is not what the raters' labels give",
    "wrong_triple": "a triple is not the mean of the observers' values",
    "neutral_state": "'Neutral state' for 'Neutral'",
    "crlf": "lines end in CRLF",
    "latin1": "an accent in latin-1",
    "byte_order_mark": "UTF-8 with a byte-order mark and an accent",
    "not_in_time_order": "the blocks of a file run backwards",
    "no_last_blank_line": "the file ends with its last rating",
    "unknown_label": "a label that is none of the ten, beside one that is",
    "repeated_rater": "a rater labels an utterance twice, the first counts",
    "stray_line": "a line of another form within a block",
    "broken_first_line": "a block whose first line breaks off: it is skipped",
    "duplicate_utterance": "a block for an utterance that has one, the first counts",
    "missing_audio": "an utterance without recording: it is skipped",
    "empty_audio": "a recording of 0 bytes: it is skipped",
    "truncated_audio": "a recording that ends early: it is skipped",
    "extra_recording": "a recording without block: it is skipped",
    "missing_line": "an utterance that is not in the transcript",
    "lines_without_id": "transcript lines such as 'M: text'",
    "missing_transcript": "a dialog without transcript",
    "unevaluated_dialog": "a folder of recordings without evaluation file",
    "unreadable_evaluation": "an evaluation file that cannot be opened",
    "apple_double": "side files of macOS: '._name' and .DS_Store",
    "foreign_files": "other files beside recordings and evaluations",
    "rater_folders": "the subfolders Categorical, Attribute and Self-evaluation",
    "link_loop": "symbolic links that lead back up",
}
STRANGE_COMMENT = "one, (two) three; four\tfive)"
ACCENT = "d\xe9j\xe0 vu"


class PlantedQuirk(NamedTuple):
    """A quirk and where it is."""

    name: str  # of QUIRKS
    where: str  # utterance, dialog or folder
    records: dict[str, int]  # 'severity kind' -> rows in `Problems`


class Dialog(NamedTuple):
    """A dialog on its way to disk; the mutable fields are what a reader finds."""

    session: pathlib.Path
    name: str
    blocks: list[Block]
    texts: dict[str, str]  # utterance -> transcript
    dropped: set[str]  # utterances that a reader skips

    @property
    def evaluation(self) -> pathlib.Path:
        """Path of the evaluation file."""
        return self.session / "dialog" / "EmoEvaluation" / f"{self.name}.txt"

    @property
    def transcript(self) -> pathlib.Path:
        """Path of the transcript."""
        return self.session / "dialog" / "transcriptions" / f"{self.name}.txt"

    def recording(self, utterance: str) -> pathlib.Path:
        """Path of a recording."""
        return self.session / "sentences" / "wav" / self.name / f"{utterance}.wav"


def plant_content(dialog: Dialog, session: int, number: int) -> list[PlantedQuirk]:
    """Changes what raters wrote in the first dialog of the first session."""
    if (session, number) != (0, 0):
        return []
    edits: list[tuple[str, int, Callable[[Block], Block], dict[str, int]]] = [
        ("several_labels", 1, _labels("Anger", "Frustration"), {}),
        ("other_alone", 2, _labels("Other"), {}),
        ("empty_set", 3, _labels(), {}),
        ("odd_comments", 4, _strange_comments, {}),
        ("missing_value", 5, lambda b: _value(b, 0, val=None), {}),
        ("decimal_value", 5, lambda b: _value(b, 1, act=2.5), {}),
        (
            "value_off_scale",
            6,
            lambda b: _value(b, 0, dom=7.0),
            {"warning dimension_out_of_range": 1},
        ),
        ("wrong_code", 7, _wrong_consensus, {"warning consensus_mismatch": 1}),
        ("wrong_triple", 7, lambda b: b, {"warning triple_mismatch": 1}),
    ]
    planted = []
    for name, index, edit, records in edits:
        dialog.blocks[index] = edit(dialog.blocks[index])
        planted.append(PlantedQuirk(name, dialog.blocks[index].utterance, records))
    return planted


def _labels(*labels: str) -> Callable[[Block], Block]:
    """Returns an edit that sets the first observer's labels."""

    def edit(block: Block) -> Block:
        first = block.labels[0]._replace(labels=labels)
        return block._replace(labels=(first, *block.labels[1:]))

    return edit


def _strange_comments(block: Block) -> Block:
    labels = block.labels[0]._replace(comment=STRANGE_COMMENT)
    dimensions = block.dimensions[0]._replace(comment=STRANGE_COMMENT)
    return block._replace(
        labels=(labels, *block.labels[1:]),
        dimensions=(dimensions, *block.dimensions[1:]),
    )


def _value(block: Block, row: int, **values: float | None) -> Block:
    rows = list(block.dimensions)
    rows[row] = rows[row]._replace(**values)
    return block._replace(dimensions=tuple(rows))


def _wrong_consensus(block: Block) -> Block:
    """Sets a code that nobody named, and a triple that cannot be a mean."""
    named = {label for row in block.labels for label in row.labels}
    pairs = zip(grammar.CODES, grammar.LABELS, strict=True)
    code = next(code for code, label in pairs if label not in named)
    return block._replace(code=code, triple=(0.5, 0.5, 0.5))


def plant_text(
    dialog: Dialog, session: int, number: int
) -> tuple[list[PlantedQuirk], bytes]:
    """Returns the evaluation file's bytes, with the quirks of its place."""
    planters = {
        (0, 0): _neutral_state,
        (0, 1): _crlf,
        (1, 0): _latin1,
        (1, 1): _byte_order_mark,
        (2, 0): _not_in_time_order,
        (2, 1): _no_last_blank_line,
        (3, 0): _broken_blocks,
    }
    if (session, number) in planters:
        return planters[session, number](dialog)
    return [], grammar.format_evaluation(dialog.blocks).encode()


def _neutral_state(dialog: Dialog) -> tuple[list[PlantedQuirk], bytes]:
    text = grammar.format_evaluation(dialog.blocks)
    text = text.replace("\tNeutral;", "\tNeutral state;")
    return [PlantedQuirk("neutral_state", dialog.name, {})], text.encode()


def _crlf(dialog: Dialog) -> tuple[list[PlantedQuirk], bytes]:
    text = grammar.format_evaluation(dialog.blocks).replace("\n", "\r\n")
    return [PlantedQuirk("crlf", dialog.name, {})], text.encode()


def _with_accent(dialog: Dialog) -> str:
    block = dialog.blocks[0]
    row = block.labels[0]._replace(comment=ACCENT)
    dialog.blocks[0] = block._replace(labels=(row, *block.labels[1:]))
    return grammar.format_evaluation(dialog.blocks)


def _latin1(dialog: Dialog) -> tuple[list[PlantedQuirk], bytes]:
    data = _with_accent(dialog).encode("latin-1")
    return [PlantedQuirk("latin1", dialog.name, {})], data


def _byte_order_mark(dialog: Dialog) -> tuple[list[PlantedQuirk], bytes]:
    data = _with_accent(dialog).encode("utf-8-sig")
    return [PlantedQuirk("byte_order_mark", dialog.name, {})], data


def _not_in_time_order(dialog: Dialog) -> tuple[list[PlantedQuirk], bytes]:
    text = grammar.format_evaluation(dialog.blocks[::-1])
    return [PlantedQuirk("not_in_time_order", dialog.name, {})], text.encode()


def _no_last_blank_line(dialog: Dialog) -> tuple[list[PlantedQuirk], bytes]:
    text = grammar.format_evaluation(dialog.blocks).rstrip("\n")
    return [PlantedQuirk("no_last_blank_line", dialog.name, {})], text.encode()


def _broken_blocks(dialog: Dialog) -> tuple[list[PlantedQuirk], bytes]:
    """Plants what is wrong within and between blocks."""
    names = [block.utterance for block in dialog.blocks]
    parts = [grammar.format_block(block) for block in dialog.blocks]
    again = [parts[0][0], *grammar.format_block(_relabelled(dialog.blocks[0]))[1:]]
    row = dialog.blocks[1].labels[0]
    parts[1][1] = parts[1][1].replace(":\t", ":\tBoredom; ", 1)
    if not row.labels:
        raise AssertionError("the unknown label must have another beside it")
    parts[2].append(f"C-{dialog.blocks[2].labels[0].rater}:\tOther;\t(again)")
    parts[3].insert(2, "made-up stray line")
    parts[4][0] = parts[4][0][:9]
    dialog.dropped.add(names[4])
    orphans = {"error orphan_rating": len(parts[4]) - 1}
    lost = {"error bad_utterance": 1, **orphans, "error missing_evaluation": 1}
    doubled = {"error duplicate_utterance": 1, "error orphan_rating": len(again) - 1}
    planted = [
        PlantedQuirk("unknown_label", names[1], {"error unknown_label": 1}),
        PlantedQuirk("repeated_rater", names[2], {"error repeated_rater": 1}),
        PlantedQuirk("stray_line", names[3], {"error bad_line": 1}),
        PlantedQuirk("broken_first_line", names[4], lost),
        PlantedQuirk("duplicate_utterance", names[0], doubled),
    ]
    lines = [grammar.HEADER, ""]
    for part in [*parts, again]:
        lines += [*part, ""]
    return planted, "".join(line + "\n" for line in lines).encode()


def _relabelled(block: Block) -> Block:
    rows = tuple(Labels(row.rater, ("Other",), "again") for row in block.labels)
    return block._replace(labels=rows)


def plant_files(root: pathlib.Path, dialogs: list[Dialog]) -> list[PlantedQuirk]:
    """Plants what is wrong in the folders, once all files are written."""
    by_place: dict[tuple[str, int], Dialog] = {}
    for dialog in dialogs:
        number = sum(session == dialog.session.name for session, _ in by_place)
        by_place[dialog.session.name, number] = dialog
    return [
        *_spoil_recordings(by_place["Session4", 1]),
        *_spoil_transcripts(by_place["Session4", 1], by_place["Session5", 0]),
        *_spoil_dialogs(by_place["Session5", 1]),
        *_add_side_files(by_place["Session1", 0]),
        *_add_links(root, by_place["Session2", 0]),
    ]


def _spoil_recordings(dialog: Dialog) -> list[PlantedQuirk]:
    names = [block.utterance for block in dialog.blocks[:3]]
    missing, empty, short = map(dialog.recording, names)
    extra = f"{dialog.name}_F999"
    dialog.recording(extra).write_bytes(short.read_bytes())
    missing.unlink()
    empty.write_bytes(b"")
    short.write_bytes(short.read_bytes()[:2_000])
    dialog.dropped.update(names)
    return [
        PlantedQuirk("missing_audio", names[0], {"error missing_audio": 1}),
        PlantedQuirk("empty_audio", names[1], {"error empty_audio": 1}),
        PlantedQuirk("truncated_audio", names[2], {"error truncated_audio": 1}),
        PlantedQuirk("extra_recording", extra, {"error missing_evaluation": 1}),
    ]


def _spoil_transcripts(first: Dialog, second: Dialog) -> list[PlantedQuirk]:
    name = first.blocks[4].utterance
    lines = first.transcript.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith(f"{name} ")]
    lines[1:1] = ["M: made-up words of nobody", "F: more of them"]
    first.transcript.write_text("\n".join(lines), encoding="utf-8")
    del first.texts[name]
    second.transcript.unlink()
    second.texts.clear()
    one = {"warning missing_transcript": 1}
    return [
        PlantedQuirk("missing_line", name, one),
        PlantedQuirk("lines_without_id", first.name, {}),
        PlantedQuirk("missing_transcript", second.name, one),
    ]


def _spoil_dialogs(dialog: Dialog) -> list[PlantedQuirk]:
    recordings = dialog.recording("x").parent
    lonely = recordings.with_name("Ses05M_impro98")
    lonely.mkdir()
    source = dialog.recording(dialog.blocks[0].utterance)
    (lonely / "Ses05M_impro98_M000.wav").write_bytes(source.read_bytes())
    broken = dialog.evaluation.with_name("Ses05M_impro99.txt")
    broken.symlink_to("nowhere.txt")
    unreadable = {"error unreadable_evaluation": 1}
    return [
        PlantedQuirk(
            "unevaluated_dialog", lonely.name, {"error missing_evaluation": 1}
        ),
        PlantedQuirk("unreadable_evaluation", broken.stem, unreadable),
    ]


def _add_side_files(dialog: Dialog) -> list[PlantedQuirk]:
    """Adds files that a reader must pass over in silence."""
    side = grammar.APPLE_DOUBLE_MAGIC + b"\x00\x02\x00\x00Mac OS X        "
    recording = dialog.recording(dialog.blocks[0].utterance)
    for path in (dialog.evaluation, dialog.transcript, recording):
        path.with_name(f"._{path.name}").write_bytes(side)
        path.with_name(".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
    recording.with_suffix(".lab").write_text("made-up", encoding="utf-8")
    dialog.evaluation.with_name("notes.txt").write_text("C-E1:\tAnger;\t()\n")
    for folder, tail in (
        ("Categorical", "e2_cat"),
        ("Attribute", "e3_atr"),
        ("Self-evaluation", "f1_cat"),
    ):
        path = dialog.evaluation.with_name(folder) / f"{dialog.name}_{tail}.txt"
        path.parent.mkdir()
        line = f"{dialog.blocks[0].utterance} :Anger; :Neutral state; ()\n"
        path.write_text(line, encoding="utf-8")
    return [
        PlantedQuirk("apple_double", dialog.name, {}),
        PlantedQuirk("foreign_files", dialog.name, {}),
        PlantedQuirk("rater_folders", dialog.name, {}),
    ]


def _add_links(root: pathlib.Path, dialog: Dialog) -> list[PlantedQuirk]:
    (root / "all_sessions").symlink_to(".", target_is_directory=True)
    os.symlink("itself", root / "itself")
    wavs = dialog.recording("x").parent.parent
    (wavs / "up").symlink_to("..", target_is_directory=True)
    return [PlantedQuirk("link_loop", dialog.name, {})]
