"""Makes docs/results.md, docs/results/, the README's table and a picture.

python docs/make_results.py              runs what is not there yet (make results)
python docs/make_results.py --from DIR   reads finished runs: DIR/synthetic, DIR/nsc ...

docs/results.md is to be read: few methods, verdicts, what the parts contribute.
docs/results/ holds every table of each run. Every number and every verdict is computed
from the files of a run; docs/results_notes/ holds what is written by hand, one file for
a corpus.
"""

import argparse
import ast
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from metaperser_jax.evaluation import (
    contributions,
    findings,
    paper,
    paper_data,
    sheet,
    tables,
    titles,
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = "METAPERSER_DATA"
FILES = ("run.json", "results.json", "comparisons.json", "per_listener.json")
PAIRS = (
    *(("full", "no_adaptation"), ("full", "base_rate"), ("full", "prior_calibration")),
    *(("full", "fine_tune"), ("full", "minus_csmt"), ("full", "oracle")),
    *(("full", "wrong_listener"), ("wrong_listener", "no_adaptation")),
)
METRICS = ("macro_f1", "micro_f1", "exact_match", "nll", "uar", "ece")
LEAD_METRICS = ("macro_f1", "nll", "ccc")
GLANCE_METRICS = ("macro_f1", "micro_f1", "nll")
PARTS_METRICS = ("macro_f1", "nll")
README_METRICS = ("macro_f1", "micro_f1", "exact_match", "nll")
README_METHODS = (
    *("full", "no_adaptation", "base_rate", "prior_calibration"),
    *("fine_tune", "maml", "listener_embedding", "oracle", "wrong_listener"),
)
PICTURE = "docs/images/k_curve.png"
HEAD = """# Results

Written by `make results` from the files of the runs: no number in a table was typed.
Methods and metrics are explained in the [README](../README.md). K is the number of a
listener's labelled clips. "Seen" clips were trained on, with other listeners' labels;
"unseen" clips were not. Brackets hold 95 % intervals over listeners and clips, **bold**
is the best mean of the methods that could be deployed. p values flip signs over
listeners and are corrected after Holm over all methods compared in one metric; "better"
and "worse" mean a corrected p below {level}. Shown are the methods that answer whether
adaptation pays; all methods, paired differences, values of single listeners and the
K-curves of a run are on a page of its own, linked below it.
"""
DETAILS_HEAD = """# {title}: all tables

Written by `make results`; [results.md](../results.md) says how to read it and what
follows from it. "Listeners worse" is the share of listeners whose own value is worse.
"""


class Record(NamedTuple):
    """A run of record: how it is started."""

    name: str
    title: str
    flags: tuple[str, ...]
    folder: str = ""  # of the corpus, below METAPERSER_DATA
    metrics: tuple[str, ...] = METRICS
    sweep: bool = False  # --mode=sweep, then --mode=tables


class Run(NamedTuple):
    """A finished run: what its files hold."""

    provenance: dict[str, Any]
    records: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    per_listener: list[dict[str, Any]]

    @property
    def headline(self) -> int:
        """K that the page shows."""
        return int(self.provenance["config"]["evaluation.headline_support"])


RECORDS = (
    Record("synthetic", "Synthetic corpus", ()),
    Record(
        "shuffled",
        "Synthetic corpus, listeners shuffled: the negative control",
        ("--config.data.shuffle_listeners=True",),
    ),
    Record(
        "synthetic_both",
        "Synthetic corpus, categories and dimensional ratings together",
        (
            "--config.loss.outputs=both",
            "--config.evaluation.methods=('full','minus_csmt','minus_lslr',"
            "'no_adaptation','base_rate','prior_calibration','fine_tune',"
            "'wrong_listener')",
        ),
        metrics=("macro_f1", "micro_f1", "nll", "ccc", "rmse"),
    ),
    Record(
        "emotale",
        "EmoTale: three listeners, real recordings",
        ("--config=configs/emotale.py",),
        "emotale",
    ),
    Record(
        "whiser",
        "WHiSER: listeners of natural speech, labels only",
        ("--config=configs/whiser.py",),
        "whiser_votes",
    ),
    Record(
        "nsc",
        "NSC listening test: 69 listeners, graded voices",
        ("--config=configs/nsc.py",),
        "nsc_ratings",
        (*METRICS[:4], "accuracy", *METRICS[4:]),
    ),
    Record(
        "nsc_combined",
        "NSC with combined sets: what CSMT does there",
        (
            "--config=configs/nsc.py",
            "--config.meta.mode=independent",
            "--config.evaluation.methods=('full','minus_csmt','no_adaptation')",
        ),
        "nsc_ratings",
        (*METRICS[:4], "accuracy", *METRICS[4:]),
    ),
    Record(
        "iemocap_fake",
        "The protocol of IEMOCAP, on an invented tree",
        ("--config=configs/iemocap.py:fake",),
        sweep=True,
    ),
    Record(
        "crema_d_fake",
        "The protocol of CREMA-D, on an invented tree of full size",
        ("--config=configs/crema_d.py:fake",),
        sweep=True,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs or reads the runs of record, then writes; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--from", dest="folder", type=pathlib.Path, help="finished runs, nothing is run"
    )
    folder = parser.parse_args(arguments).folder
    if folder is None:
        folder = ROOT / "runs"
        for record in RECORDS:
            if code := run_record(record, folder / record.name):
                return code
    runs = {}
    for record in RECORDS:
        if is_complete(folder / record.name):
            runs[record.name] = read_run(folder / record.name)
        else:
            print(f"{folder / record.name}: no finished run, left out", file=sys.stderr)
    if not runs:
        return 2
    write_all(runs, ROOT)
    return 0


def run_record(record: Record, workdir: pathlib.Path) -> int:
    """Runs a record unless it is finished; returns the exit code."""
    if is_complete(workdir) and not stale(record, read_run(workdir)):
        print(f"{workdir}: finished, reused", file=sys.stderr)
        return 0
    command = [sys.executable, "run.py", *record.flags, f"--workdir={workdir}"]
    if record.folder:
        data = pathlib.Path(os.environ.get(DATA, "../shared/data")) / record.folder
        command.append(f"--config.data.root={data}")
    for mode in ("sweep", "tables") if record.sweep else ("all",):
        words = [*command, f"--mode={mode}"] if record.sweep else command
        print(shlex.join(words), file=sys.stderr, flush=True)
        if code := subprocess.run(words, cwd=ROOT, check=False).returncode:
            return code
    return 0


def stale(record: Record, run: Run) -> bool:
    """Tells whether the config has changed since the run."""
    from metaperser_jax.application import flatten

    sys.path.insert(0, str(ROOT))
    import run as door

    path, choice = door.config_argument(list(record.flags))
    wanted = flatten(door.load_config(path, choice).to_dict())
    for flag in record.flags:
        key, _, value = flag.removeprefix("--config.").partition("=")
        if key in wanted:
            wanted[key] = ast.literal_eval(value)
    wanted = json.loads(json.dumps(wanted))
    found = run.provenance["config"]
    places = {"data.root", "features.cache_dir"}
    return any(wanted[key] != found.get(key) for key in wanted.keys() - places)


def is_complete(workdir: pathlib.Path) -> bool:
    """Tells whether all files of a finished run are there."""
    return all((workdir / name).is_file() for name in FILES)


def read_run(workdir: pathlib.Path) -> Run:
    """Reads the files of a finished run."""
    return Run(*(json.loads((workdir / n).read_text(encoding="utf-8")) for n in FILES))


def write_all(runs: dict[str, Run], root: pathlib.Path) -> None:
    """Writes the pages; from the synthetic run the README's table and the picture."""
    (root / "docs" / "results.md").write_text(
        page(runs, root / "docs" / "results_notes"), encoding="utf-8"
    )
    for record in RECORDS:
        if record.name in runs:
            path = root / "docs" / details_path(record)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(details(record, runs[record.name]), encoding="utf-8")
    if run := runs.get("synthetic"):
        write_picture(run, root / PICTURE)
        readme = root / "README.md"
        text = with_picture(readme.read_text(encoding="utf-8"))
        readme.write_text(with_table(text, readme_table(run)), encoding="utf-8")


def write_picture(run: Run, path: pathlib.Path) -> None:
    """Draws macro-F1 against K."""
    from metaperser_jax.evaluation import plots

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plots.to_png(plots.k_curves(run.records, "macro_f1")))


def with_picture(readme: str) -> str:
    """Returns the README with the picture after its marker, once."""
    link = f"![Macro-F1 on held-out listeners against K]({PICTURE})"
    pattern = rf"<!-- picture -->\n(\n?!\[[^\n]*\]\({re.escape(PICTURE)}\)\n)?"
    return re.sub(pattern, lambda _: f"<!-- picture -->\n\n{link}\n", readme, count=1)


def with_table(readme: str, table: str) -> str:
    """Returns the README with the table between its markers."""
    start, end = "<!-- results -->", "<!-- /results -->"
    pattern = rf"{start}\n.*?{end}"
    return re.sub(
        pattern, lambda _: f"{start}\n{table}\n{end}", readme, count=1, flags=re.DOTALL
    )


def readme_table(run: Run) -> str:
    """Returns the README's tables: few methods, seen and unseen clips."""
    intro = (
        f"Synthetic corpus, K = {run.headline}, {tables.count_text(at_headline(run))}; "
        "95 % intervals; bold: the best of all methods that could be deployed, also of "
        "those not shown. The real corpora, paired tests and all methods are in\n"
        "[docs/results.md](docs/results.md) and the pages linked there."
    )
    parts = ["## Results", intro]
    for scenario in scenarios(run):
        here = at_headline(run, scenario)
        chosen = [row for row in here if row["method"] in README_METHODS]
        parts += [
            f"**{titles.scenario_title(scenario)}**",
            means_table(chosen, README_METRICS, best_of=here),
        ]
    return "\n\n".join(parts)


def page(runs: dict[str, Run], notes: pathlib.Path) -> str:
    """Returns docs/results.md."""
    chosen = [record for record in RECORDS if record.name in runs]
    parts = [HEAD.format(level=tables.SIGNIFICANCE).strip()]
    parts += note_text(notes / "summary.md")
    parts += [*glance(chosen, runs), *parts_glance(chosen, runs)]
    for record in chosen:
        parts += section(record, runs[record.name], notes / f"{record.name}.md")
    return "\n\n".join(parts) + "\n"


def note_text(path: pathlib.Path) -> list[str]:
    """Returns what is written by hand, if it is."""
    return [path.read_text(encoding="utf-8").strip()] if path.is_file() else []


def details_path(record: Record) -> str:
    """Returns where a run's tables are, below docs/."""
    return f"results/{record.name}.md"


def glance(chosen: Sequence[Record], runs: dict[str, Run]) -> Iterator[str]:
    """Yields one table: the method against no adaptation, on all corpora."""
    yield "## At a glance: `full` minus `no_adaptation`"
    rows = [["run", "clips", "K", "listeners"]]
    rows[0] += [heading(metric) for metric in GLANCE_METRICS]
    for record in chosen:
        run = runs[record.name]
        if record.sweep:
            continue
        for scenario in scenarios(run):
            found = paired(run, scenario, ("full", "no_adaptation"))
            listeners = max((row["num_listeners"] for row in found.values()), default=0)
            cells = [record.name, scenario, str(run.headline), str(listeners)]
            rows.append(cells + [glance_cell(found.get(m)) for m in GLANCE_METRICS])
    yield markdown(rows)


def glance_cell(row: dict | None) -> str:
    """Returns a difference with its verdict."""
    if row is None:
        return titles.NONE
    return f"{titles.format_signed(row['difference'])} ({tables.verdict(row)})"


def parts_glance(chosen: Sequence[Record], runs: dict[str, Run]) -> Iterator[str]:
    """Yields one table: what each part of the method adds, on all corpora."""
    yield "## What CSMT, DA and LSLR contribute: `full` minus `full` without it"
    parts = contributions.PARTS
    rows = [["run", "where", "metric", *parts.values()]]
    for record in chosen:
        data, _ = paper_rows(record, runs[record.name])
        for place in data.places:
            for metric in PARTS_METRICS:
                address = paper_data.Address(*place, data.spec.headline_support, metric)
                pairs = [contributions.find_pair(data, address, key) for key in parts]
                where = paper_data.place_title(**place._asdict())
                head = [record.name, where, heading(metric)]
                rows.append(head + [part_cell(pair) for pair in pairs])
    yield markdown(rows)


def part_cell(pair: dict | None) -> str:
    """Returns what a part changes, and whether it helps."""
    if pair is None or not titles.is_number(pair["difference"]):
        return titles.NONE
    words = {"better": "helps", "worse": "hurts", "not significant": "tie"}
    verdict = tables.verdict(pair)
    number = titles.format_signed(pair["difference"])
    return f"{number} ({words.get(verdict, verdict)})"


def section(record: Record, run: Run, note: pathlib.Path) -> Iterator[str]:
    """Yields what is to be read of one run: main results, verdicts, notes."""
    yield f"## {record.title}"
    yield from origin(record, run)
    if record.sweep:
        yield from as_markdown(paper_tables(record, run)["main"])
    else:
        for scenario in scenarios(run):
            yield f"### {record.name}: {scenario} clips, K = {run.headline}"
            here = at_headline(run, scenario)
            shown = [row for row in here if row["method"] in README_METHODS]
            yield means_table(shown, record.metrics, best_of=here)
            lines = verdicts(run, scenario, record.metrics)
            yield "\n".join(f"- {line}" for line in lines)
    yield from note_text(note)
    yield f"All tables of this run: [{details_path(record)}]({details_path(record)})."


def origin(record: Record, run: Run) -> Iterator[str]:
    """Yields the commands of a run, and what corpus and machine it is of."""
    command = shown_command(record, run)
    if record.sweep:
        command = f"{command.replace('=tables', '=sweep')}\n{command}"
    yield f"```sh\n{command}\n```"
    yield provenance_text(run)


def details(record: Record, run: Run) -> str:
    """Returns the page of a run with all its tables."""
    parts = [DETAILS_HEAD.format(title=record.title).strip(), *origin(record, run)]
    made = paper_tables(record, run)
    if not record.sweep:
        for scenario in scenarios(run):
            parts.append(f"### {record.name}: {scenario} clips, K = {run.headline}")
            parts.append(means_table(at_headline(run, scenario), record.metrics))
            parts.append(differences(run, scenario, record.metrics))
    for name in ("ablation", "k_curve", "per_listener"):
        parts += as_markdown(made[name])
    return "\n\n".join(parts) + "\n"


def paper_rows(record: Record, run: Run) -> tuple[paper_data.Data, list[dict]]:
    """Returns a run's rows as those of a sweep: indexed, and of single listeners."""
    facts = {"encoder": "", "group": "", "num_seeds": 1, "num_folds": 1}
    records, comparisons, per_listener = (
        [{**facts, **row} for row in rows] for rows in run[1:]
    )
    known = {row["metric"] for row in records}
    spec = paper_data.PaperSpec(
        headline_support=run.headline,
        metrics=tuple(m for m in record.metrics if m in known),
        lead_metrics=tuple(m for m in LEAD_METRICS if m in known),
    )
    return paper_data.index_data(records, comparisons, spec), per_listener


def paper_tables(record: Record, run: Run) -> dict[str, sheet.Table]:
    """Returns the tables of a paper, made from a run's rows."""
    data, per_listener = paper_rows(record, run)
    made = (
        paper.main_table(data),
        paper.ablation_table(data),
        paper.k_curve_table(data),
        paper.listener_table(per_listener, data.spec),
    )
    return {table.name: table for table in made}


def as_markdown(table: sheet.Table) -> Iterator[str]:
    """Yields a table's title, caption, blocks and sentences."""
    yield f"### {table.title}"
    yield table.caption
    for block in table.blocks:
        if block.title:
            yield f"**{block.title}**"
        uppers = [column.upper for column in block.columns]
        several = len(set(uppers)) > 1
        heads = [
            f"{column.upper}, {column.head}"
            if several and column.upper
            else column.head
            for column in block.columns
        ]
        rows = [[block.corner, *heads]]
        for part in block.sections:
            rows += [[row.label, *map(cell_text, row.cells)] for row in part.rows]
        yield markdown(rows)
    if table.sentences:
        yield "\n".join(f"- {sentence}" for sentence in table.sentences)


def cell_text(cell: sheet.Cell) -> str:
    """Returns 'mean ±SD [low, high]', bold where best, with its mark."""
    parts = [cell.mean, f"±{cell.sd}" if cell.sd else "", cell.interval]
    text = " ".join(filter(None, parts))
    text = f"**{text}**" if cell.best else text
    p_value = f" p = {cell.p_value}".replace("= <", "< ") if cell.p_value else ""
    return f"{text}{cell.mark}{p_value}"


def shown_command(record: Record, run: Run) -> str:
    """Returns the command of a run without what belongs to its machine."""
    words = shlex.split(run.provenance["command"])
    if not words:
        root = [f"--config.data.root={record.folder}"] if record.folder else []
        words = ["python", "run.py", *record.flags, *root]
    machine = ("--workdir", "--config.features.cache_dir", "--config.data.root")
    kept = []
    while words:
        name, equals, value = words.pop(0).partition("=")
        if name in machine and not equals and words:
            value = words.pop(0)
        if name == "--config.data.root":
            folder = pathlib.PurePath(value).name or "CORPUS"
            kept.append(f"--config.data.root=FOLDER/{folder}")
        elif name not in machine:
            kept.append(nameless(f"{name}{equals}{value}"))
    return " ".join(word if word == shlex.quote(word) else shlex.quote(word)
                    for word in kept)  # fmt: skip


def nameless(word: str) -> str:
    """Shortens an absolute path to what lies in the repository, or to its name."""
    flag, equals, value = word.rpartition("=")
    if not value.startswith("/"):
        return word
    path = pathlib.PurePath(value)
    if path.parent.name == "configs":
        return f"{flag}{equals}configs/{path.name}"
    return f"{flag}{equals}{path.name}"


def provenance_text(run: Run) -> str:
    """Says on what corpus and machine the numbers were made."""
    facts = one_provenance(run.provenance)
    corpus, versions = facts["corpus"], dict(facts["versions"])
    device, platform = versions.pop("device", "?"), versions.pop("platform", "?")
    counts = ", ".join(
        f"{corpus[key]:,} {key}" for key in ("clips", "listeners", "ratings")
    )
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    text = (
        f"{counts}, {len(corpus['classes'])} classes; tested: "
        f"{tables.count_text(at_headline(run))}. "
        f"Made with {packages} on {device} ({platform}), "
        f"seed {facts['seeds']['seed']}."
    )
    notes = [note.removesuffix(": see problems.jsonl") for note in facts["notes"]]
    return text + (f" Skipped or doubtful: {'; '.join(notes)}." if notes else "")


def one_provenance(provenance: dict[str, Any]) -> dict[str, Any]:
    """Returns what a run, or all variants of a sweep alike, comes from."""
    variants = provenance.get("variants")
    if not variants:
        return provenance
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(v["seed"] for v in variants))
    notes = dict.fromkeys(note for v in variants for note in v.get("notes", ()))
    return {**variants[0], "seeds": {"seed": seeds}, "notes": list(notes)}


