"""The synthesiser renders what its controls say."""

import librosa
import numpy as np
import pytest
import scipy.signal

from metaperser_jax.data.synthetic import synthesizer

SPEAKER = synthesizer.Speaker(120.0, 1.0, 0.08, 0.6, 1.0, 1.0, 0.0)
PLAIN = synthesizer.Controls(
    rate=5.0,
    f0_shift=0.0,
    f0_range=0.0,
    f0_final=0.0,
    tremor=0.0,
    level_db=0.0,
    accent_db=0.0,
    tilt=0.5,
    breathiness=0.08,
    open_quotient=0.6,
    jitter=0.0,
    shimmer=0.0,
    smile=0.0,
    pause=0.05,
)


def render(seed=0, speaker=SPEAKER, sentence=synthesizer.SENTENCES[0], **changes):
    controls = PLAIN._replace(**changes)
    rng = np.random.default_rng(seed)
    return synthesizer.synthesize(rng, speaker, controls, sentence)


def centroid(audio):
    spectrum = np.abs(np.fft.rfft(audio.astype(float))) ** 2
    hertz = np.fft.rfftfreq(len(audio), 1 / synthesizer.SAMPLE_RATE)
    return (spectrum * hertz).sum() / spectrum.sum()


@pytest.mark.parametrize("sentence", synthesizer.SENTENCES)
@pytest.mark.parametrize("rate", [3.2, 7.5])
def test_clips_last_one_to_two_seconds(sentence, rate):
    audio = render(sentence=sentence, rate=rate, pause=0.3 if rate < 5 else 0.0)
    seconds = len(audio) / synthesizer.SAMPLE_RATE
    assert synthesizer.MIN_SECONDS <= seconds <= synthesizer.MAX_SECONDS
    assert audio.dtype == np.int16


def test_same_seed_same_bytes_other_seed_other_bytes():
    assert render(1).tobytes() == render(1).tobytes()
    assert render(1).tobytes() != render(2).tobytes()


@pytest.mark.parametrize(("f0_hz", "shift"), [(120.0, 0.0), (120.0, 6.0), (200.0, 3.0)])
def test_pitch_is_what_the_controls_say(f0_hz, shift):
    audio = render(speaker=SPEAKER._replace(f0_hz=f0_hz), f0_shift=shift) / 32768.0
    measured = librosa.yin(audio, fmin=70, fmax=450, sr=synthesizer.SAMPLE_RATE)
    expected = f0_hz * 2 ** (shift / 12)
    assert np.median(measured) == pytest.approx(expected, rel=0.02)


