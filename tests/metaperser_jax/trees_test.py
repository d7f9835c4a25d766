"""Paths, selection and arithmetic over parameter trees."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax import trees
from metaperser_jax.errors import InputError


class Pair(NamedTuple):
    left: object
    right: object


def head():
    return {
        "projector": {"kernel": np.ones((2, 3)), "bias": np.zeros(3)},
        "classifier": {"kernel": np.full((3, 2), 2.0), "bias": np.ones(2)},
    }


class TestFlatten:
    def test_names_leaves_by_their_path_in_the_trees_own_order(self):
        assert list(trees.flatten(head())) == [
            "classifier/bias",
            "classifier/kernel",
            "projector/bias",
            "projector/kernel",
        ]

    @pytest.mark.parametrize(
        ("tree", "paths"),
        [
            (Pair({"a": 1}, 2), ["left/a", "right"]),
            ([3, (4, 5)], ["0", "1/0", "1/1"]),
            ({"layers": [{"w": 1}, {"w": 2}]}, ["layers/0/w", "layers/1/w"]),
            ({1: {"k": 0}}, ["1/k"]),
            ({}, []),
            (7, [""]),
        ],
    )
    def test_knows_the_containers_jax_knows(self, tree, paths):
        flat = trees.flatten(tree)
        assert list(flat) == paths
        assert list(flat.values()) == jax.tree.leaves(tree)


class TestMatch:
    @pytest.mark.parametrize(
        ("pattern", "chosen"),
        [
            (".*", 4),
            ("classifier/.*", 2),
            (".*/kernel", 2),
            ("classifier/bias|projector/kernel", 2),
            ("projector/bias", 1),
        ],
    )
    def test_takes_the_paths_that_match_in_full(self, pattern, chosen):
        assert len(trees.match(head(), pattern)) == chosen

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("classifier", "matches no parameter (the whole path must match)"),
            ("clasifier/bias", "Did you mean 'classifier/bias'?"),
            ("nothing like it", "There are: classifier/bias, classifier/kernel"),
            ("[", "is not a regular expression"),
        ],
    )
    def test_says_what_there_is_when_nothing_matches(self, pattern, message):
        with pytest.raises(InputError) as error:
            trees.match(head(), pattern)
        assert message in str(error.value)
        assert repr(pattern) in str(error.value)


class TestSelectAndReplace:
    def test_selected_leaves_replaced_give_the_tree_back(self):
        tree = head()
        chosen = trees.select(tree, trees.match(tree, ".*/kernel"))
        back = trees.replace(tree, chosen)
        assert jax.tree.structure(back) == jax.tree.structure(tree)
        for path, leaf in trees.flatten(back).items():
            assert leaf is trees.flatten(tree)[path]

    def test_replaces_only_the_named_leaves_whatever_their_order(self):
        tree = head()
        new = trees.replace(tree, {"projector/bias": 5, "classifier/kernel": 6})
        assert new["projector"]["bias"] == 5
        assert new["classifier"]["kernel"] == 6
        assert new["classifier"]["bias"] is tree["classifier"]["bias"]
        assert isinstance(tree["projector"]["bias"], np.ndarray)

    def test_an_unknown_path_is_named(self):
        with pytest.raises(KeyError, match="no such parameter: 'classifier/scale'"):
            trees.replace(head(), {"classifier/scale": 1})
        with pytest.raises(KeyError, match="classifier/scale"):
            trees.select(head(), ["classifier/scale"])


numbers = st.floats(-100, 100, width=32)
vectors = st.lists(numbers, min_size=1, max_size=4).map(
    lambda values: np.array(values, np.float32)
)
small_trees = st.dictionaries(
    st.sampled_from("abcd"), vectors | st.dictionaries(st.sampled_from("xy"), vectors)
)


@settings(max_examples=30, deadline=None)
@given(small_trees)
def test_replacing_every_leaf_rebuilds_any_tree(tree):
    leaves = trees.flatten(tree)
    backwards = dict(reversed(leaves.items()))
    rebuilt = trees.replace(tree, {path: 2 * x for path, x in backwards.items()})
    expected = jax.tree.map(lambda x: 2 * x, tree)
    assert jax.tree.structure(rebuilt) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, rebuilt, expected)


class TestArithmetic:
    def test_adds_subtracts_and_scales_leaf_by_leaf(self):
        a, b = (
            {"x": np.array([1.0, 2.0]), "y": 3.0},
            {"x": np.array([5.0, 7.0]), "y": 1},
        )
        for found, x, y in [
            (trees.add(a, b), [6, 9], 4),
            (trees.subtract(a, b), [-4, -5], 2),
            (trees.scale(a, -2), [-2, -4], -6),
        ]:
            np.testing.assert_array_equal(found["x"], x)
            assert found["y"] == y

    def test_squared_norm_is_that_of_all_numbers_together(self):
        tree = {"a": np.array([3.0, 4.0]), "b": [np.array([[12.0]])]}
        assert trees.squared_norm(tree) == 169
        assert trees.squared_norm({}) == 0

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_one_bad_number_makes_a_tree_not_finite(self, bad):
        fine = {"a": np.ones(3), "n": np.int32(4)}
        assert trees.all_finite(fine)
        assert trees.all_finite({})
        assert not trees.all_finite({**fine, "b": np.array([0.0, bad])})

    def test_take_undoes_stack(self):
        trio = [{"a": jnp.full(2, i), "b": (jnp.int32(i),)} for i in range(3)]
        stacked = trees.stack(trio)
        assert stacked["a"].shape == (3, 2)
        assert stacked["b"][0].shape == (3,)
        for i, tree in enumerate(trio):
            jax.tree.map(np.testing.assert_array_equal, trees.take(stacked, i), tree)


class TestAverage:
    TREE: ClassVar = {"a": np.float32([1, 3, 8]), "b": np.eye(3, dtype="f4")}

    def test_without_weights_it_is_the_mean_over_the_leading_axis(self):
        found = trees.average(self.TREE)
        np.testing.assert_allclose(found["a"], 4.0)
        np.testing.assert_allclose(found["b"], [1 / 3] * 3, rtol=1e-6)

    def test_weights_are_those_of_a_sum(self):
        found = trees.average(self.TREE, jnp.array([0.5, 0.25, 0.0]))
        np.testing.assert_allclose(found["a"], 1.25)
        np.testing.assert_allclose(found["b"], [0.5, 0.25, 0])
