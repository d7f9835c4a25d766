"""An encoder whose features are known, and corpora that watch how they are read."""

import pathlib
import threading
import time
import weakref

import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.encoder import Encoder, fingerprint, pool
from metaperser_jax.encoders.transformer import init_params, speech_encoder
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.typing import Corpus, EncoderOutput, Ratings

HOP = 400  # samples a frame
RATINGS = Ratings(*[np.zeros((0, 1))] * 5)


def toy_encoder(scale=1.0, traces=None):
    """Two layers of one unit: the mean of a frame, and its square, times a scale.

    `traces` is a list to which the shape of each traced batch is added.
    """

    def apply_fn(params, waveforms, lengths):
        if traces is not None:
            traces.append(waveforms.shape)
        frames = waveforms.reshape(waveforms.shape[0], -1, HOP).mean(-1)
        mask = jnp.arange(frames.shape[1])[None] < (lengths[:, None] // HOP)
        states = jnp.stack([frames, frames**2], 1)[..., None] * params["scale"]
        return EncoderOutput(states, mask)

    return encoder_of(apply_fn, {"scale": np.float32(scale)})


def touchy_encoder():
    """An encoder that minds its row and the padding: its features tell both."""

    def apply_fn(params, waveforms, lengths):
        batch, samples = waveforms.shape
        row = jnp.broadcast_to(jnp.arange(batch)[:, None], (batch, samples // HOP))
        states = jnp.stack([row, jnp.full_like(row, samples // HOP)], 1)
        states = states[..., None].astype(jnp.float32) + params["scale"]
        return EncoderOutput(states, jnp.ones_like(row, bool))

    return encoder_of(apply_fn, {"scale": np.float32(0)})


def slow_encoder(seconds, tell=lambda: None):
    """The toy encoder, waiting on the device for each batch after telling of it."""
    encoder, params = toy_encoder()

    def wait(pooled):
        tell()
        time.sleep(seconds)
        return pooled

    def pooled_fn(params, waveforms, lengths):
        pooled = encoder.pooled_fn(params, waveforms, lengths)
        return jax.pure_callback(wait, pooled, pooled)

    return encoder._replace(pooled_fn=pooled_fn), params


def speech(**settings):
    """A small encoder of the wav2vec 2.0 family, its params drawn without compiling."""
    config = SpeechConfig(
        hidden_size=32, num_attention_heads=4, intermediate_size=64,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, **settings,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype),
        jax.eval_shape(lambda: init_params(config, 0)),
    )
    return speech_encoder(config, params), params


def encoder_of(apply_fn, params):
    config = {"hop": HOP}
    encoder = Encoder(
        name="toy",
        apply_fn=apply_fn,
        pooled_fn=lambda *inputs: pool(apply_fn(*inputs)),
        frames_fn=lambda n: n,
        config=config,
        fingerprint=fingerprint(config, params),
        num_layers=2,
        width=1,
    )
    return encoder, params


class Tape:
    """Clips whose samples are all `values[clip]`, and a record of what was read."""

    def __init__(self, values, lengths=None, broken=(), delays=None):
        self.values = values
        self.lengths = lengths or [HOP * (1 + i % 3) for i in range(len(values))]
        self.broken = set(broken)
        self.delays = delays or [0.0] * len(values)
        self.problems = Problems()  # what reading finds doubtful
        self.reads = []
        self.now_reading = self.most_reading = 0
        self.now_held = self.most_held = 0  # waveforms that someone still refers to
        self.lock = threading.Lock()

    def read(self, clip):
        with self.lock:
            self.reads.append(clip)
            self.now_reading += 1
            self.most_reading = max(self.most_reading, self.now_reading)
        time.sleep(self.delays[clip])
        try:
            return self._waveform(clip)
        finally:
            with self.lock:
                self.now_reading -= 1

    def _waveform(self, clip):
        if clip in self.broken:
            raise InputError(f"clip {clip}: not audio")
        waveform = np.full(self.lengths[clip], self.values[clip], np.float32)
        if self.values[clip] < -1:
            self.problems.warning("clipped_audio", f"clip {clip}", "below full scale")
        with self.lock:
            self.now_held += 1
            self.most_held = max(self.most_held, self.now_held)
        weakref.finalize(waveform, self._release)
        return waveform

    def _release(self):
        self.now_held -= 1

    def corpus(self, **changes):
        count = len(self.values)
        corpus = Corpus(
            "toy",
            tuple(f"clip {i}" for i in range(count)),
            (), (), (), np.array([""] * count), np.array([""] * count),
            RATINGS,
            tuple(f"hash of {value}" for value in self.values),
            self.read, None, None, {},
        )  # fmt: skip
        return corpus._replace(**changes)


def expected(values, scale=1.0):
    """Features that the cache keeps of clips, [clips, 2, 1]."""
    values = np.array(values, np.float32)
    return scale * np.stack([values, values**2], 1)[..., None]


def shards(folder: pathlib.Path):
    return sorted(folder.rglob("*.safetensors"))
