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
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmark import negation, wording
from benchmark.negation import Mention
from benchmark.options import Choices, options_from_instruction, read_choices
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

MAX_ANSWERS = 8  # explicit ones that are read, the last
Synonyms = tuple[tuple[str, tuple[str, ...]], ...]


_POLAR = frozenset({"yes", "no"})
_LIST_WORDS = wording.word_set(
    "choose select pick option options choices between from following labels "
    "categories list"
)
_POLAR_FOLLOWED = wording.word_set(
    "there it they he she i we both these those this that the based as since because "
    "而 我 他 她"
)
_POLAR_OPENED = wording.word_set(
    "is be answer say or with so definitely clearly probably certainly likely well "
    "actually"
)
_MARKED = wording.word_set("option choice answer letter alternative candidate number")

_CHOSEN = frozenset({"is", "be", ",", "or", "and", "choose", "select", ":", '"'})
_IDIOMS = re.compile(
    r"\b(?:no doubt|without (?:(?:a|any) )?doubt|no question|nothing but"
    r"|none other than|not only|not just|not merely|beyond question|all the same"
    r"|one of|(?:the|this|that|which|each|another|no|any|every|some|first|second|former"
    r"|latter|last|other|correct|only) one|one another|one thing|one can|one might"
    r"|(?:the|your|this|that|my|first|second) (?:audio )?question(?! mark)\b"
    r"(?= (?:is|asks|about|of|was|whether|correctly|,|:)|[,.:])"
    r"|to (?:the|your) question"
    r"|(?:answer|answering) (?:the|your|this) question"
    r"|(?:true|false) (?:to|that|alarm)|fear not|no problem"
    r"|if i had to \w+)\b",
    re.I,
)
_BOUND_NUMBER = re.compile(
    r"\b(?:more than|less than|fewer than|at least|at most|up to|over|under|only after)"
    r" (?=[\w])",
    re.I,
)
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am)?(?: sorry[^.\n]{0,40}?i)?|as an?|we)? ?\b"
    r"(?:(?:can(?:not|'t| not)|could(?: not|n't)|unable to|not able to|don't have the "
    r"ability to|do not have the ability to|am not capable of|not designed to)"
    r" (?:directly |actually |currently |reliably |really |confidently |accurately "
    r"|definitively )*(?:listen|listening|process|processing|access|analy[sz]e|play"
    r"|open|determine|identify|tell|assist|help|provide|answer|decide|judge|say|infer"
    r"|classify|recogni[sz]e|hear (?:the |any |this |your )?(?:audio|sound|recording"
    r"|clip|anything))"
    r"|as an? (?:ai|text|language|large language)\b"
    r"|(?:text-based|language) (?:ai|model)"
    r"|(?:no|any) audio (?:was|is|has been|file|input|clip)|didn't (?:provide|attach)"
    r"|please (?:provide|upload|share|attach)|(?:do not|don't) (?:know|have access)"
    r"|(?:cannot|can't|can not|could not) be (?:determined|identified|inferred|decided)"
    r"|not (?:sure|certain|clear|possible)|unsure|uncertain"
    r"|(?:impossible|hard|difficult) "
    r"to (?:say|tell|know|determine|identify)|insufficient (?:information|context)"
    r"|not enough (?:information|context)|undetermined)\b"
    r"|\bsorry, but\b|无法|不知道|不确定|不清楚",
    re.I,
)
_SEPARATOR = (
    r"(?:[\"']?\s*(?::|=>?|->)|\s+(?:is|would be|should be|must be|will be)\b:?)"
)
_EXPLICIT = re.compile(
    r"(?:(?<![\w])(?P<final>final )?\b(?:answer|choice|label|prediction|verdict"
    r"|conclusion|classification|decision)" + _SEPARATOR + r"|(?P<cjk>答案[是为:]+)"
    r"|(?P<tag><answer>|\\boxed\s*\{))\s*",
    re.I,
)
_CONCLUSION = re.compile(
    r"(?:^|(?<=[.!?:;\n]))\s*(?:therefore|thus|hence|consequently|accordingly|overall"
    r"|in conclusion|to conclude|in summary|to summarize|in short"
    r"|so(?=,| the| it| my| i)"
    r"|i (?:would )?(?:choose|pick|select|conclude|go with)|i'd go with)",
    re.I,
)
_SENTENCE_END = re.compile(r"\n|[.!?;](?=\s|$|[\"')])")
_OPENING = re.compile(
    r"([A-Za-z]|\d{1,2})(?=\s*(?:[).:,]|$|\s-\s|\s(?:because|since|as)\b))"
)
_OWN_MARKER = re.compile(r"\s*\(?([A-Za-z]|\d{1,2})[).:]\s+(\S.*)$", re.S)


