"""The page of times says what was measured, and differing results do not pass."""

import json
import math
import pathlib

import numpy as np
import pytest

import benchmark.__main__
from perf import (
    adaptation,
    demo,
    effort,
    growth,
    judge,
    measure,
    meta_step,
    meta_training,
    roofline,
    stub,
    tables,
    worker,
    workload,
)

ROOT = pathlib.Path(__file__).parents[1]
MACHINE = {"processor": "A chip", "load": "0.1 of 2 cores in use by others",
           "jax": "1.2"}  # fmt: skip


def told(section, found):
    return "\n".join(section(found))


def step_row(tasks=64, steps=5, errors=1e-7, **seconds):
    times = {"dual form": 0.01, "general form": 0.04, "learn2learn": 0.15}
    named = {name: [s] * 3 for name, s in {**times, **seconds}.items() if s}
    row = meta_step.Row(tasks, steps, "second", named, dict.fromkeys(named, errors))
    return row._asdict()


def steps_found(*rows, dual=5e7):
    return {
        "rows": list(rows) or [step_row()],
        "temp_bytes": {"auto": dual, "general": 1e9},
    }


def adapted(ours=(0.002, 0.004, 0.003), torch=(0.009, 0.006, 0.003), error=1e-7):
    row = adaptation.Row("one", list(ours), torch and list(torch), error)._asdict()
    return {"rows": [row] * 3}


def curve(
    over="listeners", what="adapt and predict", b=0.0, sizes=(64, 1_000, 100_000)
):
    seconds = [1e-4 * size**b for size in sizes]
    return growth.Curve(over, what, list(sizes), seconds)


CURVES = [
    curve(over, what)
    for over in ("listeners", "clips", "inner steps", "classes")
    for what in ("adapt and predict", "meta-step")
]


def trained(seconds=50.0, listeners=meta_training.LISTENERS, losses=(2.0, 1.5, 1.0)):
    return {
        "listeners": listeners, "epochs": meta_training.EPOCHS, "steps": 3825,
        "seconds": seconds, "first_order": 0.01, "second_order": 0.02,
        "losses": list(losses),
    }  # fmt: skip


def judged(seconds=(10.0, 8.0, 9.0), wrong=0):
    row = judge.Row("judge", 16, 1440, list(seconds), [1.0, 2.88, 4.0], wrong)
    return {"rows": [row._asdict()], "stub": {"answers": 1000, "cpu": 0.25}}


def shown_off(benchmark=(30.0, 40.0), first=(150.0,), whole=True):
    """Efforts of which CPU is twice the time, and memory a byte more each repeat."""
    taken = [("bench", "", benchmark), ("run", demo.FIRST, first),
             ("run", demo.AGAIN, [9.0])]  # fmt: skip
    rows = []
    for command, state, seconds in taken:
        efforts = [effort.Effort(s, 2 * s, 10**9 + i) for i, s in enumerate(seconds)]
        rows.append(demo.Row(command, state, demo.as_json(efforts))._asdict())
    return {"rows": rows, "whole": whole}


ROOF = {
    "tasks": 256,
    "gemm": {"JAX": {"shared kernel": 1e11, "square": 5e10}},
    "bandwidth": 1e10,
    "seconds": 0.1,
}
EVERYTHING = {
    "meta_step": steps_found(),
    "adaptation": adapted(),
    "many": {"rows": [adaptation.Many(10_000, [1.0], 10**9)._asdict()]},
    "growth": {"curves": [c._asdict() for c in CURVES]},
    "meta_training": trained(),
    "roofline": ROOF,
    "judge": judged(),
    "demo": shown_off(),
}


