"""What a run shows, in words computed from its numbers: gains, losses and doubts."""

from collections.abc import Sequence
from typing import NamedTuple

from metaperser_jax.evaluation import tables, titles

METHOD, REFERENCE = "full", "no_adaptation"
HEADLINE_SUPPORT = 16  # K of the headline where it was evaluated, else the nearest
FEW_LISTENERS = 6  # below, not even a clean sweep is significant: 2 / 2**5 > 0.05


class Finding(NamedTuple):
    """One sentence and what it means for the method."""

    tone: str  # 'good', 'bad' or 'plain'
    text: str


def headline_support(records: Sequence[dict]) -> int | None:
    """Returns the K that the report leads with, None without records.

    The nearest to `HEADLINE_SUPPORT` of those that every scenario has, or of all where
    the scenarios share none.
    """
    by_scenario: dict[str, set[int]] = {}
    for row in records:
        by_scenario.setdefault(row["scenario"], set()).add(int(row["num_support"]))
    supports = list(by_scenario.values())
    shared = set.intersection(*supports) if supports else set()
    candidates = shared or set().union(*supports)
    return min(candidates, key=lambda k: (abs(k - HEADLINE_SUPPORT), k), default=None)


def headline_metric(records: Sequence[dict]) -> str | None:
    """Returns the metric that the report leads with, None without records."""
    return next(iter(titles.sort_metrics(row["metric"] for row in records)), None)


def scenario_findings(
    records: Sequence[dict],
    comparisons: Sequence[dict],
    scenario: str,
    num_support: int,
    metric: str,
) -> list[Finding]:
    """Says in words how the full method fares in one scenario at one K.

    Significance is meant after Holm's correction at `tables.SIGNIFICANCE`. Losses, ties
    and what was not tested are said as plainly as wins.

    Args:
      records: means with intervals, see `tables`.
      comparisons: paired differences, see `tables`.
      scenario: 'seen' or 'unseen'.
      num_support: K.
      metric: the headline metric.
    """
    here = tables.select(records, scenario=scenario, num_support=num_support)
    pairs = tables.select(
        comparisons, scenario=scenario, num_support=num_support, method=METHOD
    )
    main = tables.index_rows(tables.select(pairs, metric=metric), "reference")
    by_reference = {reference: row for (reference,), row in main.items()}
    if not any(row["method"] == METHOD for row in here):
        return _without_the_method(here, metric)
    return [
        *_against_no_adaptation(by_reference.get(REFERENCE), num_support),
        *_rank(here, metric),
        *_against_baselines(by_reference),
        *_against_ablations(by_reference),
        *_doubts(by_reference),
        *_elsewhere(pairs, metric),
        *_few_listeners(here),
    ]


