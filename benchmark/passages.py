"""Says what one passage asserts, denies or leaves open of the options."""

import math
import re
from typing import NamedTuple

from benchmark import mentions, negation, spellings, wording
from benchmark.mentions import Mention
from benchmark.numbers import NUMERALS
from benchmark.spellings import Reader
from benchmark.typing import Parsed

_IDIOMS = wording.hinted(
    "doubt|question|not|other than|same|one|true|false|real|present|no |happy|afraid"
    "|positive|inform|if |unless|sadly|happily",
    r"\b(?:no doubt|without (?:(?:a|any) )?doubt|no question|nothing but"
    r"|no(?:ne)? other than|not only|not just|not merely|beyond (?:question|doubt)"
    r"|all the same|at the same time|one of|one another|one by one|one thing|one can"
    r"|one might|one more|the only one|nothing (?:if not|short of)"
    r"|(?:the|your|this|that|my|first|second) (?:audio )?question(?! mark)\b"
    r"(?= (?:is|asks|about|of|was|whether|correctly|,|:)|[,.:])"
    r"|to (?:the|your) question|(?:good|great|interesting) question"
    r"|(?:in|out of) question|out of the question(?=:)"
    r"|(?:answer|answering) (?:the|your|this) question"
    r"|(?:true|false) (?:to|alarms?|positives?|negatives?|friends?)|fear not"
    r"|real[- ](?:time|life|world)|the present (?:audio|clip|recording|sample|study)"
    r"|no (?:problem|worries|need)|happy to|i(?:'m| am) (?:happy|afraid|positive)(?= "
    r"(?:to|that|i|it|it's|this|we|the|there)\b)|(?:sorry|happy|regret) to inform you"
    r"|if (?:i (?:had|have|were|must)(?: to)? (?:choose|pick|guess|say|decide|select"
    r"|answer|name|give|make)|i(?:'m| am) (?:not mistaken|forced)|forced|pressed|asked"
    r"|anything)[^,:.;\n]{0,40}[,:]?|if i had to \w+"
    r"|unless i(?:'m| am) mistaken)(?!\w)"
    r"|(?:^|(?<=[.!?\n])) ?(?:sadly|happily),",
)
_PRONOUN_ONE = re.compile(
    r"\b(the|this|that|which|each|another|any|every|some|first|second|former|latter"
    r"|last|other|correct) one\b",
    re.I,
)
_NO_ONE = re.compile(r"\bno one\b", re.I)
_STATED = wording.hinted("true that|false that", r"\b(?:(true)|false) that\b")
_SHARP = re.compile(r"\b([A-G])[ -]sharp(?= (?:major|minor)\b| ?[^\w ]|$)")
_FLAT = re.compile(r"\b([A-G])[ -]flat(?= (?:major|minor)\b| ?[^\w ]|$)")
_BULLETS = re.compile(r"(?:^|(?<=\n)) ?\d{1,2}[.)] ")
# Of numbers, where some options are numbers.
_COUNT = rf"(?:-?\d|(?:{'|'.join(sorted(NUMERALS))})\b)"
_SPAN = re.compile(r"(?<=\d) ?[-~] ?(?=\d)")
_BOUND_BEFORE = re.compile(
    r"(?:\b(?:(?:more|less|fewer|greater|lower|higher|rather) than|at (?:least|most)"
    r"|up to|over|under|above|below|beyond|exceed(?:s|ing)?|only after"
    r"|(?:minimum|maximum)(?: of)?)|[<>\u2264\u2265]=?) ?"
    rf"(?=(?:about |around |roughly )?{_COUNT})",
    re.I,
)
_BOUND_AFTER = re.compile(
    rf"\b(?={_COUNT})(\w+)"
    r"(?=(?: \w+)?(?: ?\+(?! ?\w)| (?:or|and) (?:more|less|fewer|higher|lower"
    r"|above|below|over|under|up|greater|longer|shorter)\b| at (?:least|most)\b"
    r"| (?:minimum|maximum)\b))",
    re.I,
)
_RATIO = re.compile(r"\b\d+(?::\d+)+\b")
_SCALE = re.compile(
    r"\b(?:on|using) an? scale (?:of|from) \w{1,8} ?(?:to|-|through) ?\w{1,8}", re.I
)
_RATING = re.compile(rf"(?<!\w){_COUNT}\w{{0,12}} out of {_COUNT}", re.I)
_ZERO_OF = re.compile(r"\bzero (?=(?:\w+ )?(?:noise|distortion|interference)\b)", re.I)


_MEN = wording.word_set("man men male males boy boys")
_WOMEN = wording.word_set("woman women female females girl girls")


