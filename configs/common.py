"""Shared defaults. A section left out keeps the library's defaults."""

import ml_collections

METHODS = (
    "full",
    "minus_csmt",
    "minus_da",
    "minus_lslr",
    "maml",
    "fomaml",
    "anil",
    "reptile",
    "prototypes",
    "listener_embedding",
    "no_adaptation",
    "base_rate",
    "prior_calibration",
    "fine_tune",
    "scratch",
    "nearest_listener",
    "oracle",
    "wrong_listener",
    "ground_truth",
)

ENCODERS = {
    "wavlm": "microsoft/wavlm-large",
    "hubert": "facebook/hubert-large-ll60k",
    "wav2vec2": "facebook/wav2vec2-large-lv60",
    "logmel": "logmel",
}
SWEPT = ("wavlm", "hubert", "wav2vec2")
CHOICES = (*ENCODERS, "all", "fake", "1", "2", "3", "4", "5")


def named_folds(prefix: str, texts: tuple[str, ...]) -> tuple:
    """Returns EMO-SUPERB's folds, '123/5/4', as names of what is held out.

    Args:
      prefix: what goes before each digit.
      texts: train, development and test groups, a digit each.
    """
    return tuple(
        tuple(tuple(prefix + group for group in side) for side in text.split("/"))
        for text in texts
    )


def chosen_words(choice: str, more: tuple[str, ...] = ()) -> list[str]:
    """Returns the words after the colon of --config, each one of `CHOICES` or `more`.

    Args:
      choice: what follows the colon, words with colons between them.
      more: of which one at most may be named, as of the encoders.

    Raises:
      ValueError: a word is none of them, or contradicts another.
    """
    chosen = [word for word in choice.split(":") if word]
    known = (*CHOICES, *more)
    for word in chosen:
        if word not in known:
            raise ValueError(f"{word!r}: expected one of {', '.join(known)}")
        if chosen.count(word) > 1:
            raise ValueError(f"{word!r} is named twice")
    for alike in ((*ENCODERS, "all"), more):
        named = [word for word in chosen if word in alike]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)}: name one of them")
    return chosen


def choose(config: ml_collections.ConfigDict, chosen: list[str], folds: tuple) -> None:
    """Sets the encoders and folds that the words after the colon name."""
    default = "logmel" if "fake" in chosen else "wavlm"
    named = [word for word in chosen if word in ENCODERS]
    config.encoder.name = ENCODERS[(named or [default])[0]]
    if "all" in chosen:
        config.sweep.encoders = tuple(ENCODERS[name] for name in SWEPT)
    numbers = [int(word) for word in chosen if word.isdigit()]
    config.split.partitions = tuple(folds[n - 1] for n in numbers) or folds


