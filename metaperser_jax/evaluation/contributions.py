"""What CSMT, DA and LSLR each add: the full method minus its ablations, in words."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from metaperser_jax.evaluation import captions, findings, sheet, tables, titles
from metaperser_jax.evaluation.paper_data import (
    METHOD,
    Address,
    Data,
    place_title,
    verdict_mark,
)
from metaperser_jax.evaluation.sheet import Cell, Row, Section

PARTS = {"minus_csmt": "CSMT", "minus_da": "DA", "minus_lslr": "LSLR"}
TITLE = "What a part contributes (full minus full without it)"


class Tally(NamedTuple):
    """How often the full method is better, not shown to differ, worse, not tested."""

    wins: int
    ties: int
    losses: int
    untested: int


def find_pair(data: Data, address: Address, ablation: str) -> dict | None:
    """Returns the comparison of the full method with an ablation, None without one."""
    return data.pairs.get(address, {}).get((METHOD, ablation))


def section(data: Data, addresses: Sequence[Address]) -> Section:
    """Returns a line for each part: difference, interval, Holm p and mark."""
    rows = [
        Row(part, [_cell(find_pair(data, address, key)) for address in addresses])
        for key, part in PARTS.items()
    ]
    return Section(TITLE, rows)


def _cell(pair: dict | None) -> Cell:
    if pair is None:
        return sheet.MISSING
    if not titles.is_number(pair["difference"]):
        return Cell(titles.NONE, row=pair)
    return Cell(
        titles.format_signed(pair["difference"]),
        interval=findings.interval(pair, signed=True),
        p_value=titles.format_p(pair["p_holm"], none=""),
        mark=verdict_mark(pair),
        row=pair,
    )


def sentences(data: Data, addresses: Iterable[Address]) -> list[str]:
    """Returns a tally for each metric, then a sentence for each address."""
    addresses = list(addresses)
    metrics = dict.fromkeys(address.metric for address in addresses)
    totals = [
        tally_sentence(data, metric, [a for a in addresses if a.metric == metric])
        for metric in metrics
    ]
    return [*totals, *(sentence(data, address) for address in addresses)]


def sentence(data: Data, address: Address) -> str:
    """Says what each part contributes at one address, from its numbers."""
    where = place_title(**address._asdict())
    pairs = {part: find_pair(data, address, key) for key, part in PARTS.items()}
    clauses = []
    for verdict, words in (("better", "contributes"), ("worse", "costs")):
        clauses += [
            f"{part} {words} {_number(pair)}"
            for part, pair in pairs.items()
            if pair and _verdict(pair) == verdict
        ]
    same = "no measurable difference"
    rest = (
        ("not significant", f"makes {same}", f"make {same}"),
        ("not tested", "was not tested", "were not tested"),
    )
    for verdict, one, several in rest:
        names = [part for part, pair in pairs.items() if _verdict(pair) == verdict]
        if names:
            clauses.append(
                f"{findings.sentence_list(names)} {one if len(names) == 1 else several}"
            )
    return f"{where}: {'; '.join(clauses)}."


def _verdict(pair: dict | None) -> str:
    return tables.verdict(pair) if pair else "not tested"


def _number(pair: dict) -> str:
    number = f"{titles.format_signed(pair['difference'])} "
    number += findings.interval(pair, signed=True)
    p_value = titles.format_p(pair["p_holm"])
    return f"{number} (p = {p_value})".replace("= <", "< ")


def tally(data: Data, addresses: Iterable[Address], ablation: str) -> Tally:
    """Counts the verdicts on the full method against one ablation."""
    verdicts = [_verdict(find_pair(data, address, ablation)) for address in addresses]
    return Tally(
        *(
            verdicts.count(verdict)
            for verdict in ("better", "not significant", "worse", "not tested")
        )
    )


def tally_sentence(data: Data, metric: str, addresses: Sequence[Address]) -> str:
    """Says how often each part helps, by one metric, over all its conditions.

    Kinds of listeners count apart; all kinds together would count them again.
    """
    if {a.group for a in addresses} - {"all"}:
        addresses = [a for a in addresses if a.group != "all"]
    parts = []
    for key, part in PARTS.items():
        found = tally(data, addresses, key)
        text = (
            f"{part} {captions.plural(found.wins, 'win')}, "
            f"{captions.plural(found.ties, 'tie')}, "
            f"{found.losses:,} {'loss' if found.losses == 1 else 'losses'}"
        )
        parts.append(text + f", {found.untested:,} not tested" * bool(found.untested))
    lower = titles.metric_info(metric).lower_is_better
    return (
        f"{titles.metric_info(metric).title} ({'lower' if lower else 'higher'} is "
        f"better), {captions.plural(len(addresses), 'condition')} (encoder, kind of "
        f"listeners, scenario): {'; '.join(parts)}."
    )
