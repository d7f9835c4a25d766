"""One self-contained HTML page from the results of one or more models.

The page loads nothing from elsewhere and runs one small script, which sorts and
searches the table; a content-security-policy forbids all else. Every text from data,
models and judges is escaped.
"""

import base64
import collections
import hashlib
import importlib.resources
import json
import os
import pathlib
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmark import display, figures, intervals
from benchmark.aggregate import Group, aggregate, chance_corrected
from benchmark.errors import InputError
from benchmark.provenance import scored_apart
from benchmark.results import (
    Results,
    Row,
    plain,
    read_results,
    read_rows,
    scores_csv,
    write_text,
)
from benchmark.typing import Score, Task

MAX_SAMPLES = 12  # examples shown a task
MAX_RESPONSE = 2_000  # characters shown of an answer
MAX_AUDIO_BYTES = 300_000  # of one recording that is embedded
MAX_PAGE_AUDIO = 6_000_000  # of all of them

COLUMNS = (
    ("Task", "text"), ("Model", "text"), ("Metric", "text"), ("Value", "num"),
    ("95 %", "num"), ("Corrected", "num"), ("Chance", "num"),
    ("Majority", "num"), ("Examples", "num"), ("Missing", "num"),
    ("Unreadable", "num"),
)  # fmt: skip
OUTCOMES = (
    "matched", "other_option", "several", "none", "scored", "read", "unreadable",
    "missing",
)  # fmt: skip
_MEDIA = {  # how a recording that a browser plays begins
    b"RIFF": "audio/wav",
    b"fLaC": "audio/flac",
    b"OggS": "audio/ogg",
    b"ID3": "audio/mpeg",
}
SCRIPT = """
"use strict";
const table = document.getElementById("tasks"), body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];
function key(row, i) {
  const cell = row.cells[i], value = cell.dataset.value ?? cell.textContent;
  return heads[i].className === "text" ? value : parseFloat(value);
}
heads.forEach((head, i) => head.firstChild.addEventListener("click", () => {
  const up = head.getAttribute("aria-sort") !== "ascending";
  heads.forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...body.rows].map(row => [key(row, i), row]);
  rows.sort(([a], [b]) => {
    if (typeof a === "string") return (up ? 1 : -1) * a.localeCompare(b);
    if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
    return up ? a - b : b - a;
  });
  body.append(...rows.map(([, row]) => row));
}));
document.getElementById("find").addEventListener("input", event => {
  const words = event.target.value.toLowerCase().split(/\\s+/);
  for (const row of body.rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  }
});
"""


class Published(NamedTuple):
    """Published results: instance -> model -> {'value': per cent, 'track': ...}."""

    accuracy: Mapping[str, Mapping[str, Mapping[str, Any]]]
    sources: Mapping[str, str]  # track -> where it is published
    random: Mapping[str, Sequence[float]]  # task -> per cent of a guess, its instances


class Sound(NamedTuple):
    """A recording on the page: within it, as a link, or by its name alone."""

    name: str
    data: str = ""
    link: str = ""