def scenarios(run: Run) -> list[str]:
    """Returns the scenarios of a run, seen before unseen."""
    return titles.sort_scenarios(row["scenario"] for row in run.records)


def at_headline(run: Run, scenario: str | None = None) -> list[dict]:
    """Returns the records at the headline K."""
    found = tables.select(run.records, num_support=run.headline)
    return found if scenario is None else tables.select(found, scenario=scenario)


def heading(metric: str) -> str:
    """Returns a metric's title with the direction that is better."""
    info = titles.metric_info(metric)
    return f"{info.title} {'↓' if info.lower_is_better else '↑'}"


def means_table(
    records: list[dict], metrics: Sequence[str], best_of: list[dict] | None = None
) -> str:
    """Returns methods x metrics: means with intervals, the best deployable bold."""
    cells = tables.index_rows(records, "method", "metric")
    best = {m: tables.best_methods(best_of or records, m) for m in metrics}
    rows = [["method", *map(heading, metrics)]]
    for method in titles.sort_methods(row["method"] for row in records):
        row = [f"`{method}`"]
        for metric in metrics:
            text = mean_cell(cells.get((method, metric)))
            row.append(f"**{text}**" if method in best[metric] else text)
        rows.append(row)
    return markdown(rows)


def mean_cell(record: dict | None) -> str:
    """Returns 'mean [low, high]'."""
    if record is None or not titles.is_number(record["mean"]):
        return titles.NONE
    return f"{titles.format_number(record['mean'])} {findings.interval(record)}"


