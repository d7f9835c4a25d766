"""Episodes: what is drawn, from whom, from which seed, and what is never mixed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax.data import episodes
from metaperser_jax.data.episodes import PADDING, EpisodeSampler
from metaperser_jax.errors import InputError
from metaperser_jax.typing import Pool

MODES = ("independent", "same", "disjoint")


def make_pool(counts, num_classes=3, seed=0):
    """Listener i has counts[i] ratings, in shuffled order; row r has input r."""
    rng = np.random.default_rng(seed)
    annotator = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    size = len(annotator)
    inputs = np.arange(1, size + 1, dtype=np.float32).reshape(-1, 1, 1)
    row = rng.permutation(size).astype(np.int32)
    targets = np.eye(num_classes, dtype=np.float32)[rng.integers(0, num_classes, size)]
    mask = rng.random((size, num_classes)) < 0.9
    clip = np.arange(size, dtype=np.int32)
    return Pool(inputs, row, clip, annotator.astype(np.int32), targets, mask)


def kept(rows):
    return list(rows[rows != PADDING])


def read(sampler, *wanted):
    """The batches of a sampler's rows."""
    return [episodes.gather(sampler.pool, rows) for rows in sampler.sample(*wanted)]


def draw(mode, count, num_support, num_query, seed=0):
    rng = np.random.default_rng(seed)
    rows = np.arange(100, 100 + count)
    return episodes.sample_rows(rng, rows, num_support, num_query, mode)


class TestSampleRows:
    @given(
        st.sampled_from(MODES), st.integers(2, 30), st.integers(1, 20),
        st.integers(1, 20), st.integers(0, 3),
    )  # fmt: skip
    @settings(max_examples=200, deadline=None)
    def test_within_a_draw_no_row_repeats_and_all_are_the_listeners(
        self, mode, count, num_support, num_query, seed
    ):
        support, query = draw(mode, count, num_support, num_query, seed)
        assert len(support) == num_support
        assert len(query) == (num_support if mode == "same" else num_query)
        for rows in (support, query):
            used = kept(rows)
            assert len(set(used)) == len(used) >= 1
            assert set(used) <= set(range(100, 100 + count))
            assert list(rows[: len(used)]) == used  # the padding is at the end

    @given(
        st.integers(2, 30), st.integers(1, 20), st.integers(1, 20), st.integers(0, 5)
    )
    @settings(max_examples=200, deadline=None)
    def test_disjoint_never_overlaps(self, count, num_support, num_query, seed):
        support, query = map(
            kept, draw("disjoint", count, num_support, num_query, seed)
        )
        assert not set(support) & set(query)
        if count >= num_support + num_query:
            assert (len(support), len(query)) == (num_support, num_query)
        else:
            assert len(support) + len(query) <= count

    def test_independent_overlaps_sometimes_and_not_always(self):
        overlaps = [
            len(set(kept(support)) & set(kept(query)))
            for support, query in (draw("independent", 20, 8, 8, s) for s in range(40))
        ]
        assert min(overlaps) < max(overlaps)
        # hypergeometric: 8 * 8 / 20 shared rows on average
        assert abs(np.mean(overlaps) - 3.2) < 0.6

    def test_same_queries_the_support_set(self):
        support, query = draw("same", 20, 6, 15)
        np.testing.assert_array_equal(support, query)

    @pytest.mark.parametrize("mode", ["independent", "same"])
    def test_more_than_the_listener_has_takes_all(self, mode):
        support, query = draw(mode, 5, 8, 9)
        assert sorted(kept(support)) == sorted(kept(query)) == list(range(100, 105))

    @pytest.mark.parametrize(
        ("count", "num_support", "num_query", "expected"),
        [(2, 8, 8, (1, 1)), (3, 1, 9, (1, 2)), (3, 9, 1, (2, 1)), (10, 30, 10, (8, 2))],
    )
    def test_disjoint_shares_too_few_in_proportion(
        self, count, num_support, num_query, expected
    ):
        support, query = draw("disjoint", count, num_support, num_query)
        assert (len(kept(support)), len(kept(query))) == expected

    @pytest.mark.parametrize("mode", ["independent", "same"])
    def test_one_clip(self, mode):
        support, query = draw(mode, 1, 3, 2)
        assert kept(support) == kept(query) == [100]

    @pytest.mark.parametrize(
        ("mode", "count"), [("disjoint", 1), ("independent", 0), ("same", 0)]
    )
    def test_too_few_clips_for_the_mode(self, mode, count):
        with pytest.raises(InputError, match=rf"with {count} clip\(s\).*{mode}"):
            draw(mode, count, 3, 2)

    def test_each_row_is_as_likely_as_any_other(self):
        rng = np.random.default_rng(0)
        counts = np.zeros(10)
        for _ in range(3000):
            support, _ = episodes.sample_rows(rng, np.arange(10), 3, 3, "independent")
            counts[support] += 1
        np.testing.assert_allclose(counts / 3000, 0.3, atol=0.04)


