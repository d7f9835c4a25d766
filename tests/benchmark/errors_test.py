"""What was skipped is counted, shown, written, and in strict mode refused."""

import json

import pytest

from benchmark.errors import InputError, MachineError, Problems, did_you_mean


def some_problems():
    problems = Problems()
    problems.warning("clipped", "a.wav", "3 % of the samples are at full scale")
    problems.error("truncated_audio", "b.wav", "12 of 100 frames: copy it again")
    problems.error("truncated_audio", "c.wav", "header only: copy it again")
    return problems


class TestProblems:
    def test_are_counted_by_severity_and_kind_most_frequent_first(self):
        counts = some_problems().counts()
        assert list(counts.items()) == [
            ("error truncated_audio", 2),
            ("warning clipped", 1),
        ]

    def test_an_error_and_a_warning_of_one_kind_are_two_lines(self):
        problems = Problems()
        problems.error("late", "x", "skipped")
        problems.warning("late", "y", "used")
        assert problems.counts() == {"error late": 1, "warning late": 1}

    def test_are_summed_up_in_one_line_a_kind_with_the_first_place(self):
        assert some_problems().summary().splitlines() == [
            "      2 x error truncated_audio: b.wav: 12 of 100 frames: copy it again",
            "      1 x warning clipped: a.wav: 3 % of the samples are at full scale",
        ]

    def test_none_sum_up_to_nothing(self, tmp_path):
        assert Problems().counts() == {}
        assert Problems().summary() == ""
        Problems().write(tmp_path / "problems.jsonl")
        assert (tmp_path / "problems.jsonl").read_text() == ""

    def test_are_written_as_json_lines_one_a_row(self, tmp_path):
        problems = some_problems()
        problems.warning("odd_name", "Gespräch\n1.wav", "line break in a 'name' \u2028")
        problems.write(tmp_path / "problems.jsonl")
        text = (tmp_path / "problems.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
        assert rows == [problem._asdict() for problem in problems.rows]
        assert rows[1] == {
            "severity": "error",
            "kind": "truncated_audio",
            "where": "b.wav",
            "message": "12 of 100 frames: copy it again",
        }
        assert "Gespräch" in text

    def test_about_a_file_whose_name_is_no_utf8_are_written_all_the_same(
        self, tmp_path
    ):
        name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
        problems = Problems()
        problems.error("not_audio", name, "expected a recording")
        problems.write(tmp_path / "problems.jsonl")
        row = json.loads((tmp_path / "problems.jsonl").read_text(encoding="utf-8"))
        assert row["where"] == name

    @pytest.mark.parametrize("severity", ["error", "warning"])
    def test_in_strict_mode_the_first_is_raised_and_still_recorded(self, severity):
        problems = Problems(strict=True)
        with pytest.raises(InputError) as error:
            getattr(problems, severity)("clipped", "a.wav", "at full scale")
        assert str(error.value) == (
            f"a.wav: at full scale (strict mode: {severity} clipped)"
        )
        assert problems.counts() == {f"{severity} clipped": 1}


def test_exit_codes_tell_the_users_faults_from_the_machines():
    assert InputError("x").exit_code == 2
    assert MachineError("x").exit_code == 3
    assert not issubclass(MachineError, InputError)
    assert not issubclass(InputError, MachineError)


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("activaton", ["hidden", "activation"], " Did you mean 'activation'?"),
        ("Happy", {"happy": 1, "sad": 2}, " Did you mean 'happy'?"),
        ("zzz", ["hidden", "activation"], ""),
        ("anything", [], ""),
        ("", ["hidden"], ""),
    ],
)
def test_did_you_mean_offers_the_nearest_known_word(word, known, hint):
    assert did_you_mean(word, known) == hint
