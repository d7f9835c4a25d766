"""A generated copy of the corpus: the same files, names and columns, invented content.

For trying a whole run without the download, at any size up to the real one. Clips are
speech-like sounds of 1.0 to 2.2 s from the synthesizer of the synthetic corpus, raters
are simulated. Planted quirks, one of each, all of which the reader has to survive:

- `duplicate`: a rater answers a clip again in the same modality, with another label;
- `missing_level`: an answer holds the letter where the level should be;
- `bad_letter`: an additional answer 'X';
- `unknown_clip`: an additional answer to a clip without a recording;
- `pointer`: a Git LFS pointer in place of a recording;
- `empty`: a recording of no samples, 1076_MTI_SAD_XX where it is among the clips;
- `unanswered`: a recording that nobody was asked about.
"""

import functools
import os
import pathlib
import shutil
import wave
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int16

from metaperser_jax.data.crema_d import names
from metaperser_jax.data.crema_d.fake_raters import (
    SESSION_BASE,
    FakeAnswers,
    sample_raters,
    simulate_answers,
)
from metaperser_jax.data.crema_d.folds import SPEAKER_GROUPS, speaker_of
from metaperser_jax.data.crema_d.sources import (
    AUDIO_FOLDER,
    FIRST_CLICKS,
    RESPONSES,
    SUMMARY,
    VOTES,
)
from metaperser_jax.data.crema_d.spec import CLASSES, LETTERS, MODALITIES
from metaperser_jax.data.synthetic import synthesizer
from metaperser_jax.data.synthetic.listeners import PROTOTYPES

GENERATOR_VERSION = "1.0.0"  # raise when the same size gives other files
EMPTY_CLIP = "1076_MTI_SAD_XX"  # nearly empty in the corpus itself
_RATERS, _ANSWERS, _SPEAKER, _CLIP, _AUDIO, _CHOICE = range(6)  # streams of randomness
_INTENSITY = {"LO": 0.35, "MD": 0.6, "HI": 0.95, names.NO_LEVEL: 0.65}
_LEVEL_VALUE = {"LO": 20, "MD": 50, "HI": 80, names.NO_LEVEL: 50}
_SENTENCES = (*synthesizer.SENTENCES, "mo keti sanu re", "fe lodu na Sibe")
_RESPONSE_HEADER = (
    *("", "localid", "pos", "ans", "ttr", "queryType", "numTries", "clipNum"),
    *("questNum", "subType", "clipName", "sessionNums", "respEmo", "respLevel"),
    *("dispEmo", "dispVal", "dispLevel"),
)
_CLICK_HEADER = (
    *("", "localid", "sessionNums", "queryType", "questNum", "pos", "ttr"),
    *("numTries", "clipNum", "clipName"),
)
_POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:{:064x}\nsize 72862\n"
)


class FakeSize(NamedTuple):
    """What fixes a generated copy, byte for byte."""

    num_clips: int
    num_raters: int
    seed: int = 0


class ClipPlan(NamedTuple):
    """How a clip is spoken."""

    emotion: int  # index into CLASSES
    intensity: float  # how strongly it is enacted, 0-1
    controls: synthesizer.Controls


class FakePlan(NamedTuple):
    """A generated copy before any file is written."""

    size: FakeSize
    clips: tuple[str, ...]
    raters: tuple[str, ...]
    answers: FakeAnswers
    quirks: dict[str, Any]  # name -> index of an answer, or the name of a clip


def make_once(folder: pathlib.Path, size: FakeSize) -> pathlib.Path:
    """Writes a generated copy unless it is there; returns its folder.

    It is written beside its place and renamed when complete.

    Raises:
      OSError: the folder cannot be written.
    """
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.incomplete")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        write_fake(plan_fake(size), unfinished)
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():  # another process may have been faster
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def plan_fake(size: FakeSize) -> FakePlan:
    """Draws raters, clips and answers, and chooses where the quirks go."""
    clips = choose_clips(size)
    plans = [plan_clip(size.seed, clip) for clip in clips]
    raters = sample_raters(_rng(size.seed, _RATERS), size.num_raters)
    answers = simulate_answers(
        _rng(size.seed, _ANSWERS),
        raters,
        np.array([plan.emotion for plan in plans]),
        np.array([plan.intensity for plan in plans]),
    )
    ids = tuple(f"SSI_{1_120_000_000 + 4_937 * i}" for i in range(size.num_raters))
    return FakePlan(size, clips, ids, answers, _place_quirks(clips, answers))