class TestGather:
    def test_rows_become_their_inputs_targets_and_masks(self):
        pool = make_pool([4, 4])
        batch = episodes.gather(
            pool, np.array([[2, 5, PADDING], [7, PADDING, PADDING]])
        )
        assert batch.inputs.shape == (2, 3, 1, 1)
        np.testing.assert_array_equal(
            batch.inputs[0, :2], pool.inputs[pool.row[[2, 5]]]
        )
        np.testing.assert_array_equal(batch.targets[1, 0], pool.targets[7])
        np.testing.assert_array_equal(batch.mask[0, 1], pool.mask[5])

    def test_padding_counts_for_nothing(self):
        batch = episodes.gather(make_pool([4]), np.array([PADDING, 0]))
        assert not batch.mask[0].any()
        assert not batch.targets[0].any()
        assert not batch.inputs[0].any()

    def test_an_episode_holds_one_listener_alone(self, rng):
        pool = make_pool([5, 9, 3])
        episode = episodes.sample_episode(rng, pool, 1, 4, 3, "disjoint")
        own = set(pool.inputs[pool.row[pool.annotator == 1], 0, 0])
        used = [*episode.support.inputs[:, 0, 0], *episode.query.inputs[:, 0, 0]]
        assert len(set(used)) == 7
        assert set(used) <= own


class TestWidths:
    @pytest.mark.parametrize(
        ("size", "width"), [(0, 0), (1, 16), (16, 16), (17, 32), (160, 160)]
    )
    def test_round_up(self, size, width):
        assert episodes.round_up(size) == width

    def test_rows_are_stacked_and_padded(self):
        found = episodes.stack_rows([np.arange(3), np.arange(17), np.arange(0)])
        assert found.shape == (3, 32)
        assert [kept(rows) for rows in found] == [[0, 1, 2], [*range(17)], []]

    @pytest.mark.parametrize("width", [2, 3, 7])
    def test_rows_are_cut_or_padded_to_a_width(self, width):
        rows = np.arange(12).reshape(2, 2, 3)
        found = episodes.fit_width(rows, width)
        assert found.shape == (2, 2, width)
        np.testing.assert_array_equal(found[..., :2], rows[..., :2])
        assert (found[..., 3:] == PADDING).all()

    def test_whom_a_pool_holds(self):
        pool = make_pool([2, 0, 3])
        hidden = pool._replace(annotator=np.where(pool.annotator == 0, -1, 2))
        assert list(episodes.listeners_of(pool)) == [0, 2]
        assert list(episodes.listeners_of(hidden)) == [2]


