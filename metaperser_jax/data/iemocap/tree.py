"""Finds the files of IEMOCAP in the folders that people have, and reads their text.

A session is a folder that holds `dialog/EmoEvaluation` or `sentences/wav`, whatever it
and the folders above it are called. Which session it is, is told by the ids inside.
"""

import collections
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from metaperser_jax.data.iemocap import grammar
from metaperser_jax.errors import InputError, Problems

SEARCH_DEPTH = 3  # folders below the root; a doubled folder of a tar file is one
MAX_FOLDERS = 10_000  # looked into before the search gives up
EVALUATIONS = os.path.join("dialog", "EmoEvaluation")
TRANSCRIPTS = os.path.join("dialog", "transcriptions")
RECORDINGS = os.path.join("sentences", "wav")
MAX_EXAMPLES = 5


class DialogFiles(NamedTuple):
    """The files of one dialog; '' or nothing where absent."""

    dialog: str  # 'Ses01F_impro01'
    session: str  # 'Ses01'
    evaluation: str  # path
    transcript: str  # path
    recordings: dict[str, str]  # utterance -> path


class Tree(NamedTuple):
    """All files of a copy."""

    root: str
    dialogs: tuple[DialogFiles, ...]  # sorted
    ignored: int  # files beside those that are read: side files, other formats


class Utterance(NamedTuple):
    """An utterance with all that the text files say about it."""

    block: grammar.Block
    name: grammar.UtteranceName
    text: str | None  # transcript, None = none found
    recording: str  # path

    @property
    def id(self) -> str:
        """The utterance id."""
        return self.block.utterance


class Release(NamedTuple):
    """What the text files of a copy hold."""

    utterances: tuple[Utterance, ...]  # with a recording; by dialog, then time
    blocks: tuple[grammar.Block, ...]  # all, for comparison with published counts
    facts: dict[str, int]  # what was counted on the way


def find_tree(root: str | os.PathLike, problems: Problems) -> Tree:
    """Finds the dialogs at or below a folder.

    Args:
      root: IEMOCAP_full_release, a folder above it, one session, or a renamed copy.
      problems: collects dialogs without evaluation, and what is there twice.

    Raises:
      InputError: no such folder, or nothing of IEMOCAP in it.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise InputError(f"{root}: no such folder, expected a copy of IEMOCAP")
    sessions, seen = _find_sessions(root, problems)
    found: dict[str, DialogFiles] = {}
    ignored = 0
    for session in sessions:
        dialogs, others = _list_session(session, problems)
        ignored += others
        for dialog in dialogs:
            if found.setdefault(dialog.dialog, dialog) is not dialog:
                kept = found[dialog.dialog].evaluation
                message = f"{dialog.dialog} was found before ({kept}), which is kept"
                problems.error("duplicate_dialog", dialog.evaluation, message)
    if not any(dialog.evaluation for dialog in found.values()):
        raise InputError(_nothing_found(root, sessions, seen))
    return Tree(root, tuple(found[name] for name in sorted(found)), ignored)


def _nothing_found(root: str, sessions: list[str], seen: list[str]) -> str:
    if sessions:
        what = f"{len(sessions)} session folders without an evaluation file"
    else:
        names = sorted(os.listdir(root))[:MAX_EXAMPLES]
        what = f"{len(seen)} folders, in the first {', '.join(names) or 'nothing'}"
    return (
        f"{root}: no IEMOCAP here. Looked in it and {SEARCH_DEPTH} levels below for "
        f"Session folders with {EVALUATIONS}/Ses*.txt; found {what}. Set root to the "
        "folder that holds Session1 ... Session5 (IEMOCAP_full_release)"
    )


def _find_sessions(root: str, problems: Problems) -> tuple[list[str], list[str]]:
    """Returns session folders, nearest first, and all folders looked at."""
    level, sessions, seen = [root], [], []
    known: set[tuple[int, int]] = set()
    for depth in range(SEARCH_DEPTH + 1):
        below = []
        for folder in level:
            identity = _identity(folder)
            if identity is None or identity in known or len(seen) >= MAX_FOLDERS:
                continue  # unreadable, or a loop of links
            known.add(identity)
            seen.append(folder)
            if _is_session(folder):
                sessions.append(folder)
            elif depth < SEARCH_DEPTH:
                below += _subfolders(folder, problems)
        level = below
    return sessions, seen


def _identity(path: str) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _is_session(folder: str) -> bool:
    return any(
        os.path.isdir(os.path.join(folder, part)) for part in (EVALUATIONS, RECORDINGS)
    )


def _entries(folder: str, problems: Problems) -> list[os.DirEntry]:
    """Lists a folder by name; one that is absent or unreadable is empty."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        message = f"cannot be listed ({error.strerror}): check its permissions"
        problems.error("unreadable_folder", folder, message)
        return []


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _subfolders(folder: str, problems: Problems) -> list[str]:
    entries = _entries(folder, problems)
    return [x.path for x in entries if not x.name.startswith(".") and _is_dir(x)]