def base_config() -> ml_collections.ConfigDict:
    """Returns every key with its default, so that each can be set by a flag."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.strict = False  # warnings and skipped rows become errors
    config.tensorboard = True
    config.corpus = "synthetic"
    config.data = ml_collections.ConfigDict()

    config.features = ml_collections.ConfigDict()
    config.features.inputs = "audio"  # audio | precomputed | other_raters
    config.features.cache_dir = ""  # '' = the folder `cache` beside the workdir
    config.features.batch_size = 0  # clips encoded at once; 0: what memory_gb allows
    config.features.memory_gb = 2.0  # what encoding takes beside the encoder's params
    config.features.standardise = True

    config.encoder = ml_collections.ConfigDict()
    config.encoder.name = "logmel"
    config.encoder.revision = ""  # '' = the newest
    config.encoder.dtype = "float32"  # float32 | bfloat16
    config.encoder.tuning = "frozen"  # frozen | top_n | lora | full
    config.encoder.num_tuned_layers = 4  # top_n: the last ones
    config.encoder.lora_rank = 8
    config.encoder.lora_alpha = 16.0  # updates count alpha / rank times
    config.encoder.lora_pattern = r".*/(q_proj|v_proj)/kernel"
    config.encoder.tune_front_end = False  # full: the convolutions as well
    config.encoder.learning_rate = 0.0  # 0: 1e-4 for lora, else 1e-5
    config.encoder.epochs = 5
    config.encoder.batch_size = 8  # clips, each with all its labels
    config.encoder.accumulate = 1  # batches of one step
    config.encoder.warmup = 0.1  # share of the steps in which the rates rise
    config.encoder.remat = False  # layers twice, less memory (not on a CPU)

    config.split = ml_collections.ConfigDict()
    config.split.num_test_listeners = 1  # per fold
    config.split.num_dev_listeners = 1  # 0: training listeners, held-out clips
    config.split.num_folds = 0  # 0: each listener is tested once
    config.split.group_by = "clip"  # session | speaker | clip
    config.split.unseen_fraction = 0.25
    config.split.dev_fraction = 0.15
    config.split.seed = 0
    config.split.partitions = ()  # of (train, dev, test) names of sessions or speakers
    config.split.crossed = True  # each listener in every partition, or in one in turn
    config.split.min_test_ratings = 0  # listeners with fewer are never tested
    config.split.test_kinds = ()  # kinds of listeners that are tested; () = all

    config.head = ml_collections.ConfigDict()
    config.head.hidden = 256
    config.head.activation = "none"

    config.loss = ml_collections.ConfigDict()
    config.loss.outputs = "categories"  # categories | dimensions | both
    config.loss.family = "softmax"  # softmax | sigmoid
    config.loss.class_balanced = True
    config.loss.smoothing = 0.05
    config.loss.dimension_loss = "ccc"  # ccc | mse | huber
    config.loss.dimension_support_loss = "huber"  # of support sets
    config.loss.dimension_weight = 1.0  # of the dimensions beside the categories

    config.pretrain = ml_collections.ConfigDict()
    config.pretrain.epochs = 20
    config.pretrain.batch_size = 64
    config.pretrain.learning_rate = 1e-3
    config.pretrain.weight_decay = 1e-4
    config.pretrain.evaluations = 10

    config.meta = ml_collections.ConfigDict()
    config.meta.num_steps = 5
    config.meta.adapt = ".*"
    config.meta.init_learning_rate = 1e-2
    config.meta.rate_bounds = ()  # () or (low, high)
    config.meta.proximal = 0.0
    config.meta.multi_step_weights = ()
    config.meta.task_chunk = 0  # tasks adapted at once; 0: as many as are good
    config.meta.inner = "auto"  # auto | general | dual: the same results
    config.meta.remat = False
    config.meta.duration = "25 epochs"
    config.meta.num_tasks = 4
    config.meta.num_support = (32, 32)  # (fewest, most)
    config.meta.num_query = 32
    config.meta.mode = "independent"  # independent | same | disjoint
    config.meta.second_order_from = 0.5
    config.meta.learning_rate = 1e-4
    config.meta.rate_learning_rate = 1e-3
    config.meta.weight_decay = 1e-4
    config.meta.clip_norm = 1.0
    config.meta.cosine = False
    config.meta.evaluations = 10
    config.meta.max_skipped = 20

    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.num_support = (4, 8, 16, 32)
    config.evaluation.headline_support = 16
    config.evaluation.num_draws = 20
    config.evaluation.min_query = 8
    config.evaluation.max_query = 0  # 0: all
    config.evaluation.scenarios = ("seen", "unseen")
    config.evaluation.unseen_support = "unseen"  # or seen: clips of the training pool
    config.evaluation.methods = METHODS
    config.evaluation.headline_metrics = (
        "macro_f1",
        "micro_f1",
        "exact_match",
        "nll",
        "uar",
        "ece",
        "brier",
    )
    config.evaluation.num_resamples = 1000
    config.evaluation.max_bank = 256

    config.sweep = ml_collections.ConfigDict()
    config.sweep.encoders = ()  # () = encoder.name alone
    config.sweep.seeds = ()  # () = the seed alone
    return config
