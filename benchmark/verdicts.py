"""Reading what a judge wrote: a verdict, or the reason why there is none.

No verdict is ever read from a prompt that comes back, from a line that the judged
text may have brought along, or from a reply that was cut off; nothing is guessed.
"""

import json
import re
from typing import Any, NamedTuple

from benchmark.numbers import LARGEST
from benchmark.prompts import Profile, Prompt, Word, fold


def _schema(word: Word, **limits: Any) -> dict[str, Any]:
    text = {"type": "string"}
    schema = {
        "type": "object",
        "properties": {"reason": text, "token": text, word: {**text, **limits}},
        "required": ["reason", "token", word],
        "additionalProperties": False,
    }
    named = {"name": word, "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": named}


SCHEMAS = {
    "verdict": _schema("verdict", enum=["YES", "NO"]),
    "rewritten": _schema("rewritten"),
}
_READ_CHARACTERS = 1 << 15  # the end of a reply; verdicts stand there
_LINE_CHARACTERS = 200
_LINE = re.compile(r"[\W_]*verdict(?:[\W_]+([0-9a-f]{16}))?[\W_]+(yes|no)[\W_]*")
_BARE = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d{1,3})?|n/?a"
_NUMBER_LINE = re.compile(  # what stands before the number swallows no sign or point
    r"[\W_]*rewritten(?:[\W_]+([0-9a-f]{16}))?[^\w.+-]*:[^\w.+-]*"
    rf"({_BARE})[\s*_`\"'.]*"
)
_PARITY_LINE = re.compile(r"[\W_]*(?:result[\W_]+)?(yes|no)[\W_]*")
_REFUSAL = re.compile(
    r"\bi(?:['\u2019]m| am)? "
    r"(?:sorry|cannot|can['\u2019]t|will not|won['\u2019]t|am unable|unable)\b"
)


class Reading(NamedTuple):
    """What a judge's reply says."""

    correct: bool | None  # None = no verdict
    reason: str  # 'schema', 'line', 'refused', 'unparsable: ...'


class NumberReading(NamedTuple):
    """What a judge's reply says of the number of an answer."""

    value: float | None  # None = N/A, or nothing that can be read
    reason: str  # 'number: schema', 'number: line', 'n/a', 'refused', 'unparsable: ...'


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
    fault = _fault(text, prompt, finish)
    if fault:
        return Reading(None, fault)
    if profile == "parity":
        lines = [m[1] for m in map(_PARITY_LINE.fullmatch, _lines(text)) if m]
        said, reason = _decide([], lines, text)
    else:
        objects = _from_json(text, prompt)
        said, reason = _decide(objects, _from_lines(text, prompt, _LINE), text)
    return Reading(None if said is None else said == "yes", reason)


def read_number(text: str, prompt: Prompt, finish: str = "") -> NumberReading:
    """Reads the number that a judge found in an answer, by the rules of a verdict.

    Only a bare number counts, or N/A: '3 to 4', '3,5' and '3 s' are unparsable.

    Args:
      text: what the judge wrote.
      prompt: the question about a `NumberItem`.
      finish: see `read_verdict`.
    """
    text = _without_echo(text, prompt)[-_READ_CHARACTERS:]
    fault = _fault(text, prompt, finish)
    if fault:
        return NumberReading(None, fault)
    lines = _from_lines(text, prompt, _NUMBER_LINE)
    said, reason = _decide(_from_json(text, prompt), lines, text)
    if said is None:
        return NumberReading(None, reason)
    if said == "n/a":
        return NumberReading(None, "n/a")
    return NumberReading(float(said), f"number: {reason}")


def _fault(text: str, prompt: Prompt, finish: str) -> str:
    """Says why nothing can be read from a reply, '' where something may."""
    if re.search(rf"<<<[^<>\n]*{prompt.token}", text):
        return "unparsable: an echo of the prompt"
    if finish == "length":
        return "unparsable: cut off by the limit of tokens"
    return ""


def _without_echo(text: str, prompt: Prompt) -> str:
    """Takes out the prompt's messages: some endpoints return them with the reply."""
    for _, message in prompt.messages:
        text = text.replace(message, "\n")
    return text


def _decide(objects: list[str], lines: list[str], text: str) -> tuple[str | None, str]:
    """Returns what was said and where it stood, or None and why nothing was."""
    said = {*objects, *(lines[-1:] if objects else ())}
    if len(said) > 1:
        return None, "unparsable: two verdicts that contradict each other"
    if objects:
        return objects[0], "schema"
    if lines:
        return lines[-1], "line"
    if _REFUSAL.search(fold(text)):
        return None, "refused"
    return None, "unparsable: no verdict" if text.strip() else "unparsable: empty"


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in fold(text).replace("\u2212", "-").splitlines()]
    return [line for line in lines if len(line) <= _LINE_CHARACTERS]


def _from_lines(text: str, prompt: Prompt, line: re.Pattern[str]) -> list[str]:
    """Returns what each result line that counts says, in order."""
    found = [m for m in map(line.fullmatch, _lines(text)) if m]
    said = [_said(m[2], prompt.word) for m in found if _counts(m[1], prompt)]
    return [one for one in said if one is not None]


def _from_json(text: str, prompt: Prompt) -> list[str]:
    """Returns what each JSON object with a result that counts says, in order."""
    results = []
    for pairs in _objects(text):
        said = {
            _said(value, prompt.word) for name, value in pairs if name == prompt.word
        }
        tokens = {fold(str(value)) for name, value in pairs if name == "token"}
        if _counts(" ".join(tokens) or None, prompt):
            results += sorted(one for one in said if one is not None)
    return results


def _said(value: Any, word: Word) -> str | None:
    """Returns 'yes' or 'no', 'n/a' or a number in its one spelling; None = neither."""
    text = fold(str(value)).strip().replace("\u2212", "-")
    if word == "verdict":
        return text if text in ("yes", "no") else None
    if value is None or text in ("n/a", "na"):
        return "n/a"
    if not re.fullmatch(_BARE, text) or abs(float(text)) > LARGEST:
        return None
    return repr(float(text) + 0.0)  # -0 is 0


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
