"""Where a copy may lie, and what is said where it is not one."""

import gzip

import pytest

from metaperser_jax.data.crema_d import CremaDSpec
from metaperser_jax.data.crema_d.sources import find_sources, fingerprint
from metaperser_jax.errors import InputError

CLIPS = ("1001_DFA_ANG_XX", "1091_IEO_SAD_LO")


def touch(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "work" / "CREMA-D"
    touch(root / "finishedResponses.csv")
    touch(root / "finishedEmoResponses.csv")
    touch(root / "processedResults" / "tabulatedVotes.csv")
    touch(root / "processedResults" / "summaryTable.csv")
    for clip in CLIPS:
        touch(root / "AudioWAV" / f"{clip}.wav")
    return root


def find(root, **options):
    return find_sources(CremaDSpec(root=str(root), **options))


def test_the_repository_itself(repository):
    sources = find(repository)
    assert sources.root == repository
    assert sources.responses == repository / "finishedResponses.csv"
    assert sources.audio_folder == repository / "AudioWAV"
    assert tuple(sources.recordings) == CLIPS
    assert sources.first_clicks == repository / "finishedEmoResponses.csv"
    assert sources.votes == repository / "processedResults" / "tabulatedVotes.csv"
    assert sources.summary == repository / "processedResults" / "summaryTable.csv"


def test_the_folder_around_it(repository):
    assert find(repository.parent) == find(repository)


def test_the_folder_of_recordings_in_it(repository):
    assert find(repository / "AudioWAV") == find(repository)


@pytest.mark.parametrize("given", ["CREMA-D", "."])
def test_recordings_moved_beside_it(repository, given):
    (repository / "AudioWAV").rename(repository.parent / "AudioWAV")
    sources = find(repository.parent / given)
    assert sources.audio_folder == repository.parent / "AudioWAV"
    assert sources.shown(sources.recordings[CLIPS[0]]) == f"AudioWAV/{CLIPS[0]}.wav"


def test_without_published_tables(repository):
    (repository / "processedResults" / "tabulatedVotes.csv").unlink()
    (repository / "processedResults" / "summaryTable.csv").unlink()
    (repository / "processedResults").rmdir()
    (repository / "finishedEmoResponses.csv").unlink()
    sources = find(repository)
    assert (sources.votes, sources.summary, sources.first_clicks) == (None, None, None)


def test_gzipped_tables(repository):
    path = repository / "finishedResponses.csv"
    (repository / "finishedResponses.csv.gz").write_bytes(gzip.compress(b"x"))
    path.unlink()
    assert find(repository).responses.name == "finishedResponses.csv.gz"


def test_named_responses_and_recordings(repository):
    touch(repository / "mine.csv")
    touch(repository / "sound" / f"{CLIPS[0]}.flac")
    sources = find(repository, responses="mine.csv", audio="sound")
    assert sources.responses == repository / "mine.csv"
    assert tuple(sources.recordings) == CLIPS[:1]


def test_recordings_in_the_folder_itself(tmp_path):
    touch(tmp_path / "answers.csv")
    touch(tmp_path / f"{CLIPS[0]}.wav")
    assert tuple(find(tmp_path, responses="answers.csv").recordings) == CLIPS[:1]


def test_side_files_are_no_recordings_and_a_wav_goes_first(repository):
    for name in (f"._{CLIPS[0]}.wav", "notes.txt", f"{CLIPS[0]}.mp3"):
        touch(repository / "AudioWAV" / name)
    recordings = find(repository).recordings
    assert tuple(recordings) == CLIPS
    assert recordings[CLIPS[0]].suffix == ".wav"


def test_two_copies_below_the_root_are_not_guessed_between(repository):
    touch(repository.parent / "CREMA-D-old" / "finishedResponses.csv")
    with pytest.raises(InputError, match=r"several copies \(CREMA-D, CREMA-D-old\)"):
        find(repository.parent)


FAULTS = {
    "no folder": ({"root": "nowhere"}, "nowhere: no such folder"),
    "no responses": ({"root": "empty"}, r"no finishedResponses\.csv in it"),
    "named table": (
        {"responses": "finishedResponse.csv"},
        r"no such file\. Did you mean 'finishedResponses\.csv'\?",
    ),
    "named folder": ({"audio": "AudioWav"}, r"found AudioWAV, .*mean 'AudioWAV'"),
    "no recordings": ({"audio": "processedResults"}, "no recordings, expected"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_not_there_is_named(repository, tmp_path, case):
    options, message = FAULTS[case]
    options = {"root": str(repository), **options}
    touch(tmp_path / "apart" / "empty" / "notes.txt")
    if options["root"] != str(repository):
        options["root"] = str(tmp_path / "apart" / options["root"])
    with pytest.raises(InputError, match=message):
        find_sources(CremaDSpec(**options))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 72862\n"


def test_a_clone_without_its_large_files_is_told_what_to_do(repository):
    for clip in CLIPS:
        touch(repository / "AudioWAV" / f"{clip}.wav", POINTER)
    with pytest.raises(InputError, match=r"all 2 recordings are .*`git lfs pull`"):
        find(repository)


def test_a_single_pointer_is_left_to_the_reading_of_the_clip(repository):
    touch(repository / "AudioWAV" / f"{CLIPS[0]}.wav", POINTER)
    assert tuple(find(repository).recordings) == CLIPS


CHANGES = {
    "an answer": lambda root: touch(root / "finishedResponses.csv", "y"),
    "a length": lambda root: touch(root / "AudioWAV" / f"{CLIPS[0]}.wav", "xx"),
    "a recording": lambda root: touch(root / "AudioWAV" / "1002_DFA_ANG_XX.wav"),
    "a table": lambda root: touch(root / "processedResults/summaryTable.csv", "xx"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_has_another_fingerprint(repository, change):
    before = fingerprint(find(repository))
    assert fingerprint(find(repository)) == before
    CHANGES[change](repository)
    assert fingerprint(find(repository)) != before


def test_a_moved_copy_keeps_its_fingerprint(repository):
    before = fingerprint(find(repository))
    moved = repository.rename(repository.parent / "elsewhere")
    assert fingerprint(find(moved)) == before
