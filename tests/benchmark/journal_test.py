"""Lines that are on disk survive a kill; a line that was cut harms no other."""

import concurrent.futures
import os
import subprocess
import sys
import threading
import time

import pytest

from benchmark import journal
from benchmark.errors import InputError, MachineError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.jsonl"


class TestAppend:
    def test_gives_back_what_was_appended_in_order(self, path):
        records = [{"a": 1}, {"b": "\u00e4 \ud83d \n \u2028 \x1b"}, {"c": [None]}]
        for record in records:
            journal.append(path, record)
        assert list(journal.read(path)) == records

    @pytest.mark.parametrize("cut", ['{"a": 1}\n{"b": ', '{"a": 1}\n{"b": 2}', "\x00"])
    def test_begins_a_new_line_after_one_that_was_cut(self, path, cut):
        path.write_text(cut)
        journal.append(path, {"c": 3})
        assert list(journal.read(path))[-1] == {"c": 3}

    def test_keeps_lines_whole_that_threads_append(self, path):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: journal.append(path, {"i": i}), range(64)))
        assert sorted(record["i"] for record in journal.read(path)) == list(range(64))

    def test_of_one_thread_does_not_wait_for_the_disk_of_another(
        self, path, monkeypatch
    ):
        written, fsync = threading.Event(), os.fsync

        def slow_disk(number):
            assert written.wait(20)  # until the other line is there
            fsync(number)

        monkeypatch.setattr(journal.os, "fsync", slow_disk)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            done = [pool.submit(journal.append, path, {"i": i}) for i in range(2)]
            end = time.monotonic() + 10
            while not path.exists() or path.read_bytes().count(b"\n") < 2:
                if time.monotonic() > end:
                    break
                time.sleep(0.005)
            held = len(list(journal.read(path)))
            written.set()
            for future in done:
                future.result()
        assert held == 2

    def test_says_where_it_cannot_write(self, tmp_path):
        with pytest.raises(MachineError, match="cannot be written"):
            journal.append(tmp_path / "none" / "some.jsonl", {})


class TestRead:
    def test_finds_nothing_in_a_file_that_is_not_there(self, path):
        assert list(journal.read(path)) == []

    def test_says_which_lines_hold_no_record(self, path):
        lines = [b'{"a": 1}', b"", b"[1]", b"{", b"\xff", b"[" * 9_999, b'{"b": 2}']
        path.write_bytes(b"\n".join(lines))
        assert list(journal.read(path)) == [{"a": 1}, *[None] * 4, {"b": 2}]

    def test_says_that_a_folder_is_no_file(self, tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            list(journal.read(tmp_path))


class TestRewrite:
    def test_replaces_a_file_by_some_of_its_own_lines(self, path):
        path.write_text('{"a": 1}\nnothing\n{"a": 2}\n')
        journal.rewrite(path, (record for record in journal.read(path) if record))
        assert path.read_text() == '{"a": 1}\n{"a": 2}\n'
        assert [p.name for p in path.parent.iterdir()] == ["some.jsonl"]

    def test_says_where_it_cannot_write(self, tmp_path):
        with pytest.raises(MachineError, match="cannot be written"):
            journal.rewrite(tmp_path / "none" / "some.jsonl", iter(()))


class TestLock:
    def test_is_held_by_one_and_free_again_after_it(self, path):
        with journal.lock(path):
            refused = pytest.raises(MachineError, match="another run")
            with refused, journal.lock(path):
                pass
        with journal.lock(path):
            pass

    def test_of_a_killed_process_is_free(self, path):
        code = (
            "import pathlib, os, signal\nfrom benchmark import journal\n"
            f"with journal.lock(pathlib.Path({str(path)!r})):\n"
            "    os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = subprocess.run([sys.executable, "-c", code], check=False)
        assert done.returncode == -9
        with journal.lock(path):
            pass

    @pytest.mark.parametrize("kind", ["folder", "link to nowhere"])
    def test_is_not_taken_of_what_cannot_be_written(self, path, kind):
        if kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/full/none")
        refused = pytest.raises((InputError, MachineError), match=path.name)
        with refused, journal.lock(path):
            pass

    def test_says_where_it_cannot_be_taken(self, tmp_path):
        (tmp_path / "file").write_text("")
        refused = pytest.raises(MachineError, match="cannot be written")
        with refused, journal.lock(tmp_path / "file" / "some.jsonl"):
            pass
