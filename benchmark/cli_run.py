"""Commands that ask: run (a model), judge (its answers)."""

import argparse
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from benchmark import display, journal
from benchmark.errors import InputError, Problems
from benchmark.typing import Verdict

_Item = TypeVar("_Item")
KEY_HELP = "environment variable that holds the endpoint's key; keys go nowhere else"


def add_parsers(subparsers: argparse._SubParsersAction) -> None:
    """Adds the commands run and judge."""
    _add_run(subparsers)
    _add_judge(subparsers)


def _add_run(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "run", help="ask a model; a run that was stopped goes on where it was"
    )
    parser.add_argument(
        "--model",
        required=True,
        help="file:PATH, openai:URL#MODEL, baseline:chance, baseline:majority, "
        "baseline:text_only[:URL#MODEL], classifier:package.module:function, "
        "scripted:chatty[:SHARE] or transformers:MODEL",
    )
    parser.add_argument(
        "--out", type=_json_lines, required=True, help="predictions, .jsonl"
    )
    _add_data(parser)
    parser.add_argument("--name", default="", help="of the model in the predictions")
    parser.add_argument("--limit", type=_positive, help="examples asked by this start")
    parser.add_argument(
        "--option_maps", type=pathlib.Path, help="more maps for a classifier, .json"
    )
    _add_asking(parser)
    parser.set_defaults(run=run_run)


def _add_judge(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "judge", help="let a language model judge answers that the parser cannot read"
    )
    parser.add_argument("predictions", type=pathlib.Path)
    parser.add_argument("--url", required=True, help="of the endpoint, http://HOST/v1")
    parser.add_argument("--judge_model", required=True, help="name at the endpoint")
    parser.add_argument(
        "--out", type=_json_lines, required=True, help="verdicts, .jsonl"
    )
    _add_data(parser)
    parser.add_argument("--model", default="", help="whose answers, if several")
    parser.add_argument(
        "--judge",
        choices=("undecided", "always"),
        default="undecided",
        help="which answers: those that the parser cannot decide, or all",
    )
    parser.add_argument("--profile", choices=("strict", "parity"), default="strict")
    parser.add_argument(
        "--schema",
        choices=("auto", "yes", "no"),
        default="auto",
        help="ask for JSON by schema; auto finds out once whether the endpoint can",
    )
    parser.add_argument(
        "--cache", type=_json_lines, help="replies, .jsonl; else beside --out"
    )
    parser.add_argument(
        "--agree_with", type=pathlib.Path, help="verdicts of a second judge"
    )
    _add_asking(parser)
    parser.set_defaults(run=run_judge)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=pathlib.Path,
        required=True,
        help="folder with a folder for each instance, as `prepare` writes it",
    )
    parser.add_argument(
        "--tasks", default="", help="names, comma-separated; else all that are there"
    )
    parser.add_argument(
        "--task_dir", action="append", default=[], help="folder with tasks of your own"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first row that is at fault"
    )


def _add_asking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--budget", type=_count, help="calls at the most, retries included"
    )
    parser.add_argument("--concurrency", type=_positive, default=8)
    parser.add_argument("--max_tokens", type=_positive, default=512, help="an answer")
    parser.add_argument("--timeout", type=_seconds, default=120.0, help="s of silence")
    parser.add_argument("--key_variable", default="", help=KEY_HELP)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--dry_run", action="store_true", help="count what would be asked, ask nothing"
    )


def run_run(options: argparse.Namespace) -> int:
    """Asks a model, prints what became of the examples."""
    from benchmark import asking
    from benchmark.models import make_model
    from benchmark.running import count_open, run_model
    from benchmark.tasks import load_tasks

    problems = Problems(options.strict)
    known = load_tasks(options.task_dir, problems)
    chosen = asking.choose_instances(known, _names(options.tasks), options.data)
    seen = asking.read_examples(chosen, options.data, Problems())
    model = make_model(options.model, _model_settings(options, known, seen, problems))
    examples = asking.read_examples(chosen, options.data, problems)
    if options.dry_run:
        num_open = count_open(model, examples, options.out, problems, options.limit)
        print(f"would ask {display.printable(model.name)} {num_open} questions")
        return 0
    counts = run_model(
        model, _with_bar(examples, model.name), options.out, problems, options.limit
    )
    fields = ", ".join(
        f"{count} {name.replace('_', ' ')}" for name, count in counts._asdict().items()
    )
    print(f"{display.printable(model.name)}: {fields}")
    _finish(problems, options.out)
    return 0