def write_report(
    folders: Sequence[pathlib.Path],
    path: pathlib.Path,
    title: str = "Evaluation report",
    baseline: pathlib.Path | None = None,
    max_samples: int = MAX_SAMPLES,
) -> list[Group]:
    """Writes the page, and its numbers beside it as JSON and CSV.

    Args:
      folders: that `write_results` wrote, one a model.
      path: of the page; the others get its name with .json and .csv.
      title: heading.
      baseline: folder of the system that the relative gain refers to.
      max_samples: examples shown a task.

    Returns:
      The groups on the page.

    Raises:
      InputError: a folder without results, or two folders of one model.
    """
    results = _noted([read_results(folder) for folder in folders])
    names = [one.model for one in results]
    repeated = [name for name, n in collections.Counter(names).items() if n > 1]
    if repeated:
        raise InputError(f"{repeated[0]!r} is the model of two folders; give one")
    base = read_results(baseline) if baseline else None
    tasks = merged_tasks(results)
    scores = [score for one in results for score in one.task_scores]
    groups = aggregate(scores, tasks, base.task_scores if base else ())
    context = {
        "title": title,
        "baseline": base.model if base else "",
        **_overview(results, groups),
        **_task_table(results, tasks),
        **_published(scores),
        **_browser(results, path.parent, max_samples),
        **_sources(results),
        "script": SCRIPT,
        "script_hash": script_hash(),
    }
    write_text(path, render(context))
    record = {
        "groups": [plain(group) for group in groups],
        "scores": [plain(score) for score in scores],
    }
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path.with_suffix(".json"), text + "\n")
    write_text(path.with_suffix(".csv"), scores_csv(scores))
    return groups


def _noted(results: Sequence[Results]) -> list[Results]:
    """Adds a note to scores that differ from others of their task beside the model."""
    by_task: dict[str, list[Score]] = collections.defaultdict(list)
    for one in results:
        for score in one.task_scores:
            by_task[score.task].append(score)
    apart = {task: scored_apart(scores) for task, scores in by_task.items()}
    noted = []
    for one in results:
        scores = tuple(
            score._replace(notes=(*score.notes, f"models scored apart: {told}"))
            if (told := ", ".join(apart[score.task]))
            else score
            for score in one.task_scores
        )
        noted.append(one._replace(task_scores=scores))
    return noted


def summary(groups: Sequence[Group]) -> str:
    """Returns a console table of the groups."""
    rows = [
        [
            group.model,
            group.subdomain or group.domain or "all",
            f"{group.num_scored}/{group.num_tasks}",
            display.number(group.corrected),
            display.between(group.low, group.high),
            str(group.num_corrected),
            display.number(group.mean_rank, 2),
            display.number(group.relative_gain),
        ]
        for group in groups
        if group.subdomain or not group.domain
    ]
    header = ["model", "over", "tasks", "corrected", "95 %", "of", "rank", "gain"]
    return display.table(header, rows)


def render(context: Mapping[str, Any]) -> str:
    """Returns the page; all text is escaped, and control characters are written out."""
    import jinja2
    import markupsafe

    template = importlib.resources.files("benchmark") / "templates" / "report.html"
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=_shown,
    )
    environment.globals.update(number=display.number, between=display.between)
    page = environment.from_string(template.read_text(encoding="utf-8"))
    # our own text, which must stand unescaped for its hash to hold
    return page.render({**context, "script": markupsafe.Markup(context["script"])})


def script_hash() -> str:
    """Returns what the content-security-policy calls the page's own script."""
    digest = hashlib.sha256(SCRIPT.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def read_published() -> Published:
    """Returns the published Phase-1 results that come with the package."""
    path = importlib.resources.files("benchmark") / "phase1_results.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    return Published(
        record["accuracy_percent"], record["sources"], record["random_baseline_percent"]
    )


def merged_tasks(results: Sequence[Results]) -> dict[str, Task]:
    """Returns the tasks of all results, by name."""
    return {name: task for one in results for name, task in one.tasks.items()}


def sound(path: str, folder: pathlib.Path, budget: list[int]) -> Sound:
    """Returns a recording: embedded where it is small and audio, else a link.

    Args:
      path: of the file, '' where the audio lies within another file.
      folder: of the page, to which links are relative.
      budget: [1] bytes that may still be embedded; lowered by what is.
    """
    if not path:
        return Sound("audio within the data file")
    name = pathlib.PurePath(path).name
    try:
        file = pathlib.Path(path)
        if not file.is_file():
            return Sound(f"{name} (not found)")
        size = file.stat().st_size
        link = urllib.parse.quote(os.path.relpath(file.resolve(), folder.resolve()))
        if size > min(MAX_AUDIO_BYTES, budget[0]):
            return Sound(name, link=link)
        data = file.read_bytes()
    except (OSError, ValueError):
        return Sound(f"{name} (cannot be read)")
    kinds = [kind for magic, kind in _MEDIA.items() if data.startswith(magic)]
    if not kinds:
        return Sound(name, link=link)
    budget[0] -= size
    return Sound(name, data=_data_uri(kinds[0], data))


