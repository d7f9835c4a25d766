"""An invented corpus in the form of IEMOCAP, with its quirks at known places.

Ten invented speakers in five sessions, speech-like clips with audible emotion (the
synthesiser of the synthetic corpus), invented words, six observers of whom three rate
each dialog, and six actors who rate what they said themselves. No sound, word or
rating of IEMOCAP is in it. The same seed gives the same bytes.
"""

import itertools
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import soundfile

from metaperser_jax.data.iemocap import grammar, published, tree
from metaperser_jax.data.iemocap.fake_quirks import (
    Dialog,
    PlantedQuirk,
    plant_content,
    plant_files,
    plant_text,
)
from metaperser_jax.data.iemocap.fake_raters import (
    ENACTED,
    OBSERVERS,
    PROTOTYPES,
    SHARES,
    Rater,
    answer,
    sample_raters,
)
from metaperser_jax.data.iemocap.grammar import Block, Dimensions, Labels, Spoken
from metaperser_jax.data.synthetic import synthesizer

GENERATOR_VERSION = "1.0.0"  # raise when the same seed gives another tree
NUM_SESSIONS = 5
RELEASE = "IEMOCAP_full_release"
_TIME = 1_200_000_000  # of all files, so that equal trees have equal fingerprints
_VOICES, _CLIPS, _ANSWERS, _TRIPLES = 2, 3, 4, 5  # streams of randomness

# What the synthesiser knows of each label, and how fully it enacts it.
_VOICE_OF_LABEL = {
    "Neutral": ("neutral", 1.0),
    "Happiness": ("happy", 1.0),
    "Sadness": ("sad", 1.0),
    "Anger": ("angry", 1.0),
    "Surprise": ("surprise", 1.0),
    "Fear": ("fear", 1.0),
    "Disgust": ("disgust", 1.0),
    "Frustration": ("angry", 0.4),
    "Excited": ("happy", 0.8),
}


class Planted(NamedTuple):
    """What a reader should find in an invented tree."""

    root: pathlib.Path
    utterances: tuple[tree.Utterance, ...]  # by dialog, then time
    audio: dict[str, np.ndarray]  # utterance -> [samples] int16, 16 kHz
    quirks: tuple[PlantedQuirk, ...]  # with what each makes the reader record


class _Clip(NamedTuple):
    audio: np.ndarray  # [samples] int16
    latent: np.ndarray  # [3]
    enacted: int  # index into ENACTED
    intensity: float
    words: str


def make_once(
    folder: pathlib.Path, dialogs: int, utterances: int, seed: int
) -> pathlib.Path:
    """Makes an invented tree unless it is there, whole or not at all.

    Returns:
      The folder.
    """
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.incomplete.{os.getpid()}")
        shutil.rmtree(part, ignore_errors=True)
        try:
            fake_tree(part, dialogs, utterances, seed)
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def fake_tree(
    folder: str | os.PathLike,
    dialogs: int = 6,
    utterances: int = 16,
    seed: int = 0,
    quirks: bool = True,
) -> Planted:
    """Writes an invented tree.

    Args:
      folder: where `IEMOCAP_full_release` is made.
      dialogs: a session, at least 2.
      utterances: a dialog, at least 8.
      seed: of everything.
      quirks: plant the quirks of real copies, see `fake_quirks`.

    Returns:
      Exactly what a reader should find, with the drops that the quirks cause.
    """
    root = pathlib.Path(folder) / RELEASE
    raters = sample_raters(seed)
    planted: list[PlantedQuirk] = []
    audio: dict[str, np.ndarray] = {}
    made = []
    for session, number in itertools.product(range(NUM_SESSIONS), range(dialogs)):
        dialog, clips = _make_dialog(
            root, raters, (session, number), (dialogs, utterances), seed
        )
        if quirks:
            planted += plant_content(dialog, session, number)
        dialog.blocks[:] = [_with_consensus(block) for block in dialog.blocks]
        text = _evaluation_bytes(dialog, planted if quirks else None, session, number)
        _write_dialog(dialog, text, clips)
        audio.update(clips)
        made.append(dialog)
    if quirks:
        planted += plant_files(root, made)
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (_TIME, _TIME))
    found = sorted(_found(made), key=lambda x: (x.name.dialog, x.block.start, x.id))
    return Planted(root, tuple(found), audio, tuple(planted))


