"""What every adapter of a model shares."""

import io
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float

from benchmark.audio import SAMPLE_RATE
from benchmark.client import Budget
from benchmark.errors import Problems
from benchmark.headers import AudioError
from benchmark.instances import load_audio
from benchmark.typing import Audio, Example, Prediction

OptionsOf = Callable[[Example], tuple[str, ...] | None]


class Model(NamedTuple):
    """A model under test: one function, and how many threads may call it."""

    name: str
    answer: Callable[[Example], Prediction | None]  # None = not answered
    max_concurrency: int = 1
    info: Mapping[str, Any] = {}  # what a report says of it
    stop: Callable[[], None] = lambda: None  # ends what waits in other threads


class ModelSettings(NamedTuple):
    """What adapters need; each takes what concerns it."""

    options_of: OptionsOf = lambda example: None  # of a closed question
    examples: Iterable[Example] = ()  # the reference set of majority baselines
    name: str = ""  # '' = the adapter's own
    seed: int = 0
    key_variable: str = ""  # see `client.Endpoint`
    budget: Budget | None = None  # of calls to an endpoint
    concurrency: int = 8  # calls to an endpoint at once
    max_tokens: int = 512
    read_seconds: float = 120.0
    option_maps: pathlib.Path | None = None  # more maps, over those of the package
    problems: Problems | None = None  # collects doubts about recordings


class NoAnswerError(Exception):
    """There is no answer to one example; the run goes on.

    `kind` is 'skipped' (the model does not do such a task, or cannot read the
    recording), 'failed' (an endpoint gave up) or 'not_asked' (the budget is spent).
    """

    def __init__(self, kind: Literal["skipped", "failed", "not_asked"], message: str):
        super().__init__(kind, message)
        self.kind, self.message = kind, message

    def __str__(self) -> str:
        return self.message


def predict(
    model: str,
    example: Example,
    response: str,
    scores: Mapping[str, float] | None = None,
) -> Prediction:
    """Returns the prediction of a model for an example."""
    pairs = tuple((scores or {}).items())
    return Prediction(example.instance, example.id, response, model, pairs)


def require_options(options_of: OptionsOf, example: Example) -> tuple[str, ...]:
    """Returns the options of a closed question; else raises `NoAnswerError`."""
    options = options_of(example)
    if not options:
        raise NoAnswerError("skipped", "no options are known: not a closed question")
    return options


def load_waveform(
    audio: Audio, problems: Problems | None = None, sample_rate: int = SAMPLE_RATE
) -> Float[np.ndarray, " samples"]:
    """Decodes a recording, from a file or from an encoded file's bytes.

    Returns:
      [samples] float32, mono, at `sample_rate` Hz.

    Raises:
      NoAnswerError: ('skipped') the recording cannot be read; says why.
    """
    try:
        return load_audio(audio, "", sample_rate, problems=problems)
    except AudioError as error:
        message = f"{error.where}: {error.kind}: {error.message}"
        raise NoAnswerError("skipped", message) from error


def encode_wav(
    waveform: Float[np.ndarray, " samples"], sample_rate: int = SAMPLE_RATE
) -> bytes:
    """Returns the bytes of a 16-bit WAV file; what is beyond full scale is clipped."""
    file = io.BytesIO()
    clipped = np.clip(waveform, -1, 1)
    soundfile.write(file, clipped, sample_rate, "PCM_16", format="WAV")
    return file.getvalue()
