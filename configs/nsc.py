"""NSC listening test (Fernandez Gallardo & Weiss, LREC 2018): 69 listeners, 300 voices.

Fourteen affective items graded 0-100, a grade above 50 is a yes; inputs are the 88
eGeMAPS features that come with the ratings. Each listener rated about 40 voices.

Command: python run.py --config=configs/nsc.py --config.data.root=FOLDER
Runtime: about two minutes.
Measured: full against no adaptation, K = 10, seen voices: accuracy .645 against .624,
NLL .631 against .649; the listener's base rate: .607, .655 (docs/results.md).
"""

from configs import manifest

# As configured the full method has no combined sets: "minus_csmt" would be the same.
METHODS = (
    "full",
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

ITEMS = (
    "bored",
    "emotional",
    "not_irritated",
    "active",
    "pleasant",
    "sociable",
    "relaxed",
    "affectionate",
    "hearty",
    "calm",
    "friendly",
    "indifferent",
    "interesting",
    "cynical",
)


def get_config():
    config = manifest.get_config()
    config.data.name = "nsc"
    config.data.audio = None
    config.data.features = "egemaps88.csv"
    config.data.label_columns = ()
    config.data.graded_columns = ITEMS
    config.data.threshold = 50.0
    config.features.inputs = "precomputed"
    config.loss.family = "sigmoid"
    config.split.num_test_listeners = 7
    config.split.num_dev_listeners = 12
    config.split.unseen_fraction = 0.45
    config.head.hidden = 32
    config.pretrain.weight_decay = 1.0
    # A listener has about 20 training clips: with combined sets half of the query clips
    # would stand in the support set, and development listeners lose by it (see docs).
    config.meta.mode = "disjoint"
    config.meta.init_learning_rate = 1.0  # the sigmoid loss is a mean over 14 items
    config.meta.rate_learning_rate = 0.05
    config.meta.learning_rate = 3e-4
    config.meta.num_tasks = 10
    config.meta.num_support = (4, 10)
    config.meta.num_query = 12
    config.meta.duration = "100 steps"
    config.evaluation.num_support = (5, 10)
    config.evaluation.headline_support = 10
    config.evaluation.min_query = 5
    config.evaluation.num_resamples = 500
    config.evaluation.methods = METHODS
    return config