def _rng(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, *stream])


def choose_clips(size: FakeSize) -> tuple[str, ...]:
    """Chooses clips so that actors and speaker groups take turns; sorted."""
    rng = _rng(size.seed, _CHOICE)
    by_actor: dict[str, list[str]] = {}
    for clip in rng.permutation(_all_clips()).tolist():
        by_actor.setdefault(speaker_of(clip), []).append(clip)
    groups = SPEAKER_GROUPS.values()
    longest = max(map(len, groups))
    actors = [x[i] for i in range(longest) for x in groups if i < len(x)]
    rounds = max(map(len, by_actor.values()))
    turns = [by_actor[x][i] for i in range(rounds) for x in actors if by_actor[x][i:]]
    return tuple(sorted(turns[: size.num_clips]))


@functools.cache
def _all_clips() -> tuple[str, ...]:
    return names.clip_names()


@functools.cache
def _clip_numbers() -> dict[str, int]:
    """Numbers all names that could be, from 1, whether recorded or not."""
    everything = sorted((*_all_clips(), *names.NEVER_RECORDED))
    return {clip: number for number, clip in enumerate(everything, start=1)}


def _place_quirks(clips: tuple[str, ...], answers: FakeAnswers) -> dict[str, Any]:
    """Chooses the answers and clips that go wrong; see the head of this file."""
    voice = np.flatnonzero(answers.modality == 0)
    empty = EMPTY_CLIP if EMPTY_CLIP in clips else clips[len(clips) // 2]
    pointer = clips[len(clips) // 3]
    if pointer == empty:
        pointer = clips[len(clips) // 3 - 1]
    sound = ~np.isin(answers.clip, [clips.index(empty), clips.index(pointer)])
    usable = voice[sound[voice]]
    return {
        "duplicate": int(usable[0]),
        "missing_level": int(usable[len(usable) // 2]),
        "bad_letter": int(usable[-1]),
        "unknown_clip": names.NEVER_RECORDED[1],
        "pointer": pointer,
        "empty": empty,
        "unanswered": names.NEVER_RECORDED[0],
    }


def plan_clip(seed: int, clip: str) -> ClipPlan:
    """Draws how a clip is spoken; it depends on the seed and its name only."""
    _, _, emotion, level = clip.split("_")
    rng = _rng(seed, _CLIP, _clip_numbers()[clip])
    index = names.EMOTIONS.index(emotion)
    voice = synthesizer.EMOTIONS.index(CLASSES[index])
    intensity = float(np.clip(_INTENSITY[level] + 0.12 * rng.standard_normal(), 0, 1))
    latent = intensity * PROTOTYPES[voice] + 0.12 * rng.standard_normal(3)
    controls = synthesizer.plan_controls(
        rng, _speaker(seed, speaker_of(clip)), latent, voice, intensity
    )
    return ClipPlan(index, intensity, controls)


@functools.cache
def _speaker(seed: int, actor: str) -> synthesizer.Speaker:
    number = int(actor)
    return synthesizer.sample_speaker(_rng(seed, _SPEAKER, number), bool(number % 2))


def render_clip(seed: int, clip: str) -> Int16[np.ndarray, " samples"]:
    """Renders a clip, 16 kHz, 1.0 to 2.2 s."""
    sentence = _SENTENCES[names.SENTENCES.index(clip.split("_")[1])]
    return synthesizer.synthesize(
        _rng(seed, _AUDIO, _clip_numbers()[clip]),
        _speaker(seed, speaker_of(clip)),
        plan_clip(seed, clip).controls,
        sentence,
    )


def write_fake(plan: FakePlan, folder: pathlib.Path) -> None:
    """Writes a generated copy: responses, first clicks, vote tables, recordings."""
    audio, results = folder / AUDIO_FOLDER, folder / "processedResults"
    audio.mkdir(parents=True)
    results.mkdir()
    _write_csv(folder / RESPONSES, _RESPONSE_HEADER, response_rows(plan))
    _write_csv(folder / FIRST_CLICKS, _CLICK_HEADER, _click_rows(plan))
    votes = count_fake_votes(plan)
    _write_csv(results / VOTES, ("", *LETTERS, "fileName"), _vote_rows(plan, votes))
    keys = ("VoiceVote", "FaceVote", "MultiModalVote")
    _write_csv(results / SUMMARY, ("", "FileName", *keys), _majority_rows(plan, votes))
    for clip in (*plan.clips, plan.quirks["unanswered"]):
        path = audio / f"{clip}.wav"
        if clip == plan.quirks["pointer"]:
            path.write_text(_POINTER.format(_clip_numbers()[clip]))
        elif clip == plan.quirks["empty"]:
            _write_wav(path, np.zeros(0, np.int16))
        else:
            _write_wav(path, render_clip(plan.size.seed, clip))


def _write_wav(path: pathlib.Path, samples: Int16[np.ndarray, " samples"]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, synthesizer.SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


def _write_csv(
    path: pathlib.Path, header: tuple[str, ...], rows: Iterator[tuple[Any, ...]]
) -> None:
    """Writes text cells in quotes and numbers without, as the corpus does."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for row in (header, *rows):
            file.write(",".join(map(_cell, row)) + "\n")


def _cell(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def response_rows(plan: FakePlan) -> Iterator[tuple[Any, ...]]:
    """Yields the rows of finishedResponses.csv, the planted ones included."""
    quirks, number = plan.quirks, 0
    for answer, (index, letter, level, clip) in enumerate(_answer_cells(plan)):
        rows = [(letter, level, clip)]
        if answer == quirks["missing_level"]:
            rows = [(letter, letter, clip)]
        if answer == quirks["duplicate"]:
            other = LETTERS[(LETTERS.index(letter) + 1) % len(LETTERS)]
            rows.append((other, level, clip))
        if answer == quirks["bad_letter"]:
            rows.append(("X", level, clip))
            rows.append((letter, level, quirks["unknown_clip"]))
        for row in rows:
            number += 1
            yield _response_row(plan, number, index, *row)


def _answer_cells(plan: FakePlan) -> Iterator[tuple[int, str, str, str]]:
    answers = plan.answers
    columns = (answers.label.tolist(), answers.level.tolist(), answers.clip.tolist())
    for index, (label, level, clip) in enumerate(zip(*columns, strict=True)):
        yield index, LETTERS[label], str(level), plan.clips[clip]


def _response_row(
    plan: FakePlan, number: int, index: int, letter: str, level: str, clip: str
) -> tuple[Any, ...]:
    answers = plan.answers
    rater = int(answers.rater[index])
    emotion, shown = clip.split("_")[2:]
    return (
        *(str(number), plan.raters[rater], number),
        f"{letter}_{level}" if level != letter else letter,
        *(str(answers.response_ms[index]), int(answers.modality[index]) + 1, 0),
        *(_clip_numbers()[clip], int(answers.question[index]), 4, clip),
        *(SESSION_BASE + rater, letter, level),
        *(emotion[0], _LEVEL_VALUE[shown], shown[0]),
    )


def _click_rows(plan: FakePlan) -> Iterator[tuple[Any, ...]]:
    answers = plan.answers
    for index, rater in enumerate(answers.rater.tolist()):
        clip = plan.clips[answers.clip[index]]
        yield (
            *(str(index + 1), plan.raters[rater], SESSION_BASE + rater),
            *(int(answers.modality[index]) + 1, int(answers.question[index])),
            *(index + 1, str(answers.first_click_ms[index]), 0),
            *(_clip_numbers()[clip], clip),
        )


def count_fake_votes(plan: FakePlan) -> np.ndarray:
    """Returns [modalities, clips, labels] counts, late first clicks left out."""
    answers = plan.answers
    counts = np.zeros((len(MODALITIES), len(plan.clips), len(LETTERS)), int)
    kept = answers.first_click_ms <= 10_000
    index = (answers.modality[kept], answers.clip[kept], answers.label[kept])
    np.add.at(counts, index, 1)
    return counts


def _vote_rows(plan: FakePlan, votes: np.ndarray) -> Iterator[tuple[Any, ...]]:
    for modality, table in enumerate(votes):
        for clip, counts in zip(plan.clips, table.tolist(), strict=True):
            if any(counts):
                number = 100_000 * (modality + 1) + _clip_numbers()[clip]
                yield (str(number), *counts, clip)


def _majority_rows(plan: FakePlan, votes: np.ndarray) -> Iterator[tuple[Any, ...]]:
    for index, clip in enumerate(plan.clips):
        tables = [votes[modality, index] for modality in range(len(MODALITIES))]
        if all(counts.any() for counts in tables):
            yield (str(index + 1), clip, *map(_spell_majority, tables))


def _spell_majority(counts: np.ndarray) -> str:
    return ":".join(LETTERS[i] for i in np.flatnonzero(counts == counts.max()))
