"""The invented tree: the same from the same seed, balanced, and sounding."""

import collections
import hashlib
import pathlib

import numpy as np
import pytest
import soundfile

from metaperser_jax.data.iemocap import fake
from metaperser_jax.data.iemocap.fake_raters import OBSERVERS, SELF_RATERS
from metaperser_jax.data.iemocap.grammar import is_observer


def digests(root: pathlib.Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_and_times(quirky, tmp_path):
    again = fake.fake_tree(tmp_path, 2, 8)
    assert digests(again.root) == digests(quirky.root)
    assert again.quirks == quirky.quirks
    assert len({x.stat().st_mtime for x in tmp_path.rglob("*") if x.is_file()}) == 1


def test_another_seed_gives_another_tree(clean, tmp_path):
    other = fake.fake_tree(tmp_path, 2, 8, seed=1, quirks=False)
    assert digests(other.root).keys() == digests(clean.root).keys()
    assert not set(digests(other.root).values()) & set(digests(clean.root).values())


def test_recordings_hold_the_samples(clean):
    for name in list(clean.audio)[::20]:
        (path,) = clean.root.rglob(f"{name}.wav")
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == 16_000
        np.testing.assert_array_equal(samples, clean.audio[name])
    seconds = [len(samples) / 16_000 for samples in clean.audio.values()]
    assert 1.0 <= min(seconds) <= max(seconds) <= 2.2


def test_times_are_those_of_the_recordings(clean):
    for utterance in clean.utterances:
        length = utterance.block.end - utterance.block.start
        assert length == pytest.approx(
            len(clean.audio[utterance.id]) / 16_000, abs=1e-4
        )


def test_three_observers_rate_a_dialog_and_actors_themselves(clean):
    actors = set()
    for utterance in clean.utterances:
        who = [row.rater for row in utterance.block.labels]
        assert len([name for name in who if is_observer(name)]) == 3
        own = utterance.name.speaker[-1] + utterance.name.session[-1]
        assert [x for x in who if not is_observer(x)] == [own] * (own in SELF_RATERS)
        actors.update(x for x in who if not is_observer(x))
        rated = [row.rater for row in utterance.block.dimensions]
        assert len([name for name in rated if is_observer(name)]) == 2
    assert actors == set(SELF_RATERS)


def test_triples_change_and_every_observer_hears_every_session():
    triples = {(s, d): fake.observers_of(0, s, d) for s in range(5) for d in range(6)}
    for (session, dialog), triple in triples.items():
        if dialog % 2 == 0:
            assert not set(triple) & set(triples[session, dialog + 1])
    heard = collections.Counter(
        (s, x) for (s, _), triple in triples.items() for x in triple
    )
    assert heard == {(s, x): 3 for s in range(5) for x in OBSERVERS}
    assert len(set(triples.values())) > 10


def test_half_of_the_dialogs_are_scripted(clean):
    kinds = collections.Counter(x.name.scenario[:5] for x in clean.utterances)
    assert kinds == {"impro": 40, "scrip": 40}


def test_a_tree_is_made_once_and_whole(tmp_path, monkeypatch):
    folder = tmp_path / "deep" / "tree"

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fake, "plant_files", stop)
        with pytest.raises(KeyboardInterrupt):
            fake.make_once(folder, 2, 8, 0)
    assert list(folder.parent.iterdir()) == []
    assert fake.make_once(folder, 2, 8, 0) == folder
    assert [x.name for x in folder.parent.iterdir()] == ["tree"]
    monkeypatch.setattr(fake, "fake_tree", stop)
    assert fake.make_once(folder, 2, 8, 0) == folder
