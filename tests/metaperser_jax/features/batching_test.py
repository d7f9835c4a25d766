"""Batches: few shapes, little padding, nobody lost, the same whatever is cached."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.encoder import Encoder, encode_pooled
from metaperser_jax.encoders.transformer import init_params, speech_encoder
from metaperser_jax.features import batching
from metaperser_jax.features.batching import (
    Batcher,
    Item,
    batch_size,
    make_batches,
    padded_length,
    peak_bytes,
    samples_budget,
)

LENGTHS = st.lists(st.integers(0, 200_000), max_size=60)


def items_of(lengths, cached=()):
    return [
        Item(i, n, None if i in cached else np.zeros(0, np.float32))
        for i, n in enumerate(lengths)
    ]


def clips_of(batches):
    return [[item.clip for item in batch.items] for batch in batches]


def few(length):
    """Rows of a batch: fewer for longer clips."""
    return max(1, 60_000 // length)


class TestPaddedLength:
    @given(st.integers(0, 2_000_000), st.sampled_from([1.125, 1.25]))
    @settings(deadline=None)
    def test_holds_the_clip_with_a_bounded_share_of_padding(self, length, ratio):
        padded = padded_length(length, ratio)
        assert padded >= length
        if length > batching.SHORTEST:
            share = 1 - 1 / ratio
            assert padded - length <= share * padded + batching.GRAIN

    @pytest.mark.parametrize(("ratio", "most"), [(1.25, 23), (1.125, 42)])
    def test_there_are_few_lengths(self, ratio, most):
        lengths = {padded_length(n, ratio) for n in range(0, 60 * 16000, 50)}
        assert len(lengths) <= most
        assert all(length % batching.GRAIN == 0 for length in lengths)

    def test_it_grows_with_the_clip(self):
        lengths = [padded_length(n) for n in range(0, 300_000, 97)]
        assert lengths == sorted(lengths)

    @pytest.mark.parametrize(
        ("length", "padded"), [(0, 8000), (8000, 8000), (8001, 10000), (10000, 10000)]
    )
    def test_on_the_edge(self, length, padded):
        assert padded_length(length) == padded


class TestBatches:
    @given(LENGTHS)
    @settings(deadline=None, max_examples=50)
    def test_nobody_is_lost_and_each_fits(self, lengths):
        batches = list(make_batches(items_of(lengths), few))
        assert sorted(itertools.chain(*clips_of(batches))) == list(range(len(lengths)))
        for batch in batches:
            assert 1 <= len(batch.items) <= batch.size == few(batch.length)
            assert max(item.length for item in batch.items) <= batch.length

    @given(LENGTHS)
    @settings(deadline=None, max_examples=50)
    def test_one_size_for_each_length_and_lengths_from_the_grid(self, lengths):
        batches = list(make_batches(items_of(lengths), few))
        shapes = {(batch.size, batch.length) for batch in batches}
        grid = {padded_length(n) for n in lengths}
        assert {length for _, length in shapes} <= grid
        assert len(shapes) == len({length for _, length in shapes})

    @given(LENGTHS)
    @settings(deadline=None, max_examples=50)
    def test_what_is_left_takes_no_more_batches_than_length_by_length(self, lengths):
        grid = [padded_length(n) for n in lengths]
        apart = sum(-(-grid.count(n) // few(n)) for n in set(grid))
        assert len(list(make_batches(items_of(lengths), few))) <= apart

    def test_clips_go_as_soon_as_a_batch_is_full(self):
        batcher = Batcher(lambda length: 2)
        sent = [list(batcher.add(item)) for item in items_of([100, 9000, 200, 30000])]
        assert [clips_of(batches) for batches in sent] == [[], [], [[0, 2]], []]
        assert clips_of(batcher.rest()) == [[3, 1]]  # the longest first
        assert list(batcher.rest()) == []

    def test_shorter_clips_fill_the_last_rows(self):
        sizes = {12800: 2, 8000: 4}
        batches = list(make_batches(items_of([12000, *[100] * 5]), sizes.__getitem__))
        assert clips_of(batches) == [[1, 2, 3, 4], [0, 5]]
        assert [batch.length for batch in batches] == [8000, 12800]

    def test_few_samples_wait_at_any_time(self, monkeypatch):
        monkeypatch.setattr(batching, "MAX_WAITING", 100_000)
        batcher = Batcher(lambda length: 1000)
        held = most = 0
        lengths = np.random.default_rng(0).integers(1, 50_000, 200).tolist()
        for item in items_of(lengths):
            held += item.length
            held -= sum(i.length for batch in batcher.add(item) for i in batch.items)
            most = max(most, held)
        assert 50_000 < most <= 100_000


class TestResuming:
    @given(LENGTHS, st.data())
    @settings(deadline=None, max_examples=50)
    def test_after_a_stop_the_rest_is_what_it_would_have_been(self, lengths, data):
        whole = list(make_batches(items_of(lengths), few))
        done = data.draw(st.sets(st.sampled_from(range(len(whole) + 1))))
        cached = {
            item.clip for k, batch in enumerate(whole) if k in done
            for item in batch.items
        }  # fmt: skip
        resumed = list(make_batches(items_of(lengths, cached), few))
        rest = [batch for k, batch in enumerate(whole) if k not in done]
        assert clips_of(resumed) == clips_of(rest)
        assert [b.length for b in resumed] == [b.length for b in rest]

    def test_new_clips_among_old_ones_share_batches(self):
        cached = set(range(100)) - {5, 40, 77, 99}
        batches = make_batches(items_of([100] * 100, cached), lambda length: 4)
        assert clips_of(batches) == [[5, 40, 77, 99]]

    @given(LENGTHS, st.sets(st.integers(0, 59)))
    @settings(deadline=None, max_examples=50)
    def test_whatever_is_cached_the_others_are_encoded_once(self, lengths, cached):
        batches = list(make_batches(items_of(lengths, cached), few))
        wanted = [i for i in range(len(lengths)) if i not in cached]
        assert sorted(itertools.chain(*clips_of(batches))) == wanted


def encoder_of(pooled_fn):
    return Encoder(
        name="toy", apply_fn=None, pooled_fn=pooled_fn, frames_fn=None, config={},
        fingerprint="", num_layers=1, width=1,
    )  # fmt: skip


SPEECH = SpeechConfig(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
    conv_dim=(64,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
)  # fmt: skip


def speech(model_type):
    """An encoder of the wav2vec 2.0 family, and the shapes of its params."""
    config = SPEECH._replace(model_type=model_type)
    params = jax.eval_shape(lambda: init_params(config, 0))
    return speech_encoder(config, {}), params


class TestMemory:
    def test_what_is_alive_at_once_is_added_up(self):
        def pooled_fn(params, waveforms, lengths):
            double = 2 * waveforms  # the input and it
            wide = jnp.concatenate([double] * 4, axis=1)  # and four times as much
            return wide.sum(1)[:, None, None]

        found = peak_bytes(encoder_of(pooled_fn), {}, 2, 1000)
        assert found == 2 * 4 * 1000 * (1 + 1 + 4)

    def test_what_is_not_needed_any_more_does_not_count(self):
        def chain(count):
            def pooled_fn(params, waveforms, lengths):
                for _ in range(count):
                    waveforms = jnp.sin(waveforms)
                return waveforms.sum(1)[:, None, None]

            return peak_bytes(encoder_of(pooled_fn), {}, 1, 1000)

        assert chain(3) == chain(10) == 4 * 1000 * 3

    def test_functions_inside_functions_count(self):
        @jax.jit
        def inner(x):
            return (x[:, :, None] * jnp.ones((1, 1, 100))).sum((1, 2))

        def pooled_fn(params, waveforms, lengths):
            return inner(waveforms)[:, None, None]

        assert peak_bytes(encoder_of(pooled_fn), {}, 1, 1000) >= 4 * 1000 * 100

    def test_params_do_not_count(self):
        def pooled_fn(params, waveforms, lengths):
            return (waveforms.sum(1) * params["w"].sum())[:, None, None]

        params = {"w": jax.ShapeDtypeStruct((10**9,), jnp.float32)}
        assert peak_bytes(encoder_of(pooled_fn), params, 1, 1000) < 10**5

    @pytest.mark.parametrize(
        ("model_type", "rows", "length"),
        [("wav2vec2", 1, 8000), ("wavlm", 4, 40_000), ("hubert", 1, 160_000)],
    )
    def test_compiled_encoders_take_no_more(self, model_type, rows, length):
        encoder, params = speech(model_type)
        shapes = (
            jax.ShapeDtypeStruct((rows, length), jnp.float32),
            jax.ShapeDtypeStruct((rows,), jnp.int32),
        )
        run = jax.jit(lambda p, w, n: encode_pooled(encoder, p, w, n))
        taken = run.lower(params, *shapes).compile().memory_analysis()
        estimate = peak_bytes(encoder, params, rows, length)
        assert 0.4 * estimate < taken.temp_size_in_bytes < 1.05 * estimate

    def test_attention_over_long_clips_is_seen(self):
        encoder, params = speech("wavlm")
        one, ten = (peak_bytes(encoder, params, 1, n * 960_000) for n in (1, 10))
        assert ten > 30 * one


def wide(bytes_a_sample, bytes_a_clip=0):
    """An encoder that takes so much memory, and 8 more bytes a sample."""

    def pooled_fn(params, waveforms, lengths):
        inner = jnp.stack([waveforms] * (bytes_a_sample // 4))
        own = (
            jnp.zeros((len(waveforms), bytes_a_clip // 4)) + inner.sum((0, 2))[:, None]
        )
        return own.sum(1)[:, None, None]

    return encoder_of(pooled_fn)


class TestBudget:
    @pytest.mark.parametrize("memory", [1e7, 3e7, 1e8])
    def test_it_is_about_what_fits(self, memory):
        samples = samples_budget(wide(400), {}, memory)
        assert peak_bytes(wide(400), {}, 1, samples) <= memory
        assert peak_bytes(wide(400), {}, 1, 2 * samples) > memory

    @pytest.mark.parametrize("length", [8000, 17_200, 62_400, 145_600])
    @pytest.mark.parametrize("model_type", ["wav2vec2", "wavlm"])
    def test_batches_of_all_lengths_fit(self, length, model_type):
        encoder, params = speech(model_type)
        samples = samples_budget(encoder, params, 1e8)
        rows = batch_size(length, samples)
        assert rows > 1
        assert peak_bytes(encoder, params, rows, length) <= 1e8

    def test_what_each_clip_takes_counts(self):
        few = samples_budget(wide(40, bytes_a_clip=10**7), {}, 1e8)
        assert few < samples_budget(wide(40), {}, 1e8) / 2
        assert batch_size(8000, few) * 10**7 < 1e8

    def test_one_clip_is_encoded_whatever_it_takes(self):
        samples = samples_budget(wide(400), {}, 1.0)
        assert batch_size(8000, samples) == batch_size(960_000, samples) == 1

    @pytest.mark.parametrize(
        ("length", "rows"), [(8000, 32), (16000, 24), (160_000, 2), (960_000, 1)]
    )
    def test_on_a_cpu_more_than_gains_something_is_not_taken(self, length, rows):
        assert batch_size(length, samples_budget(wide(400), {}, 1e12)) == rows

    @pytest.mark.parametrize("length", [8000, 16000, 960_000])
    def test_each_device_has_its_own_memory(self, length):
        one = batch_size(length, 50_000)
        assert batch_size(length, 50_000, num_devices=4) == 4 * one