def _text_files(folder: str, problems: Problems) -> tuple[dict[str, str], int]:
    """Returns dialog -> path of the text files right in a folder, and other files."""
    found, others = {}, 0
    for entry in _entries(folder, problems):
        stem, suffix = os.path.splitext(entry.name)
        if _is_dir(entry):
            continue  # Categorical, Attribute and Self-evaluation say the same again
        if suffix.lower() == ".txt" and grammar.dialog_session(stem):
            found[stem] = entry.path
        else:
            others += 1
    return found, others


def _list_session(folder: str, problems: Problems) -> tuple[list[DialogFiles], int]:
    """Returns the dialogs of a session folder, and how many files are not read."""
    evaluations, ignored = _text_files(os.path.join(folder, EVALUATIONS), problems)
    transcripts, others = _text_files(os.path.join(folder, TRANSCRIPTS), problems)
    ignored += others
    recordings: dict[str, dict[str, str]] = {}
    for path in _subfolders(os.path.join(folder, RECORDINGS), problems):
        if grammar.dialog_session(os.path.basename(path)):
            found, others = _recordings(path, problems)
            recordings[os.path.basename(path)] = found
            ignored += others
    names = sorted({*evaluations, *recordings})
    for name in sorted(set(transcripts) - set(names)):
        message = f"a transcript of {name}, which has no evaluation and no recordings"
        problems.warning("missing_evaluation", transcripts[name], message)
    dialogs = [
        DialogFiles(
            dialog=name,
            session=grammar.dialog_session(name) or "",
            evaluation=evaluations.get(name, ""),
            transcript=transcripts.get(name, ""),
            recordings=recordings.get(name, {}),
        )
        for name in names
    ]
    return dialogs, ignored


def _recordings(folder: str, problems: Problems) -> tuple[dict[str, str], int]:
    """Returns utterance -> path of the recordings of a dialog, and other files."""
    found, others = {}, 0
    for entry in _entries(folder, problems):
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() == ".wav" and not entry.name.startswith("."):
            found[stem] = entry.path
        else:
            others += 1
    return found, others