def _overview(results: Sequence[Results], groups: Sequence[Group]) -> dict[str, Any]:
    models = [one.model for one in results]
    places = {(g.domain, g.subdomain) for g in groups if g.corrected is not None}
    ordered = [(g.domain, g.subdomain) for g in groups if g.subdomain]
    axes = [place for place in dict.fromkeys(ordered) if place in places]
    found = {(g.model, g.domain, g.subdomain): g for g in groups}
    parts = {m: [found[m, *axis] for axis in axes] for m in models}
    values = {m: [group.corrected for group in row] for m, row in parts.items()}
    bars = {
        m: [figures.Bar(group.corrected, group.low, group.high) for group in row]
        for m, row in parts.items()
    }
    names = [subdomain for _, subdomain in axes]
    clusters = [s.provenance.get("clusters") for one in results for s in one.scores]
    return {
        "models": models,
        "groups": groups,
        "has_gain": any(group.num_gains or group.left_out for group in groups),
        "left_out": [
            (group.model, told)
            for group in groups
            if not (group.domain or group.subdomain)
            for told in group.left_out
        ],
        "clustered": any(clusters),
        "min_clusters": intervals.MIN_CLUSTERS,
        "num_tasks": len({s.task for one in results for s in one.task_scores}),
        "num_examples": _num_examples(results),
        "radar": _figure(figures.radar(names, values)) if len(axes) > 2 else "",
        "bars": _figure(figures.bars(names, bars)) if axes else "",
    }


def _num_examples(results: Sequence[Results]) -> int:
    """Returns how many examples the tasks have, those of several models once."""
    found: dict[str, int] = {}
    for score in (score for one in results for score in one.task_scores):
        found[score.task] = max(found.get(score.task, 0), score.num_examples)
    return sum(found.values())


def _task_table(
    results: Sequence[Results], tasks: Mapping[str, Task]
) -> dict[str, Any]:
    scores = [score for one in results for score in one.task_scores]
    order = {name: i for i, name in enumerate(tasks)}
    scores.sort(key=lambda score: order.get(score.task, len(order)))
    return {"columns": COLUMNS, "tasks": [_task_row(score) for score in scores]}


def _task_row(score: Score) -> dict[str, Any]:
    corrected = chance_corrected(score)
    bounds = (corrected.low, corrected.high) if corrected else (None, None)
    left, right = (None if b is None else 100 * _clip(b) for b in bounds)
    return {
        **score._asdict(),
        "corrected": corrected.value if corrected else None,
        "width": round(100 * _clip(corrected.value), 1) if corrected else 0,
        "left": left,
        "right": right if left is not None else None,
        "majority": score.provenance.get("majority"),
        "missing": score.num_examples - score.num_answered,
    }


def _published(scores: Sequence[Score]) -> dict[str, Any]:
    published = read_published()
    shown = {
        name: published.accuracy[name]
        for name in dict.fromkeys(score.task for score in scores)
        if name in published.accuracy
    }
    models = dict.fromkeys(model for cells in shown.values() for model in cells)
    tracks = dict.fromkeys(
        c["track"] for cells in shown.values() for c in cells.values()
    )
    return {
        "published": shown,
        "published_models": list(models),
        "random": {
            name: " / ".join(f"{value:.1f}" for value in dict.fromkeys(values))
            for name in shown
            if (values := published.random.get(name.partition("_")[0]))
        },
        "tracks": {track: f"[{i}]" for i, track in enumerate(tracks, 1)},
        "sources": published.sources,
    }