class TestSampler:
    COUNTS = (5, 9, 1, 12, 7, 0, 3)

    def sampler(self, seed=0, min_clips=2):
        return EpisodeSampler(make_pool(self.COUNTS), min_clips, seed)

    @pytest.mark.parametrize(
        ("min_clips", "used", "left_out"), [(0, 5, 1), (2, 5, 1), (6, 3, 3), (12, 1, 5)]
    )
    def test_listeners_with_too_few_clips_are_left_out_and_counted(
        self, min_clips, used, left_out
    ):
        sampler = self.sampler(min_clips=min_clips)
        assert (sampler.num_listeners, sampler.num_left_out) == (used, left_out)

    def test_ratings_outside_the_split_are_never_drawn(self):
        pool = make_pool((6, 6))
        outside = pool._replace(annotator=np.where(pool.clip % 2, -1, pool.annotator))
        sampler = EpisodeSampler(outside, 2, 0)
        support, query = read(sampler, 0, 2, (9, 9), 9, "independent")
        drawn = {*support.inputs.ravel(), *query.inputs.ravel()} - {0.0}
        assert drawn == set(pool.inputs[pool.row[pool.clip % 2 == 0], 0, 0])

    def test_nobody_has_enough(self):
        with pytest.raises(InputError, match="no training listener has 20 rated clips"):
            self.sampler(min_clips=20)

    @given(st.integers(1, 5), st.integers(0, 9), st.integers(0, 3))
    @settings(max_examples=60, deadline=None)
    def test_each_listener_comes_once_an_epoch(self, num_tasks, epoch, seed):
        sampler = self.sampler(seed)
        steps = range(5 * 10)  # ten epochs and more, whatever the number of tasks
        order = np.concatenate([sampler.listeners_at(s, num_tasks) for s in steps])
        assert sorted(order[5 * epoch : 5 * epoch + 5]) == [0, 1, 2, 3, 4]

    def test_each_epoch_has_an_order_of_its_own(self):
        sampler = self.sampler()
        orders = {tuple(sampler.listeners_at(s, 5)) for s in range(10)}
        assert len(orders) > 5

    def test_a_step_gives_the_same_episodes_whatever_came_before(self):
        ahead, fresh = self.sampler(), self.sampler()
        for step in range(7):
            ahead.sample(step, 3, (2, 4), 5, "independent")
        for a, b in zip(
            ahead.sample(7, 3, (2, 4), 5, "independent"),
            fresh.sample(7, 3, (2, 4), 5, "independent"),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize(("seed", "step"), [(1, 7), (0, 8)])
    def test_another_seed_or_step_gives_other_episodes(self, seed, step):
        first = self.sampler(0).sample(7, 3, (2, 4), 5, "independent")
        other = self.sampler(seed).sample(step, 3, (2, 4), 5, "independent")
        assert not np.array_equal(first.support, other.support)

    @pytest.mark.parametrize("mode", MODES)
    def test_all_tasks_share_one_shape(self, mode):
        episode = self.sampler().sample(0, 5, (2, 6), 4, mode)
        support, query = episode
        assert support.shape == (5, 6)
        assert query.shape == (5, 6 if mode == "same" else 4)

    def test_disjoint_meta_batches_share_no_clip(self):
        for step in range(20):
            support, query = self.sampler().sample(step, 4, (2, 6), 4, "disjoint")
            for s, q in zip(support, query, strict=True):
                assert not set(kept(s)) & set(kept(q))

    def test_support_sizes_lie_in_the_range_and_favour_the_small(self):
        pool = make_pool([64] * 4)
        sampler = EpisodeSampler(pool, 2, 0)
        sizes = np.concatenate(
            [
                (sampler.sample(s, 4, (4, 32), 2, "independent").support >= 0).sum(1)
                for s in range(100)
            ]
        )
        assert sizes.min() == 4
        assert sizes.max() == 32
        # log-uniform: half of the sets lie below the geometric mean
        assert 0.4 < (sizes < np.sqrt(4 * 32)).mean() < 0.6

    def test_a_fixed_support_size(self):
        sampler = EpisodeSampler(make_pool([20] * 3), 2, 0)
        support, _ = sampler.sample(0, 3, (5, 5), 2, "independent")
        assert ((support >= 0).sum(1) == 5).all()


def plan(counts, most=8, draws=3, min_query=4, seed=0, max_query=None, listeners=None):
    pool = make_pool(counts)
    chosen = np.arange(len(counts)) if listeners is None else np.array(listeners)
    return pool, episodes.plan_evaluation(
        pool, chosen, most, draws, min_query, seed, max_query
    )


class TestPlan:
    @given(
        st.lists(st.integers(0, 25), min_size=1, max_size=5), st.integers(1, 12),
        st.integers(1, 3), st.integers(1, 8), st.sampled_from([None, 3, 50]),
    )  # fmt: skip
    @settings(max_examples=150, deadline=None)
    def test_query_never_meets_support_and_both_are_the_listeners_own(
        self, counts, most, draws, min_query, max_query
    ):
        pool, found = plan(counts, most, draws, min_query, max_query=max_query)
        assert found.support.shape[1:] == (draws, most)
        for place, listener in enumerate(found.annotators):
            own = set(episodes.rows_of(pool, listener))
            for support, query in zip(
                found.support[place], found.query[place], strict=True
            ):
                support, query = kept(support), kept(query)
                assert not set(support) & set(query)
                assert set(support) | set(query) <= own
                assert (
                    len(set(support)) == len(support) == min(most, len(own) - min_query)
                )
                most_query = len(own) - len(support)
                assert len(set(query)) == len(query)
                assert len(query) == min(most_query, max_query or most_query)

    @given(
        st.lists(st.integers(0, 25), min_size=1, max_size=5), st.integers(1, 12),
        st.integers(1, 8), st.sampled_from([None, 3, 50]), st.integers(1, 4),
    )  # fmt: skip
    @settings(max_examples=100, deadline=None)
    def test_support_from_other_clips_leaves_the_whole_query_set(
        self, counts, most, min_query, max_query, every
    ):
        pool = make_pool(counts)
        judged = np.arange(len(pool.row)) % (every + 1) == 0
        asked = pool._replace(annotator=np.where(judged, pool.annotator, -1))
        other = pool._replace(annotator=np.where(judged, -1, pool.annotator))
        found = episodes.plan_evaluation(
            asked, np.arange(len(counts)), most, 2, min_query, 0, max_query, other
        )
        sizes = {
            a: (len(episodes.rows_of(asked, a)), len(episodes.rows_of(other, a)))
            for a in range(len(counts))
        }
        enough = [a for a, (q, s) in sizes.items() if q >= min_query and s > 0]
        assert list(found.annotators) == enough
        assert found.num_left_out == len(counts) - len(enough)
        assert found.num_short == sum(sizes[a][1] < most for a in enough)
        for place, listener in enumerate(enough):
            for support, query in zip(
                found.support[place], found.query[place], strict=True
            ):
                given, wanted = kept(support), kept(query)
                assert set(given) <= set(episodes.rows_of(other, listener))
                assert set(wanted) <= set(episodes.rows_of(asked, listener))
                assert len(given) == min(most, sizes[listener][1])
                assert len(wanted) == min(sizes[listener][0], max_query or 99)

    def test_left_out_and_short_listeners_are_counted(self):
        _, found = plan([3, 4, 5, 11, 12, 30], most=8, min_query=4)
        assert list(found.annotators) == [2, 3, 4, 5]
        assert found.num_left_out == 2  # 3 and 4 clips: nothing to adapt to
        assert found.num_short == 2  # 5 and 11 clips: fewer than 8 + 4

    def test_support_sets_are_nested_and_share_their_query_set(self):
        pool, small = plan([30, 30], most=4)
        _, large = plan([30, 30], most=8)
        np.testing.assert_array_equal(small.support, large.support[..., :4])
        for query in large.query.reshape(-1, large.query.shape[-1]):
            assert len(kept(query)) == 30 - 8  # what the largest set leaves
        assert len(kept(small.query[0, 0])) == 30 - 4
        assert set(pool.annotator[kept(large.query[1, 0])]) == {1}

    def test_widths_are_multiples_of_16_so_that_folds_share_them(self):
        for most in (4, 8, 12):
            _, found = plan([30, 40], most=most)
            longest = (found.query >= 0).sum(-1).max()
            assert found.query.shape[-1] == episodes.round_up(int(longest))
            assert found.support.shape[-1] == most

    def test_draws_differ_and_depend_on_the_seed_alone(self):
        _, first = plan([20, 20])
        _, again = plan([20, 20])
        _, other = plan([20, 20], seed=1)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(first.support, other.support)
        assert not np.array_equal(first.support[:, 0], first.support[:, 1])

    def test_a_listeners_draws_do_not_depend_on_the_others(self):
        _, alone = plan([20, 20, 20], listeners=[1])
        _, together = plan([20, 20, 20])
        np.testing.assert_array_equal(alone.support[0], together.support[1])
        np.testing.assert_array_equal(alone.query[0], together.query[1])

    def test_nobody_has_enough(self):
        _, found = plan([3, 4])
        assert len(found.annotators) == len(found.support) == len(found.query) == 0
        assert found.num_left_out == 2

    def test_a_listener_that_is_not_there_is_left_out(self):
        _, found = plan([20], listeners=[0, 7])
        assert list(found.annotators) == [0]
        assert found.num_left_out == 1