def test_pitch_rises_at_the_end_when_asked():
    audio = render(f0_final=8.0) / 32768.0
    measured = librosa.yin(audio, fmin=70, fmax=450, sr=synthesizer.SAMPLE_RATE)
    count = len(measured)
    early = np.median(measured[count // 4 : count // 2])
    late = np.median(measured[count * 5 // 6 : count * 19 // 20])
    assert 12 * np.log2(late / early) > 3.0


@pytest.mark.parametrize("level_db", [-10.0, 0.0, 6.0])
def test_level_is_what_the_controls_say(level_db):
    audio = render(level_db=level_db, speaker=SPEAKER._replace(gain_db=1.0)) / 32768.0
    measured = 10 * np.log10(np.mean(audio**2))
    assert measured == pytest.approx(-27.0 + 1.0 + level_db, abs=0.05)


def test_loud_clips_are_scaled_and_never_clipped():
    audio = render(level_db=25.0)
    assert 32000 <= np.abs(audio.astype(int)).max() <= 32767
    assert np.sum(np.abs(audio.astype(int)) >= 32000) < 5


@pytest.mark.parametrize(
    ("duller", "brighter"),
    [
        ({"tilt": 0.9}, {"tilt": 0.2}),
        ({"smile": -0.1}, {"smile": 0.1}),
        ({"speaker": SPEAKER}, {"speaker": SPEAKER._replace(formant_scale=1.2)}),
        ({"open_quotient": 0.85}, {"open_quotient": 0.4}),
    ],
)
def test_voice_quality_moves_the_spectrum(duller, brighter):
    vowels = "ma lomi wa ne lu"
    assert centroid(render(sentence=vowels, **brighter)) > 1.03 * centroid(
        render(sentence=vowels, **duller)
    )


def test_jitter_and_breath_make_the_voice_less_periodic():
    def periodicity(**changes):
        audio = render(sentence="ma lo mi wa ne lu", **changes)[8000:12000].astype(
            float
        )
        correlation = np.correlate(audio, audio, "full")[len(audio) - 1 :]
        return correlation[100:200].max() / correlation[0]

    clean = periodicity(breathiness=0.0)
    assert periodicity(breathiness=0.0, jitter=0.05) < clean - 0.02
    assert periodicity(breathiness=0.6) < clean - 0.05


@pytest.mark.parametrize(
    ("field", "latent", "sign"),
    [
        ("f0_shift", (0, 1, 0), 1),
        ("f0_range", (0, 1, 0), 1),
        ("level_db", (0, 1, 0), 1),
        ("rate", (0, 1, 0), 1),
        ("tilt", (0, 1, 0), -1),
        ("pause", (0, 1, 0), -1),
        ("smile", (1, 0, 0), 1),
        ("jitter", (1, 0, 0), -1),
        ("f0_shift", (0, 0, 1), -1),
        ("level_db", (0, 0, 1), 1),
    ],
)
def test_latent_emotion_moves_the_delivery(field, latent, sign):
    def value(latent):
        rng = np.random.default_rng(3)  # the same clip noise for both
        latent = np.array(latent, float)
        controls = synthesizer.plan_controls(rng, SPEAKER, latent, 0, 0.0)
        return getattr(controls, field)

    assert sign * (value(latent) - value((0, 0, 0))) > 0


@pytest.mark.parametrize("emotion", range(1, len(synthesizer.EMOTIONS)))
def test_each_category_has_a_delivery_of_its_own(emotion):
    def plan(emotion):
        rng = np.random.default_rng(3)
        return synthesizer.plan_controls(rng, SPEAKER, np.zeros(3), emotion, 1.0)

    assert plan(emotion) != plan(0)
    assert all(plan(emotion) != plan(other) for other in range(1, emotion))


def test_speakers_differ_and_high_voices_are_higher():
    rng = np.random.default_rng(0)
    low = [synthesizer.sample_speaker(rng, False) for _ in range(20)]
    high = [synthesizer.sample_speaker(rng, True) for _ in range(20)]
    assert len(set(low)) == 20
    assert np.median([s.f0_hz for s in high]) > 1.4 * np.median([s.f0_hz for s in low])
    assert np.mean([s.formant_scale for s in high]) > 1.1


def test_vocal_tract_equals_a_cascade_of_resonators(rng):
    source = rng.standard_normal(64 * synthesizer.HOP)
    formants = np.tile([[500.0, 1500.0, 2500.0]], (64, 1))
    response = synthesizer._vocal_tract(formants, SPEAKER, tilt=0.4)
    expected = scipy.signal.lfilter([0.6], [1.0, -0.4], source)
    centres = [500.0, 1500.0, 2500.0, 3500.0, 4500.0]
    for centre, width in zip(centres, [70, 90, 130, 200, 280], strict=True):
        radius = np.exp(-np.pi * width * (1 + SPEAKER.breathiness) / 16000)
        b, c = 2 * radius * np.cos(2 * np.pi * centre / 16000), radius**2
        expected = scipy.signal.lfilter([1 - b + c], [1.0, -b, c], expected)
    actual = synthesizer._filter_frames(source, response)
    edge = 4 * synthesizer.HOP  # the last block waits for a frame that never comes
    error = (actual - expected)[edge:-edge]
    # the narrowest resonance rings on beyond one FFT, 40 dB down
    assert np.sqrt(np.mean(error**2)) < 1e-2 * np.sqrt(np.mean(expected**2))


def test_control_tracks_are_interpolated_linearly(rng):
    track = rng.standard_normal(9)
    samples = np.arange(9 * synthesizer.HOP) / synthesizer.HOP
    np.testing.assert_allclose(
        synthesizer._to_samples(track), np.interp(samples, np.arange(9), track)
    )