def _browser(
    results: Sequence[Results], folder: pathlib.Path, max_samples: int
) -> dict[str, Any]:
    """Collects examples with all models' answers, and counts how answers were read."""
    outcomes = {one.model: collections.Counter() for one in results}
    chosen: dict[str, dict[tuple[str, str], list[Row]]] = {}
    totals: collections.Counter[str] = collections.Counter()
    for number, one in enumerate(results):
        kept = _Chosen(max_samples)
        for row in read_rows(one.folder):
            outcomes[one.model][row.outcome] += 1
            known = chosen.setdefault(row.task, {})
            if number == 0:
                totals[row.task] += 1
                kept.offer(row)
            elif (row.instance, row.id) in known:
                known[row.instance, row.id].append(row)
        for row in kept.rows():
            chosen[row.task][row.instance, row.id] = [row]
    budget = [MAX_PAGE_AUDIO]
    browser = [
        (
            task,
            [_sample(rows, folder, budget) for rows in samples.values()],
            totals[task],
        )
        for task, samples in chosen.items()
        if samples
    ]
    names = [name for name in OUTCOMES if any(c[name] for c in outcomes.values())]
    return {
        "browser": browser,
        "outcomes": outcomes,
        "outcome_names": names,
        "max_samples": max_samples,
    }


class _Chosen:
    """Keeps a few examples a task, those the first model got wrong before others."""

    def __init__(self, number: int):
        self.number = number
        self.wrong: dict[str, list[Row]] = collections.defaultdict(list)
        self.other: dict[str, list[Row]] = collections.defaultdict(list)

    def offer(self, row: Row) -> None:
        kind = self.wrong if _is_wrong(row) else self.other
        if len(kind[row.task]) < self.number:
            kind[row.task].append(row)

    def rows(self) -> Iterable[Row]:
        for task in dict.fromkeys([*self.wrong, *self.other]):
            wrong, other = self.wrong[task], self.other[task]
            room = max(self.number - len(other), -(-3 * self.number // 4))
            some = wrong[:room]
            yield from [*some, *other[: self.number - len(some)]]


def _is_wrong(row: Row) -> bool:
    return row.correct is False or row.outcome in ("missing", "unreadable")


def _sample(rows: Sequence[Row], folder: pathlib.Path, budget: list[int]) -> dict:
    first = rows[0]
    return {
        **first._asdict(),
        "texts": [display.printable(t, MAX_RESPONSE, True) for t in first.texts],
        "sounds": [sound(path, folder, budget) for path in first.audios],
        "answers": [_answer(row) for row in rows],
    }


def _answer(row: Row) -> dict[str, Any]:
    css = {True: "right", False: "wrong", None: ""}[row.correct]
    unread = row.outcome in ("missing", "none", "several", "unreadable")
    response = "(no answer)" if row.response is None else row.response
    return {
        "model": row.model,
        "outcome": row.outcome.replace("_", " "),
        "css": "unread" if unread and row.correct is not True else css,
        "read_as": display.printable(row.read_as, 200),
        "decided_by": row.decided_by,
        "reason": row.reason,
        "response": display.printable(response, MAX_RESPONSE, keep_lines=True),
        "judge_text": display.printable(row.judge_text, MAX_RESPONSE, True),
    }


def _sources(results: Sequence[Results]) -> dict[str, Any]:
    scores = [score for one in results for score in one.scores]
    return {
        "provenance": [score._asdict() for score in scores],
        "problems": {one.model: one.problems for one in results if one.problems},
    }


def _figure(svg: bytes) -> str:
    return _data_uri("image/svg+xml", svg)


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))


def _shown(value: Any) -> Any:
    """Writes control characters out; what is markup already is left."""
    plain = isinstance(value, str) and not hasattr(value, "__html__")
    return display.printable(value, keep_lines=True) if plain else value