def paired(run: Run, scenario: str, pair: tuple[str, str]) -> dict[str, dict]:
    """Returns metric -> the comparison of a pair at the headline K."""
    rows = tables.select(
        run.comparisons,
        scenario=scenario,
        num_support=run.headline,
        method=pair[0],
        reference=pair[1],
    )
    index = tables.index_rows(rows, "metric")
    return {metric: row for (metric,), row in index.items()}


def verdicts(run: Run, scenario: str, metrics: Sequence[str]) -> Iterator[str]:
    """Yields one sentence a pair, made of the verdicts of the table below it."""
    for pair in PAIRS:
        rows = paired(run, scenario, pair)
        judged = {m: tables.verdict(rows[m]) for m in metrics if m in rows}
        if not judged:
            continue
        parts = []
        for verdict in ("better", "worse", "not significant", "not tested"):
            names = [
                titles.metric_info(m).title for m in judged if judged[m] == verdict
            ]
            if names:
                parts.append(f"{verdict} in {findings.sentence_list(names)}")
        yield f"`{pair[0]}` against `{pair[1]}`: {'; '.join(parts)}."
    count = max((r["num_listeners"] for r in at_headline(run, scenario)), default=0)
    if count < findings.FEW_LISTENERS:
        yield (
            f"Only {count} listeners were tested: no difference between so few can be "
            "significant, whatever its size."
        )


def differences(run: Run, scenario: str, metrics: Sequence[str]) -> str:
    """Returns the table of paired differences."""
    rows = [["metric", "difference", "value [95 % interval]", "p (Holm)",
             "listeners worse", "verdict"]]  # fmt: skip
    for metric in metrics:
        for pair in PAIRS:
            row = paired(run, scenario, pair).get(metric)
            if row is None:
                continue
            value = titles.format_signed(row["difference"])
            rows.append(
                [
                    heading(metric),
                    f"`{pair[0]}` against `{pair[1]}`",
                    f"{value} {findings.interval(row, signed=True)}",
                    titles.format_p(row["p_holm"]),
                    titles.format_share(row["share_worse"]),
                    tables.verdict(row),
                ]
            )
    return f"### Paired differences, {scenario} clips\n\n{markdown(rows)}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table; its first row is the heading."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


if __name__ == "__main__":
    sys.exit(main())
