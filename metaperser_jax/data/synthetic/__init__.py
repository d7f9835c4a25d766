"""The embedded corpus: speech-like clips rated by simulated listeners."""

from metaperser_jax.data.synthetic.loading import load_synthetic as load_synthetic
from metaperser_jax.data.synthetic.simulation import SyntheticSpec as SyntheticSpec
