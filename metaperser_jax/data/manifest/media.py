"""What stands for each clip: a recording, checked, or a row of features."""

import functools
import hashlib
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmark.audio import content_hash, load
from benchmark.headers import AudioError, is_audio_name, read_header
from metaperser_jax.data.manifest.features import FeatureRows
from metaperser_jax.data.manifest.spec import ManifestSpec
from metaperser_jax.errors import InputError, Problems, did_you_mean

AUDIO_FOLDERS = ("audio", "wav")  # looked for in this order, then the root itself
Skip = Callable[[int, str, str], None]  # records a clip as skipped: row, kind, message
MAX_HINT_NAMES = 200  # the nearest of more names takes too long to find, clip by clip


class Media(NamedTuple):
    """Inputs of the clips that can be used."""

    clips: tuple[str, ...]
    content_hashes: tuple[str, ...]  # [clips]
    seconds: dict[str, float]  # clip -> length, where there is a recording
    read_audio: Callable[[int], np.ndarray] | None  # clip index -> [samples]
    features: np.ndarray | None  # [clips, layers, width]


class Recording(NamedTuple):
    """A recording whose header was checked."""

    path: str
    seconds: float
    digest: str  # sha256 of the bytes


class AudioIndex(NamedTuple):
    """Recordings of a folder by the names under which a manifest may call them."""

    folder: str
    exact: dict[str, list[str]]  # path below the folder, with and without extension
    loose: dict[str, list[str]]  # file name, with and without extension


def find_media(
    clips: Sequence[str],
    places: Sequence[str],
    num_ratings: Sequence[int],
    features: FeatureRows | None,
    spec: ManifestSpec,
    problems: Problems,
) -> Media:
    """Finds and checks the recording or the feature row of each clip.

    Args:
      clips: [clips] ids.
      places: [clips] where the clip is first named, for messages.
      num_ratings: [clips] ratings that are lost with a clip.
      features: the table of features, or None.
      spec: names the audio folder.
      problems: collects the clips that cannot be used.
    """

    def skip(row: int, kind: str, message: str) -> None:
        message = f"clip {clips[row]!r}: {message}; its {num_ratings[row]} ratings"
        problems.error(kind, places[row], f"{message} are skipped")

    rows = list(range(len(clips)))
    folder = _audio_folder(spec)
    index = None if folder is None else index_audio(folder)
    if index is not None and _has_no_recordings(index, clips, spec):
        index = None
    if features is not None:
        rows = [row for row in rows if _has_features(clips[row], features, row, skip)]
    recordings = None
    if index is not None:
        checked = {row: _check_recording(clips[row], index, row, skip) for row in rows}
        recordings = [found for found in checked.values() if found is not None]
        rows = [row for row in rows if checked[row] is not None]
    usable = tuple(clips[row] for row in rows)
    return _collect(usable, features, recordings, spec, problems)


def index_audio(folder: str) -> AudioIndex:
    """Lists the recordings below a folder; hidden files are left out.

    Names are compared in Unicode's composed form: macOS writes file names decomposed.
    """
    index = AudioIndex(folder, {}, {})
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(filter(is_audio_name, names)):
            path = os.path.join(parent, name)
            below = os.path.relpath(path, folder).replace(os.sep, "/")
            for keys, key in ((index.exact, below), (index.loose, name)):
                for form in (key, os.path.splitext(key)[0]):
                    keys.setdefault(unicodedata.normalize("NFC", form), []).append(path)
    return index


def find_recording(index: AudioIndex, clip: str) -> str:
    """Returns the path of a clip's recording.

    Tried in this order: a path (absolute or below the folder), a path without its
    extension, a file name anywhere below, a file name without its extension.

    Raises:
      AudioError: none, or more than one with that name.
    """
    found = _matches(index, clip)
    if len(found) > 1:
        names = ", ".join(os.path.relpath(path, index.folder) for path in found[:3])
        message = f"{len(found)} recordings have that name ({names}): give its path"
        raise AudioError("ambiguous_audio", clip, message)
    if not found:
        message = f"no recording below {index.folder}.{_hint(clip, index.loose)}"
        raise AudioError("missing_audio", clip, message)
    return found[0]


