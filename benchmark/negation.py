"""Tells which of the options that a passage names are asserted, and which denied.

Works on folded words (`wording.tokenize`) and on the places where options are named.
The scope of a negation is its clause. Where its reach is in doubt, the mention is
'unclear', which makes the whole answer unreadable: nothing is guessed.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from benchmark import wording
from benchmark.mentions import LINKS, OR, Mention

Status = Literal["asserted", "negated", "unclear", "ignored"]

_NOT = wording.word_set(
    "not never neither nor isn't wasn't aren't weren't doesn't don't didn't can't "
    "cannot couldn't wouldn't won't shouldn't hasn't haven't ain't isnt doesnt dont "
    "wasnt cant 不 没 沒 非 未 別 别 無 无"
)
_NO = wording.word_set(
    "no without lack lacks lacking absence unlike except excluding exclude excludes "
    "non hardly barely scarcely than deny denies less fewer un"
)
_NO_PHRASES = (
    ("rather", "than"),
    ("instead", "of"),
    ("opposed", "to"),
    ("free", "of"),
    ("free", "from"),
    ("rule", "out"),
    ("rules", "out"),
    ("ruled", "out"),
    ("ruling", "out"),
    ("different", "from"),
    ("far", "from"),
    ("anything", "but"),
    ("opposite", "of"),
)
_BOUNDS = wording.word_set(
    ". ; ! ? \n : but however though although yet whereas while so because since "
    "therefore thus hence which instead 但 而"
)
_VERBS = wording.word_set(
    "is are was were am be sounds seems appears has have does do the it he she they "
    "there i this that its their his her expresses conveys contains"
)
_BRIDGE = wording.word_set(
    "a an the any very really too at all sound sounding sounds seem seems appear "
    "appears be being been feel feeling feels particularly overly so that in express "
    "expressing show showing shows exhibit convey conveying speaker speaker's voice "
    "tone like as to of emotion clearly exactly quite overtly simply only is was are "
    "sign signs evidence indication trace hint clear apparent obvious audible contain "
    "contains present detect have has indicate it he she they this think believe say "
    "would describe classified considered labeled labelled actually necessarily 是 太 "
    "很 有"
)
_IF = wording.word_set("if whether unless suppose supposing")
_SAID = wording.word_set("says said saying transcript transcription quote quoted")
_AUXILIARY = wording.word_set(
    "is are was were would should could can may might seems does do did be will has "
    "cannot"
)
_DENIED = wording.word_set(
    "not never absent wrong incorrect unlikely excluded missing lacking impossible "
    "false inaccurate untrue unsupported"
)
_POLAR = frozenset({"yes", "no", "yeah", "yep", "yup", "nope", "nah"})


def groups_of(
    words: tuple[str, ...], mentions: Sequence[Mention]
) -> list[list[Mention]]:
    """Joins mentions that are members of one list: 'happy, sad or angry'.

    Args:
      words: folded, of the passage.
      mentions: in order.
    """
    groups: list[list[Mention]] = []
    for mention in mentions:
        between = words[groups[-1][-1].end : mention.start] if groups else None
        linked = between is not None and all(
            word in LINKS - {"\n", ";"} or word in ("a", "an", "the", "(", ")")
            for word in between
        )
        if linked:
            groups[-1].append(mention)
        else:
            groups.append([mention])
    return groups


def statuses(
    words: tuple[str, ...], group: list[Mention], mentions: Sequence[Mention]
) -> Iterator[tuple[Mention, Status]]:
    """Says of each member of a list what the passage says of it.

    After a negation, 'or' and 'nor' carry it on; a mere comma leaves it open.

    Args:
      words: folded, of the passage.
      group: one list, of `groups_of`.
      mentions: all of the passage.
    """
    status = _status(words, group, mentions)
    for k, mention in enumerate(group):
        between = words[group[0].end : group[-1].start]
        if status != "negated" or k == 0:
            yield mention, status
        elif OR.intersection(between):
            yield mention, "negated"
        else:
            yield mention, "negated" if mention.label == group[0].label else "unclear"


def _status(
    words: tuple[str, ...], group: list[Mention], mentions: Sequence[Mention]
) -> Status:
    inside = {k for m in mentions for k in range(m.start, m.end)}
    sentence = _sentence_bounds(words, group[0].start, inside)
    if words[sentence[1] : sentence[1] + 1] == ("?",):
        return "ignored"
    before = _clause_before(words, group[0].start, inside)
    heard = words[sentence[0] : group[0].start]
    if _IF.intersection((*before, *heard[:1])) or _SAID.intersection(
        _since_quote(heard)
    ):
        return "ignored"
    negation = _negation(before)
    if negation:
        return negation
    if words[group[-1].start] in _POLAR:  # 'No, it is not' says no
        return "asserted"
    return "negated" if _denied_after(words, group[-1].end, inside) else "asserted"


def _since_quote(heard: tuple[str, ...]) -> tuple[str, ...]:
    """What was said ends with the quote that `wording.GAP` stands for."""
    if wording.GAP not in heard:
        return heard
    return heard[len(heard) - heard[::-1].index(wording.GAP) :]


def _sentence_bounds(
    words: tuple[str, ...], at: int, inside: set[int]
) -> tuple[int, int]:
    ends = (".", "!", "?", "\n")
    start = at
    while start and (start - 1 in inside or words[start - 1] not in ends):
        start -= 1
    stop = at
    while stop < len(words) and (stop in inside or words[stop] not in ends):
        stop += 1
    return start, stop


def _clause_before(words: tuple[str, ...], at: int, inside: set[int]) -> list[str]:
    """Returns the words of the clause before a mention, other mentions blanked."""
    clause: list[str] = []
    k = at - 1
    while k >= 0 and len(clause) < 40:
        word = wording.GAP if k in inside else words[k]
        verb_after = bool(clause) and clause[-1] in _VERBS
        bound = word in _BOUNDS and not _phrase(words, k)
        if bound or (word == "and" and verb_after):
            break
        if word == "," and not _parenthetical(words, k, inside):
            break
        clause.append(word)
        k -= 1
    return clause[::-1]


def _phrase(words: tuple[str, ...], k: int) -> bool:
    """Whether a bounding word is part of a phrase: 'instead of', ', however,'."""
    if words[k - 1 : k + 2] == (",", "however", ","):
        return True
    return (words[k - 1 : k + 1] in _NO_PHRASES) or (words[k : k + 2] in _NO_PHRASES)


def _parenthetical(words: tuple[str, ...], comma: int, inside: set[int]) -> bool:
    """'does not, in my view, sound happy': a comma within a negated phrase."""
    for k in range(comma - 1, max(-1, comma - 7), -1):
        if words[k] in _NOT and k not in inside:
            return k == comma - 1 or words[k + 1] == ","
    return False


def _negation(before: list[str]) -> Status | None:
    """Looks for what denies the next word: near = negated, far = unclear."""
    for k in range(len(before) - 1, -1, -1):
        between = [
            word for word in before[k + 1 :] if word not in _BRIDGE and word != ","
        ]
        word = before[k]
        pair = tuple(before[k - 1 : k + 1])
        if word in _NOT:
            return "negated" if len(between) <= 2 else "unclear"
        if (word in _NO or pair in _NO_PHRASES) and len(between) <= 3:
            return "negated"
    return None


def _denied_after(words: tuple[str, ...], end: int, inside: set[int]) -> bool:
    """'happy is not correct', 'sadness can be ruled out', 'speech isn't present'."""
    for k in range(end, min(end + 4, len(words))):
        word = words[k]
        if k in inside or word in _BOUNDS or word in (",", "and", "than", "as"):
            return False
        following = words[k + 1 : k + 4]
        contracted = word in _NOT and word not in ("not", "nor", "never", "neither")
        if contracted or (word in _AUXILIARY and _denies(following)):
            return not any(n in inside for n in range(k + 1, k + 4))
    return False


def _denies(following: tuple[str, ...]) -> bool:
    skipped = [word for word in following if word not in ("be", "been", "also", "very")]
    return bool(skipped) and (
        skipped[0] in _DENIED or tuple(skipped[:2]) in (("ruled", "out"),)
    )
