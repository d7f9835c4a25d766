"""Tells where an answer declines to answer.

Two kinds: whoever cannot hear has not answered, whatever else is said; whoever is
unsure may yet commit himself after a 'but'.
"""

import re

from benchmark import wording

_CANNOT = (
    r"(?:can(?:not|'t| not)|could(?: not|n't)|unable to|not able to|don't have the "
    r"ability to|do not have the ability to|am not capable of|not designed to)"
    r" (?:directly |actually |currently |reliably |really |confidently |accurately "
    r"|definitively )*"
)
_UNABLE = wording.hinted(
    "can|could not|couldn't|not|unable|don't|as a|model|no audio|any audio|didn't"
    "|please|sorry|language ai|based ai|无法",
    r"\b(?:" + _CANNOT + r"(?:listen|listening|process|processing|access|analy[sz]e"
    r"|play|open|assist|help|provide|hear (?:the |any |this |your )?(?:audio|sound"
    r"|recording|clip|anything))"
    r"|as an? (?:ai|text|language|large language)"
    r"|(?:text-based|language) (?:ai|model)"
    r"|(?:no|any) audio (?:was|is|has been|file|input|clip)|didn't (?:provide|attach)"
    r"|please (?:provide|upload|share|send|attach)|(?:do not|don't) have access"
    r"|sorry, but)\b|无法",
)
_UNSURE = wording.hinted(
    "not|n't|unable|unsure|uncertain|impossible|hard|difficult|insufficient"
    "|undetermined|no idea|不",
    r"\b(?:" + _CANNOT + r"(?:determine|identify|tell|answer|decide|judge|say|infer"
    r"|classify|recogni[sz]e|be (?:sure|certain))"
    r"|(?:do not|don't) (?:really )?know"
    r"|(?:cannot|can't|can not|could not) be (?:determined|identified|inferred|decided)"
    r"|not (?:\w+ )?(?:sure|certain)|not (?:clear|possible) (?:to|whether|if|what|which"
    r"|how|who|from)|(?:it is|it's) not (?:clear|possible)(?= ?[.,;!\n]| ?$)|unsure"
    r"|uncertain|(?:impossible|hard|difficult) to (?:say|tell|know|determine|identify)"
    r"|(?:insufficient|not enough) (?:information|context)|undetermined|no idea)\b"
    r"|不知道|不确定|不清楚",
)
_YET = re.compile(
    r"[^.!?\n]{0,200}?\b(?:but|however|though|nevertheless)\b,?"
    r"|[^.!?\n]{0,200}[.!]\s(?:but|however|still|nevertheless|that said)\b,?",
    re.I,
)


def is_unable(text: str) -> bool:
    """Tells whether a folded text says that its writer cannot listen or help."""
    return bool(_UNABLE.matches(text))


def committed_part(text: str) -> tuple[str, str]:
    """Parts a folded text at its last statement of not knowing.

    Returns:
      What precedes it, and what follows a 'but' or 'however' after it; ('', text) if
      there is no such statement, and (text, '') if nothing is said after it.
    """
    unsure = _UNSURE.matches(text)
    if not unsure:
        return "", text
    yet = _YET.match(text, unsure[-1].end())
    if not yet:
        return text, ""
    return text[: unsure[0].start()], text[yet.end() :]
