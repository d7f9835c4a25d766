"""docs/manifest.md says what the code does."""

import pathlib
import re

import numpy as np
import pytest
import soundfile

import metaperser_jax
from metaperser_jax.data.manifest import ManifestSpec

REPOSITORY = pathlib.Path(metaperser_jax.__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "manifest.md").read_text(encoding="utf-8")
SOURCES = [
    path.read_text(encoding="utf-8")
    for folder in ("metaperser_jax/data", "benchmark")
    for path in (REPOSITORY / folder).rglob("*.py")
]


def test_the_example_runs_on_the_table_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tables = re.findall(r"```\n(clip,annotator,label\n.*?)```", PAGE, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    pathlib.Path("my_corpus/wav").mkdir(parents=True)
    pathlib.Path("my_corpus/votes.csv").write_text(tables[0], encoding="utf-8")
    for number in (1, 2):
        tone = 0.3 * np.sin(np.arange(8_000) / number)
        soundfile.write(f"my_corpus/wav/monday_0{number}.wav", tone, 16_000)
    names = {}
    exec(code, names)
    assert names["corpus"].annotators == ("anna", "ben")
    assert names["corpus"].classes == ("happy", "neutral", "surprised")
    assert names["waveform"].shape == (8_000,)
    assert names["targets"].tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert "clips: 2" in capsys.readouterr().out


@pytest.mark.parametrize("option", ManifestSpec._fields)
def test_every_option_is_explained_with_its_default(option):
    (row,) = re.findall(rf"^\| `{option}` \| (.*?) \| .*$", PAGE, re.MULTILINE)
    if option != "root":
        text = row.strip("`").replace("\\|", "|")
        assert eval(text, {}) == ManifestSpec._field_defaults[option]


def test_the_names_of_problems_are_those_of_the_code():
    tail = PAGE.split("| error rows (skipped)")[1]
    kinds = re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", tail)
    assert len(kinds) > 25
    for kind in kinds:
        assert any(f'"{kind}"' in source for source in SOURCES), kind
