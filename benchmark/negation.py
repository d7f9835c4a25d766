"""Tells which of the options that a passage names are asserted, and which denied.

Works on folded words (`wording.tokenize`) and on the places where options are named.
The scope of a negation is its clause. Where its reach is in doubt, the mention is
'unclear', which makes the whole answer unreadable: nothing is guessed.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from benchmark import wording
from benchmark.mentions import LINKS, OR, Mention

Status = Literal["asserted", "negated", "unclear", "ignored"]

_NOT = wording.word_set(
    "not never neither nor isn't wasn't aren't weren't doesn't don't didn't can't "
    "cannot couldn't wouldn't won't shouldn't hasn't haven't hadn't needn't mustn't "
    "ain't isnt arent wasnt werent doesnt dont didnt cant couldnt wouldnt wont "
    "shouldnt 不 没 沒 非 未 別 别 無 无"
)
_NO = wording.word_set(
    "no without lack lacks lacking absence unlike except excluding exclude excludes "
    "non hardly barely scarcely seldom rarely than deny denies denied less fewer un "
    "nobody nowhere nothing ex pseudo quasi semi anti stop stops ceased absent devoid "
    "avoid avoids avoiding fails fail failed refuses "
    "refuse disagree doubt doubts doubtful unlikely impossible improbable wrong "
    "incorrect false untrue inaccurate mistaken mistake"
)
# Deny what follows within so many words, but not in 'a few', 'a little'.
_SCANT = {"few": 3, "little": 0, "minimal": 0, "zero": 0, "0": 1}
_LESSER = wording.word_set(
    "worse lower poorer weaker quieter softer slower shorter smaller less fewer"
)
_MIGHT = wording.word_set("could would might may")
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
    ("everything", "but"),
    ("all", "but"),
    ("away", "from"),
    ("used", "to"),
    ("so", "called"),
    ("other", "than"),
    ("opposite", "of"),
)
_BOUNDS = wording.word_set(
    ". ; ! ? \n : > but however though although yet whereas while so because since "
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
_ENDS = frozenset(".!?\n")
_IF = wording.word_set("if whether unless suppose supposing")
_SAID = wording.word_set("says said saying transcript transcription quote quoted")
_AUXILIARY = wording.word_set(
    "is are was were would should could can may might seems does do did be will has "
    "cannot"
)
_COPULAS = (("is",), ("would",), ("seems",), ("cannot",))
_UNSTRESSED = wording.word_set("be been also very the a an clearly quite")
_CROSSES = frozenset("\u274c\u2717\u2718\u2715\u2716")
_DENIED = wording.word_set(
    "not never absent wrong incorrect unlikely excluded missing lacking impossible "
    "false inaccurate untrue unsupported"
)
_POLAR = frozenset({"yes", "no", "yeah", "yep", "yup", "nope", "nah"})


class Scene(NamedTuple):
    """A passage's words, with what its sentences say of them."""

    words: tuple[str, ...]  # folded
    inside: list[bool]  # belongs to a mention
    told: list[bool]  # follows 'says', or stands in a sentence that begins with 'if'
    asked: list[bool]  # its sentence ends in a question mark


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
            word in LINKS - {"\n", ";"} or word in ("a", "an", "the")
            for word in between
        )
        if linked:
            groups[-1].append(mention)
        else:
            groups.append([mention])
    return groups


def scene_of(words: tuple[str, ...], mentions: Sequence[Mention]) -> Scene:
    """Notes once a passage what is asked of each of its words.

    Args:
      words: folded, of the passage.
      mentions: all of them.
    """
    inside = [False] * len(words)
    for mention in mentions:
        inside[mention.start : mention.end] = [True] * (mention.end - mention.start)
    return Scene(words, inside, _told(words, inside), _asked(words, inside))


def _told(words: tuple[str, ...], inside: list[bool]) -> list[bool]:
    told = [False] * len(words)
    if _IF.isdisjoint(words) and _SAID.isdisjoint(words):
        return told
    telling = head = False
    for k, word in enumerate(words):
        ends = word in _ENDS and not inside[k]
        if not k or (words[k - 1] in _ENDS and not inside[k - 1]):
            head = word in _IF
        telling = not ends and word != wording.GAP and (telling or word in _SAID)
        told[k] = head or telling
    return told


def _asked(words: tuple[str, ...], inside: list[bool]) -> list[bool]:
    asked = [False] * len(words)
    if "?" not in words:
        return asked
    question = False
    for k in range(len(words) - 1, -1, -1):
        if words[k] in _ENDS and not inside[k]:
            question = words[k] == "?"
        asked[k] = question
    return asked