def run_judge(options: argparse.Namespace) -> int:
    """Judges answers, prints how many verdicts there are and how far they agree."""
    from benchmark import asking, judge, predictions
    from benchmark.tasks import load_tasks

    problems = Problems(options.strict)
    known = load_tasks(options.task_dir, problems)
    rows = predictions.read_predictions(options.predictions, problems)
    answers = asking.choose_model(rows, options.model, options.predictions)
    chosen = _instances_of(answers, options, known)
    found = asking.read_questions(answers, chosen, options.data, problems)
    questions = list(found)
    items = [
        question.item
        for question in questions
        if question.undecided or options.judge == "always"
    ]
    settings = _judge_settings(options)
    print(f"{len(questions)} answers, {len(items)} for the judge")
    if options.dry_run:
        print(_estimate_text(judge.estimate(items, settings)))
        return 0
    with journal.lock(options.out):
        asked = judge.judge_answers(items, _client(options), settings, problems)
        verdicts = list(_with_bar(asked, options.judge_model, len(items)))
        journal.rewrite(options.out, (verdict._asdict() for verdict in verdicts))
    counts = judge.count_outcomes(verdicts)
    print(
        ", ".join(f"{count} {name}" for name, count in counts.items()) or "no verdict"
    )
    _print_agreement("the parser", verdicts, [q.parser for q in questions])
    if options.agree_with:
        second = list(_read_verdicts(options.agree_with))
        _print_agreement(options.agree_with.name, verdicts, second)
    _finish(problems, options.out)
    return 0


def _model_settings(options, known, seen, problems):
    from benchmark.asking import make_options_of
    from benchmark.client import Budget
    from benchmark.models import ModelSettings

    return ModelSettings(
        options_of=make_options_of(known),
        examples=seen,
        name=options.name,
        seed=options.seed,
        key_variable=options.key_variable,
        budget=Budget(options.budget),
        concurrency=options.concurrency,
        max_tokens=options.max_tokens,
        read_seconds=options.timeout,
        option_maps=options.option_maps,
        problems=problems,
    )


def _judge_settings(options: argparse.Namespace):
    from benchmark.judge import JudgeSettings

    return JudgeSettings(
        options.judge_model,
        options.profile,
        options.cache or options.out.with_suffix(".cache.jsonl"),
        options.max_tokens,
        options.concurrency,
        options.seed,
        {"auto": None, "yes": True, "no": False}[options.schema],
    )


def _client(options: argparse.Namespace):
    from benchmark.client import Budget, Client, Endpoint

    endpoint = Endpoint(
        options.url,
        options.judge_model,
        options.key_variable,
        read_seconds=options.timeout,
        total_seconds=2 * options.timeout,
    )
    return Client(endpoint, Budget(options.budget))


def _instances_of(answers, options: argparse.Namespace, known):
    """Returns the instances that are named, or those with predictions."""
    from benchmark import asking
    from benchmark.tasks import task_of

    names = _names(options.tasks)
    names = names or [name for name in answers if task_of(known, name)]
    if not names:
        raise InputError(
            f"{options.predictions}: no predictions for a known task; --task_dir adds "
            "tasks"
        )
    return asking.choose_instances(known, names, options.data)


def _read_verdicts(path: pathlib.Path) -> Iterator[Verdict]:
    from benchmark.scoring import read_verdicts

    for by_id in read_verdicts(path).values():
        yield from by_id.values()


def _estimate_text(found) -> str:
    return (
        f"would ask {found.num_calls} questions ({found.num_cached} are in the cache, "
        f"{found.num_without_response} have no response): about "
        f"{found.prompt_tokens:,} tokens of prompts, at most "
        f"{found.max_completion_tokens:,} of replies"
    )


def _print_agreement(name: str, first: list[Verdict], second: list[Verdict]) -> None:
    from benchmark.judge import agreement, equal_numbers

    found = agreement(first, second)
    if found.num_shared:
        print(
            f"agreement with {display.printable(name)}: kappa "
            f"{display.number(found.kappa)}, {display.number(found.observed)} of "
            f"{found.num_shared} verdicts"
        )
    num_equal, num_numbers = equal_numbers(first, second)
    if num_numbers:
        shown = display.printable(name)
        print(f"the same number as {shown}: {num_equal} of {num_numbers}")


def _with_bar(items: Iterable[_Item], name: str, total: int = 0) -> Iterator[_Item]:
    """Shows progress on a terminal."""
    from tqdm import tqdm

    yield from tqdm(items, display.printable(name), total or None, disable=None)


def _finish(problems: Problems, out: pathlib.Path) -> None:
    if problems.rows:
        print(display.printable(problems.summary(), keep_lines=True), file=sys.stderr)
    problems.write(out.with_suffix(".problems.jsonl"))
    print(f"written: {display.printable(str(out))}")


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def _json_lines(text: str) -> pathlib.Path:
    """Refuses names by which what is written could not be read again."""
    if not text.endswith(".jsonl"):
        raise argparse.ArgumentTypeError(f"{text}: expected a name ending in .jsonl")
    return pathlib.Path(text)


def _positive(text: str) -> int:
    value = _count(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a positive number")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 or more")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86_400:
        raise argparse.ArgumentTypeError(f"{text}: expected seconds")
    return value
