"""Every quirk is planted, once, where it is said to be."""

import pytest

from metaperser_jax.data.iemocap import fake_quirks, grammar


def files_of(planted, name):
    (quirk,) = [x for x in planted.quirks if x.name == name]
    return quirk, sorted(planted.root.rglob(f"*{quirk.where}*"))


def evaluation_of(planted, name) -> bytes:
    _, paths = files_of(planted, name)
    (path,) = [
        x for x in paths if x.parent.name == "EmoEvaluation" and x.name[0] != "."
    ]
    return path.read_bytes()


def test_the_list_is_complete(quirky):
    assert sorted(x.name for x in quirky.quirks) == sorted(fake_quirks.QUIRKS)


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("neutral_state", b"\tNeutral state;"),
        ("crlf", b"]\r\n"),
        ("latin1", b"(d\xe9j\xe0 vu)"),
        ("byte_order_mark", b"\xef\xbb\xbf%"),
        ("no_last_blank_line", b")"),
    ],
)
def test_quirks_of_text_are_in_the_bytes(quirky, name, piece):
    data = evaluation_of(quirky, name)
    assert piece in data
    if name == "no_last_blank_line":
        assert data.endswith(b")")


def test_blocks_run_backwards_in_one_file(quirky):
    text = evaluation_of(quirky, "not_in_time_order").decode()
    starts = [block.start for block in grammar.parse_evaluation(text).blocks]
    assert starts == sorted(starts, reverse=True)
    assert len(starts) > 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("several_labels", lambda b: b.labels[0].labels == ("Anger", "Frustration")),
        ("other_alone", lambda b: b.labels[0].labels == ("Other",)),
        ("empty_set", lambda b: b.labels[0].labels == ()),
        ("odd_comments", lambda b: b.labels[0].comment == fake_quirks.STRANGE_COMMENT),
        ("missing_value", lambda b: b.dimensions[0].val is None),
        ("decimal_value", lambda b: b.dimensions[1].act == 2.5),
        ("value_off_scale", lambda b: b.dimensions[0].dom == 7),
        ("wrong_triple", lambda b: b.triple == (0.5, 0.5, 0.5)),
        ("wrong_code", lambda b: b.code in grammar.CODES),
    ],
)
def test_quirks_of_content_are_what_a_reader_finds(quirky, name, says):
    (quirk,) = [x for x in quirky.quirks if x.name == name]
    (found,) = [x.block for x in quirky.utterances if x.id == quirk.where]
    assert says(found)


def test_a_tree_without_quirks_holds_none_of_the_side_files(clean, quirky):
    assert clean.quirks == ()
    plain = {x.relative_to(clean.root) for x in clean.root.rglob("*")}
    more = {x.relative_to(quirky.root) for x in quirky.root.rglob("*")} - plain
    assert len(plain) == 5 * (6 + 2 * (3 + 8))
    assert len(more) > 10
