"""Examples written in the local form: metadata.json, and WAV files beside it."""

import contextlib
import io
import itertools
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import soundfile

from benchmark.audio import SAMPLE_RATE, load, soundfile_blocks
from benchmark.errors import InputError, MachineError, Problems
from benchmark.headers import AudioError, read_header, read_header_bytes
from benchmark.instances import MAX_SECONDS, METADATA, OWN_ID, pair_name
from benchmark.typing import Audio, Example


def write_instance(
    folder: str | os.PathLike, examples: Iterable[Example], problems: Problems
) -> int:
    """Writes examples in the local form: metadata.json and WAV files beside it.

    WAV recordings are copied as they are; others become 16-bit WAV with their rate and
    channels. An example with a recording that cannot be read is skipped and recorded.

    Args:
      folder: new, or empty.
      examples: of one instance; one at a time is held.
      problems: collects what was skipped.

    Returns:
      How many examples were written.

    Raises:
      InputError: the folder holds something.
      MachineError: the disk refuses.
    """
    folder = pathlib.Path(folder)
    part = folder / f"{METADATA}.part"
    names: set[str] = set()
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"{folder}: is not empty; name a new folder, or empty it")
        with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            separator = "{\n"
            for example in examples:
                name = _file_name(example.id, names)
                if _write_audios(folder, name, example, problems):
                    record = json.dumps(_record(example, name), ensure_ascii=False)
                    file.write(f"{separator}{json.dumps(name)}: {record}")
                    names.add(name.casefold())
                    separator = ",\n"
            file.write("{}\n" if not names else "\n}\n")
        os.replace(part, folder / METADATA)
    return len(names)


@contextlib.contextmanager
def _disk(folder: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except (OSError, soundfile.SoundFileError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MachineError(f"{folder}: cannot be written ({reason})") from error


def _file_name(identity: str, taken: set[str]) -> str:
    """Returns a name for a recording that is safe, new, and the id where it can be."""
    plain = re.sub(r"[^\w.+=@ -]", "_", identity.removesuffix(".wav"))
    stem = plain.strip(". ").encode()[:180].decode(errors="ignore") or "clip"
    for number in itertools.count(1):
        name = f"{stem}.wav" if number == 1 else f"{stem}~{number}.wav"
        if name.casefold() not in taken and not re.search(r"_pair\d+\.wav$", name):
            return name
        if number == 1 and re.search(r"_pair\d+$", stem):
            stem += "_"  # else it would be taken for a further input of another
    raise AssertionError("unreachable")


def _record(example: Example, name: str) -> dict[str, Any]:
    record: dict[str, Any] = {"instruction": example.instruction}
    for kind, values in (("label", example.references), ("text", example.texts)):
        for number, value in enumerate(values, 1):
            record[kind if number == 1 else f"{kind}{number}"] = value
    if example.speaker:
        record["speaker"] = example.speaker
    record.update({k: _plain(v) for k, v in example.extra.items() if k not in record})
    if name != example.id:
        record[OWN_ID] = example.id
    return record


def _plain(value: Any) -> Any:
    """Returns what JSON can hold of a value."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return str(value)
    return value


def _write_audios(
    folder: pathlib.Path, name: str, example: Example, problems: Problems
) -> bool:
    """Writes the recordings of an example; False and an error row where one fails."""
    paths = [folder / pair_name(name, n) for n in range(1, len(example.audios) + 1)]
    for path, audio in zip(paths, example.audios, strict=True):
        try:
            write_audio(audio, path, f"{example.instance}, {example.id}")
        except AudioError as error:
            problems.error(error.kind, error.where, f"{error.message}: skipped")
            for written in paths:
                written.unlink(missing_ok=True)
            return False
    return True


def write_audio(audio: Audio, path: pathlib.Path, where: str) -> None:
    """Writes a recording as WAV: a copy of one, else 16 bit with rate and channels.

    Raises:
      AudioError: (an `InputError`) it cannot be used.
    """
    source = audio.path or io.BytesIO(audio.data)
    name = audio.path or where
    header = read_header(name) if audio.path else read_header_bytes(audio.data, where)
    if header.format in ("WAV", "WAVEX"):
        if audio.path:
            shutil.copyfile(audio.path, path)
        else:
            path.write_bytes(audio.data)
    elif header.decoder == "soundfile":
        rate, channels = header.sample_rate, header.channels
        with soundfile.SoundFile(path, "w", rate, channels, "PCM_16") as file:
            for block in soundfile_blocks(source, name, header.channels):
                file.write(block)
    else:
        soundfile.write(path, load(name, SAMPLE_RATE, MAX_SECONDS), SAMPLE_RATE)
