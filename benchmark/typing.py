"""What travels between the rooms of the benchmark: NamedTuples."""

import types
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

TaskType = Literal["classification", "regression", "sequence_generation"]
Direction = Literal["higher", "lower"]  # which values are better


class Audio(NamedTuple):
    """One input recording of an example; exactly one of the two is given."""

    path: str = ""  # a file
    data: bytes = b""  # an encoded file's bytes, from a parquet row


class Task(NamedTuple):
    """One task of the registry (181 are released), or one that a user added."""

    name: str
    type: TaskType
    metric: str  # name of the released scoring function
    domain: str = ""
    subdomain: str = ""
    phase: str = ""
    instances: tuple[str, ...] = ()  # names, one a fold
    hf_datasets: tuple[str, ...] = ()  # ids, one an instance
    revisions: tuple[str, ...] = ()  # commits, one an instance, '' = unknown
    labels: tuple[str, ...] = ()  # closed labels; () = read from the instruction
    synonyms: tuple[tuple[str, tuple[str, ...]], ...] = ()  # label -> other spellings
    multi_label: bool = False
    language: str = ""  # BCP 47, '' = English or not known
    value_range: tuple[float, float] | None = None  # of a regression
    unit: str = ""
    chance: float | None = None  # of the headline score, None = not defined
    version: str = "1"  # of this record
    reconstructed: tuple[str, ...] = ()  # fields that are our reading: the metric ...
    inferred: tuple[str, ...] = ()  # fields the inventory marks as inferred
    metric_note: str = ""
    replaces: str = ""  # the corpus that the release swapped out
    num_examples: int | None = None
    folder: str = ""  # of a task that a user added
    notes: tuple[str, ...] = ()  # doubts: a revision that is no commit ...


class Example(NamedTuple):
    """One question of an instance: what a model is given, and what is expected."""

    id: str  # unique within the instance, the released column `file`
    instance: str
    instruction: str
    references: tuple[str, ...]  # label, label2 ...; always text
    audios: tuple[Audio, ...] = ()
    texts: tuple[str, ...] = ()  # text, text2 ...
    speaker: str = ""  # '' = unknown; intervals are clustered by it
    extra: Mapping[str, Any] = types.MappingProxyType({})  # other columns


class Prediction(NamedTuple):
    """What a model answered to one example."""

    instance: str
    id: str
    response: str | None  # None = no answer was given
    model: str = ""
    scores: tuple[tuple[str, float], ...] = ()  # option -> posterior, where known


Outcome = Literal["matched", "other_option", "several", "none"]


class Parsed(NamedTuple):
    """What a closed-label answer was read as; nothing is ever guessed."""

    outcome: Outcome
    labels: tuple[str, ...] = ()  # the options that the answer names
    reason: str = ""  # 'exact', 'synonym', 'negated', 'refusal', 'empty', 'echo' ...


class Number(NamedTuple):
    """What a numeric answer was read as."""

    value: float | None  # None = no number, or several that disagree
    reason: str = ""  # 'digits', 'words', 'percent', 'range', 'none', 'several' ...
    unit: str = ""


class Verdict(NamedTuple):
    """What a judge said of one answer, or the number that it found in one."""

    instance: str
    id: str
    correct: bool | None  # None = the judge gave no verdict that can be read
    judge: str = ""
    reason: str = ""  # 'schema', 'line', 'unparsable', 'refused', 'failed: ...'
    text: str = ""  # what the judge wrote
    value: float | None = None  # of a regression: the number, None = none (N/A ...)


class Score(NamedTuple):
    """One number of one instance with all that qualifies it."""

    task: str
    instance: str
    model: str
    metric: str
    value: float | None
    low: float | None = None  # 95 % bootstrap interval
    high: float | None = None
    direction: Direction = "higher"
    chance: float | None = None
    num_examples: int = 0
    num_answered: int = 0
    num_unreadable: int = 0  # N/A, or a verdict that could not be read
    notes: tuple[str, ...] = ()  # comparability: replaced corpus, other revision ...
    provenance: Mapping[str, Any] = types.MappingProxyType({})
