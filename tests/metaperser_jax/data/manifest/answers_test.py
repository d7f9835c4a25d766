"""Labels, grades and soft labels of the rows of a table."""

import numpy as np
import pytest

from metaperser_jax.data.manifest import ManifestSpec, Table
from metaperser_jax.data.manifest.answers import read_answers, read_dimensions
from metaperser_jax.errors import Problems

NAN = float("nan")


def answers(columns, problems=None, keep=None, **options):
    num = len(next(iter(columns.values())))
    table = Table("t.csv", columns, list(range(2, num + 2)))
    keep = np.ones(num, bool) if keep is None else np.array(keep, bool)
    spec = ManifestSpec("folder", **options)
    return read_answers(table, keep, spec, problems or Problems(strict=True))


def facts(problems):
    return [(p.severity, p.kind, p.where) for p in problems.rows]


class TestLabels:
    def test_classes_are_found_and_sorted(self):
        result = answers({"label": ["sad|happy", "angry", "sad"]})
        assert result.classes == ("angry", "happy", "sad")
        np.testing.assert_array_equal(result.targets, [[0, 1, 1], [1, 0, 0], [0, 0, 1]])
        assert result.mask.all()
        assert result.keep.all()

    def test_declared_classes_keep_their_order(self):
        result = answers({"label": ["b", "a"]}, classes=("c", "b", "a"))
        assert result.classes == ("c", "b", "a")
        np.testing.assert_array_equal(result.targets, [[0, 1, 0], [0, 0, 1]])

    def test_several_columns_are_united(self):
        columns = {"first": ["a", "b"], "second": ["b|a", ""]}
        result = answers(columns, label_columns=("first", "second"))
        np.testing.assert_array_equal(result.targets, [[1, 1], [0, 1]])

    def test_numbers_and_texts_of_one_label_are_one_class(self):
        result = answers({"label": ["1", 1, 1.0, ["2", 1]]})
        assert result.classes == ("1", "2")
        np.testing.assert_array_equal(result.targets[:, 0], 1)

    @pytest.mark.parametrize("cell", ["", None, NAN, "nan", "NA", [], [None], " | "])
    def test_a_row_without_a_label_is_an_error_row(self, cell):
        problems = Problems()
        result = answers({"label": ["a", cell]}, problems)
        assert result.keep.tolist() == [True, False]
        assert facts(problems) == [("error", "no_label", "t.csv:3")]
        assert not result.mask[1].any()

    def test_an_unknown_label_is_an_error_row_with_a_hint(self):
        problems = Problems()
        columns = {"label": ["happy", "happy|hapy"]}
        result = answers(columns, problems, classes=("happy", "sad"))
        assert facts(problems) == [("error", "unknown_label", "t.csv:3")]
        assert "'hapy' is not among the classes happy, sad" in problems.rows[0].message
        assert "Did you mean 'happy'?" in problems.rows[0].message
        assert result.keep.tolist() == [True, False]
        assert not result.targets[1].any()

    def test_unknown_labels_may_be_dropped_and_are_counted(self):
        result = answers(
            {"label": ["happy", "happy|other", "other", "odd"]},
            classes=("happy", "sad"),
            unknown_labels="drop_label",
        )
        assert result.keep.tolist() == [True, True, False, False]
        np.testing.assert_array_equal(result.targets[:2], [[1, 0], [1, 0]])
        assert result.counts == {
            "dropped_labels": {"other": 2, "odd": 1},
            "ratings_left_without_label": 2,
        }

    def test_labels_that_were_not_split_are_warned_about(self):
        problems = Problems()
        result = answers({"label": ["a;b", "a"]}, problems)
        assert result.classes == ("a", "a;b")
        assert facts(problems) == [("warning", "undeclared_separator", "t.csv")]
        assert "separator=';'" in problems.rows[0].message
        assert answers({"label": ["a;b", "a"]}, separator=";").classes == ("a", "b")

    def test_rows_not_asked_for_are_not_looked_at(self):
        result = answers({"label": ["a", "", "zzz"]}, keep=[True, False, False])
        assert result.classes == ("a",)
        assert result.keep.tolist() == [True, False, False]


