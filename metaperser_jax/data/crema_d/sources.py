"""Where the files of a copy of the corpus are."""

import hashlib
import json
import os
import pathlib
from typing import NamedTuple

from benchmark.audio import content_hash
from benchmark.headers import is_audio_name
from metaperser_jax.data.crema_d.spec import CremaDSpec
from metaperser_jax.errors import InputError, did_you_mean

RESPONSES = "finishedResponses.csv"
FIRST_CLICKS = "finishedEmoResponses.csv"
VOTES, SUMMARY = "tabulatedVotes.csv", "summaryTable.csv"
AUDIO_FOLDER = "AudioWAV"
_POINTER = b"version https://git-lfs"
_POINTER_SIZE = 1024  # bytes; a pointer takes about 130


class Sources(NamedTuple):
    """The files that are read."""

    root: pathlib.Path  # folder of the responses
    responses: pathlib.Path
    audio_folder: pathlib.Path
    recordings: dict[str, pathlib.Path]  # clip -> file, sorted
    first_clicks: pathlib.Path | None  # finishedEmoResponses.csv, if there
    votes: pathlib.Path | None  # tabulatedVotes.csv, if there
    summary: pathlib.Path | None  # summaryTable.csv, if there

    def shown(self, path: pathlib.Path) -> str:
        """Names a file for messages, below the root where it is there."""
        base = self.root if path.is_relative_to(self.root) else self.root.parent
        return str(path.relative_to(base) if path.is_relative_to(base) else path)


def find_sources(spec: CremaDSpec) -> Sources:
    """Finds the responses, the recordings and the published tables.

    The root may be the repository, the folder around it, or any folder that holds the
    responses; the recordings are looked for in AudioWAV below or beside it, then in
    the folder itself. Each table may be gzipped, in `processedResults` or beside.

    Args:
      spec: `root`, `responses` and `audio` are read.

    Returns:
      The files.

    Raises:
      InputError: a folder or the responses are not there, there is no recording, or
        all recordings are Git LFS pointers.
    """
    given = pathlib.Path(spec.root).expanduser().absolute()
    if not given.is_dir():
        raise InputError(f"{given}: no such folder, expected a copy of CREMA-D")
    responses = _find_responses(given, spec.responses)
    root = responses.parent if spec.responses == "auto" else given
    folder = _find_audio_folder(given, root, spec.audio)
    recordings = _list_recordings(folder)
    if not recordings:
        raise InputError(
            f"{folder}: no recordings, expected {AUDIO_FOLDER}/1001_DFA_ANG_XX.wav and "
            "so on; name their folder with `audio`"
        )
    _refuse_pointers(folder, recordings)
    return Sources(
        root,
        responses,
        folder,
        recordings,
        *(_find_table(root, name) for name in (FIRST_CLICKS, VOTES, SUMMARY)),
    )


def fingerprint(sources: Sources) -> str:
    """Returns 16 hex digits of what a build depends on.

    The bytes of the responses, the names and sizes of the recordings and of the
    published tables.
    """
    tables = (sources.first_clicks, sources.votes, sources.summary)
    sizes = [
        (path.name, path.stat().st_size)
        for path in (*sources.recordings.values(), *filter(None, tables))
    ]
    text = json.dumps([content_hash(sources.responses), sizes])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _find_responses(given: pathlib.Path, responses: str) -> pathlib.Path:
    if responses != "auto":
        path = given / responses
        if not path.is_file():
            names = sorted(x.name for x in given.iterdir() if x.is_file())
            raise InputError(
                f"{path}: no such file.{did_you_mean(path.name, names)} Set "
                "`responses` to the table of answers"
            )
        return path
    places = (given, *sorted(x for x in given.iterdir() if x.is_dir()), given.parent)
    for folders in (places[:1], places[1:-1], places[-1:]):
        found = [path for x in folders if (path := _table_in(x, RESPONSES)) is not None]
        if len(found) > 1:
            copies = ", ".join(path.parent.name for path in found)
            raise InputError(f"{given}: several copies ({copies}): name one as root")
        if found:
            return found[0]
    raise InputError(
        f"{given}: no {RESPONSES} in it, in a folder below or beside it: give the copy "
        "of the repository as root, or name the table with `responses`"
    )


def _table_in(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    paths = (folder / name, folder / f"{name}.gz")
    return next((path for path in paths if path.is_file()), None)


def _find_table(root: pathlib.Path, name: str) -> pathlib.Path | None:
    found = (_table_in(folder, name) for folder in (root / "processedResults", root))
    return next((path for path in found if path is not None), None)


def _find_audio_folder(
    given: pathlib.Path, root: pathlib.Path, audio: str
) -> pathlib.Path:
    if audio != "auto":
        folder = given / audio
        if not folder.is_dir():
            folders = sorted(x.name for x in given.iterdir() if x.is_dir())
            raise InputError(
                f"{folder}: no such audio folder; found "
                f"{', '.join(folders) or 'none'}.{did_you_mean(audio, folders)}"
            )
        return folder
    places = (root, given, root.parent)
    below = (place / AUDIO_FOLDER for place in places)
    return next((folder for folder in below if folder.is_dir()), given)


def _list_recordings(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the recording of each file stem; a WAV goes before other formats."""
    names = sorted(filter(is_audio_name, os.listdir(folder)))
    paths = sorted((folder / name for name in names), key=_is_wav)
    recordings = {path.stem: path for path in paths if path.is_file()}
    return dict(sorted(recordings.items()))


def _is_wav(path: pathlib.Path) -> bool:
    return path.suffix.lower() == ".wav"


def _refuse_pointers(folder: pathlib.Path, recordings: dict[str, pathlib.Path]) -> None:
    """Raises `InputError` if no file is more than a pointer to a recording."""
    for path in recordings.values():
        if path.stat().st_size > _POINTER_SIZE or not _is_pointer(path):
            return
    raise InputError(
        f"{folder}: all {len(recordings)} recordings are Git LFS pointers, text of "
        "about 130 bytes that stands for the sound: install Git LFS and run "
        "`git lfs pull` in the copy of the repository"
    )


def _is_pointer(path: pathlib.Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False  # reading the recording says what is wrong with it
