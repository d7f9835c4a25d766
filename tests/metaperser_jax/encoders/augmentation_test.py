"""SpecAugment: how much is masked, in which spans, and where never."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax.encoders.augmentation import span_mask, spec_augment
from metaperser_jax.encoders.config import SpeechConfig

# nothing here runs for long: compiling is what takes time
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KEYS = jax.random.split(jax.random.key(0), 400)
SIZE = 100


@functools.partial(jit, static_argnums=(2, 3, 4, 5))
def _draw(keys, lengths, probability, span, min_spans, size):
    rest = lengths, size, probability, span, min_spans
    return jax.vmap(lambda key: span_mask(key, *rest))(keys)


def draw(lengths, probability, span, min_spans=0, size=SIZE, keys=KEYS):
    """Returns a mask for each key, [draws, batch, size]."""
    rest = np.array(lengths), probability, span, min_spans, size
    return np.asarray(_draw(keys, *rest))


def runs(mask):
    """Lengths of the runs of True in one row."""
    edges = np.flatnonzero(np.diff(np.pad(mask.astype(int), 1)))
    return edges[1::2] - edges[::2]


def wanted(length, probability, span, min_spans, size):
    """Least and largest number of spans: the fraction is rounded at random."""
    share = probability * length / span
    numbers = []
    for rounded in (int(share), int(share + 1 - 1e-9)):
        count = min(max(rounded, min_spans), size // span)
        numbers.append(min(count, max(length - span + 1, 0)))
    return numbers


@pytest.mark.parametrize("probability", [0.05, 0.5])
def test_single_positions_are_masked_with_their_probability(probability):
    masked = draw((100, 63), probability, span=1)
    for clip, length in enumerate((100, 63)):
        counts = masked[:, clip].sum(1)
        assert set(counts) <= set(wanted(length, probability, 1, 0, SIZE))
        assert counts.mean() / length == pytest.approx(probability, abs=0.006)


def test_every_start_is_as_likely():
    masked = draw((SIZE, 63), 0.5, span=1)[:, 0]
    share = masked.mean(0)  # of each position; a binomial of 400
    assert share.min() > 0.5 - 5 * 0.025
    assert share.max() < 0.5 + 5 * 0.025


LENGTHS = (100, 57, 20, 11, 10, 9, 0)


@pytest.mark.parametrize(
    ("probability", "span", "min_spans"), [(0.05, 10, 2), (0.4, 10, 0), (1.0, 7, 0)]
)
def test_spans_are_whole_and_as_many_as_wanted(probability, span, min_spans):
    masked = draw(LENGTHS, probability, span, min_spans)
    for clip, length in enumerate(LENGTHS):
        least, largest = wanted(length, probability, span, min_spans, SIZE)
        assert not masked[:, clip, length:].any()
        assert masked[:, clip].any() == (largest > 0)
        for row in masked[:, clip]:
            lengths = runs(row)
            assert (lengths >= span).all()
            assert len(lengths) <= largest
            assert row.sum() <= span * largest
            # distinct starts: spans overlap by all but one position at most
            assert least == 0 or row.sum() >= span + least - 1


def test_the_fraction_of_a_span_is_rounded_at_random():
    # 100 x 0.07 / 10 = 0.7 spans: one or none, and where none overlap, 7 in 100
    masked = draw((SIZE,), 0.07, span=10)[:, 0]
    assert set(masked.sum(1)) == {0, 10}
    assert masked.mean() == pytest.approx(0.07, abs=5 * 0.1 * np.sqrt(0.21 / 400))


def test_overlapping_spans_mask_the_expected_share():
    # wav2vec 2.0's p = 0.065 starts of spans of 10: about 49 % of the frames
    masked = draw((1500,), 0.65, span=10, size=1500, keys=KEYS[:50])
    assert masked.mean() == pytest.approx(1 - (1 - 0.065) ** 10, abs=0.01)


def test_each_clip_is_masked_by_its_own_length():
    lengths = (100, 50, 12, 3, 0)
    masked = draw(lengths, 0.4, span=5)
    for clip, length in enumerate(lengths):
        assert not masked[:, clip, length:].any()
        assert masked[:, clip].any() == (length >= 5)
    alike = (masked[:, 0, :50] == masked[:, 1, :50]).all(axis=1)
    assert alike.mean() < 0.1  # clips draw apart


def test_masks_depend_on_the_key_alone():
    masked = draw((90, 40), 0.2, span=5, keys=KEYS[np.array([0, 0, 1])])
    np.testing.assert_array_equal(masked[0], masked[1])
    assert (masked[0] != masked[2]).any()


SETTINGS = [(0.0, 3, 2), (0.5, 10, 1), (1.0, 30, 9)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 24), st.sampled_from(SETTINGS))
def test_no_settings_mask_what_does_not_count(length, chosen):
    probability, span, min_spans = chosen
    masked = draw((length,), probability, span, min_spans, 24, KEYS[:3])
    assert not masked[:, 0, length:].any()
    if length < span:
        assert not masked.any()
    elif min_spans:
        assert masked.any(axis=2).all()


# --- On hidden states ---

CONFIG = SpeechConfig(
    mask_time_prob=0.3,
    mask_time_length=4,
    mask_time_min_masks=1,
    mask_feature_prob=0.2,
    mask_feature_length=3,
    mask_feature_min_masks=1,
)
WIDTH, FRAMES = 24, 30
MASK = np.arange(FRAMES)[None] < np.array([[30], [17], [3]])


def augment(rng, config, key=KEYS[0]):
    x = 1.0 + rng.random((3, FRAMES, WIDTH)).astype(np.float32)  # nowhere zero
    embedding = -np.arange(1, WIDTH + 1, dtype=np.float32)
    found = jit(spec_augment, static_argnums=4)(key, x, MASK, embedding, config)
    return x, embedding, np.asarray(found)


def test_masked_frames_become_the_learned_vector(rng):
    config = CONFIG._replace(mask_feature_prob=0.0)
    x, embedding, found = augment(rng, config)
    replaced = (found == embedding[None, None]).all(axis=2)
    np.testing.assert_array_equal(found[~replaced], x[~replaced])
    assert not replaced[~MASK].any()
    np.testing.assert_array_equal(replaced.any(axis=1), [True, True, False])
    for row in replaced[:2]:
        assert (runs(row) >= 4).all()


def test_masked_channels_become_zero_in_every_frame(rng):
    config = CONFIG._replace(mask_time_prob=0.0)
    x, _, found = augment(rng, config)
    zero = (found == 0.0).all(axis=1)  # [batch, width]
    kept = np.broadcast_to(~zero[:, None], x.shape)
    np.testing.assert_array_equal(found[kept], x[kept])
    assert zero.any(axis=1).all()
    for row in zero:
        assert (runs(row) >= 3).all()


def test_channels_are_masked_after_frames(rng):
    x, embedding, found = augment(rng, CONFIG)
    zero = (found == 0.0).all(axis=1)
    assert zero[:2].any(axis=1).all()  # masked frames too have zeros there
    replaced = ((found == embedding[None, None]) | zero[:, None]).all(axis=2)
    assert replaced[:2].any(axis=1).all()
    untouched = ~replaced[:, :, None] & ~zero[:, None]
    np.testing.assert_array_equal(found[untouched], x[untouched])


def test_without_probabilities_nothing_changes(rng):
    config = CONFIG._replace(mask_time_prob=0.0, mask_feature_prob=0.0)
    x, _, found = augment(rng, config)
    np.testing.assert_array_equal(found, x)


def test_the_learned_vector_is_trained_by_the_masked_frames(rng):
    x = np.ones((3, FRAMES, WIDTH), np.float32)
    config = CONFIG._replace(mask_feature_prob=0.0)

    def total(embedding):
        return spec_augment(KEYS[0], x, MASK, embedding, config).sum()

    embedding = np.zeros(WIDTH, np.float32)
    masked = FRAMES * 3 - total(embedding) / WIDTH  # frames of ones that are gone
    np.testing.assert_allclose(jax.grad(total)(embedding), masked, rtol=1e-6)
    assert masked > 0
