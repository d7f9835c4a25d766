"""The examples of docs/crema_d.md run, and its table of folds is that of the code."""

import collections
import pathlib
import re
import shutil

from metaperser_jax.data.crema_d import EMO_SUPERB_FOLDS, SPEAKER_GROUPS
from metaperser_jax.data.crema_d.folds import group_of
from metaperser_jax.data.crema_d.names import clip_names

TEXT = (pathlib.Path(__file__).parents[4] / "docs" / "crema_d.md").read_text("utf-8")


def test_the_examples_run(copy, tmp_path, monkeypatch, capsys):
    shutil.copytree(copy, tmp_path / "CREMA-D")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(block, names)
    assert names["corpus"].name == "crema_d_fake"
    assert "published votes different: 0" in capsys.readouterr().out


def test_the_table_of_folds():
    rows = re.findall(r"\| (set\d) \| (\d+)-(\d+) \| (\d+) \| (\d) \| (\d) \|", TEXT)
    clips = collections.Counter(map(group_of, clip_names()))
    assert [row[0] for row in rows] == list(SPEAKER_GROUPS)
    for group, first, last, count, developed, tested in rows:
        actors = SPEAKER_GROUPS[group]
        assert (actors[0], actors[-1], clips[group]) == (first, last, int(count))
        assert EMO_SUPERB_FOLDS[int(developed) - 1][1] == (group,)
        assert EMO_SUPERB_FOLDS[int(tested) - 1][2] == (group,)