class TestPage:
    def found(self, *parts):
        names = parts or tuple(worker.PARTS)
        return {name: {**EVERYTHING[name], "machine": MACHINE} for name in names}

    def test_each_part_has_its_section_and_machine(self):
        page = measure.page(self.found())
        assert page.count("\n## ") == len(worker.PARTS) + 1  # and pages elsewhere
        assert page.count("A chip, ") == len(worker.PARTS)
        assert "Not measured" not in page

    def test_parts_that_were_not_measured_are_named(self):
        page = measure.page(self.found("roofline"))
        assert "Not measured: meta_step, adaptation, many, growth," in page

    @pytest.mark.parametrize(("cores", "shown"), [(1, "one thread"), (2, "2 cores")])
    @pytest.mark.parametrize("busy", ["yes", ""])
    def test_machine_and_load_are_told(self, cores, shown, busy):
        text = measure.measured_on(MACHINE | {"busy": busy}, cores)
        assert text.startswith(
            f"A chip, {shown}; before, 0.1 of 2 cores in use by others; jax 1.2."
        )
        assert ("upper bounds" in text) == bool(busy)

    def test_what_is_kept_is_read_back(self, tmp_path):
        found = self.found("many", "roofline")
        for part, measured in found.items():
            (tmp_path / f"{part}.json").write_text(json.dumps(measured))
        assert measure.page(measure.read(tmp_path)) == measure.page(found)

    def test_topics_with_pages_of_their_own_are_named_with_the_commands(self):
        page = measure.page(self.found())
        for name, command in measure.ELSEWHERE.values():
            assert f"| [{name}]({name}) | `{command}` |" in page
            written = (ROOT / "docs" / name).read_text(encoding="utf-8")
            assert f"Written by `{command}`" in written
            assert command.removesuffix(" FOLDER") in recipe("perf")

    def test_make_perf_measures_all_parts(self):
        assert "$(BIN)/python -m perf" in recipe("perf").splitlines()

    def test_an_unknown_part_is_refused(self, capsys):
        with pytest.raises(SystemExit):
            measure.main(["speed"])
        assert "no part speed" in capsys.readouterr().err


