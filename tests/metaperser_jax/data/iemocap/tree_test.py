"""Copies as people have them: where things lie, and what lacks."""

import collections
import os
import pathlib
import shutil

import pytest

from metaperser_jax.data.iemocap import tree
from metaperser_jax.errors import InputError, Problems


def names_of(root) -> list[str]:
    problems = Problems()
    found = [dialog.dialog for dialog in tree.find_tree(root, problems).dialogs]
    assert problems.rows == []
    return found


def link_sessions(clean, folder: pathlib.Path, numbers=range(1, 6)) -> pathlib.Path:
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"Session{number}").symlink_to(clean.root / f"Session{number}")
    return folder


@pytest.fixture
def small(tmp_path) -> pathlib.Path:
    """A session of one dialog with one utterance, to be spoilt."""
    session = tmp_path / "copy" / "Session1"
    block = (
        "[1.0 - 2.0]\tSes01F_impro01_F000\tneu\t[3.0, 3.0, 3.0]\nC-E1:\tNeutral;\t()\n"
    )
    words = "Ses01F_impro01_F000 [001.0-002.0]: Made up.\n"
    files = {
        "dialog/EmoEvaluation/Ses01F_impro01.txt": block,
        "dialog/transcriptions/Ses01F_impro01.txt": words,
        "sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav": "RIFF",
    }
    for name, text in files.items():
        (session / name).parent.mkdir(parents=True)
        (session / name).write_text(text)
    return session


def read(session) -> tuple[tree.Release, list[tuple[str, str]]]:
    problems = Problems()
    release = tree.read_release(tree.find_tree(session.parent, problems), problems)
    return release, [(row.severity, row.kind) for row in problems.rows]


def test_every_layout_gives_the_same_dialogs(clean, tmp_path):
    expected = names_of(clean.root)
    assert len(expected) == 10
    assert names_of(clean.root.parent) == expected
    assert names_of(link_sessions(clean, tmp_path / "my corpus")) == expected
    doubled = tmp_path / "IEMOCAP_full_release" / "IEMOCAP_full_release"
    link_sessions(clean, doubled)
    assert names_of(doubled.parent) == expected
    assert names_of(doubled.parent.parent / "IEMOCAP_full_release") == expected


def test_some_sessions_or_a_single_one(clean, tmp_path):
    some = link_sessions(clean, tmp_path / "some", (2, 4))
    assert {name[:5] for name in names_of(some)} == {"Ses02", "Ses04"}
    assert {name[:5] for name in names_of(clean.root / "Session3")} == {"Ses03"}
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    (renamed / "third").symlink_to(clean.root / "Session3")
    assert {name[:5] for name in names_of(renamed)} == {"Ses03"}


def test_a_second_copy_of_a_session_is_left_out(small):
    shutil.copytree(small, small.parent / "backup" / "Session1")
    problems = Problems()
    found = tree.find_tree(small.parent, problems)
    (row,) = problems.rows
    assert (row.severity, row.kind) == ("error", "duplicate_dialog")
    assert "backup" in row.where
    assert found.dialogs[0].evaluation.startswith(str(small))


def test_loops_of_links_end(small):
    (small / "loop").symlink_to(small)
    (small.parent / "loop").symlink_to(small.parent)
    (small.parent / "itself").symlink_to("itself")
    assert names_of(small.parent) == ["Ses01F_impro01"]


@pytest.mark.parametrize("content", [None, "empty", "other"])
def test_nothing_found_says_what_was_looked_for(tmp_path, content):
    root = tmp_path / "root"
    if content:
        root.mkdir()
    if content == "other":
        (root / "CREMA-D").mkdir()
        (root / "dialog").mkdir()
    with pytest.raises(InputError) as caught:
        tree.find_tree(root, Problems())
    said = str(caught.value)
    assert str(root) in said
    assert ("no such folder" in said) == (content is None)
    assert ("EmoEvaluation/Ses*.txt" in said) == (content is not None)
    assert ("CREMA-D, dialog" in said) == (content == "other")


def test_recordings_alone_are_not_enough(small):
    shutil.rmtree(small / "dialog")
    with pytest.raises(InputError, match="1 session folders without an evaluation"):
        tree.find_tree(small.parent, Problems())


EVALUATION = "dialog/EmoEvaluation/Ses01F_impro01.txt"
TRANSCRIPT = "dialog/transcriptions/Ses01F_impro01.txt"
RECORDING = "sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"