class Reader(NamedTuple):
    """The spellings of a list of options, by their first word."""

    options: tuple[str, ...]
    keys: tuple[str, ...]
    aliases: dict[str, tuple[int, str]]  # folded spelling -> option, kind
    starts: dict[str, tuple[tuple[str, ...], ...]]  # first word -> spellings
    markers: dict[str, int]  # 'A' -> option
    numeric: bool  # some options are numbers


class Reading(NamedTuple):
    """What one passage says of the options."""

    asserted: tuple[int, ...]
    unclear: tuple[int, ...]
    negated: tuple[int, ...]
    ignored: bool  # mentions in quotes, questions, conditions
    echo: bool
    alternatives: bool  # joined by 'or'
    kinds: tuple[str, ...]


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
    reader = _reader(tuple(options), tuple(synonyms), instruction)
    if len(response) > wording.LIMIT:
        found = _explicit(reader, response[-wording.TAIL :], multi_label)
        return found or Parsed("none", (), "runaway")
    exact = _exact(reader, wording.fold(response))
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
    named = {wording.key(label) for label in parsed.labels}
    wanted = {wording.key(label) for label in reference}
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
    reader = _reader(tuple(options), tuple(synonyms), instruction)
    found: list[int] = []
    for text in references:
        for part in _parts(text, reader) if multi_label else (text,):
            label = _lookup(reader, part)
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


@functools.lru_cache(maxsize=1024)
def _reader(options: tuple[str, ...], synonyms: Synonyms, instruction: str) -> Reader:
    texts, markers = _markers(options, instruction)
    keys = tuple(
        wording.key(text) or " ".join(text.casefold().split()) for text in texts
    )
    aliases = _aliases(texts, keys, synonyms)
    starts: dict[str, list[tuple[str, ...]]] = {}
    for alias in aliases:
        words = tuple(alias.split())
        starts.setdefault(words[0], []).append(words)
    ordered = {
        word: tuple(sorted(found, key=len, reverse=True))
        for word, found in starts.items()
    }
    numeric = any(alias.isdigit() for alias in aliases)
    return Reader(options, keys, aliases, ordered, markers, numeric)