def recipe(target):
    """Returns the commands of a target of the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").split(f"\n{target}: ")[1]
    return "\n".join(line.strip() for line in text.split("\n\n")[0].splitlines()[1:])


class TestMetaStep:
    def test_medians_and_ratios(self):
        row = "| 64 | 5 | second | 10.00 ms | 40.00 ms | 150.00 ms | – | – | 15.0 | 3 |"  # noqa: RUF001
        assert row in told(meta_step.section, steps_found())

    @pytest.mark.parametrize(
        ("row", "line"),
        [
            ({}, "Target met: 64 listeners, 5 steps: 14 times learn2learn; found 15.0"),
            (
                {"learn2learn": 0.1},
                "Target **missed**: 64 listeners, 5 steps: 14 times",
            ),
            ({}, "Target met: never slower than PyTorch; found 15.0 times at 64"),
            (
                {"higher": 0.005},
                "Target **missed**: never slower than PyTorch; found 0.5",
            ),
        ],
    )
    def test_targets_are_judged(self, row, line):
        assert line in told(meta_step.section, steps_found(step_row(**row)))

    @pytest.mark.parametrize(("megabytes", "word"), [(99, "met"), (128, "**missed**")])
    def test_memory_is_judged(self, megabytes, word):
        said = told(meta_step.section, steps_found(dual=megabytes * 1e6))
        assert f"Target {word}: temporary memory below 100 MB" in said

    def test_absent_peers_are_named(self):
        said = told(meta_step.section, steps_found(step_row(learn2learn=None)))
        assert "`learn2learn` was not installed." in said
        assert "never slower" not in said

    def test_the_grid_is_that_of_the_target(self):
        asked = {(c.tasks, c.steps) for c in meta_step.cases() if c.order == "second"}
        assert asked == {(t, s) for t in (1, 4, 16, 64, 256) for s in (1, 5, 10)}

    def test_rates_and_parameters_are_compared_apart(self):
        wanted = {"a": np.array([100.0]), "rate/a": np.array([1.0])}
        found = {**wanted, "rate/a": np.array([1.1])}
        assert meta_step.worst_error(found, wanted) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("error", "code"), [(None, 0), (1e-6, 0), (1e-4, 1), (math.nan, 1)]
)
def test_differing_results_fail(error, code, capsys):
    found = {"adaptation": adapted(error=error)}
    if error is not None:
        found["meta_step"] = steps_found(step_row(errors=error))
    assert measure.tell_differences(found) == code
    said = capsys.readouterr().err
    assert ("results differ: one" in said) == bool(code)
    assert ("results differ: meta-step, 64 listeners" in said) == bool(code)


class TestAdaptation:
    def test_medians_and_their_ratio(self):
        said = told(adaptation.section, adapted())
        assert "| one | 3.00 ms | 6.00 ms | 2.00 | 3 | 1e-07 |" in said

    @pytest.mark.parametrize(("seconds", "word"), [(2e-4, "met"), (4e-4, "**missed**")])
    def test_one_listener_is_judged_by_the_median(self, seconds, word):
        said = told(adaptation.section, adapted([1e-5, seconds, seconds]))
        assert f"Target {word}: one listener" in said

    @pytest.mark.parametrize(("seconds", "word"), [(1.4, "met"), (1.6, "**missed**")])
    def test_ten_thousand_are_judged(self, seconds, word):
        rows = [adaptation.Many(10_000, [seconds], 10**9)._asdict()]
        said = told(adaptation.section_many, {"rows": rows})
        assert f"Target {word}: 10,000 listeners" in said
        assert "1.00 GB" in said

    def test_an_absent_peer_is_named(self):
        said = told(adaptation.section, adapted(torch=None, error=None))
        assert "PyTorch was not installed" in said
        assert "| one | 3.00 ms | – | – | 3 | – |" in said  # noqa: RUF001


class TestGrowth:
    @pytest.mark.parametrize("b", [-0.5, 0.0, 1.0])
    def test_the_exponent_is_that_of_the_power_law(self, b):
        assert growth.exponent(curve(b=b)) == pytest.approx(b)

    @pytest.mark.parametrize(
        ("changed", "line"),
        [
            (curve(), "Target met: cost of a listener rises by no more"),
            (curve(b=-0.1), "Target met: cost of a listener rises by no more"),
            (curve(b=0.1), "Target **missed**: cost of a listener rises by no more"),
            (curve("inner steps", b=0.9), "Target met: adapt and predict sub-linear"),
            (curve("inner steps", b=1.1), "Target **missed**: adapt and predict sub-"),
            (
                curve("clips", "pretraining epoch", 0.2),
                "Target **missed**: pretraining",
            ),
        ],
    )
    def test_targets_are_judged(self, changed, line):
        assert line in "\n".join(growth.verdicts([changed]))

    def test_a_rise_is_judged_from_64_listeners_on_and_over_any_smaller_number(self):
        sizes, seconds = [16, 64, 1_000, 100_000], [0.1, 1.2, 1.0, 1.1]
        uneven = growth.Curve("listeners", "adapt and predict", sizes, seconds)
        assert growth.rise(uneven, 64) == pytest.approx(1.1)

    def test_every_curve_is_drawn_with_its_exponent(self):
        fig = growth.draw(CURVES)
        legends = [
            text.get_text() for ax in fig.axes for text in ax.get_legend().get_texts()
        ]
        assert len(fig.axes) == 4
        assert sorted(set(legends)) == [
            "adapt and predict, exponent +0.00", "meta-step, exponent +0.00",
        ]  # fmt: skip
        assert len(legends) == len(CURVES)

    def test_curves_are_told_apart_in_grey(self):
        styles = growth.STYLES.values()
        for cue in zip(*styles, strict=True):
            assert len(set(cue)) == len(growth.STYLES)


class TestMetaTraining:
    @pytest.mark.parametrize(("seconds", "word"), [(59.0, "met"), (61.0, "**missed**")])
    def test_the_target_is_judged(self, seconds, word):
        said = told(meta_training.section, trained(seconds))
        assert f"Target {word}: within 60 s" in said

    def test_a_smaller_run_is_not_judged(self):
        assert "Target" not in told(meta_training.section, trained(listeners=64))

    @pytest.mark.parametrize(
        ("losses", "count"), [((2, 1), 0), ((1, 2), 1), ((2, math.nan), 1)]
    )
    def test_training_that_does_not_train_fails(self, losses, count):
        assert len(meta_training.wrong(trained(losses=losses))) == count


class TestRoofline:
    def test_shares_are_of_the_measured_peaks(self):
        said = told(roofline.section, ROOF)
        reached = roofline.operations(256, 5) / 0.1
        assert f"{reached / 1e9:,.1f} GFLOP/s, {reached / 1e11:.0%} of JAX" in said
        assert f"{roofline.traffic(256) / 0.1 / 1e10:.0%} of that copy" in said

    def test_the_shared_kernel_dominates(self):
        shared = 2 * 2 * 256 * 32 * 768 * 256
        assert shared < roofline.operations(256, 5) < 1.5 * shared


class TestJudge:
    def test_the_rate_is_beside_the_ideal_and_the_cpu(self):
        said = told(judge.section, judged())
        assert "| `judge` | 16 | 1,440 | 160.0 | 320 | 50% | 2.00 ms | 3 |" in said
        assert "took 0.25 ms of CPU an answer" in said

    @pytest.mark.parametrize(("wrong", "code"), [(0, 0), (2, 1)])
    def test_lost_answers_fail(self, wrong, code, capsys):
        assert measure.tell_differences({"judge": judged(wrong=wrong)}) == code
        said = capsys.readouterr().err
        assert ("judge, 16 at once: 2 answers went wrong" in said) == bool(code)

    def test_what_the_stub_says_is_counted(self, tmp_path):
        (tmp_path / "a.wav").write_bytes(judge.make_recording())
        with stub.serve(0.0) as endpoint:
            url = endpoint.url
            assert judge.judge(url, 10, 2, tmp_path / "cache.jsonl") == 0
            assert judge.run(url, tmp_path / "a.wav", 5, 2, tmp_path / "b.jsonl") == 0
        assert endpoint.effort["answers"] == 15
        assert endpoint.effort["cpu"] > 0

    def test_verdicts_that_are_not_the_stubs_are_counted(self, tmp_path, monkeypatch):
        monkeypatch.setattr(stub, "RIGHT", "otherwise")  # here, not in its process
        with stub.serve(0.0) as endpoint:
            assert judge.judge(endpoint.url, 10, 2, tmp_path / "cache.jsonl") == 5


class TestDemo:
    def test_each_command_has_its_effort(self):
        said = told(demo.section, shown_off())
        assert "| `bench` |  | 35.0 s | 70.0 s | 1.00 GB | 2 |" in said
        assert f"| `run` | {demo.FIRST} | 150.0 s | 300.0 s | 1.00 GB | 1 |" in said

    @pytest.mark.parametrize(("seconds", "word"), [(240, "met"), (241, "**missed**")])
    def test_the_first_run_is_judged(self, seconds, word):
        said = told(demo.section, shown_off(first=[seconds]))
        assert f"Target {word}: the first `make demo` within 240 s" in said

    @pytest.mark.parametrize(("seconds", "word"), [(60, "met"), (61, "**missed**")])
    def test_the_benchmark_is_judged(self, seconds, word):
        said = told(demo.section, shown_off(benchmark=[seconds]))
        assert f"Target {word}: the benchmark's within 60 s" in said

    def test_smaller_runs_are_not_judged(self):
        assert "Target" not in told(demo.section, shown_off(whole=False))

    def test_the_commands_are_those_of_a_user(self):
        made = demo.RUN.format(place="$(WORKDIR)")
        assert recipe("demo") == f"$(BIN)/{made}"
        parser = benchmark.__main__.make_parser()
        for command in demo.BENCHMARK, demo.QUICK_BENCHMARK:
            parser.parse_args(demo.words(command, "here")[3:])

    def test_compilations_alone_are_kept_for_the_second_run(self, monkeypatch):
        calls = []

        def note(command, variables=None):
            calls.append((command[-1], (variables or {}).get(demo.COMPILED)))
            return effort.Effort(1.0, 1.0, 1)

        monkeypatch.setattr(demo, "effort_of", note)
        demo.measure(quick=False)
        assert len(calls) == 3 * demo.REPEATS
        runs = [call for call in calls if call[1]]
        for (first, kept), (again, same) in zip(runs[::2], runs[1::2], strict=True):
            assert pathlib.Path(first).parent != pathlib.Path(again).parent
            assert kept == same
        assert len({kept for _, kept in runs}) == demo.REPEATS


class TestEffort:
    def test_memory_is_that_of_the_command_alone(self):
        small, large = (
            effort.effort_of(["python", "-c", f"'a' * {size}"]) for size in (1, 10**8)
        )
        assert small.peak_bytes < 5e7 < 1e8 < large.peak_bytes

    def test_cpu_is_counted_and_variables_are_given(self):
        code = "import os; [0 for _ in range(10 ** int(os.environ['POWER']))]"
        less, more = (
            effort.effort_of(["python", "-c", code], {"POWER": power}) for power in "17"
        )
        assert less.cpu < more.cpu

    def test_a_command_that_fails_says_why(self):
        with pytest.raises(RuntimeError, match="no such thing"):
            effort.effort_of(["python", "-c", "raise SystemExit('no such thing')"])


def test_the_error_is_relative_to_the_largest_value():
    wanted = np.array([0.0, -4.0])
    assert workload.relative_error(wanted * 1.1, wanted) == pytest.approx(0.1)


def test_calls_take_turns():
    order = []
    calls = [lambda: order.append("a"), lambda: order.append("b")]
    times = workload.alternate(calls, 3)
    assert order == ["a", "b"] * 3
    assert [len(seconds) for seconds in times] == [3, 3]


@pytest.mark.parametrize(("seconds", "count"), [(0.001, 50), (1.0, 10), (60.0, 3)])
def test_slow_calls_are_repeated_less(seconds, count):
    assert workload.visits(seconds, 10.0) == count


def test_every_clip_has_a_label():
    listeners = workload.make_listeners(5)
    assert listeners.targets.sum(-1).min() >= 1
    assert listeners.query_targets.sum(-1).min() >= 1
    assert listeners.support.shape == (5, workload.SUPPORT, 1, workload.WIDTH)


def test_a_table_is_markdown():
    assert tables.table(["a", "b"], [["1", "2"]]) == ["| a | b |", "|---|---|",
                                                     "| 1 | 2 |"]  # fmt: skip
