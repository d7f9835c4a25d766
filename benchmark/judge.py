"""Judging answers by a language model: cached, resumable, budgeted, counted.

Each reply of the judge is on disk before its verdict is used, so that no reply that
came back is ever asked for again. What the cache holds is the judge's text, not its
verdict: verdicts are read from it anew each time, and a changed line earns nothing.
"""

import collections
import contextlib
import hashlib
import json
import math
import pathlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

from benchmark import journal
from benchmark.client import Client, Reply
from benchmark.errors import Problems
from benchmark.prompts import (
    PROMPT_VERSION,
    JudgeItem,
    NumberItem,
    Profile,
    Prompt,
    make_prompt,
)
from benchmark.typing import Number, Parsed, Verdict
from benchmark.verdicts import (
    SCHEMAS,
    NumberReading,
    Reading,
    read_number,
    read_verdict,
)
from benchmark.workers import map_ordered

_SCHEMA_REFUSED = frozenset({400, 415, 422, 501})
_NO_VERDICT = ("unparsable", "refused", "failed", "not asked")
_BYTES_PER_TOKEN = 3.5  # of English prose, on the safe side
_Item = JudgeItem | NumberItem
_FIELDS = {"key": str, "text": str, "finish": str, "refused": bool}


class JudgeSettings(NamedTuple):
    """How answers are judged."""

    judge: str  # the model's name, part of each cache key
    profile: Profile = "strict"
    cache: pathlib.Path | None = None  # JSON lines; None = nothing is kept
    max_tokens: int = 512
    concurrency: int = 8
    seed: int = 0  # of the tokens that delimit data
    schema: bool | None = None  # ask for JSON by schema; None = find out once


class Estimate(NamedTuple):
    """What judging would cost; tokens are estimates, from the bytes of the prompts."""

    num_items: int
    num_cached: int
    num_without_response: int  # wrong without a question
    num_calls: int  # without retries and the one call that detects the schema
    prompt_tokens: int
    max_completion_tokens: int


class Agreement(NamedTuple):
    """How far two judges agree on the items on which both have a verdict."""

    kappa: float | None  # Cohen's; None where chance alone would agree, or no item
    observed: float | None  # share of equal verdicts
    num_shared: int  # items with both verdicts
    num_undecided: int  # in both lists, and at least one has no verdict
    num_unpaired: int  # in one list only
    table: tuple[tuple[int, int], tuple[int, int]]  # [first yes/no][second yes/no]


def judge_answers(
    items: Iterable[_Item],
    client: Client,
    settings: JudgeSettings,
    problems: Problems | None = None,
) -> Iterator[Verdict]:
    """Judges answers, and yields their verdicts in the order of the items.

    Args:
      items: read as they are needed.
      client: of the judge's endpoint; it holds the budget.
      settings: see `JudgeSettings`.
      problems: counts cache lines that could not be read, and verdicts that are none.

    Yields:
      A verdict an item. `correct` is None where the judge gave none, and `reason`
      then begins with 'unparsable', 'refused', 'failed' or 'not asked'. An item
      without a response is wrong, 'no response', and costs no call. Of a `NumberItem`
      the verdict has a `value` in place of `correct`; without one, `reason` is 'n/a'
      or one of these.

    Raises:
      InputError: the endpoint's address, key or model is wrong.
      MachineError: quota, an unreachable endpoint, or the cache is in use.
    """
    problems = Problems() if problems is None else problems
    if settings.cache is None:
        yield from _judged(items, _Judge(client, settings, {}), problems)
        return
    with journal.lock(settings.cache):
        cache = read_cache(settings.cache, problems)
        yield from _judged(items, _Judge(client, settings, cache), problems)


def estimate(items: Iterable[_Item], settings: JudgeSettings) -> Estimate:
    """Counts what judging these items would ask; asks nothing, writes nothing."""
    cached = _read_lines(settings.cache)[0] if settings.cache else {}
    num_items = num_cached = num_silent = 0
    keys, num_bytes = set(), 0
    for item in items:
        num_items += 1
        prompt = make_prompt(item, settings.profile, settings.seed)
        key = cache_key(prompt, settings)
        if not _has_response(item):
            num_silent += 1
        elif key in cached:
            num_cached += 1
        elif key not in keys:
            keys.add(key)
            num_bytes += sum(len(text.encode()) for _, text in prompt.messages)
    tokens = math.ceil(num_bytes / _BYTES_PER_TOKEN)
    most = len(keys) * settings.max_tokens
    return Estimate(num_items, num_cached, num_silent, len(keys), tokens, most)


