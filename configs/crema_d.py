"""CREMA-D (Cao et al., 2014): 2,443 raters with about 30 voice-only answers each.

Open data: clone https://github.com/CheyneyComputerScience/CREMA-D with Git LFS; FOLDER
is the clone. The five folds are the speaker groups of EMO-SUPERB. A fifth of the raters
is held out in each fold, so that each rater is tested once. Support sets come from
clips of the training speakers; seen queries are other clips of theirs, unseen ones are
clips of speakers that training never heard. A rater has about 18 clips of the one kind
and 6 of the other, so K is 4 or 8. `docs/crema_d.md` says how the corpus is read.

With so few clips a listener, the combined sets of the full method (CSMT) overlap and
reward memorising: on the invented tree the method without them is the better one
(docs/results.md). `--config.meta.mode=disjoint` does without them.

Commands:
  python run.py --config=configs/crema_d.py --config.data.root=FOLDER --mode=check
  python run.py --config=configs/crema_d.py --config.data.root=FOLDER
  python run.py --config=configs/crema_d.py:all --config.data.root=FOLDER --mode=sweep
  python run.py --config=configs/crema_d.py:all --config.data.root=FOLDER --mode=tables
After the colon: wavlm (default), hubert, wav2vec2, logmel or all (a sweep over the
three); face or audio_visual for the answers given on another channel; and the number of
one fold, 1 to 5.

Without the corpus, `crema_d.py:fake` runs the same protocol on an invented tree of full
size, with log-mel features:
  python run.py --config=configs/crema_d.py:fake --mode=sweep
  python run.py --config=configs/crema_d.py:fake --mode=tables
"""

from configs.common import base_config, choose, chosen_words, named_folds

MODALITIES = ("voice", "face", "audio_visual")

# Speaker groups to train on, to develop on and to test on (EMO-SUPERB).
FOLDS = named_folds("set", ("345/2/1", "145/3/2", "125/4/3", "123/5/4", "234/1/5"))

METHODS = (
    "full",
    "minus_csmt",
    "minus_da",
    "minus_lslr",
    "no_adaptation",
    "base_rate",
    "prior_calibration",
    "fine_tune",
    "wrong_listener",
)


def get_config(choice=""):
    chosen = chosen_words(choice, MODALITIES)
    config = base_config()
    config.corpus = "crema_d"
    config.data.root = ""
    config.data.responses = "auto"  # finishedResponses.csv, or a path
    config.data.audio = "auto"  # AudioWAV, or a folder
    config.data.modality = next((w for w in chosen if w in MODALITIES), "voice")
    config.data.min_ratings = 1
    config.data.max_seconds = 60.0
    config.data.fake = "fake" in chosen
    config.data.fake_clips = 7442
    config.data.fake_raters = 2443
    config.data.fake_seed = 0

    choose(config, chosen, FOLDS)
    config.split.group_by = "session"  # the speaker group
    config.split.crossed = False
    config.split.num_test_listeners = 490
    config.split.num_dev_listeners = 150
    config.split.min_test_ratings = 20

    config.head.hidden = 64
    config.loss.class_balanced = False
    config.pretrain.epochs = 10
    config.pretrain.batch_size = 256
    config.pretrain.evaluations = 5
    config.meta.duration = "1200 steps"
    config.meta.num_tasks = 16
    config.meta.num_support = (4, 16)
    config.meta.num_query = 16
    config.meta.init_learning_rate = 0.1
    config.meta.learning_rate = 1e-3
    config.meta.rate_learning_rate = 1e-2
    config.meta.cosine = True
    config.meta.evaluations = 4

    config.evaluation.num_support = (4, 8)
    config.evaluation.headline_support = 8
    config.evaluation.num_draws = 5
    config.evaluation.min_query = 4
    config.evaluation.unseen_support = "seen"
    config.evaluation.methods = METHODS
    return config
