"""EmoTale (Hjuler et al., ASRU 2025): three listeners, Danish and English, real audio.

Each listener is held out in turn; checkpoints are chosen on the two training listeners
and speakers that are neither trained on nor tested on.

Command: python run.py --config=configs/emotale.py --config.data.root=FOLDER
Runtime: about two and a half minutes of processor time.
Measured: no metric differs significantly from no adaptation (docs/results.md).
"""

from configs import manifest


def get_config():
    config = manifest.get_config()
    config.data.name = "emotale"
    config.data.dimension_columns = ("arousal", "valence", "dominance")
    config.split.num_test_listeners = 1
    config.split.num_dev_listeners = 0
    config.split.group_by = "speaker"
    config.split.unseen_fraction = 0.25
    config.split.dev_fraction = 0.17
    config.meta.num_tasks = 2
    config.meta.duration = "150 steps"
    return config