def _markers(
    options: tuple[str, ...], instruction: str
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Returns the options' texts, and option numbers by letter."""
    own = [_OWN_MARKER.match(option) for option in options]
    letters = [match.group(1).upper() for match in own if match]
    if len(set(letters)) == len(options) > 1:
        texts = tuple(match.group(2) for match in own if match)
        return texts, {letter: i for i, letter in enumerate(letters)}
    choices = read_choices(instruction) if instruction else None
    return options, _letters_of(options, choices) if choices else {}


def _letters_of(options: tuple[str, ...], choices: Choices) -> dict[str, int]:
    """Letters hold if the question lists the very options of the task."""
    listed = [wording.key(option) for option in choices.options]
    known = [wording.key(option) for option in options]
    if sorted(listed) != sorted(known):
        return {}
    pairs = zip(choices.markers, listed, strict=False)
    return {marker: known.index(option) for marker, option in pairs}


def _aliases(
    texts: tuple[str, ...], keys: tuple[str, ...], synonyms: Synonyms
) -> dict[str, tuple[int, str]]:
    """Collects spellings; those that two options claim with equal right are dropped."""
    ranks = (
        [(key, i, "option") for i, key in enumerate(keys)],
        list(_declared(keys, synonyms)),
        [(wording.key(re.sub(r"\s*\([^()]*\)\s*$", "", text)), i, "form")
         for i, text in enumerate(texts)],
        [(form, i, "form") for i, key in enumerate(keys)
         for form in wording.forms_of(key)],
    )  # fmt: skip
    aliases: dict[str, tuple[int, str]] = {}
    for rank in ranks:
        fresh: dict[str, set[tuple[int, str]]] = {}
        for alias, label, kind in rank:
            if alias and alias not in aliases:
                fresh.setdefault(alias, set()).add((label, kind))
        for alias, claims in fresh.items():
            if len(claims) == 1 or rank is ranks[0]:
                aliases[alias] = min(claims)
    return aliases


def _declared(
    keys: tuple[str, ...], synonyms: Synonyms
) -> Iterator[tuple[str, int, str]]:
    for label, spellings in synonyms:
        if wording.key(label) in keys:
            index = keys.index(wording.key(label))
            yield from ((wording.key(word), index, "synonym") for word in spellings)


def _exact(reader: Reader, text: str) -> Parsed | None:
    """The whole answer is one spelling, or one letter."""
    if "?" in text or len(text) > 400:
        return None
    tokens = wording.tokenize(text)
    words = [word for word in tokens.words if not wording.is_mark(word)]
    if len(words) > 1 and words[0] in ("a", "an", "the"):
        words = words[1:]
    found = reader.aliases.get(" ".join(words))
    if found:
        reason = {"option": "exact"}.get(found[1], found[1])
        return Parsed("matched", (reader.options[found[0]],), reason)
    if len(words) == 1 and words[0].upper() in reader.markers:
        label = reader.markers[words[0].upper()]
        return Parsed("matched", (reader.options[label],), "marker")
    return None


def _read(reader: Reader, response: str, multi_label: bool, instruction: str) -> Parsed:
    """Explicit answers first, then refusals, conclusions, and the text as a whole."""
    raw = _without_question(reader, response, instruction)
    found = _explicit(reader, raw, multi_label)
    if found:
        return found
    text = wording.fold(raw)
    if not text.strip():
        return Parsed("none", (), "echo" if wording.fold(response).strip() else "empty")
    if _REFUSAL.search(text):
        return Parsed("none", (), "refusal")
    return _concluded(reader, text, multi_label) or _parsed(
        reader, _reading(reader, text), multi_label, "sentence"
    )


def _parsed(reader: Reader, reading: Reading, multi_label: bool, reason: str) -> Parsed:
    labels = tuple(reader.options[label] for label in reading.asserted)
    if set(reading.unclear) - set(reading.asserted):
        return Parsed("none", (), "ambiguous")
    if set(reading.negated) & set(reading.asserted):
        return Parsed("none", (), "ambiguous")
    if not labels:
        return Parsed("none", (), _why_not(reading))
    if len(labels) == 1:
        return Parsed("matched", labels, reason)
    if reading.alternatives:
        return Parsed("several", labels, "alternatives")
    return Parsed("matched" if multi_label else "several", labels,
                  reason if multi_label else "several")  # fmt: skip


def _why_not(reading: Reading) -> str:
    if reading.echo:
        return "echo"
    if reading.negated:
        return "negated"
    return "ignored" if reading.ignored else "absent"


def _explicit(reader: Reader, raw: str, multi_label: bool) -> Parsed | None:
    """Reads 'Answer: X', boxed and tagged answers, and sentences of nothing but X.

    A final answer outranks an answer; of equal rank all must agree. An explicit
    answer that names no option is one that cannot be read.
    """
    text = _with_tags(raw)
    found = [
        (bool(match["final"] or match["tag"]), _segment(text, match.end()))
        for match in list(_EXPLICIT.finditer(text))[-MAX_ANSWERS:]
    ]
    readings = [(final, _segment_reading(reader, piece)) for final, piece in found]
    readings = [(final, reading) for final, reading in readings if not reading.echo]
    if any(final and reading.asserted for final, reading in readings):
        readings = [pair for pair in readings if pair[0]]
    elif not any(reading.asserted for _, reading in readings):
        alone = [] if multi_label else _alone(reader, text)
        if readings and not alone:
            return _parsed(reader, readings[-1][1], multi_label, "final")
        readings = [(False, reading) for reading in alone]
    return _agreed(reader, [reading for _, reading in readings], multi_label)


def _agreed(
    reader: Reader, readings: list[Reading], multi_label: bool
) -> Parsed | None:
    parsed = [_parsed(reader, reading, multi_label, "final") for reading in readings]
    named = [answer for answer in parsed if answer.outcome != "none"]
    if not named:
        return None
    if len({frozenset(answer.labels) for answer in named}) == 1:
        return named[-1]
    labels = dict.fromkeys(label for answer in named for label in answer.labels)
    return Parsed("several", tuple(labels), "answers_differ")


def _with_tags(raw: str) -> str:
    """Folds, but keeps the tags and boxes that mark an answer."""
    if "<" not in raw and "\\" not in raw:
        return wording.fold(raw)
    kept = re.sub(r"<answer>", "final answer: ", raw, flags=re.I)
    kept = re.sub(r"</answer>", "\n", kept, flags=re.I)
    kept = re.sub(r"\\boxed\s*\{([^{}]{0,200})\}", r"final answer: \1.\n", kept)
    return wording.fold(kept)


def _segment(text: str, start: int) -> str:
    """Returns the sentence after an answer's cue, or the next line if it is empty."""
    rest = text[start : start + 600].lstrip(" \t\n\"'({[")
    marker = re.match(r"[A-Za-z\d]{1,2}[.](?=\s)", rest)
    skip = marker.end() if marker else 0
    stop = _SENTENCE_END.search(rest, skip)
    return rest[: stop.start()] if stop else rest


def _segment_reading(reader: Reader, piece: str) -> Reading:
    """Reads a segment; a letter may open it."""
    match = _OPENING.match(piece)
    if match and match.group(1).upper() in reader.markers:
        label = reader.markers[match.group(1).upper()]
        rest = _reading(reader, piece[match.end() :])
        asserted = tuple(dict.fromkeys((label, *rest.asserted)))
        return rest._replace(asserted=asserted, echo=False)
    return _reading(reader, piece)


def _alone(reader: Reader, text: str) -> list[Reading]:
    """Sentences and lines that are one option and nothing else."""
    if len(text) > 4000 or not reader.aliases:
        return []
    readings = []
    for piece in re.split(r"\n|(?<=\w)[.!](?:\s|$)", text):
        exact = _exact(reader, piece.strip()) if piece.strip() else None
        if exact and len(piece) < 80:
            label = reader.options.index(exact.labels[0])
            readings.append(Reading((label,), (), (), False, False, False, ("option",)))
    if not readings:
        return []
    whole = _reading(reader, text)
    denied = {label for reading in readings for label in reading.asserted}
    return [] if whole.echo or denied.intersection(whole.negated) else readings


def _concluded(reader: Reader, text: str, multi_label: bool) -> Parsed | None:
    """The last 'Therefore ...' counts if nothing after it names another option."""
    cues = list(_CONCLUSION.finditer(text))
    if not cues:
        return None
    tail = text[cues[-1].start() :].lstrip()
    stop = _SENTENCE_END.search(tail)
    first = _reading(reader, tail[: stop.start()] if stop else tail)
    whole = _reading(reader, tail)
    found = _parsed(reader, first, multi_label, "conclusion")
    if found.outcome == "matched" and set(whole.asserted) == set(first.asserted):
        return found
    return None


def _without_question(reader: Reader, raw: str, instruction: str) -> str:
    """Drops sentences of the instruction that the answer repeats."""
    raw = re.sub(r"\bno\.\s?(?=\d)", " ", raw, flags=re.I)  # number
    raw = re.sub(
        r"(?im)^\s*(?:question|q|user|human|instruction|prompt)\s*:.*$", " ", raw
    )
    if not instruction:
        return raw
    for sentence in re.split(r"(?<=[.?!])\s+|\n", instruction):
        sentence = sentence.strip()
        if len(sentence.split()) < 4 or sentence.casefold() not in raw.casefold():
            continue
        labels = {m.label for m in _mentions(reader, wording.tokenize(sentence))}
        if sentence.endswith("?") or len(labels) != 1:
            raw = re.sub(re.escape(sentence), " ", raw, flags=re.I)
    return raw


def _reading(reader: Reader, text: str) -> Reading:
    """Says of each option that a passage names whether it is asserted."""
    text, quoted = _unquoted(reader, text)
    text = _IDIOMS.sub(f" {wording.GAP} ", text)
    if reader.numeric:
        text = _BOUND_NUMBER.sub("not ", text)
    tokens = wording.tokenize(text)
    mentions = _mentions(reader, tokens)
    kept, echo = _without_echo(reader, tokens.words, mentions)
    groups = negation.groups_of(tokens.words, kept)
    found: dict[negation.Status, list[Mention]] = {
        "asserted": [], "negated": [], "unclear": [], "ignored": [],
    }  # fmt: skip
    for group in groups:
        for mention, status in negation.statuses(tokens.words, group, kept):
            found[status].append(mention)
    alternatives = any(
        {"or", "nor", "/", "或"}.intersection(
            tokens.words[group[0].end : group[-1].start]
        )
        for group in groups
        if len({m.label for m in group}) > 1
    )
    return Reading(
        _labels(found["asserted"]),
        _labels(found["unclear"]),
        _labels(found["negated"]),
        quoted or bool(found["ignored"]),
        echo,
        alternatives,
        tuple(m.kind for m in found["asserted"]),
    )


def _labels(mentions: list[Mention]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(m.label for m in mentions))


def _unquoted(reader: Reader, text: str) -> tuple[str, bool]:
    """Opens quotes around one option; leaves out other quotes: they are speech."""
    stripped = text.strip()
    if len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "\"'":
        text = stripped[1:-1]
    dropped = False

    def replace(match: re.Match[str]) -> str:
        nonlocal dropped
        inner = match.group(1) if match.group(1) is not None else match.group(2)
        if _lookup(reader, inner) is not None:
            return f" {inner} "
        words = wording.tokenize(inner)
        dropped = dropped or bool(_mentions(reader, words))
        return f" {wording.GAP} "

    pattern = r"\"([^\"\n]{1,1000})\"|(?<!\w)'((?:[^'\n]|'(?=\w)){1,300})'(?!\w)"
    return re.sub(pattern, replace, text), dropped


def _mentions(reader: Reader, tokens: wording.Tokens) -> list[Mention]:
    """Finds spellings, longest first, and letters in their usual dress."""
    found: list[Mention] = []
    i = 0
    while i < len(tokens.words):
        mention = _spelling_at(reader, tokens.words, i) or _marker_at(reader, tokens, i)
        if mention:
            found.append(mention)
            i = mention.end
        else:
            i += 1
    return found


def _spelling_at(reader: Reader, words: tuple[str, ...], i: int) -> Mention | None:
    for alias in reader.starts.get(words[i], ()):
        end = _match(alias, words, i)
        if end and not (alias[0] in _POLAR_WORDS and not _interjection(words, i, end)):
            label, kind = reader.aliases[" ".join(alias)]
            if _articles(reader, alias, words, i):
                continue
            return Mention(i, end, label, kind)
    return None


_POLAR_WORDS = _POLAR.union(
    form for word in _POLAR for form in wording.forms_of(word)
)  # fmt: skip


def _articles(
    reader: Reader, alias: tuple[str, ...], words: tuple[str, ...], i: int
) -> bool:
    """Whether a single-letter option is really the word 'a' or 'i'."""
    if alias not in (("a",), ("i",)):
        return False
    after = words[i + 1] if i + 1 < len(words) else "."
    return not wording.is_mark(after)


def _match(alias: tuple[str, ...], words: tuple[str, ...], i: int) -> int:
    """Returns where a spelling ends; punctuation inside does not count; 0 = none."""
    for k, word in enumerate(alias):
        while k and i < len(words) and words[i] in '(),/&:-"' and words[i] != word:
            i += 1
        if i >= len(words) or words[i] != word:
            return 0
        i += 1
    return i


def _interjection(words: tuple[str, ...], i: int, end: int) -> bool:
    """'No' is an answer at the head of a sentence, not before a noun."""
    if end - i > 1:
        return True
    before = words[i - 1] if i else "\n"
    after = words[end] if end < len(words) else "\n"
    closed = wording.is_mark(after) or after in _POLAR_FOLLOWED
    if words[i] in ("no", "nope", "nah"):
        opened = wording.is_mark(before) or before in _POLAR_OPENED
        return opened and (closed or after == "or")
    return True


def _marker_at(reader: Reader, tokens: wording.Tokens, i: int) -> Mention | None:
    """'(B)', 'option B', 'B.' at the head of a line, 'B' before punctuation."""
    label = reader.markers.get(tokens.raws[i].upper()) if reader.markers else None
    return (
        Mention(i, i + 1, label, "marker")
        if label is not None and _dressed(reader, tokens, i)
        else None
    )


def _dressed(reader: Reader, tokens: wording.Tokens, i: int) -> bool:
    """Whether a letter stands as the name of an option, not as a word."""
    words, raw = tokens.words, tokens.raws[i]
    before = words[i - 1] if i else "\n"
    after, then = (*words[i + 1 : i + 3], "\n", "\n")[:2]
    closed = wording.is_mark(after)
    if (before in "([" and after in ")]") or (before == "\n" and after in ").:"):
        return True
    if before in _MARKED:
        return raw != "a" or closed
    if not raw.isupper():
        return False
    if after in ("and", "or", ",") and then.upper() in reader.markers:
        return True
    if raw in ("A", "I"):
        return closed and before in _CHOSEN
    return closed or after in ("and", "or")


def _without_echo(
    reader: Reader, words: tuple[str, ...], mentions: list[Mention]
) -> tuple[list[Mention], bool]:
    """Leaves out runs that list all options in their order."""
    size = len(reader.options)
    if size < 2 or len(mentions) < size:
        return mentions, False
    for run in _runs(reader, words, mentions):
        order = [m.label for m in run]
        distinct = [x for k, x in enumerate(order) if k == 0 or x != order[k - 1]]
        if distinct == list(range(size)) and _is_list(words, run, size):
            at = mentions.index(run[0])
            rest = mentions[:at] + mentions[at + len(run) :]
            return rest, True
    return mentions, False


def _runs(
    reader: Reader, words: tuple[str, ...], mentions: list[Mention]
) -> list[list[Mention]]:
    """Splits mentions where more than marks, links and letters stand between."""
    runs: list[list[Mention]] = []
    for mention in mentions:
        between = words[runs[-1][-1].end : mention.start] if runs else ()
        inner = between[1:-1] if reader.markers else between
        ended = {".", "?", "!"}.intersection(inner)
        if runs and not ended and all(_links(reader, word) for word in between):
            runs[-1].append(mention)
        else:
            runs.append([mention])
    return runs


def _links(reader: Reader, word: str) -> bool:
    return (
        word in negation.LINKS
        or word in ("a", "an", "the", "option")
        or wording.is_mark(word)
        or word.upper() in reader.markers
    )


def _is_list(words: tuple[str, ...], run: list[Mention], size: int) -> bool:
    """Two options in a row may be a hedge: then there must be a sign of a list."""
    if size > 2:
        return True
    before = words[: run[0].start]
    rest = [
        word for word in (*before, *words[run[-1].end :]) if not wording.is_mark(word)
    ]
    return not rest or bool(_LIST_WORDS.intersection(before[-6:]))


def _lookup(reader: Reader, text: str) -> int | None:
    """Returns the option that a text is, alone."""
    found = reader.aliases.get(wording.key(text))
    if found:
        return found[0]
    letter = text.strip(" ().:").upper()
    return reader.markers.get(letter)


def _parts(text: str, reader: Reader) -> tuple[str, ...]:
    """Splits a multi-label reference."""
    if _lookup(reader, text) is not None:
        return (text,)
    inner = text.strip()
    if inner[:1] in "[({" and inner[-1:] in "])}":
        inner = inner[1:-1]
    parts = (part.strip(" \t\n'\"") for part in re.split(r"[,;|\n]", inner))
    return tuple(part for part in parts if part)
