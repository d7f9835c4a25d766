"""Where a number comes from, and what stands between it and published ones."""

import collections
import hashlib
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmark import intervals, tasks
from benchmark.measures import Measure, Settings
from benchmark.metrics.counts import is_number
from benchmark.typing import Example, Score, Task, Verdict

VERSION = "1"  # of this way of scoring
_MUST_AGREE = {  # key of the provenance -> its name in a message
    "data_sha256": "data",
    "profile": "profile",
    "judge_mode": "what the judge decides",
    "task_record": "record of the task",
    "metric_version": "version of the metric",
    "scoring_version": "version of the scoring",
}
JUDGES_OF_RECORD = ("gpt-4o", "llama-3.1-8b-instruct")  # of paper and released code


def comparability(
    task: Task,
    examples: Sequence[Example],
    verdicts: Mapping[str, Verdict],
    settings: Settings,
    measure: Measure,
    given: Mapping[str, Any],
) -> list[str]:
    """Says what stands between a number and those that others publish."""
    notes = []
    if task.replaces:
        notes.append(
            f"the released data replace {task.replaces}: numbers from before do not "
            "compare"
        )
    recorded = tasks.revision_of(task, examples[0].instance)
    revision = str(given.get("data_revision") or "")
    if recorded and revision and revision != recorded:
        notes.append(f"data of revision {revision[:12]}, released: {recorded[:12]}")
    elif recorded and not revision and task.phase != "user":
        notes.append(f"revision of the data not known, released: {recorded[:12]}")
    elif not recorded and task.phase != "user":
        notes.append("the revision of the released data is not known")
    released = task.num_examples
    if released and len(task.instances) < 2 and len(examples) != released:
        notes.append(f"{len(examples)} of {released} released examples")
    if measure.reconstructed or "metric" in task.reconstructed:
        notes.append(f"metric reconstructed: {task.metric_note or task.metric}")
    if task.type == "classification" and task.phase != "user":
        notes += _judge_notes(verdicts, settings)
    if is_number(task) and task.phase != "user":
        notes.append(_number_note(verdicts))
    speakers = {example.speaker for example in examples if example.speaker}
    if 0 < len(speakers) < intervals.MIN_CLUSTERS:
        notes.append(f"the interval is for these {len(speakers)} speakers")
    if settings.profile == "parity":
        notes.append("profile 'parity': text as the released scripts treat it")
    return notes


def _judge_notes(verdicts, settings) -> list[str]:
    names = sorted({verdict.judge for verdict in verdicts.values()})
    if not names:
        return ["read by the closed-label parser; published: judged by GPT-4o"]
    known = [name for name in names if name.lower().endswith(JUDGES_OF_RECORD)]
    notes = [] if known == names else [f"judge {', '.join(names)}; published: GPT-4o"]
    if settings.judge_mode == "undecided" and settings.profile == "strict":
        notes.append("the judge decided only what the parser could not")
    return notes


def _number_note(verdicts) -> str:
    names = sorted({verdict.judge for verdict in verdicts.values()})
    if not names:
        return "numbers read by the parser; published: rewritten by a language model"
    return f"numbers rewritten by {', '.join(names)} where the judge was asked"


def sources(task, examples, rows, verdicts, settings, measure) -> dict[str, Any]:
    """Returns what a number depends on."""
    outcomes = collections.Counter(row.outcome for row in rows)
    speakers = [example.speaker for example in examples]
    resampled = {name for name in intervals.usable_clusters(speakers) if name}
    judges = sorted({verdict.judge for verdict in verdicts.values()})
    return {
        "kind": "re-run",
        "task_record": tasks.fingerprint(task),
        "data_sha256": data_hash(examples),
        "outcomes": dict(outcomes.most_common()),
        "speakers": len({name for name in speakers if name}),
        "clusters": len(resampled),
        "judge": ", ".join(judges) or None,
        "judged": sum(row.decided_by == "judge" for row in rows),
        "metric_version": measure.version,
        "scoring_version": VERSION,
        **settings._asdict(),
        "versions": versions(),
    }


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the provenance of a mean of instances.

    What differs between the instances is a list, one entry an instance.
    """
    names = dict.fromkeys(name for part in parts for name in part)
    found = {name: [part.get(name) for part in parts] for name in names}
    return {
        name: values[0] if all(v == values[0] for v in values) else values
        for name, values in found.items()
    }


def scored_apart(scores: Sequence[Score]) -> list[str]:
    """Returns in what scores of one task differ beside the model; [] where in nothing.

    Args:
      scores: headline scores of one task, one a model.
    """
    told = []
    for key, name in _MUST_AGREE.items():
        if len({repr(score.provenance.get(key)) for score in scores}) > 1:
            told.append(name)
    judges = [repr(score.provenance.get("judge")) for score in scores if _needed(score)]
    return [*told, "judge"] if len(set(judges)) > 1 else told


def _needed(score: Score) -> bool:
    """True where a judge decided, or there were answers that one could decide."""
    return bool(score.provenance.get("judge") or score.num_unreadable)


def data_hash(examples: Iterable[Example]) -> str:
    """Returns the sha256 of ids, instructions, texts and references, in any order."""
    lines = sorted(repr((e.id, e.instruction, e.texts, e.references)) for e in examples)
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Returns the versions of the packages that numbers may depend on."""
    names = ("metaperser-jax", "numpy", "jax", "jiwer")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
