"""Reads closed-label answers without a judge; nothing is ever guessed.

Two steps, so that a reading never depends on what is right:

1. `parse_answer(response, options)` says which options the answer names. Its outcome
   is 'matched' (exactly as many as were asked for), 'several' (more) or 'none'.
2. `judge_parsed(parsed, reference)` compares the names with the reference: 'matched',
   'other_option', 'several' or 'none'. Only 'matched' is correct.

`read_answer` does both for an example of a task. The rules are described in
docs/benchmark_parsing.md.
"""

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

from benchmark import explicit, mentions, passages, refusals, spellings, wording
from benchmark.options import options_from_instruction
from benchmark.spellings import Reader, Synonyms
from benchmark.tasks import options_of
from benchmark.typing import Example, Outcome, Parsed, Task

__all__ = [
    "Answer",
    "judge_parsed",
    "options_from_instruction",
    "parse_answer",
    "read_answer",
    "reference_labels",
]


_NUMERO = re.compile(r"\bno\.\s?(?=\d)", re.I)  # number
_ASKED = re.compile(
    r"(?im)^[ \t]*(?:question|q|user|human|instruction|prompt)[ \t]*:.*$"
)


class Answer(NamedTuple):
    """A reading with its outcome against the reference."""

    parsed: Parsed
    outcome: Outcome
    reference: tuple[str, ...]  # () = it is none of the options: nothing is decided


def parse_answer(
    response: str | None,
    options: Sequence[str],
    synonyms: Synonyms = (),
    multi_label: bool = False,
    instruction: str = "",
) -> Parsed:
    """Says which of the options an answer names.

    Args:
      response: what a model wrote; None = no answer.
      options: the closed labels; a leading '(A)' or 'B.' is taken for its letter.
      synonyms: other spellings that the task declares: label -> spellings.
      multi_label: whether any number of options may be named.
      instruction: the question; letters are read from it, and its text does not
        count where the answer repeats it.

    Returns:
      'matched' with the named option (or options, if `multi_label`), 'several' with
      the options that were named where one was asked for, or 'none'. `reason` says
      how: 'exact', 'synonym', 'form', 'marker', 'final', 'sentence', 'conclusion';
      'several', 'alternatives', 'answers_differ'; 'empty', 'runaway', 'refusal',
      'echo', 'negated', 'ambiguous', 'ignored', 'absent', 'no_options'.
    """
    if response is None or not response.strip():
        return Parsed("none", (), "empty")
    if not options:
        return Parsed("none", (), "no_options")
    reader = spellings.reader_of(tuple(options), tuple(synonyms), instruction)
    if len(response) > wording.LIMIT:
        found = explicit.answer_of(reader, response[-wording.TAIL :], multi_label)
        return found or Parsed("none", (), "runaway")
    response = _tags_opened(reader, response)
    exact = spellings.exact(reader, wording.fold(response))
    return exact or _read(reader, response, multi_label, instruction)


def judge_parsed(parsed: Parsed, reference: Sequence[str]) -> Outcome:
    """Compares what was read with the reference labels, as sets.

    Args:
      parsed: of `parse_answer`.
      reference: labels, as `reference_labels` returns them; at least one.

    Returns:
      'matched': exactly the reference. 'several': more than was asked, which for a
      set is the reference and something else. 'other_option': any other choice.
      'none': nothing could be read, or there is no reference.
    """
    named = set(map(spellings.key_of, parsed.labels))
    wanted = set(map(spellings.key_of, reference))
    if parsed.outcome == "none" or not named or not wanted:
        return "none"
    if named == wanted:
        return "matched" if parsed.outcome != "several" else "several"
    if parsed.outcome == "several" or named > wanted:
        return "several"
    return "other_option"


def reference_labels(
    references: Sequence[str],
    options: Sequence[str],
    synonyms: Synonyms = (),
    multi_label: bool = False,
    instruction: str = "",
) -> tuple[str, ...]:
    """Returns the reference as options, each once; () if a part is no option.

    Takes several columns, a list literal or a comma-joined text, and letters of
    lettered options. A comma is not split where the whole text is an option.
    """
    reader = spellings.reader_of(tuple(options), tuple(synonyms), instruction)
    found: list[int] = []
    for text in references:
        for part in spellings.parts_of(text, reader) if multi_label else (text,):
            label = spellings.lookup(reader, part)
            if label is None:
                return ()
            found.append(label)
    return tuple(reader.options[label] for label in dict.fromkeys(found))


def read_answer(response: str | None, task: Task, example: Example) -> Answer:
    """Reads one answer with the example's own options, the task's, or the prose's.

    Where none of them gives options, or the reference is none of them, the outcome is
    'none' and `reference` empty: a judge may decide.
    """
    known = options_of(task, example)
    options = known or options_from_instruction(example.instruction) or ()
    settings = (task.synonyms, task.multi_label, example.instruction)
    parsed = parse_answer(response, options, *settings)
    if not options:
        return Answer(parsed, "none", ())
    reference = reference_labels(example.references, options, *settings)
    return Answer(parsed, judge_parsed(parsed, reference), reference)


def _read(reader: Reader, response: str, multi_label: bool, instruction: str) -> Parsed:
    """Explicit answers first, then refusals, conclusions, and the text as a whole."""
    raw = _without_question(reader, response, instruction)
    found = explicit.answer_of(reader, raw, multi_label)
    if found:
        return found
    text = wording.squeeze(wording.fold(raw))
    if not text.strip():
        return Parsed("none", (), "echo" if wording.fold(response).strip() else "empty")
    before, text = (
        ("", text) if _may_decline(reader.keys) else refusals.committed_part(text)
    )
    if refusals.is_unable(before + text) or not text.strip():
        return Parsed("none", (), "refusal")
    parsed = explicit.conclusion_of(reader, text, multi_label) or passages.parsed_of(
        reader, passages.read(reader, text), multi_label, "sentence"
    )
    if not before:
        return parsed
    named = {reader.options[i] for i in passages.read(reader, before).asserted}
    return parsed if named <= set(parsed.labels) else Parsed("none", (), "refusal")


@functools.lru_cache(maxsize=1024)
def _may_decline(keys: tuple[str, ...]) -> bool:
    """Whether an option itself says 'not sure' or 'cannot tell'."""
    return not all(refusals.committed_part(key)[1] for key in keys)


def _tags_opened(reader: Reader, response: str) -> str:
    """Keeps an option that stands as a tag, '<happy>', for tags are not read."""
    if "<" not in response:
        return response
    return re.sub(
        r"<([^<>/\n]{2,80})>",
        lambda tag: (
            f" {tag.group(1)} "
            if spellings.lookup(reader, tag.group(1)) is not None
            else tag.group()
        ),
        response,
    )


def _without_question(reader: Reader, raw: str, instruction: str) -> str:
    """Drops sentences of the instruction that the answer repeats."""
    raw = _NUMERO.sub(" ", raw)
    raw = _ASKED.sub(" ", raw) if ":" in raw else raw
    said = raw.casefold()
    for sentence in _sentences(instruction):
        if sentence.casefold() not in said:
            continue
        labels = {m.label for m in mentions.find(reader, wording.tokenize(sentence))}
        if sentence.endswith("?") or len(labels) != 1:
            raw = re.sub(re.escape(sentence), " ", raw, flags=re.I)
            said = raw.casefold()
    return raw


@functools.lru_cache(maxsize=1024)
def _sentences(instruction: str) -> tuple[str, ...]:
    """Returns those of four words or more."""
    found = re.split(r"(?<=[.?!])\s+|\n", instruction)
    return tuple(s.strip() for s in found if len(s.split()) >= 4)