class TestGrades:
    def test_grades_above_the_threshold_are_labels(self):
        columns = {"calm": ["50", "51", ""], "bored": ["100", "0", "60.0"]}
        options = {"graded_columns": ("calm", "bored"), "threshold": 50}
        result = answers(columns, **options)
        assert result.classes == ("calm", "bored")
        np.testing.assert_array_equal(result.targets, [[0, 1], [1, 0], [0, 1]])
        np.testing.assert_array_equal(result.mask[2], [False, True])

    def test_levels_count_from_one(self):
        columns = {"happy": ["3", "0", "+1"], "sad": [0, 0, 2]}
        result = answers(columns, graded_columns=("happy", "sad"))
        np.testing.assert_array_equal(result.targets, [[1, 0], [0, 0], [1, 1]])
        assert result.keep.all()  # nothing felt is an answer too

    def test_classes_may_choose_among_the_columns(self):
        columns = {"x": ["1"], "y": ["0"]}
        result = answers(columns, graded_columns=("x", "y"), classes=("y",))
        assert result.classes == ("y",)
        np.testing.assert_array_equal(result.targets, [[0]])

    @pytest.mark.parametrize("cell", ["high", "3,5", "inf", [1]])
    def test_a_grade_that_is_no_number_is_an_error_row(self, cell):
        problems = Problems()
        columns = {"x": ["1", cell], "y": ["0", "1"]}
        result = answers(columns, problems, graded_columns=("x", "y"))
        assert result.keep.tolist() == [True, False]
        assert facts(problems) == [("error", "bad_grade", "t.csv:3")]
        assert not result.mask[1].any()
        assert f"column 'x' holds {cell!r}" in problems.rows[0].message

    def test_a_row_without_any_grade_is_an_error_row(self):
        problems = Problems()
        columns = {"x": ["1", ""], "y": ["0", None]}
        result = answers(columns, problems, graded_columns=("x", "y"))
        assert result.keep.tolist() == [True, False]
        assert facts(problems) == [("error", "no_label", "t.csv:3")]


class TestSoftLabels:
    OPTIONS = {"graded_columns": ("x", "y"), "threshold": None}  # noqa: RUF012

    def test_shares_are_targets(self):
        result = answers({"x": ["0.25", "1"], "y": ["0.75", "0"]}, **self.OPTIONS)
        np.testing.assert_allclose(result.targets, [[0.25, 0.75], [1, 0]])

    def test_shares_that_do_not_sum_to_one_are_rescaled_with_a_warning(self):
        problems = Problems()
        columns = {"x": ["0.5", "0.3333"], "y": ["1.5", "0.6667"]}
        result = answers(columns, problems, **self.OPTIONS)
        np.testing.assert_allclose(result.targets[0], [0.25, 0.75])
        assert facts(problems) == [("warning", "soft_label_sum", "t.csv:2")]
        assert "sum to 2, expected 1" in problems.rows[0].message

    @pytest.mark.parametrize("pair", [("-0.5", "1.5"), ("0", "0"), ("0", "")])
    def test_what_is_no_distribution_is_an_error_row(self, pair):
        problems = Problems()
        columns = {"x": ["1", pair[0]], "y": ["0", pair[1]]}
        result = answers(columns, problems, **self.OPTIONS)
        assert result.keep.tolist() == [True, False]
        assert facts(problems) == [("error", "bad_soft_label", "t.csv:3")]
        assert np.isfinite(result.targets).all()


def test_dimensions_that_are_no_numbers_are_not_rated():
    problems = Problems()
    columns = {"valence": ["1.5", "", "high", "low"], "arousal": [2, None, "3", "4"]}
    table = Table("t.csv", columns, [2, 3, 4, 5])
    spec = ManifestSpec("folder", dimension_columns=("arousal", "valence"))
    keep = np.array([True, True, True, False])
    values = read_dimensions(table, keep, spec, problems)
    np.testing.assert_array_equal(values[:3], [[2, 1.5], [NAN, NAN], [3, NAN]])
    assert values.dtype == np.float32
    assert facts(problems) == [("warning", "bad_dimension", "t.csv:4")]
