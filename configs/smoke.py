"""The whole protocol at toy size, to see in seconds that everything runs.

Command: python run.py --config=configs/smoke.py
The numbers mean nothing: six training listeners, two draws.
"""

from configs.common import base_config


def get_config():
    config = base_config()
    config.corpus = "synthetic"
    config.tensorboard = False
    config.data.seed = 0
    config.data.num_clips = 48
    config.data.num_speakers = 8
    config.data.num_listeners = 10
    config.data.clips_per_listener = 40
    config.data.shuffle_listeners = False

    config.split.group_by = "session"
    config.split.unseen_fraction = 0.5
    config.split.num_test_listeners = 2
    config.split.num_dev_listeners = 2
    config.split.num_folds = 1

    config.head.hidden = 16
    config.pretrain.epochs = 3
    config.meta.num_steps = 2
    config.meta.duration = "3 epochs"
    config.meta.evaluations = 3
    config.meta.num_tasks = 2
    config.meta.num_support = (4, 8)
    config.meta.num_query = 8
    config.meta.init_learning_rate = 0.05

    config.evaluation.num_support = (4, 8)
    config.evaluation.headline_support = 8
    config.evaluation.num_draws = 2
    config.evaluation.min_query = 4
    config.evaluation.num_resamples = 50
    config.evaluation.methods = (
        "full",
        "minus_lslr",
        "no_adaptation",
        "base_rate",
        "fine_tune",
        "oracle",
        "wrong_listener",
        "ground_truth",
    )
    return config