def _make_dialog(
    root: pathlib.Path,
    raters: dict[str, Rater],
    place: tuple[int, int],
    size: tuple[int, int],
    seed: int,
) -> tuple[Dialog, dict[str, np.ndarray]]:
    """Returns a dialog without its quirks, and its clips by utterance."""
    session, number = place
    scripted = number >= (size[0] + 1) // 2
    scenario = f"script{number + 1:02d}_1" if scripted else f"impro{number + 1:02d}"
    name = f"Ses{session + 1:02d}{'FM'[number % 2]}_{scenario}"
    voices = [
        synthesizer.sample_speaker(
            np.random.default_rng([seed, _VOICES, session, k]), high_voice=k == 0
        )
        for k in range(2)
    ]
    triple = observers_of(seed, session, number)
    dialog = Dialog(root / f"Session{session + 1}", name, [], {}, set())
    clips, clock = {}, 1.5
    for index in range(size[1]):
        letter = index % 2
        clip = _make_clip(voices[letter], seed, (*place, index))
        utterance = f"{name}_{'FM'[letter]}{index // 2:03d}"
        rng = np.random.default_rng([seed, _ANSWERS, *place, index])
        end = round(clock + len(clip.audio) / synthesizer.SAMPLE_RATE, 4)
        own = f"{'FM'[letter]}{session + 1}"
        who = [*triple, *([own] if own in raters else [])]
        skip = triple[number % 3]  # two observers of three rate the dimensions
        rows = _rate(rng, raters, who, skip, clip)
        dialog.blocks.append(Block(utterance, clock, end, "xxx", None, *rows))
        dialog.texts[utterance] = clip.words
        clips[utterance] = clip.audio
        clock = round(end + rng.uniform(-0.3, 1.2), 4)  # some speak into another's turn
    return dialog, clips


def observers_of(seed: int, session: int, number: int) -> tuple[str, ...]:
    """Returns the three observers of a dialog: the triple changes between dialogs.

    Two dialogs in a row share no observer, so that each hears half of each session.
    """
    triples = list(itertools.combinations(range(6), 3))[:10]  # those with the first
    order = np.random.default_rng([seed, _TRIPLES]).permutation(len(triples))
    chosen = triples[order[(3 * session + number // 2) % len(triples)]]
    odd = number % 2 == 1
    return tuple(OBSERVERS[k] for k in range(6) if (k in chosen) != odd)


def _make_clip(
    voice: synthesizer.Speaker, seed: int, place: tuple[int, int, int]
) -> _Clip:
    rng = np.random.default_rng([seed, _CLIPS, *place])
    enacted = int(rng.choice(len(ENACTED), p=SHARES))
    intensity = float(rng.beta(4.0, 1.5))
    latent = intensity * PROTOTYPES[enacted] + 0.15 * rng.standard_normal(3)
    emotion, share = _VOICE_OF_LABEL[ENACTED[enacted]]
    controls = synthesizer.plan_controls(
        rng, voice, latent, synthesizer.EMOTIONS.index(emotion), share * intensity
    )
    sentence = str(rng.choice(synthesizer.SENTENCES))
    audio = synthesizer.synthesize(rng, voice, controls, sentence)
    words = sentence.replace("@", "uh").replace("S", "sh").capitalize()
    return _Clip(audio, latent, enacted, intensity, f"{words}.")


def _rate(
    rng: np.random.Generator,
    raters: dict[str, Rater],
    who: list[str],
    skip: str,
    clip: _Clip,
) -> tuple[tuple[Labels, ...], tuple[Dimensions, ...]]:
    labels, dimensions = [], []
    for name in who:
        said = answer(rng, raters[name], clip.latent, clip.enacted, clip.intensity)
        labels.append(Labels(name, said.labels, said.comment))
        if name != skip:
            dimensions.append(Dimensions(name, *said.values, said.comment))
    return tuple(labels), tuple(dimensions)


def _with_consensus(block: Block) -> Block:
    """Fills in code and triple as the rows give them, unless a quirk has set them."""
    if block.triple is not None:
        return block
    valence, activation, dominance = published.derive_triple(block)
    triple = (round(valence, 4), round(activation, 4), round(dominance, 4))
    return block._replace(code=published.derive_code(block), triple=triple)


def _evaluation_bytes(
    dialog: Dialog, planted: list[PlantedQuirk] | None, session: int, number: int
) -> bytes:
    if planted is None:
        return grammar.format_evaluation(dialog.blocks).encode()
    found, data = plant_text(dialog, session, number)
    planted += found
    return data


def _write_dialog(
    dialog: Dialog, evaluation: bytes, clips: dict[str, np.ndarray]
) -> None:
    paths = {
        "evaluation": dialog.evaluation,
        "transcript": dialog.transcript,
        "recordings": dialog.recording("x"),
    }
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    dialog.evaluation.write_bytes(evaluation)
    spoken = [
        Spoken(block.utterance, block.start, block.end, dialog.texts[block.utterance])
        for block in sorted(dialog.blocks, key=lambda block: block.start)
    ]
    text = grammar.format_transcript(spoken)
    dialog.transcript.write_bytes(text.encode())
    for name, samples in clips.items():
        rate = synthesizer.SAMPLE_RATE
        soundfile.write(dialog.recording(name), samples, rate, subtype="PCM_16")


def _found(made: list[Dialog]) -> Iterator[tree.Utterance]:
    """Yields what a reader should find in the end."""
    for dialog in made:
        for block in dialog.blocks:
            name = grammar.split_utterance(block.utterance)
            assert name is not None
            if block.utterance not in dialog.dropped:
                text = dialog.texts.get(block.utterance)
                path = os.fspath(dialog.recording(block.utterance))
                yield tree.Utterance(block, name, text, path)
