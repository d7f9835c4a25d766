"""Files read in pieces say the same as files read whole."""

import gzip
import json
import zlib

import hypothesis
import hypothesis.strategies as st
import pytest

from benchmark import streams
from benchmark.errors import InputError, Problems

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


def zipped(data):
    return gzip.compress(data, mtime=0)  # no clock in the names of the tests


def cut(text, size):
    return [text[i : i + size] for i in range(0, len(text), size)]


def read(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    problems = Problems()
    return "".join(streams.read_chunks(path, problems)), problems.counts()


@pytest.mark.parametrize(
    ("data", "text", "counts"),
    [
        (b"", "", {}),
        (b"plain", "plain", {}),
        ("ł ó".encode(), "ł ó", {}),
        ("\ufeffid".encode(), "id", {}),
        (zipped("\ufeffgzipped é".encode()), "gzipped é", {}),
        (b"a\xffb\xfe\xfdc", "a\ufffdb\ufffdc", {"warning invalid_utf8": 1}),
        (b"half \xc3", "half \ufffd", {"warning invalid_utf8": 1}),
        ("kept \ufffd".encode(), "kept \ufffd", {}),
        (zipped(b"")[:12], "", {"error damaged_gzip": 1}),
    ],
)
def test_bytes_become_text(tmp_path, data, text, counts):
    assert read(tmp_path, data) == (text, counts)


def test_a_letter_on_the_edge_of_a_piece_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "CHUNK_BYTES", 1)
    assert read(tmp_path, "żółw €".encode()) == ("żółw €", {})


def test_a_gzip_stream_that_is_cut_gives_what_is_there(tmp_path):
    lines = "".join(f"line {zlib.crc32(bytes([i]))}\n" for i in range(256))
    data = zipped(lines.encode())
    text, counts = read(tmp_path, data[: len(data) // 2])
    assert counts == {"error damaged_gzip": 1}
    assert lines.startswith(text)


@pytest.mark.parametrize("bom", [b"\xff\xfe", b"\xfe\xff"])
def test_utf_16_is_named(tmp_path, bom):
    with pytest.raises(InputError, match="UTF-16"):
        read(tmp_path, bom + b"a\0")


@pytest.mark.parametrize("name", ["absent", ".", "a\0b"])
def test_files_that_cannot_be_read(tmp_path, name):
    with pytest.raises(InputError, match="cannot be read"):
        list(streams.read_chunks(f"{tmp_path}/{name}", Problems()))


@hypothesis.given(st.text(st.sampled_from("ab\n\r\u2028")), st.integers(1, 5))
def test_lines_are_those_between_line_feeds(text, size):
    lines = list(streams.read_lines(cut(text, size)))
    whole = text.split("\n")
    whole = whole[:-1] if not whole[-1] else whole
    assert [line.text for line in lines] == whole
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert all(line.ended for line in lines[:-1])
    if lines:
        assert lines[-1].ended == text.endswith("\n")


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_line_that_is_too_long_is_read_over(size):
    lines = streams.read_lines(cut("ab\nabcdefgh\nabcd\nabcdefg", size), max_chars=4)
    assert [line.text for line in lines] == ["ab", None, "abcd", None]


@hypothesis.given(
    st.dictionaries(st.text(), VALUES, max_size=4) | st.lists(VALUES, max_size=4),
    st.integers(1, 40),
    st.sampled_from([None, 2]),
    st.booleans(),
)
@hypothesis.settings(deadline=None)
def test_items_are_those_of_the_json_module(value, size, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    items = list(streams.read_json_items(cut(text, size), "f"))
    if isinstance(value, dict):
        assert dict(items) == value
    else:
        assert [item for _, item in items] == value


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize(
    "text", ["[0.0, -1.5e+30]", "[1E-7]", '{"a": 2.5, "b": -0}', "[10, 0.125 ]"]
)
def test_numbers_that_are_cut_anywhere(text, size):
    values = [value for _, value in streams.read_json_items(cut(text, size), "f")]
    whole = json.loads(text)
    assert values == (list(whole.values()) if isinstance(whole, dict) else whole)


def test_a_key_that_stands_twice_is_yielded_twice():
    items = streams.read_json_items(['{"a": 1, "a": 2}'], "f")
    assert list(items) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected an array or an object, cut off"),
        ("3", "character 0: expected an array or an object, found '3'"),
        ("[1, 2", r"character 5: expected a comma or \], cut off"),
        ("[1, 2}", r"character 5: expected a comma or \], found '}'"),
        ("[1, nul]", "character 4: expected JSON"),
        ('{"a" 1}', "character 5: expected a colon, found '1"),
        ("{a: 1}", "character 1: expected a key in quotes"),
        ('{"a": "b', "character 6: expected JSON .Unterminated"),
        ("[1] 2", "character 4: expected nothing after the end, found '2'"),
        ("[" * 100_000, "nesting"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_damage_names_the_place(text, message, size):
    if len(text) > 1000 > size:
        size = 10_000
    with pytest.raises(InputError, match=message):
        list(streams.read_json_items(cut(text, size), "f"))


def test_a_fault_is_named_without_reading_on():
    def chunks():
        yield "[1, oops" + " " * 100
        raise AssertionError("read on")

    with pytest.raises(InputError, match="character 4"):
        list(streams.read_json_items(chunks(), "f"))


def test_a_record_that_is_too_long_is_named():
    with pytest.raises(InputError, match="more than 8 characters"):
        list(streams.read_json_items(cut('["aaaaaaaaaaaaaaaaaaa"]', 4), "f", 8))


def test_a_long_record_is_not_parsed_over_and_over(monkeypatch):
    sizes = []
    decoder = streams._DECODER

    class Counting:
        def raw_decode(self, text, position):
            sizes.append(len(text))
            return decoder.raw_decode(text, position)

    monkeypatch.setattr(streams, "_DECODER", Counting())
    text = json.dumps(["x" * 100_000])
    assert [v for _, v in streams.read_json_items(cut(text, 10), "f")] == [
        "x" * 100_000
    ]
    assert sum(sizes) < 4 * len(text)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "nope", "1 2"])
def test_what_is_no_json(text):
    with pytest.raises(ValueError, match=r".+"):
        streams.parse_json(text)


def test_what_python_alone_would_refuse():
    assert streams.parse_json("9" * 5000) == "9" * 5000
    assert streams.parse_json('"a\tb\x00"') == "a\tb\x00"