def replace_by_folder(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "rows", "utterances"),
    [
        (lambda s: None, [], 1),
        (lambda s: (s / RECORDING).unlink(), ["error missing_audio"], 0),
        (lambda s: (s / TRANSCRIPT).unlink(), ["warning missing_transcript"], 1),
        (
            lambda s: (s / TRANSCRIPT).write_text("F: words\n"),
            ["warning missing_transcript"],
            1,
        ),
        (
            lambda s: (s / TRANSCRIPT).write_bytes(b"\0\0"),
            ["error unreadable_transcript", "warning missing_transcript"],
            1,
        ),
        (
            lambda s: (s / EVALUATION).write_bytes(b"\x00\x05\x16\x07"),
            ["error unreadable_evaluation", "error missing_evaluation"],
            0,
        ),
        (
            lambda s: (s / EVALUATION).write_text("%\n\n"),
            ["error empty_evaluation", "error missing_evaluation"],
            0,
        ),
        (
            lambda s: (s / EVALUATION).rename(
                (s / EVALUATION).with_name("Ses01F_impro02.txt")
            ),
            ["error missing_evaluation", "error foreign_utterance"],
            0,
        ),
        (
            lambda s: (s / RECORDING).with_name("x.WAV").write_text(""),
            ["error missing_evaluation"],
            1,
        ),
        (
            lambda s: (s / TRANSCRIPT).with_name("Ses01F_impro09.txt").write_text(""),
            ["warning missing_evaluation"],
            1,
        ),
        (
            lambda s: (s / RECORDING).rename(
                (s / RECORDING).with_name("Ses01F_impro01_F000.WAV")
            ),
            [],
            1,
        ),
        (lambda s: (s / RECORDING).with_name("._a.wav").write_text(""), [], 1),
        (lambda s: (s / EVALUATION).with_name("._a.txt").write_text(""), [], 1),
        (lambda s: (s / EVALUATION).with_name("notes.txt").write_text(""), [], 1),
    ],
)
def test_what_lacks_is_a_row(small, spoil, rows, utterances):
    spoil(small)
    release, found = read(small)
    assert sorted(map(" ".join, found)) == sorted(rows)
    assert len(release.utterances) == utterances


def test_a_folder_that_cannot_be_listed_is_a_row(small, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("transcriptions"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    _, found = read(small)
    assert found == [("error", "unreadable_folder"), ("warning", "missing_transcript")]


def test_the_whole_tree_comes_back(clean):
    problems = Problems()
    release = tree.read_release(tree.find_tree(clean.root, problems), problems)
    assert problems.rows == []
    assert release.utterances == clean.utterances
    assert sorted(release.blocks) == sorted(x.block for x in clean.utterances)
    assert release.facts["other_files_ignored"] == 0
    assert release.facts["evaluation_lines_skipped"] == 0


def test_the_quirky_tree_comes_back_up_to_its_drops(quirky):
    problems = Problems()
    files = tree.find_tree(quirky.root, problems)
    release = tree.read_release(files, problems)
    undecodable = {"empty_audio", "truncated_audio"}  # told when they are decoded
    lost = {quirk.where for quirk in quirky.quirks if quirk.name in undecodable}
    assert len(lost) == 2
    found = tuple(x for x in release.utterances if x.id not in lost)
    assert found == quirky.utterances
    expected = collections.Counter()
    for quirk in quirky.quirks:
        expected.update(quirk.records)
    for kind in ("error empty_audio", "error truncated_audio"):
        del expected[kind]
    for kind in ("warning consensus_mismatch", "warning triple_mismatch"):
        del expected[kind]
    assert problems.counts() == dict(expected)
    assert release.facts["other_files_ignored"] == 8
    assert release.facts["transcript_lines_without_id"] == 2


def test_the_fingerprint_tells_changed_copies_apart(small):
    def digest() -> str:
        return tree.fingerprint(tree.find_tree(small.parent, Problems()))

    seen = [digest()]
    assert digest() == seen[0]
    moved = small.parent.with_name("moved")
    small.parent.rename(moved)
    assert tree.fingerprint(tree.find_tree(moved, Problems())) == seen[0]
    moved.rename(small.parent)
    recording = small / RECORDING
    recording.write_text("RIFF2")
    seen.append(digest())
    os.utime(recording, (1, 1))
    seen.append(digest())
    (small / TRANSCRIPT).write_text("Ses01F_impro01_F000 [001.0-002.0]: Made ub.\n")
    seen.append(digest())
    (small / EVALUATION).write_text("")
    seen.append(digest())
    recording.unlink()
    seen.append(digest())
    assert len(set(seen)) == 6
