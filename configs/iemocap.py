"""IEMOCAP (Busso et al., 2008): twelve listeners, five sessions, one listener left out.

Each listener with enough labels is held out in turn, in each of the five folds of
EMO-SUPERB (train, development and test sessions). Observers and the actors' ratings of
themselves are reported apart. `docs/iemocap.md` says how the corpus is read.

Commands, FOLDER being that of the release:
  python run.py --config=configs/iemocap.py --config.data.root=FOLDER --mode=check
  python run.py --config=configs/iemocap.py --config.data.root=FOLDER
  python run.py --config=configs/iemocap.py:hubert:3 --config.data.root=FOLDER
  python run.py --config=configs/iemocap.py:all --config.data.root=FOLDER --mode=sweep
  python run.py --config=configs/iemocap.py:all --config.data.root=FOLDER --mode=tables
After the colon: wavlm (default), hubert, wav2vec2, logmel or all (a sweep over the
three), and the number of one fold, 1 to 5.

Without the licensed corpus, `iemocap.py:fake` runs the same protocol on an invented
tree of the same form, with log-mel features:
  python run.py --config=configs/iemocap.py:fake --mode=sweep
  python run.py --config=configs/iemocap.py:fake --mode=tables
"""

from configs.common import base_config, choose, chosen_words, named_folds

# Sessions to train on, to develop on and to test on (EMO-SUPERB).
FOLDS = named_folds("Ses0", ("123/5/4", "125/4/3", "145/3/2", "345/2/1", "234/1/5"))

METHODS = (
    "full",
    "minus_csmt",
    "minus_da",
    "minus_lslr",
    "maml",
    "no_adaptation",
    "base_rate",
    "prior_calibration",
    "fine_tune",
    "nearest_listener",
    "oracle",
    "wrong_listener",
)


def get_config(choice=""):
    chosen = chosen_words(choice)
    config = base_config()
    config.corpus = "iemocap"
    config.data.root = ""
    config.data.raters = "all"  # all | observers | self
    config.data.other_class = False  # a tenth class, Other
    config.data.min_ratings = 1
    config.data.max_seconds = 60.0
    config.data.fake = False
    config.data.fake_dialogs = 6  # of each session
    config.data.fake_utterances = 16  # of each dialog
    config.data.fake_seed = 0

    choose(config, chosen, FOLDS)
    config.split.group_by = "session"
    config.split.num_test_listeners = 1
    config.split.num_dev_listeners = 1
    config.split.min_test_ratings = 100

    config.meta.duration = "600 steps"
    config.meta.num_support = (4, 32)
    config.meta.init_learning_rate = 0.1
    config.meta.learning_rate = 1e-3
    config.meta.rate_learning_rate = 1e-2
    config.meta.cosine = True
    config.meta.evaluations = 5

    config.evaluation.methods = METHODS
    if "fake" in chosen:
        fake(config)
    return config


def fake(config):
    """Turns to the invented tree, of a size for two cores."""
    config.data.fake = True
    config.split.min_test_ratings = 40
    config.head.hidden = 64
    config.pretrain.epochs = 15
    config.meta.duration = "150 steps"
    config.evaluation.num_draws = 10
    config.evaluation.min_query = 4
    config.evaluation.methods = tuple(
        method for method in METHODS if method not in ("maml", "nearest_listener")
    )