def fingerprint(tree: Tree) -> str:
    """Returns a sha256 hex digest of what a copy holds.

    Text files count with their bytes, recordings with name, size and time of the last
    change: a changed copy has another digest. Where the copy lies does not count.

    Raises:
      InputError: a file vanished in the meantime.
    """
    digest = hashlib.sha256()
    for dialog in tree.dialogs:
        digest.update(f"{dialog.dialog}\n".encode())
        for path in (dialog.evaluation, dialog.transcript):
            data = _read_bytes(path) if path else None
            digest.update(b"-\n" if data is None else f"{len(data)}\n".encode() + data)
        for name, path in sorted(dialog.recordings.items()):
            state = _state(path)
            digest.update(f"{name} {state}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _state(path: str) -> str:
    try:
        info = os.stat(path)
    except OSError as error:
        return f"unreadable {error.errno}"
    return f"{info.st_size} {info.st_mtime_ns}"


def _read_bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def read_release(tree: Tree, problems: Problems) -> Release:
    """Reads all text files and joins them with the recordings.

    Args:
      tree: from `find_tree`.
      problems: collects faults of the files, with line numbers, and what lacks: an
        utterance without recording or a recording without evaluation is skipped, one
        without transcript is kept.
    """
    utterances: list[Utterance] = []
    blocks: list[grammar.Block] = []
    facts: collections.Counter[str] = collections.Counter()
    facts["other_files_ignored"] = tree.ignored
    for dialog in tree.dialogs:
        evaluated = list(_read_blocks(dialog, problems, facts))
        blocks += evaluated
        texts = _read_texts(dialog, problems, facts)
        utterances += _join(dialog, evaluated, texts, problems)
        _report_unrated(dialog, evaluated, problems)
    utterances.sort(key=lambda x: (x.name.dialog, x.block.start, x.block.utterance))
    return Release(tuple(utterances), tuple(blocks), dict(facts))


def _decode(path: str, problems: Problems, kind: str) -> str | None:
    """Returns the text of a file, or None with a row in `problems`."""
    data = _read_bytes(path)
    text = None if data is None else grammar.decode(data)
    if text is None:
        reason = "cannot be read" if data is None else "binary data, expected text"
        problems.error(kind, path, f"{reason}: copy it again")
    return text


def _record(faults: Iterable[grammar.Fault], path: str, problems: Problems) -> None:
    for fault in faults:
        place = f"{path}:{fault.line}"
        problems.add(fault.severity, fault.kind, place, fault.message)


def _read_blocks(
    dialog: DialogFiles, problems: Problems, facts: collections.Counter[str]
) -> Iterator[grammar.Block]:
    """Yields the blocks of a dialog's own utterances."""
    if not dialog.evaluation:
        return
    text = _decode(dialog.evaluation, problems, "unreadable_evaluation")
    parsed = grammar.parse_evaluation(text or "")
    _record(parsed.faults, dialog.evaluation, problems)
    facts["evaluation_lines_skipped"] += parsed.lines.skipped
    if text is not None and not parsed.blocks:
        message = "an evaluation file without an utterance"
        problems.error("empty_evaluation", dialog.evaluation, message)
    for block in parsed.blocks:
        if block.utterance.startswith(f"{dialog.dialog}_"):
            yield block
            continue
        message = f"{block.utterance} does not belong to this dialog: skipped"
        problems.error("foreign_utterance", dialog.evaluation, message)


def _read_texts(
    dialog: DialogFiles, problems: Problems, facts: collections.Counter[str]
) -> dict[str, str] | None:
    """Returns utterance -> text, None where the dialog has no transcript."""
    if not dialog.transcript:
        return None
    text = _decode(dialog.transcript, problems, "unreadable_transcript")
    if text is None:
        return None
    parsed = grammar.parse_transcript(text)
    _record(parsed.faults, dialog.transcript, problems)
    facts["transcript_lines_without_id"] += parsed.without_id
    return {row.utterance: row.text for row in parsed.spoken}


def _join(
    dialog: DialogFiles,
    blocks: Sequence[grammar.Block],
    texts: dict[str, str] | None,
    problems: Problems,
) -> Iterator[Utterance]:
    """Yields the evaluated utterances that have a recording."""
    if texts is None and blocks:
        message = f"{dialog.dialog} has no transcript that can be read"
        problems.warning("missing_transcript", dialog.evaluation, message)
    for block in blocks:
        name = grammar.split_utterance(block.utterance)
        assert name is not None  # the grammar lets no other block pass
        path = dialog.recordings.get(block.utterance)
        if path is None:
            count = len(block.labels)
            message = f"no {block.utterance}.wav: {count} ratings are skipped"
            problems.error("missing_audio", dialog.evaluation, message)
            continue
        if texts is not None and block.utterance not in texts:
            message = f"{block.utterance} is not in the transcript"
            problems.warning("missing_transcript", dialog.transcript, message)
        yield Utterance(block, name, (texts or {}).get(block.utterance), path)


def _report_unrated(
    dialog: DialogFiles, blocks: Iterable[grammar.Block], problems: Problems
) -> None:
    """Records recordings without evaluation: one row a dialog, or one each."""
    known = {block.utterance for block in blocks}
    unrated = sorted(set(dialog.recordings) - known)
    if unrated and not dialog.evaluation:
        message = f"{len(unrated)} recordings and no evaluation file: skipped"
        place = os.path.dirname(dialog.recordings[unrated[0]])
        problems.error("missing_evaluation", place, message)
        return
    for name in unrated:
        message = f"no block for it in {dialog.evaluation}: skipped"
        problems.error("missing_evaluation", dialog.recordings[name], message)
