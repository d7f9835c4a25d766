"""The page of encoders: its claims hold in its own tables."""

import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def make_encoders():
    path = ROOT / "docs" / "make_encoders.py"
    spec = importlib.util.spec_from_file_location("make_encoders", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(heading):
    """Returns the rows below a heading, cells 'largest / mean' as numbers."""
    section = PAGE.split(f"{heading}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    head, *body = [row.split(" | ") for row in rows]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


def numbers(cell):
    largest, mean = map(float, cell.split(" / "))
    return largest, mean


def test_every_claim_of_parity_holds_in_its_table(make_encoders):
    for name in make_encoders.SHAPES:
        rows = table(f"### {name}")
        assert tuple(rows) == make_encoders.GROUPS
        for cells in rows.values():
            assert tuple(cells) == make_encoders.COLUMNS
            found = {column: numbers(cell) for column, cell in cells.items()}
            assert found["float32 alone"][0] < 1e-4
            assert found["float32 padded"][0] < 1e-4
            pytorch = found["PyTorch bfloat16 alone"][1]
            assert found["bfloat16 alone"][1] < pytorch
            assert found["bfloat16 padded"][1] < pytorch


def test_what_it_says_of_padded_batches_holds_in_its_table(make_encoders):
    rows = table("## Padding")
    assert len(rows) == len(make_encoders.SHAPES)
    for name, cells in rows.items():
        assert numbers(cells["this library"])[0] < 1e-4
        assert numbers(cells["PyTorch without mask"])[1] > 1e-2
        group = cells["norm of the front end"] == "group"
        differs = group or "data2vec" in name
        assert (numbers(cells["PyTorch, mask"])[1] > 1e-2) == differs


def test_the_prose_is_the_scripts(make_encoders):
    assert PAGE.startswith(make_encoders.INTRO)
    assert make_encoders.TRAINING in PAGE
    first, last = make_encoders.PARITY.split("{torch}")[0], "without PyTorch.\n"
    assert first in PAGE
    assert make_encoders.PARITY.rstrip().endswith(last.strip())


def test_a_page_is_made_of_what_was_measured(make_encoders, monkeypatch):
    monkeypatch.setattr(make_encoders, "architectures", lambda: iter([["name"], ["x"]]))
    error = make_encoders.Error
    parity = {
        group: {
            column: error(1e-6 * (i + 1), 1e-7 * (j + 1))
            for j, column in enumerate(make_encoders.COLUMNS)
        }
        for i, group in enumerate(make_encoders.GROUPS)
    }
    padding = {"PyTorch, mask": error(0.25, 0.125), "this library": error(0, 0)}
    measured = {"microsoft/wavlm-base": make_encoders.Measured(parity, padding)}
    page = make_encoders.page(measured, {"torch": "9.9", "transformers": "8.8"})
    assert "PyTorch 9.9 with transformers 8.8" in page
    assert "| `microsoft/wavlm-base` | group | 2.5e-01 / 1.2e-01 | 0.0e+00" in page
    assert "| front end | 1.0e-06 / 1.0e-07 | 1.0e-06 / 2.0e-07 |" in page


def test_speed_is_put_between_its_marks_again_and_again(
    make_encoders, tmp_path, monkeypatch
):
    monkeypatch.setattr(make_encoders, "SPEED", tmp_path / "encoders_speed.md")
    empty = make_encoders.with_speed(PAGE)
    assert "not yet done here" in empty
    text = "# Encoders beside PyTorch\n\nIntro.\n\n## base, 2 threads\n\n| a |\n|---|\n"
    make_encoders.SPEED.write_text(text, encoding="utf-8")
    filled = make_encoders.with_speed(empty)
    assert "\nIntro.\n\n### base, 2 threads\n\n| a |\n" in filled
    assert "not yet done" not in filled
    assert make_encoders.with_speed(filled) == filled
    make_encoders.SPEED.unlink()
    assert make_encoders.with_speed(filled) == empty


@pytest.mark.parametrize(("count", "sizes"), [(12, (4, 4, 4)), (48, (16,) * 3)])
def test_layers_are_divided_in_thirds(make_encoders, count, sizes):
    states = list(range(count + 1))
    groups = make_encoders.grouped(states, "front", "added", "last")
    assert groups["input of the first layer"] == [0]
    thirds = [groups[name] for name in make_encoders.GROUPS[3:6]]
    assert tuple(map(len, thirds)) == sizes
    assert [state for third in thirds for state in third] == states[1:]
