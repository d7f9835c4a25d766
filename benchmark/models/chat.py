"""Models behind an OpenAI-compatible chat endpoint, with the recordings or without."""

import base64
from typing import Any

from benchmark.client import Client, Endpoint, Reply
from benchmark.errors import InputError
from benchmark.models.base import (
    Model,
    ModelSettings,
    NoAnswerError,
    encode_wav,
    load_waveform,
    predict,
)
from benchmark.typing import Example, Prediction

_MAX_BYTES = 4 << 20  # of one answer
_DEAF = (
    "The recording cannot be heard. Give the answer that is most likely from the text "
    "alone, in the form that is asked for."
)


def make_chat(spec: str, settings: ModelSettings) -> Model:
    """Returns a model that hears: instruction, texts and recordings in one message.

    Args:
      spec: 'URL#MODEL'.
      settings: name, budget, concurrency, key variable, limits.
    """
    endpoint = _endpoint(spec, settings)
    info = {"kind": "endpoint", "url": endpoint.url, "model": endpoint.model}
    return _model(settings.name or endpoint.model, endpoint, settings, info, True)


def make_text_chat(spec: str, settings: ModelSettings) -> Model:
    """Returns the text-only baseline: a language model that gets no recording."""
    endpoint = _endpoint(spec, settings)
    name = settings.name or f"text_only {endpoint.model}"
    info = {"kind": "baseline", "url": endpoint.url, "model": endpoint.model}
    return _model(name, endpoint, settings, info, False)


def content_of(example: Example, settings: ModelSettings) -> list[dict[str, Any]]:
    """Returns the parts of the message: instruction, texts, and WAV in base64.

    Several recordings are numbered, each by a line before it.

    Raises:
      NoAnswerError: a recording cannot be read.
    """
    parts = _text_parts(example)
    for number, audio in enumerate(example.audios, 1):
        if len(example.audios) > 1:
            parts.append({"type": "text", "text": f"Recording {number}:"})
        wav = encode_wav(load_waveform(audio, settings.problems))
        data = {"data": base64.b64encode(wav).decode(), "format": "wav"}
        parts.append({"type": "input_audio", "input_audio": data})
    return parts


def _text_parts(example: Example) -> list[dict[str, Any]]:
    texts = [example.instruction, *example.texts]
    return [{"type": "text", "text": text} for text in texts if text]


def _endpoint(spec: str, settings: ModelSettings) -> Endpoint:
    url, _, model = spec.partition("#")
    if not model:
        raise InputError(
            f"the model's specification names no model: expected {url or 'URL'}#MODEL"
        )
    return Endpoint(
        url,
        model,
        settings.key_variable,
        read_seconds=settings.read_seconds,
        total_seconds=2 * settings.read_seconds,
        max_bytes=_MAX_BYTES,
    )


def _model(
    name: str,
    endpoint: Endpoint,
    settings: ModelSettings,
    info: dict[str, Any],
    hears: bool,
) -> Model:
    client = Client(endpoint, settings.budget)

    def answer(example: Example) -> Prediction:
        if hears:
            content = content_of(example, settings)
        else:
            content = [*_text_parts(example), {"type": "text", "text": _DEAF}]
        message = {"role": "user", "content": content}
        limits = {"temperature": 0, "max_tokens": settings.max_tokens}
        return predict(name, example, _response(client.chat([message], **limits)))

    info = {**info, "max_tokens": settings.max_tokens, "temperature": 0}
    return Model(name, answer, settings.concurrency, info, client.stop)


def _response(reply: Reply) -> str:
    """Returns what came back, a refusal too; an empty text where a filter cut in."""
    if reply.outcome == "failed":
        raise NoAnswerError("failed", reply.reason)
    if reply.outcome == "not_asked":
        raise NoAnswerError("not_asked", reply.reason)
    return reply.text
