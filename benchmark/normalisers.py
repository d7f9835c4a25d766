"""Text normalisers: named, versioned, pure functions str -> str.

A normaliser is applied to reference and hypothesis alike before they are cut into
words or characters. Its version is part of its name: a change of what it does is a new
function beside the old one, so that a score always says how it came about.

None of them touches numbers ("5" and "five" differ), contractions, fillers, spelling
variants, or traditional and simplified characters: what a model wrote is what counts.
All take any text, lone surrogates and control characters included, and are idempotent.
"""

import re
import unicodedata
from collections.abc import Callable

from benchmark.typing import Task

Normaliser = Callable[[str], str]

_APOSTROPHES = "'\u2018\u2019\u02bc\u02b9\uff07`\u00b4"
_OUTER_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")
_ACCENTED = re.compile("([a-z])[\u0300-\u036f]+")
_ARABIC_MARKS = re.compile("[\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed]")
# Han, kana and bopomofo: scripts that put no spaces between words.
_UNSPACED = re.compile(
    "([\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
_STRESS = re.compile(r"(?<!\S)([A-Z]{2})[0-2](?!\S)")


class _Characters(dict):
    """What `str.translate` makes of each character, filled as characters occur."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _character(code)
        return found


def _character(code: int) -> str:
    """Keeps letters, marks and digits; drops the invisible; the rest is a space."""
    character = chr(code)
    if character in _APOSTROPHES:
        return "'"
    category = unicodedata.category(character)
    selects_variant = 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF
    if category == "Cf" or selects_variant:
        return ""
    return character if category[0] in "LMN" else " "


_CHARACTERS = _Characters()


def _letters(text: str) -> str:
    """Folds compatibility forms and case, drops punctuation; single spaces."""
    if text.isascii():
        text = text.lower().translate(_CHARACTERS)
    else:
        text = text.translate(_CHARACTERS)
        text = unicodedata.normalize("NFKC", text).lower()
        text = unicodedata.normalize("NFKC", text).translate(_CHARACTERS)
        text = unicodedata.normalize("NFC", text)
    if "'" in text:
        text = _OUTER_APOSTROPHE.sub(" ", text)
    return " ".join(text.split())


def none_v1(text: str) -> str:
    """Returns the text as it is."""
    return text


def basic_v1(text: str) -> str:
    """Languages with spaces between words.

    Unicode NFKC, lower case, punctuation and symbols to spaces (apostrophes inside a
    word stay), invisible characters dropped, accents and numbers kept, single spaces.
    """
    return _letters(text)


def english_v1(text: str) -> str:
    """`basic_v1`, and accents on a-z dropped, which English spells either way."""
    text = _letters(text)
    if text.isascii():
        return text
    text = _ACCENTED.sub(r"\1", unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFC", text)


def arabic_v1(text: str) -> str:
    """`basic_v1`, and short vowels, other marks and the tatweel dropped.

    Forms of alef, hamza and ta marbuta stay apart.
    """
    return _letters(_ARABIC_MARKS.sub("", unicodedata.normalize("NFKC", text)))


def chinese_v1(text: str) -> str:
    """`basic_v1` without any space or apostrophe: made to be cut into characters."""
    return _letters(text).replace(" ", "").replace("'", "")


def japanese_v1(text: str) -> str:
    """As `chinese_v1`: kana of half width become full, the long-vowel mark stays."""
    return chinese_v1(text)


def space_out(text: str) -> str:
    """Sets Chinese and Japanese characters apart; single spaces."""
    return " ".join(_UNSPACED.sub(r" \1 ", text).split())


def mixed_v1(text: str) -> str:
    """Chinese or Japanese characters one by one, other words whole, single spaces."""
    return space_out(_letters(text))


def phonemes_v1(text: str) -> str:
    """ARPAbet symbols in upper case, without stress digits, single spaces.

    Commas, slashes, brackets, bars and the like separate symbols.
    """
    text = unicodedata.normalize("NFC", text).upper()
    text = re.sub(r"[\s,;:.|/\\\[\](){}<>\"'`*_-]+", " ", text).strip()
    return _STRESS.sub(r"\1", text)


NORMALISERS: dict[str, Normaliser] = {
    function.__name__: function
    for function in (
        none_v1,
        basic_v1,
        english_v1,
        arabic_v1,
        chinese_v1,
        japanese_v1,
        mixed_v1,
        phonemes_v1,
    )
}
_BY_METRIC = {
    "mix_error_rate": mixed_v1,
    "phoneme_error_rate": phonemes_v1,
    "third_tone_sandhi_recognition": mixed_v1,
}
_BY_LANGUAGE = {
    "": english_v1,
    "ar": arabic_v1,
    "cmn": chinese_v1,
    "en": english_v1,
    "ja": japanese_v1,
    "nan": chinese_v1,
    "yue": chinese_v1,
    "zh": chinese_v1,
}


def normaliser_for(task: Task) -> Normaliser:
    """Returns the normaliser of a task's error rate.

    The metric decides where it fixes the units (mixed words and characters,
    phonemes); else the language does, '' being English. Metrics that read a form of
    their own (translation, slots, entities, tags) take the text as it is.
    """
    if task.metric in _BY_METRIC:
        return _BY_METRIC[task.metric]
    if task.metric not in ("word_error_rate", "character_error_rate"):
        return none_v1
    language = task.language.lower().replace("_", "-").split("-")[0]
    if task.metric == "word_error_rate" and language in ("ja", "zh", "cmn", "yue"):
        return mixed_v1  # there are no spaces to find words by
    return _BY_LANGUAGE.get(language, basic_v1)


_HEAD = 400  # a preamble lies within this many characters
_COURTESY = (
    r"(?:(?:sure(?: thing)?|certainly|of course|okay|ok|absolutely|yes|great)"
    r"\s*[!,.]\s*)?"
)
_SUBJECT = (
    r"(?:transcript(?:ion)?|translation|translated text|lyrics|answer|output|result|"
    r"phonemes?|phoneme sequence|part-of-speech tags|pos tags|tags|named entities|"
    r"entities|slots|spoken (?:words|text|content)|speech|utterance|audio(?: clip)?|"
    r"recording|clip|speaker|text|sentence)"
)
_SAYS = r"(?:is|are|says|said|reads|contains|states|goes)"
_PREAMBLES = tuple(
    re.compile(r"\s*" + _COURTESY + pattern, re.IGNORECASE)
    for pattern in (
        rf"here(?:'s|\u2019s| is| are)\b[^:\"\u201c\n]{{0,40}}\b{_SUBJECT}\b"
        r"[^:\"\u201c\n]{0,80}:",
        rf"(?:the|this)\b[^:\"\u201c\n]{{0,40}}\b{_SUBJECT}\b[^:\"\u201c\n]{{0,80}}"
        rf"\b{_SAYS}\b(?: as follows| the following)?\s*(?::|(?=[\"\u201c]))",
        rf"[*_#\s]{{0,6}}(?:the )?{_SUBJECT}[*_]{{0,2}}\s*:[*_]{{0,2}}",
    )
)
_QUOTES = {'"': '"', "\u201c": "\u201d", "'": "'", "\u2018": "\u2019", "`": "`"}


def strip_preamble(text: str) -> str:
    """Returns the answer without what a chat model says around it.

    Conservative, version 1: something is taken off only where the text begins with a
    phrase such as 'Sure! Here is the transcription:', 'The speaker says "' or
    'Transcription:', that is one that names what follows and ends in a colon or before
    a double quote. If the rest begins with a quote that is closed, what stands between
    is the answer. A text that is all preamble stays as it is. Scores with and without
    it are shown side by side, so that nothing is repaired in silence.
    """
    head = text[:_HEAD]
    for pattern in _PREAMBLES:
        found = pattern.match(head)
        if found:
            return _unquoted(text[found.end() :].strip(" \t\r\n*")) or text
    return text


def _unquoted(text: str) -> str:
    """Returns what stands in the quotes that a text opens with, if they are closed."""
    closing = _QUOTES.get(text[:1], "")
    end = text.rfind(closing) if closing else -1
    if end < 1 or text[end + 1 : end + 2].isalnum():  # an apostrophe
        return text
    return text[1:end].strip()