def _matches(index: AudioIndex, clip: str) -> list[str]:
    direct = os.path.join(index.folder, clip)
    if os.path.lexists(direct) and not os.path.isdir(direct):
        return [direct]
    key = unicodedata.normalize("NFC", clip).removeprefix("./")
    return index.exact.get(key) or index.loose.get(key) or []


def _hint(clip: str, names: Mapping[str, Any]) -> str:
    return did_you_mean(clip, names) if len(names) <= MAX_HINT_NAMES else ""


def _audio_folder(spec: ManifestSpec) -> str | None:
    root = os.fspath(spec.root)
    if spec.audio is None or (spec.audio == "auto" and spec.features is not None):
        return None
    if spec.audio != "auto":
        folder = os.path.join(root, spec.audio)
        if not os.path.isdir(folder):
            folders = [entry.name for entry in os.scandir(root) if entry.is_dir()]
            raise InputError(
                f"{folder}: no such audio folder; found {', '.join(folders) or 'none'}."
                f"{did_you_mean(spec.audio, folders)}"
            )
        return folder
    below = (os.path.join(root, name) for name in AUDIO_FOLDERS)
    return next(filter(os.path.isdir, below), root)


def _has_no_recordings(
    index: AudioIndex, clips: Sequence[str], spec: ManifestSpec
) -> bool:
    """True if a folder that nobody named holds no recordings: labels only.

    Raises:
      InputError: it holds recordings, and none of them has a clip's name.
    """
    if spec.audio != "auto":
        return False
    if any(_matches(index, clip) for clip in clips):
        return False
    if not index.exact:
        return True
    raise InputError(
        f"{index.folder}: none of its recordings ({min(index.loose)} ...) has the name "
        f"of a clip ({clips[0]} ...): name the folder with `audio`, or set audio=None"
    )


def _has_features(clip: str, features: FeatureRows, row: int, skip: Skip) -> bool:
    if clip in features.row:
        return True
    hint = _hint(clip, features.row)
    skip(row, "missing_features", f"no usable row in {features.path}.{hint}")
    return False


def _check_recording(
    clip: str, index: AudioIndex, row: int, skip: Skip
) -> Recording | None:
    try:
        path = find_recording(index, clip)
        return Recording(path, read_header(path).seconds, content_hash(path))
    except AudioError as error:
        skip(row, error.kind, error.message if error.where == clip else str(error))
    return None


def _collect(
    clips: tuple[str, ...],
    features: FeatureRows | None,
    recordings: list[Recording] | None,
    spec: ManifestSpec,
    problems: Problems,
) -> Media:
    """Gathers what is known of the usable clips."""
    values = read = None
    hashes = [hashlib.sha256(f"clip {clip}".encode()).hexdigest() for clip in clips]
    seconds: dict[str, float] = {}
    if features is not None:
        values = features.values[[features.row[clip] for clip in clips]]
        hashes = [content_hash(row) for row in values]
    if recordings is not None:
        pairs = zip(clips, recordings, strict=True)
        seconds = {clip: recording.seconds for clip, recording in pairs}
        hashes = [recording.digest for recording in recordings]
        paths = tuple(recording.path for recording in recordings)
        read = functools.partial(
            _read_clip, paths, spec.sample_rate, float(spec.max_seconds), problems
        )
    return Media(clips, tuple(hashes), seconds, read, values)


def _read_clip(
    paths: tuple[str, ...],
    sample_rate: int,
    max_seconds: float,
    problems: Problems,
    index: int,
) -> np.ndarray:
    return load(paths[index], sample_rate, max_seconds, problems)
