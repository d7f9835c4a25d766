"""Twelve small tasks of the official form, made from clips of several speakers.

The questions of a task are drawn from the clips it is given: those of some speakers for
training, those of the others for the test, so that no voice is in both.
"""

import io
import itertools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import soundfile

from benchmark import demo_audio
from benchmark.audio import SAMPLE_RATE
from benchmark.demo_audio import Clip, Waveform
from benchmark.errors import InputError
from benchmark.typing import Audio, Example, TaskType

NUM_QUESTIONS = 48
TEST_SHARE = 0.4  # of the speakers
SNR_LEVELS = {"0 dB": 0.0, "10 dB": 10.0, "20 dB": 20.0}
_COUNTS = ("one", "two", "three")
_OPENINGS = ("", "Please listen to the recording. ", "You are given some audio. ")
_CLOSINGS = (
    "The answer could be {}.",
    "Choose one of these: {}.",
    "Possible answers: {}.",
    "Answer with one of the following options: {}.",
)
_FREE = ("", " Answer briefly.", " Give the answer only.", " Say nothing else.")


class Question(NamedTuple):
    """One question before it has an instruction: what is heard, what is right."""

    waves: tuple[Waveform, ...]
    answer: str
    speaker: str


class DemoTask(NamedTuple):
    """A task, and how its questions are made."""

    name: str
    question: str  # the instruction without its options
    make: Callable[[Sequence[Clip], str, np.random.Generator], Question]
    labels: tuple[str, ...] = ()  # closed ones, asked for in turns
    type: TaskType = "classification"
    metric: str = "llm_classification"
    synonyms: tuple[tuple[str, tuple[str, ...]], ...] = ()
    value_range: tuple[float, float] | None = None
    unit: str = ""


