"""WHiSER (Naini et al., Interspeech 2024): 26 listeners, labels only, multi-label.

There is no audio: a clip is represented by what the *other* listeners said of it, the
held-out listeners left out everywhere. What is measured is how far a listener's habits
can be learned from few labels.

Command: python run.py --config=configs/whiser.py --config.data.root=FOLDER
Runtime: seven minutes on one core.
Measured: full against no adaptation, K = 16, unseen clips: micro-F1 .564 against .378,
NLL .235 against .305 (docs/results.md).
"""

from configs import manifest

# Without the slow and the weak baselines, which the synthetic corpus shows.
METHODS = (
    "full",
    "minus_csmt",
    "minus_da",
    "minus_lslr",
    "maml",
    "fomaml",
    "listener_embedding",
    "no_adaptation",
    "base_rate",
    "prior_calibration",
    "fine_tune",
    "nearest_listener",
    "oracle",
    "wrong_listener",
)


def get_config():
    config = manifest.get_config()
    config.data.name = "whiser"
    config.data.audio = None
    config.data.min_ratings = 100  # to leave 16 to adapt to and 8 to judge on, unseen
    config.data.label_columns = ("secondary",)
    config.data.dimension_columns = ("arousal", "valence", "dominance")
    config.features.inputs = "other_raters"
    config.loss.family = "sigmoid"
    config.split.num_test_listeners = 2
    config.split.num_dev_listeners = 6
    config.split.unseen_fraction = 0.25
    config.head.activation = "relu"  # chosen on development listeners, as the sizes
    config.pretrain.epochs = 40
    config.meta.init_learning_rate = 3.0  # the sigmoid loss is a mean over 17 classes
    config.meta.rate_learning_rate = 0.1
    config.meta.rate_bounds = (0.0, 10.0)
    config.meta.num_tasks = 6
    config.meta.learning_rate = 3e-3
    config.meta.duration = "400 steps"
    config.evaluation.max_query = 64
    config.evaluation.num_resamples = 500
    config.evaluation.methods = METHODS
    return config
