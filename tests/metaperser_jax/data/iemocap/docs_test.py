"""docs/iemocap.md says what the code does."""

import pathlib
import re

import pytest

import metaperser_jax
from metaperser_jax.data.iemocap import IemocapSpec

REPOSITORY = pathlib.Path(metaperser_jax.__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "iemocap.md").read_text(encoding="utf-8")
SOURCES = [
    path.read_text(encoding="utf-8")
    for folder in ("metaperser_jax/data", "benchmark")
    for path in (REPOSITORY / folder).rglob("*.py")
    if not path.name.startswith("fake")
]


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(code, names)
    assert len(names["corpus"].clips) == 5 * 6 * 16 - 4  # three damaged, one broken
    assert names["waveform"].ndim == 1
    said = capsys.readouterr().out
    assert "listeners: 12" in said
    assert "M5    Ses05" in said
    assert "1 x error truncated_audio" in said


@pytest.mark.parametrize("option", IemocapSpec._fields)
def test_every_option_is_explained_with_its_default(option):
    (default,) = re.findall(rf"^\| `{option}` \| `(.*?)` \| .*$", PAGE, re.MULTILINE)
    assert eval(default, {}) == IemocapSpec._field_defaults[option]


def test_the_names_of_problems_are_those_of_the_code():
    kinds = re.findall(r"`([a-z]+_[a-z_]+)`", PAGE.split("## What is checked")[1])
    problems = [kind for kind in kinds if kind not in ("data_dir", "fake_quirks")]
    assert len(problems) > 28
    for kind in problems:
        assert any(f'"{kind}"' in source for source in SOURCES), kind