def split_speakers(clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Returns the clips for training and those for the test, no speaker in both.

    Both parts hear men and women where there are two of each.
    """
    test: set[str] = set()
    for gender in ("female", "male"):
        speakers = sorted({clip.speaker for clip in clips if clip.gender == gender})
        number = round(TEST_SHARE * len(speakers)) or int(len(speakers) > 1)
        test |= set(speakers[len(speakers) - number :])
    parts: tuple[list[Clip], list[Clip]] = ([], [])
    for clip in clips:
        parts[clip.speaker in test].append(clip)
    return parts


def demo_tasks(clips: Sequence[Clip]) -> list[DemoTask]:
    """Returns the tasks that can be made of the clips.

    Args:
      clips: their emotions are the labels of the emotion task.
    """
    emotions = tuple(sorted({clip.emotion for clip in clips}))
    yes_no = ("yes", "no")
    return [
        DemoTask("EmotionRecognition_Demo", "Which emotion does the speaker express?",
                 _emotion, emotions),
        DemoTask("EmotionChangeDetection_Demo",
                 "Does the speaker's emotion change in the middle of the recording?",
                 _emotion_change, yes_no),
        DemoTask("SpeakerVerification_Demo",
                 "Do the two recordings come from the same speaker?", _same_speaker,
                 yes_no),
        DemoTask("GenderRecognition_Demo", "What is the gender of the speaker?",
                 _gender, ("female", "male"),
                 synonyms=(("female", ("woman",)), ("male", ("man",)))),
        DemoTask("SpeakerCounting_Demo", "How many different people speak?",
                 _speaker_count, _COUNTS,
                 synonyms=(("one", ("1",)), ("two", ("2",)), ("three", ("3",)))),
        DemoTask("NoiseDetection_Demo", "Is the recording clean or noisy?", _noise,
                 ("clean", "noisy")),
        DemoTask("NoiseSNRLevelPrediction_Demo",
                 "What is the signal-to-noise ratio of this noisy recording?", _snr,
                 tuple(SNR_LEVELS)),
        DemoTask("ReverberationDetection_Demo",
                 "Was the recording made in a dry or in a reverberant room?",
                 _reverberation, ("dry", "reverberant")),
        DemoTask("AudioDurationPrediction_Demo",
                 "How long is the recording, in seconds?", _duration, (),
                 "regression", "audio_duration_prediction", (), (0.0, 60.0), "s"),
        DemoTask("RepeatedSegmentCounting_Demo",
                 "How many times does the same utterance occur in the recording?",
                 _repeats, (), "regression", "pearson_correlation_coefficient", (),
                 (1.0, 6.0)),
        DemoTask("EmotionOrder_Demo",
                 "Three utterances follow one another. Name their emotions in order, "
                 f"each one of {_listed(emotions)}, separated by spaces.",
                 _emotion_order, (), "sequence_generation", "word_error_rate"),
        DemoTask("DialledNumberRecognition_Demo",
                 "Which number is dialled after the speaker? Write its digits, "
                 "separated by spaces.",
                 _dialled, (), "sequence_generation", "word_error_rate"),
    ]  # fmt: skip


def make_questions(
    task: DemoTask, clips: Sequence[Clip], number: int, seed: int
) -> list[Question]:
    """Draws questions; closed labels come in turns, so that they are balanced.

    Args:
      task: one of `demo_tasks`.
      clips: of the speakers that may be heard.
      number: of questions.
      seed: same seed, same questions.
    """
    rng = np.random.default_rng([seed, *task.name.encode()])
    turns = itertools.cycle(task.labels or ("",))
    return [task.make(clips, next(turns), rng) for _ in range(number)]


def as_examples(
    task: DemoTask, questions: Sequence[Question], seed: int
) -> list[Example]:
    """Gives each question an instruction and an id, in an order that says nothing."""
    rng = np.random.default_rng([seed, *task.name.encode()])
    order = rng.permutation(len(questions))
    wordings = _wordings(task)
    return [
        Example(
            id=f"{task.name}_{row:04d}.wav",
            instance=task.name,
            instruction=wordings[row % len(wordings)],
            references=(questions[i].answer,),
            audios=tuple(Audio(data=encode_wav(wave)) for wave in questions[i].waves),
            speaker=questions[i].speaker,
        )
        for row, i in enumerate(order)
    ]


def encode_wav(wave: Waveform) -> bytes:
    """Returns the bytes of a 16-bit WAV file at 16 kHz."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(wave, -1, 1), SAMPLE_RATE, "PCM_16", format="WAV")
    return file.getvalue()


def write_task(task: DemoTask, folder: pathlib.Path, dataset: str) -> None:
    """Writes `instance.json` of a task, in the official form with our fields added."""
    record = {
        "name": task.name,
        "description": task.question,
        "keywords": ["demonstration", dataset],
        "metrics": [task.metric],
        "path": "",
        "version": "",
        "type": task.type,
        "domain": "Demonstration",
        "subdomain": _SUBDOMAINS[task.name.removesuffix("_Demo")],
        "labels": list(task.labels),
        "synonyms": {label: list(others) for label, others in task.synonyms},
        "unit": task.unit,
    }
    if task.value_range:
        record["value_range"] = list(task.value_range)
    place = folder / task.name.removesuffix("_Demo") / task.name
    place.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (place / "instance.json").write_text(text, encoding="utf-8")


_SUBDOMAINS = {
    "EmotionRecognition": "Paralinguistics",
    "EmotionChangeDetection": "Paralinguistics",
    "EmotionOrder": "Paralinguistics",
    "SpeakerVerification": "Speaker & Language",
    "GenderRecognition": "Speaker & Language",
    "SpeakerCounting": "Speaker & Language",
    "NoiseDetection": "Speech Enhancement",
    "NoiseSNRLevelPrediction": "Speech Enhancement",
    "ReverberationDetection": "Speech Enhancement",
    "AudioDurationPrediction": "Signal Characteristics",
    "RepeatedSegmentCounting": "Signal Characteristics",
    "DialledNumberRecognition": "Sound Event",
}


def _wordings(task: DemoTask) -> list[str]:
    """Returns twelve instructions of a task."""
    if not task.labels:
        return [f"{start}{task.question}{end}" for start in _OPENINGS for end in _FREE]
    options = _listed(task.labels)
    return [
        f"{start}{task.question} {end.format(options)}"
        for start in _OPENINGS
        for end in _CLOSINGS
    ]


def _listed(options: Sequence[str]) -> str:
    return ", ".join(options[:-1]) + f" or {options[-1]}"


def _pick(clips: Sequence[Clip], rng: np.random.Generator, **wanted: str) -> Clip:
    """Draws a speaker, then one of his or her clips that are as wanted."""
    fits = [c for c in clips if all(getattr(c, k) == v for k, v in wanted.items())]
    speakers = sorted({clip.speaker for clip in fits})
    speaker = speakers[rng.integers(len(speakers))]
    own = [clip for clip in fits if clip.speaker == speaker]
    return own[rng.integers(len(own))]


def _other(clips: Sequence[Clip], first: Clip, rng: np.random.Generator, **wanted):
    return _pick([clip for clip in clips if clip.name != first.name], rng, **wanted)


def _emotion(clips, answer, rng) -> Question:
    clip = _pick(clips, rng, emotion=answer)
    return Question((clip.load(),), answer, clip.speaker)


def _gender(clips, answer, rng) -> Question:
    clip = _pick(clips, rng, gender=answer)
    return Question((clip.load(),), answer, clip.speaker)


def _emotion_change(clips, answer, rng) -> Question:
    for i in rng.permutation(len(clips)):
        first = clips[i]
        others = [
            clip
            for clip in clips
            if clip.speaker == first.speaker
            and clip.name != first.name
            and (clip.emotion != first.emotion) == (answer == "yes")
        ]
        if others:
            second = others[rng.integers(len(others))]
            wave = demo_audio.join([first.load(), second.load()])
            return Question((wave,), answer, first.speaker)
    raise InputError(
        "no speaker has two clips of one emotion and a clip of another; "
        "the demonstration needs more clips of each"
    )


def _same_speaker(clips, answer, rng) -> Question:
    first = _pick(clips, rng)
    others = [c for c in clips if c.speaker != first.speaker and answer == "no"]
    own = [c for c in clips if c.speaker == first.speaker and answer == "yes"]
    second = _other(others or own, first, rng)
    return Question((first.load(), second.load()), answer, first.speaker)


def _speaker_count(clips, answer, rng) -> Question:
    """Joins three clips, whoever speaks, so that the length says nothing."""
    number = 1 + _COUNTS.index(answer)
    speakers = sorted({clip.speaker for clip in clips})
    chosen = list(rng.choice(speakers, number, replace=False))
    voices = chosen + [chosen[rng.integers(number)] for _ in range(3 - number)]
    waves = [_pick(clips, rng, speaker=voice).load() for voice in voices]
    order = rng.permutation(3)
    wave = demo_audio.join([waves[i] for i in order])
    return Question((wave,), answer, str(chosen[0]))


def _noise(clips, answer, rng) -> Question:
    clip = _pick(clips, rng)
    wave = clip.load()
    if answer == "noisy":
        wave = demo_audio.add_noise(wave, rng.uniform(0, 25), rng)
    return Question((wave,), answer, clip.speaker)


def _snr(clips, answer, rng) -> Question:
    clip = _pick(clips, rng)
    wave = demo_audio.add_noise(clip.load(), SNR_LEVELS[answer], rng)
    return Question((wave,), answer, clip.speaker)


def _reverberation(clips, answer, rng) -> Question:
    clip = _pick(clips, rng)
    wave = clip.load()
    if answer == "reverberant":
        wave = demo_audio.add_reverberation(wave, rng.uniform(0.4, 1.2), rng)
    return Question((wave,), answer, clip.speaker)


def _duration(clips, answer, rng) -> Question:
    first = _pick(clips, rng)
    waves = [_pick(clips, rng, speaker=first.speaker).load() for _ in range(2)]
    wave = demo_audio.join([first.load(), *waves][: rng.integers(1, 4)])
    return Question((wave,), f"{len(wave) / SAMPLE_RATE:.2f}", first.speaker)


def _repeats(clips, answer, rng) -> Question:
    clip = _pick(clips, rng)
    number = int(rng.integers(1, 7))
    wave = clip.load()[: int(1.2 * SAMPLE_RATE)]
    return Question((demo_audio.join([wave] * number, 0.5),), str(number), clip.speaker)


def _emotion_order(clips, answer, rng) -> Question:
    first = _pick(clips, rng)
    others = [_pick(clips, rng, speaker=first.speaker) for _ in range(2)]
    spoken = [first, *others]
    wave = demo_audio.join([clip.load() for clip in spoken], 0.5)
    return Question((wave,), " ".join(c.emotion for c in spoken), first.speaker)


def _dialled(clips, answer, rng) -> Question:
    clip = _pick(clips, rng)
    digits = "".join(rng.choice(list("0123456789"), rng.integers(3, 7)))
    wave = demo_audio.join([clip.load(), demo_audio.dial(digits)], 0.4)
    return Question((wave,), " ".join(digits), clip.speaker)