def statuses(scene: Scene, group: list[Mention]) -> Iterator[tuple[Mention, Status]]:
    """Says of each member of a list what the passage says of it.

    After a negation, 'or' and 'nor' carry it on; a mere comma leaves it open.

    Args:
      scene: of `scene_of`.
      group: one list, of `groups_of`.
    """
    status = _status(scene, group)
    carried = OR.intersection(scene.words[group[0].end : group[-1].start])
    for mention in group:
        if status != "negated" or carried or mention.label == group[0].label:
            yield mention, status
        else:
            yield mention, "unclear"


def _status(scene: Scene, group: list[Mention]) -> Status:
    words, inside, start, end = scene.words, scene.inside, group[0].start, group[-1].end
    if scene.asked[start]:
        return "ignored"
    before = _clause_before(words, start, inside)
    if _IF.intersection(before) or (start and scene.told[start - 1]):
        return "ignored"
    negation = _negation(before)
    if negation:
        return negation
    after = _clause_after(words, end)
    might = any(word in _MIGHT or word.endswith("'d") for word in before)
    if might and ("were" in after or _IF.intersection(after)):
        return "ignored"
    if _marked_false(words, end, inside):
        return "negated"
    if words[group[-1].start] in _POLAR and words[end : end + 1] not in _COPULAS:
        return "asserted"  # 'No, it is not' says no
    if _denied_after(words, end, inside):
        return "negated"
    return "unclear" if _compared(after) else "asserted"


def _marked_false(words: tuple[str, ...], end: int, inside: list[bool]) -> bool:
    """'happy: no', 'happy (wrong)', 'happy = 0'; not the no of another mention."""
    if words[end : end + 1] and words[end] in _CROSSES:
        return True
    mark, said, after = (*words[end : end + 3], "\n", "\n", "\n")[:3]
    if mark == '"':  # of a key
        mark, said, after = (*words[end + 1 : end + 4], "\n", "\n", "\n")[:3]
        end += 1
    if mark not in (":", "-", "=", "(") or any(inside[end + 1 : end + 2]):
        return False
    return (said in _DENIED or said in ("no", "0")) and wording.is_mark(after)


def _clause_after(words: tuple[str, ...], end: int) -> tuple[str, ...]:
    following = words[end : end + 8]
    stops = (k for k, word in enumerate(following) if word in _BOUNDS or word == ",")
    return following[: next(stops, len(following))]


def _compared(after: tuple[str, ...]) -> bool:
    """'X is worse than Y': which of them is meant, only the question tells."""
    return "than" in after and bool(_LESSER.intersection(after[: after.index("than")]))


def _clause_before(words: tuple[str, ...], at: int, inside: list[bool]) -> list[str]:
    """Returns the words of the clause before a mention, other mentions blanked."""
    clause: list[str] = []
    k = at - 1
    while k >= 0 and len(clause) < 40:
        word = wording.GAP if inside[k] else words[k]
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


def _parenthetical(words: tuple[str, ...], comma: int, inside: list[bool]) -> bool:
    """'does not, in my view, sound happy': a comma within a negated phrase."""
    for k in range(comma - 1, max(-1, comma - 7), -1):
        if words[k] in _NOT and not inside[k]:
            return k == comma - 1 or words[k + 1] == ","
    return False


def _negation(before: list[str]) -> Status | None:
    """Looks for what denies the next word: near = negated, far = unclear."""
    between = 0  # words of weight from here to the mention
    for k in range(len(before) - 1, -1, -1):
        word = before[k]
        if word in _NOT:
            return "negated" if between <= 2 else "unclear"
        pair = tuple(before[k - 1 : k + 1])
        if between <= 3 and (word in _NO or pair in _NO_PHRASES):
            return "negated"
        if between <= _SCANT.get(word, -1) and before[k - 1 : k] != ["a"]:
            return "negated"
        between += word not in _BRIDGE and word != ","
    return None


def _denied_after(words: tuple[str, ...], end: int, inside: list[bool]) -> bool:
    """'happy is not correct', 'sadness can be ruled out', 'speech isn't present'."""
    for k in range(end, min(end + 4, len(words))):
        word = words[k]
        if inside[k] or word in _BOUNDS or word in (",", "and", "than", "as"):
            return False
        following = words[k + 1 : k + 4]
        contracted = word in _NOT and word not in ("not", "nor", "never", "neither")
        if contracted or (word in _AUXILIARY and _denies(following)):
            following = len(_clause_after(words, k + 1)[:3])
            return not any(inside[k + 1 : k + 1 + following])
    return False


def _denies(following: tuple[str, ...]) -> bool:
    skipped = [word for word in following if word not in _UNSTRESSED]
    return bool(skipped) and (
        skipped[0] in _DENIED or tuple(skipped[:2]) in (("ruled", "out"), ("out", "of"))
    )