class Reading(NamedTuple):
    """What one passage says of the options."""

    asserted: tuple[int, ...]
    unclear: tuple[int, ...]
    negated: tuple[int, ...]
    ignored: bool  # mentions in quotes, questions, conditions
    echo: bool
    alternatives: bool  # joined by 'or'


def read(reader: Reader, text: str) -> Reading:
    """Says of each option that a passage names whether it is asserted."""
    text, quoted = _unquoted(reader, text)
    tokens = wording.tokenize(_plain(reader, text))
    named = mentions.find(reader, tokens)
    if not named:
        return Reading((), (), (), quoted, False, False)
    kept, echo = mentions.without_echo(reader, tokens.words, named)
    if reader.numeric:
        kept = _without_parts(reader, tokens.words, kept)
    groups = negation.groups_of(tokens.words, kept)
    found: dict[negation.Status, list[Mention]] = {
        "asserted": [], "negated": [], "unclear": [], "ignored": [],
    }  # fmt: skip
    scene = negation.scene_of(tokens.words, kept)
    for group in groups:
        for mention, status in negation.statuses(scene, group):
            found[status].append(mention)
    alternatives = any(
        mentions.OR.intersection(tokens.words[group[0].end : group[-1].start])
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
    )


def _plain(reader: Reader, text: str) -> str:
    """Takes idioms out, and says of bounds that they are no values."""
    text = _IDIOMS.sub(f" {wording.GAP} ", text)
    if "sharp" in text or "flat" in text:
        text = _SHARP.sub(r"\1#", _FLAT.sub(r"\1b", text))
    text = _STATED.sub(lambda said: "that" if said[1] else "not that", text)
    if "one" in text.lower():
        text = _NO_ONE.sub("nobody", text)
        text = _PRONOUN_ONE.sub(rf"\1 {wording.GAP}", text)
    if not reader.numeric:
        return text if reader.markers else _BULLETS.sub(" ", text)
    text = _RATIO.sub(wording.GAP, _SCALE.sub(wording.GAP, text))
    if reader.top:
        top = "|".join(map(re.escape, reader.top))
        text = re.sub(
            rf"(?<=\w) ?(?:/|out of) ?(?:{top})(?![\w.])", "", text, flags=re.I
        )
    text = _RATING.sub(wording.GAP, text)
    text = _ZERO_OF.sub(f"{wording.GAP} ", _SPAN.sub(" to ", text))
    return _BOUND_AFTER.sub(r"not \1", _BOUND_BEFORE.sub("not ", text))


def _labels(mentions: list[Mention]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(m.label for m in mentions))


def _without_parts(
    reader: Reader, words: tuple[str, ...], named: list[Mention]
) -> list[Mention]:
    """'Two speakers: one man and one woman' says two: its parts add up to it."""
    values = [reader.values.get(mention.label, math.nan) for mention in named]
    if _persons_apart(words, named):
        return []
    if len(values) < 3:
        return named
    told = words[named[0].end : named[1].start]
    counted = all(
        not wording.is_mark(word) and word not in mentions.LINKS
        for mention in named[1:]
        for word in words[mention.end : mention.end + 1] or ("\n",)
    )
    apart = len(told) > 1 or told in ((":",), ("(",), ("-",))
    return named[:1] if counted and apart and values[0] == sum(values[1:]) else named


def _persons_apart(words: tuple[str, ...], named: list[Mention]) -> bool:
    """'Two men and a woman' counts neither all of them nor only the men."""
    parts = [word for m in named for word in words[m.end : m.end + 1]]
    counted = len(parts) == len(named) and all(w in _MEN or w in _WOMEN for w in parts)
    return counted and bool(_MEN.intersection(words) and _WOMEN.intersection(words))


def _unquoted(reader: Reader, text: str) -> tuple[str, bool]:
    """Opens quotes around one option; leaves out other quotes: they are speech."""
    stripped = text.strip()
    if len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "\"'":
        text = stripped[1:-1]
    if "'" not in text and '"' not in text:
        return text, False
    dropped = False

    def replace(match: re.Match[str]) -> str:
        nonlocal dropped
        inner = match.group(1) if match.group(1) is not None else match.group(2)
        if spellings.lookup(reader, inner) is not None:
            return f" {inner} "
        words = wording.tokenize(inner)
        dropped = dropped or bool(mentions.find(reader, words))
        return f" {wording.GAP} "

    pattern = r"\"([^\"\n]{1,1000})\"|(?<!\w)'((?:[^'\n]|'(?=\w)){1,300})'(?!\w)"
    return re.sub(pattern, replace, text), dropped


def parsed_of(
    reader: Reader, reading: Reading, multi_label: bool, reason: str
) -> Parsed:
    """Decides what a reading comes to; `reason` is told where it names an option."""
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