def sentence_list(words: Sequence[str]) -> str:
    """Joins words as 'a, b and c'."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _without_the_method(here: Sequence[dict], metric: str) -> list[Finding]:
    name = titles.method_title(METHOD)
    found = [Finding("plain", f"{name} was not evaluated here.")]
    best = titles.sort_methods(tables.best_methods(here, metric))
    if best:
        names = sentence_list([titles.method_title(method) for method in best])
        text = f"The best mean {titles.metric_info(metric).title} is that of {names}."
        found.append(Finding("plain", text))
    return found


def _against_no_adaptation(row: dict | None, num_support: int) -> list[Finding]:
    if row is None or not titles.is_number(row["difference"]):
        text = (
            "The method was not compared with no adaptation, listener by listener: "
            "whether personalisation helps is not shown."
        )
        return [Finding("bad", text)]
    result = tables.verdict(row)
    tone, words = {
        "better": ("good", "Personalisation helps"),
        "worse": ("bad", "Personalisation hurts"),
        "not significant": ("bad", "No significant effect of personalisation"),
        "not tested": ("bad", "The effect of personalisation was not tested"),
    }[result]
    number = f"{titles.format_signed(row['difference'])} {interval(row, signed=True)}"
    text = (
        f"{words}: with K = {num_support} labelled utterances, "
        f"{titles.metric_info(row['metric']).title} changes by {number} against no "
        f"adaptation (p = {titles.format_p(row['p_holm'])} after Holm's correction)"
    )
    if titles.is_number(row["share_worse"]):
        share = titles.format_share(row["share_worse"])
        text += f"; {share} of the listeners are made worse"
    return [Finding(tone, text.replace("p = <", "p < ") + ".")]


def interval(row: dict, signed: bool = False) -> str:
    """Returns '[low, high]'."""
    write = titles.format_signed if signed else titles.format_number
    return f"[{write(row['low'])}, {write(row['high'])}]"


def _rank(here: Sequence[dict], metric: str) -> list[Finding]:
    own = tables.select(here, method=METHOD, metric=metric)
    if not own or not titles.is_number(own[0]["mean"]):
        text = "The method has no value of the headline metric here."
        return [Finding("bad", text)]
    value = f"{titles.format_number(own[0]['mean'])} {interval(own[0])}"
    start = f"{titles.method_title(METHOD)} has a mean {_title(metric)} of {value}"
    best = tables.best_methods(here, metric)
    others = titles.sort_methods(best - {METHOD})
    names = sentence_list([titles.method_title(method) for method in others])
    if METHOD not in best:
        text = f"{start}; the best deployable mean is that of {names}."
        return [Finding("bad", text)]
    tie = f" (with {names})" if others else ""
    text = f"{start}, the best{tie} of the methods that could be deployed."
    return [Finding("good", text)]


def _title(metric: str) -> str:
    return titles.metric_info(metric).title


def _against_baselines(by_reference: dict[str, dict]) -> list[Finding]:
    baselines = {
        reference: row
        for reference, row in by_reference.items()
        if reference not in {REFERENCE, *titles.NOT_DEPLOYABLE, *titles.ABLATIONS}
    }
    sentences = {
        "better": ("good", "It is significantly better than {}."),
        "not significant": ("bad", "It does not differ significantly from {}."),
        "worse": ("bad", "It is significantly worse than {}."),
        "not tested": ("plain", "No p value is given against {}."),
    }
    return _by_verdict(baselines, sentences)


def _against_ablations(by_reference: dict[str, dict]) -> list[Finding]:
    ablations = {
        reference: row
        for reference, row in by_reference.items()
        if reference in titles.ABLATIONS
    }
    sentences = {
        "better": ("good", "It is significantly better than {}: the part helps."),
        "not significant": (
            "bad",
            "It does not differ significantly from {}: what the part adds is not "
            "shown.",
        ),
        "worse": ("bad", "It is significantly worse than {}: the part hurts."),
        "not tested": ("plain", "No p value is given against {}."),
    }
    return _by_verdict(ablations, sentences)


def _by_verdict(
    rows: dict[str, dict], sentences: dict[str, tuple[str, str]]
) -> list[Finding]:
    """Makes one sentence for all references with the same verdict."""
    found = []
    for verdict, (tone, sentence) in sentences.items():
        names = [
            titles.method_title(reference)
            for reference in titles.sort_methods(rows)
            if tables.verdict(rows[reference]) == verdict
        ]
        if names:
            found.append(Finding(tone, sentence.format(sentence_list(names))))
    return found


def _doubts(by_reference: dict[str, dict]) -> list[Finding]:
    """Asks of a gain: is it more than the label prior, and is it personal?"""
    found = []
    prior, wrong = (
        by_reference.get(m) for m in ("prior_calibration", "wrong_listener")
    )
    if prior and tables.verdict(prior) != "better":
        text = (
            "It is not shown to beat label-prior calibration, so a gain may be no more "
            "than the listener's label frequencies."
        )
        found.append(Finding("bad", text))
    if wrong and tables.verdict(wrong) == "better":
        text = "A wrong listener's labels help less: the gain is personal."
        found.append(Finding("good", text))
    elif wrong:
        text = (
            "It is not shown to beat adaptation to a wrong listener's labels, so a "
            "gain is not shown to be personal."
        )
        found.append(Finding("bad", text))
    return found


def _elsewhere(pairs: Sequence[dict], metric: str) -> list[Finding]:
    """Says which other metrics adaptation changes significantly, gains and losses."""
    others = [
        row
        for row in tables.select(pairs, reference=REFERENCE)
        if row["metric"] != metric
    ]
    found = []
    for verdict, tone in (("better", "good"), ("worse", "bad")):
        changed = [
            f"{_title(row['metric'])} ({titles.format_signed(row['difference'])})"
            for row in others
            if tables.verdict(row) == verdict
        ]
        if changed:
            text = f"Adaptation makes {sentence_list(changed)} significantly {verdict}."
            found.append(Finding(tone, text))
    return found


def _few_listeners(here: Sequence[dict]) -> list[Finding]:
    count = max((row["num_listeners"] for row in here), default=0)
    if count >= FEW_LISTENERS:
        return []
    noun = "listener" if count == 1 else "listeners"
    text = (
        f"Only {count} {noun} were evaluated: intervals and p values say little about "
        "other listeners."
    )
    return [Finding("bad", text)]
