"""Hints never hide what a slow pattern would find."""

import pytest

from re import _constants as code, _parser  # isort: skip

from benchmark import explicit, passages, refusals, wording

HINTED = {
    f"{module.__name__}.{name}": value
    for module in (explicit, passages, refusals)
    for name, value in vars(module).items()
    if isinstance(value, wording.Hinted)
}


def texts_of(tree):
    """Returns texts of a parsed pattern: each branch is taken, and each option left."""
    parts = [choices(*node) for node in tree]
    first = [part[0] for part in parts]
    varied = {
        "".join([*first[:k], choice, *first[k + 1 :]])
        for k, part in enumerate(parts)
        for choice in part
    }
    return sorted(varied | {"".join(first)})


def choices(kind, value):
    if kind is code.LITERAL:
        return [chr(value)]
    if kind is code.BRANCH:
        return [text for branch in value[1] for text in texts_of(branch)]
    if kind is code.SUBPATTERN:
        return texts_of(value[-1])
    if kind in (code.MAX_REPEAT, code.MIN_REPEAT):
        least, most, inner = value
        inner = texts_of(inner)
        skipped = [""] if not least else []
        return skipped + [text * max(least, 1) for text in inner if most]
    if kind is code.IN:
        return [
            chr(item) for item_kind, item in value if item_kind is code.LITERAL
        ] or ["0"]
    return [""]  # a place, what stands around, a category


@pytest.mark.parametrize("name", sorted(HINTED))
def test_each_branch_holds_a_hint(name):
    hinted = HINTED[name]
    texts = texts_of(_parser.parse(hinted.pattern.pattern, hinted.pattern.flags))
    assert len(texts) > 1
    assert [text for text in texts if not hinted.may_match(text)] == []


def test_there_are_hinted_patterns():
    idioms = HINTED["benchmark.passages._IDIOMS"].pattern.pattern
    assert len(HINTED) == 6
    assert len(texts_of(_parser.parse(idioms))) > 80


def test_a_letter_that_folds_to_ascii_is_left_to_the_pattern():
    assert wording.hinted("so", "so").matches("\u017fo")


def test_a_text_without_a_hint_is_left_as_it_is():
    assert wording.hinted("so", "so").sub("x", "else") == "else"
    assert wording.hinted("so", "so").sub("x", "SO else") == "x else"
