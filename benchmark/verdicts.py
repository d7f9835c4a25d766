"""Reading what a judge wrote: a verdict, or the reason why there is none.

No verdict is ever read from a prompt that comes back, from a line that the judged
text may have brought along, or from a reply that was cut off; nothing is guessed.
"""

import json
import re
from typing import Any, NamedTuple

from benchmark.prompts import Profile, Prompt, fold

SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "reason": {"type": "string"},
                "token": {"type": "string"},
                "verdict": {"type": "string", "enum": ["YES", "NO"]},
            },
            "required": ["reason", "token", "verdict"],
            "additionalProperties": False,
        },
    },
}
_READ_CHARACTERS = 1 << 15  # the end of a reply; verdicts stand there
_LINE_CHARACTERS = 200
_LINE = re.compile(r"[\W_]*verdict(?:[\W_]+([0-9a-f]{16}))?[\W_]+(yes|no)[\W_]*")
_PARITY_LINE = re.compile(r"[\W_]*(?:result[\W_]+)?(yes|no)[\W_]*")
_REFUSAL = re.compile(
    r"\bi(?:['\u2019]m| am)? "
    r"(?:sorry|cannot|can['\u2019]t|will not|won['\u2019]t|am unable|unable)\b"
)


class Reading(NamedTuple):
    """What a judge's reply says."""

    correct: bool | None  # None = no verdict
    reason: str  # 'schema', 'line', 'refused', 'unparsable: ...'


def read_verdict(
    text: str, prompt: Prompt, profile: Profile = "strict", finish: str = ""
) -> Reading:
    """Reads a judge's reply.

    A JSON object by `SCHEMA` counts, wherever it stands; else the last verdict line.
    One that carries the prompt's token counts always, one without a token only where
    no judged text holds anything like a verdict.

    Args:
      text: what the judge wrote.
      prompt: the question, whose echo is taken out first.
      profile: of the prompt; 'parity' reads a plain last line.
      finish: the endpoint's finish reason; a reply that ran into the limit of tokens
        has no verdict.
    """
    text = _without_echo(text, prompt)[-_READ_CHARACTERS:]
    if re.search(rf"<<<[^<>\n]*{prompt.token}", text):
        return Reading(None, "unparsable: an echo of the prompt")
    if finish == "length":
        return Reading(None, "unparsable: cut off by the limit of tokens")
    if profile == "parity":
        lines = [m[1] for m in map(_PARITY_LINE.fullmatch, _lines(text)) if m]
        return _decide([], lines, text)
    return _decide(_from_json(text, prompt), _from_lines(text, prompt), text)


def _without_echo(text: str, prompt: Prompt) -> str:
    """Takes out the prompt's messages: some endpoints return them with the reply."""
    for _, message in prompt.messages:
        text = text.replace(message, "\n")
    return text


def _decide(objects: list[str], lines: list[str], text: str) -> Reading:
    said = {*objects, *(lines[-1:] if objects else ())}
    if len(said) > 1:
        return Reading(None, "unparsable: two verdicts that contradict each other")
    if objects:
        return Reading(objects[0] == "yes", "schema")
    if lines:
        return Reading(lines[-1] == "yes", "line")
    if _REFUSAL.search(fold(text)):
        return Reading(None, "refused")
    return Reading(
        None, "unparsable: no verdict" if text.strip() else "unparsable: empty"
    )


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in fold(text).splitlines()]
    return [line for line in lines if len(line) <= _LINE_CHARACTERS]


def _from_lines(text: str, prompt: Prompt) -> list[str]:
    """Returns 'yes' or 'no' for each verdict line that counts, in order."""
    found = [m for m in map(_LINE.fullmatch, _lines(text)) if m]
    return [m[2] for m in found if _counts(m[1], prompt)]


def _from_json(text: str, prompt: Prompt) -> list[str]:
    """Returns 'yes' or 'no' for each verdict in a JSON object that counts."""
    verdicts = []
    for pairs in _objects(text):
        said = {fold(str(value)) for name, value in pairs if name == "verdict"}
        tokens = {fold(str(value)) for name, value in pairs if name == "token"}
        if _counts(" ".join(tokens) or None, prompt):
            verdicts += sorted(said & {"yes", "no"})
    return verdicts


def _counts(token: str | None, prompt: Prompt) -> bool:
    if token is None:
        return not prompt.forgeable
    return token == prompt.token


def _objects(text: str) -> list[list[tuple[str, Any]]]:
    """Returns the (name, value) pairs of the outermost objects, doubled names too."""
    decoder = json.JSONDecoder(object_pairs_hook=list)
    objects, start = [], text.find("{")
    while start >= 0:
        try:
            pairs, end = decoder.raw_decode(text, start)
            objects.append(pairs)
        except (ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)
    return objects
