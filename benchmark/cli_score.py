"""Commands on predictions: score, report, compare; and the demonstration."""

import argparse
import gc
import pathlib
import sys

from benchmark import display
from benchmark.errors import InputError, Problems


def add_parsers(subparsers: argparse._SubParsersAction) -> None:
    """Adds the commands score, report, compare and demo."""
    _add_score(subparsers)
    _add_report(subparsers)
    _add_compare(subparsers)
    _add_demo(subparsers)


def _add_score(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "score", help="score a predictions file, or a folder of result files"
    )
    parser.add_argument("predictions", type=pathlib.Path)
    parser.add_argument(
        "--data",
        type=pathlib.Path,
        required=True,
        help="folder with a folder for each instance, as `prepare` writes it",
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="new folder")
    parser.add_argument(
        "--task_dir", action="append", default=[], help="folder with tasks of your own"
    )
    parser.add_argument(
        "--tasks", default="", help="names, comma-separated; else those predicted"
    )
    parser.add_argument("--model", default="", help="which one, or its name")
    parser.add_argument("--verdicts", type=pathlib.Path, help="what `judge` wrote")
    parser.add_argument(
        "--judge",
        choices=("undecided", "always"),
        default="undecided",
        help="which answers the verdicts decide: those that the parser cannot, or all",
    )
    parser.add_argument("--profile", choices=("strict", "parity"), default="strict")
    parser.add_argument("--num_resamples", type=_positive, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=run_score)


def _add_report(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("report", help="one HTML page from scored models")
    parser.add_argument(
        "results", type=pathlib.Path, nargs="+", help="folders that `score` wrote"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the page")
    parser.add_argument("--title", default="Evaluation report")
    parser.add_argument(
        "--baseline",
        type=pathlib.Path,
        help="results of the system that the published relative gain refers to",
    )
    parser.add_argument("--num_examples", type=_positive, default=12, help="a task")
    parser.set_defaults(run=run_report)


def _add_compare(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("compare", help="is model A better than model B?")
    parser.add_argument("a", type=pathlib.Path, help="folder that `score` wrote")
    parser.add_argument("b", type=pathlib.Path)
    parser.add_argument(
        "--out", type=pathlib.Path, help="plot; .json and .csv beside it"
    )
    parser.add_argument("--num_resamples", type=_positive, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=run_compare)


def _add_demo(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "demo", help="make a small task set, run four models, score them, report"
    )
    parser.add_argument(
        "--data",
        type=pathlib.Path,
        help="folder with items.csv (file, speaker, gender, emotion) and recordings; "
        "without it voices are generated",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/benchmark_demo")
    )
    parser.add_argument("--num_examples", type=_positive, default=48, help="a task")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=run_demo)


def run_score(options: argparse.Namespace) -> int:
    """Scores predictions, prints a table and what was wrong."""
    from benchmark import scoring
    from benchmark.measures import Settings
    from benchmark.tasks import load_tasks

    gc.set_threshold(100_000, 50, 100)  # many small records, none of them in a circle
    problems = Problems()
    job = scoring.Job(
        options.predictions,
        options.data,
        options.out,
        options.verdicts,
        tuple(filter(None, (name.strip() for name in options.tasks.split(",")))),
        options.model,
        Settings(options.profile, options.judge, options.num_resamples, options.seed),
    )
    known = load_tasks(options.task_dir, problems)
    found = scoring.score_predictions(job, known, problems)
    print(f"model: {display.printable(found.model)}, profile {options.profile}")
    print(scoring.summary(found))
    print_problems(problems)
    print(f"written: {options.out}/scores.json, scores.csv, examples.jsonl")
    return 0


def run_report(options: argparse.Namespace) -> int:
    """Writes the page, prints the mean of each model and where the page is."""
    from benchmark import report

    if options.out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {options.out}: expected a name that ends in .html")
    groups = report.write_report(
        options.results,
        options.out,
        options.title,
        options.baseline,
        options.num_examples,
    )
    print(report.summary(groups))
    print(f"report: {options.out.resolve()}")
    return 0


def run_compare(options: argparse.Namespace) -> int:
    """Prints the paired differences, and writes them if asked."""
    from benchmark import compare
    from benchmark.results import write_text

    found = compare.compare(options.a, options.b, options.num_resamples, options.seed)
    print(compare.as_text(found))
    print_problems(found.problems)
    if options.out:
        svg = options.out.with_suffix(".svg")
        write_text(svg, compare.plot(found).decode())
        write_text(svg.with_suffix(".json"), compare.as_json(found))
        write_text(svg.with_suffix(".csv"), compare.as_csv(found))
        print(f"written: {svg}, {svg.stem}.json, {svg.stem}.csv")
    return 0


def run_demo(options: argparse.Namespace) -> int:
    """Runs the demonstration and prints where the report is."""
    from benchmark import demo

    settings = demo.Settings(
        options.out, options.data, options.num_examples, options.seed
    )
    print(demo.run(settings))
    return 0


def print_problems(problems: Problems) -> None:
    """Prints one line a kind of problem, on the error stream."""
    if problems.rows:
        print(display.printable(problems.summary(), keep_lines=True), file=sys.stderr)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a positive number")
    return value
