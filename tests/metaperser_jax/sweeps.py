"""A sweep that is small enough to be run in a test."""

from metaperser_jax.settings import Settings, from_config

METHODS = ("no_adaptation", "base_rate", "prior_calibration")
SEEDS = (0, 1)


def make_settings(cache, **changes) -> Settings:
    """Two seeds, two folds, three cheap methods on a few short clips."""
    config = {
        "corpus": "synthetic",
        "data": {
            "num_clips": 24, "num_speakers": 6, "num_listeners": 8,
            "clips_per_listener": 22,
        },
        "features": {"cache_dir": str(cache)},
        "tensorboard": False,
        "split": {
            "num_test_listeners": 2, "num_dev_listeners": 2, "num_folds": 2,
            "group_by": "speaker", "unseen_fraction": 0.5,
        },
        "head": {"hidden": 8},
        "pretrain": {"epochs": 2, "evaluations": 1},
        "evaluation": {
            "num_support": (2, 4), "headline_support": 4, "num_draws": 2,
            "min_query": 3, "num_resamples": 20, "methods": METHODS,
        },
        "sweep": {"seeds": SEEDS},
    }  # fmt: skip
    return from_config(config | changes)