def cache_key(prompt: Prompt, settings: JudgeSettings) -> str:
    """Returns the sha256 of judge, prompt version, limit of tokens and full prompt."""
    fields = (
        settings.judge,
        PROMPT_VERSION,
        settings.profile,
        settings.max_tokens,
        prompt.messages,
    )
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def read_cache(path: pathlib.Path, problems: Problems) -> dict[str, Reply]:
    """Reads a cache, key -> reply; one with damaged lines is rebuilt without them."""
    cache, num_damaged = _read_lines(path)
    if num_damaged:
        message = f"{num_damaged} damaged lines left out, their items are asked again"
        problems.warning("corrupt_cache", str(path), message)
        sound = (record for record in journal.read(path) if _is_sound(record))
        journal.rewrite(path, sound)
    return cache


def count_outcomes(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Counts 'yes', 'no', 'number', 'n/a', 'no response', 'unparsable', 'failed' ..."""
    return dict(collections.Counter(map(outcome, verdicts)).most_common())


def outcome(verdict: Verdict) -> str:
    """Returns the class of a verdict: 'yes', 'no', 'number', or why there is none."""
    kind = verdict.reason.partition(":")[0]
    if kind in _NO_VERDICT or kind in ("no response", "number", "n/a"):
        return kind
    return {True: "yes", False: "no", None: "unparsable"}[verdict.correct]


def agreement(first: Iterable[Verdict], second: Iterable[Verdict]) -> Agreement:
    """Compares two judges by Cohen's kappa (1960), paired by instance and id.

    Items on which either has no verdict are left out of kappa, and counted.
    """
    ours = {(v.instance, v.id): v.correct for v in first}
    theirs = {(v.instance, v.id): v.correct for v in second}
    shared = ours.keys() & theirs.keys()
    pairs = [(ours[name], theirs[name]) for name in shared]
    counts = collections.Counter(pairs)
    table = tuple(tuple(counts[a, b] for b in (True, False)) for a in (True, False))
    total = sum(map(sum, table))
    observed = (table[0][0] + table[1][1]) / total if total else None
    return Agreement(
        _kappa(table, total),
        observed,
        total,
        len(shared) - total,
        len(ours.keys() ^ theirs.keys()),
        table,  # pyright: ignore[reportArgumentType]
    )


def equal_numbers(
    first: Iterable[Verdict], second: Iterable[Verdict]
) -> tuple[int, int]:
    """Returns how many numbers two judges read alike, and how many both read."""
    ours = {(v.instance, v.id): v.value for v in first if v.value is not None}
    theirs = {(v.instance, v.id): v.value for v in second if v.value is not None}
    shared = ours.keys() & theirs.keys()
    equal = sum(math.isclose(ours[name], theirs[name]) for name in shared)
    return equal, len(shared)


def verdict_of_number(instance: str, id: str, number: Number) -> Verdict:
    """Returns what the parser of numbers says as a verdict, to be compared."""
    reason = f"parser: {number.reason}"
    return Verdict(instance, id, None, "parser", reason, value=number.value)


def verdict_of_parsed(instance: str, id: str, parsed: Parsed, right: bool) -> Verdict:
    """Returns what the closed-label parser says as a verdict, to be compared.

    Args:
      instance: of the example.
      id: of the example.
      parsed: how the answer was read.
      right: whether the labels that were read are the reference's.
    """
    decided = parsed.outcome in ("matched", "other_option")
    reason = f"parser: {parsed.outcome}"
    return Verdict(instance, id, right if decided else None, "parser", reason)


def _kappa(table: tuple[tuple[int, ...], ...], total: int) -> float | None:
    if not total:
        return None
    rows = [sum(row) / total for row in table]
    columns = [sum(column) / total for column in zip(*table, strict=True)]
    by_chance = sum(a * b for a, b in zip(rows, columns, strict=True))
    if by_chance == 1:
        return None
    observed = (table[0][0] + table[1][1]) / total
    return (observed - by_chance) / (1 - by_chance)


class _Judge:
    """One run of a judge: its cache, and what it found out about the endpoint."""

    def __init__(
        self, client: Client, settings: JudgeSettings, cache: dict[str, Reply]
    ):
        self.client, self.settings, self.cache = client, settings, cache
        self.schema = settings.schema
        self._detecting = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}

    def verdict(self, item: _Item) -> Verdict:
        of_number = isinstance(item, NumberItem)
        verdict = Verdict(item.instance, item.id, None, self.settings.judge)
        if not _has_response(item):
            correct = None if of_number else False
            return verdict._replace(correct=correct, reason="no response")
        prompt = make_prompt(item, self.settings.profile, self.settings.seed)
        reply = self.reply(cache_key(prompt, self.settings), prompt, item)
        read = self.read_number if of_number else self.read
        return verdict._replace(text=reply.text, **read(reply, prompt)._asdict())

    def read_number(self, reply: Reply, prompt: Prompt) -> NumberReading:
        unread = _unread(reply)
        if unread:
            return NumberReading(None, unread)
        return read_number(reply.text, prompt, reply.finish)

    def read(self, reply: Reply, prompt: Prompt) -> Reading:
        profile, unread = self.settings.profile, _unread(reply)
        if reply.outcome in ("failed", "not_asked"):
            return Reading(None, unread)
        if unread:
            reading = Reading(None, unread)
        else:
            reading = read_verdict(reply.text, prompt, profile, reply.finish)
        if profile == "parity" and reading.correct is None:
            return reading._replace(correct=False)  # as the released scripts count
        return reading

    def reply(self, key: str, prompt: Prompt, item: _Item) -> Reply:
        """Returns the judge's reply, from the cache or asked and then kept."""
        with self._asking.setdefault(key, threading.Lock()):  # asked once, not twice
            if key in self.cache:
                return self.cache[key]
            reply = self.ask(prompt)
            if reply.outcome in ("answered", "refused"):
                if self.settings.cache is not None:
                    record = {**_record(key, reply), **self.notes(item)}
                    journal.append(self.settings.cache, record)
                self.cache[key] = reply
            return reply

    def notes(self, item: _Item) -> dict[str, str]:
        """Returns what a reader of the cache wants to know and no program needs."""
        return {
            "instance": item.instance,
            "id": item.id,
            "judge": self.settings.judge,
            "version": f"{self.settings.profile} {PROMPT_VERSION}",
        }

    def ask(self, prompt: Prompt) -> Reply:
        if self.settings.profile == "parity":
            return self.chat(prompt, schema=False)
        if self.schema is None:
            with self._detecting:
                if self.schema is None:
                    return self.detect(prompt)
        return self.chat(prompt, schema=bool(self.schema))

    def detect(self, prompt: Prompt) -> Reply:
        """Asks with a schema, and without it where the endpoint knows none."""
        reply = self.chat(prompt, schema=True)
        if reply.outcome in ("answered", "refused"):
            self.schema = True
        if reply.outcome != "failed" or reply.status not in _SCHEMA_REFUSED:
            return reply
        plain = self.chat(prompt, schema=False)
        if plain.outcome in ("answered", "refused"):
            self.schema = False
        return plain

    def chat(self, prompt: Prompt, schema: bool) -> Reply:
        options: dict[str, Any] = {
            "temperature": 0,
            "max_tokens": self.settings.max_tokens,
        }
        if schema:
            options["response_format"] = SCHEMAS[prompt.word]
        return self.client.chat(prompt.as_messages(), **options)


def _judged(
    items: Iterable[_Item], judge: _Judge, problems: Problems
) -> Iterator[Verdict]:
    verdicts = map_ordered(
        judge.verdict, items, judge.settings.concurrency, judge.client.stop
    )
    with contextlib.closing(verdicts):  # also for a caller who wants no more
        for verdict in verdicts:
            kind = outcome(verdict)
            if kind in _NO_VERDICT:
                where = f"{verdict.instance} {verdict.id}"
                problems.warning(
                    f"verdict_{kind.replace(' ', '_')}", where, verdict.reason
                )
            yield verdict


def _has_response(item: _Item) -> bool:
    return bool(item.response and item.response.strip())


def _unread(reply: Reply) -> str:
    """Says why a reply is not to be read, '' where it is."""
    if reply.outcome in ("failed", "not_asked"):
        return f"{reply.outcome.replace('_', ' ')}: {reply.reason}"
    return "refused" if reply.outcome == "refused" else ""


def _record(key: str, reply: Reply) -> dict[str, Any]:
    refused = reply.outcome == "refused"
    return {"key": key, "text": reply.text, "finish": reply.finish, "refused": refused}


def _read_lines(path: pathlib.Path) -> tuple[dict[str, Reply], int]:
    cache: dict[str, Reply] = {}
    num_damaged = 0
    for record in journal.read(path):
        if not _is_sound(record):
            num_damaged += 1
        else:
            kind = "refused" if record["refused"] else "answered"
            reply = Reply(kind, record["text"], finish=record["finish"])
            cache.setdefault(record["key"], reply)
    return cache, num_damaged


def _is_sound(record: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    return record is not None and all(
        isinstance(record.get(name), kind) for name, kind in _FIELDS.items()
    )
