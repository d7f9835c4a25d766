"""Episodes: numpy in, stacked and padded batches out, all from a seed."""

from typing import NamedTuple

import numpy as np

from metaperser_jax.errors import InputError
from metaperser_jax.typing import Batch, Episode, EpisodeRows, Pool, SupportMode

PADDING = -1
WIDTH_GRAIN = 16
MODES = ("independent", "same", "disjoint")


def rows_of(pool: Pool, annotator: int | np.integer) -> np.ndarray:
    """Returns the rows of the pool that this listener rated."""
    return np.flatnonzero(pool.annotator == annotator)


def listeners_of(pool: Pool) -> np.ndarray:
    """Returns the listeners with a rating in the pool's split, ascending."""
    found = np.unique(pool.annotator)
    return found[found >= 0]


def round_up(size: int, grain: int = WIDTH_GRAIN) -> int:
    """Returns the next multiple of `grain`: few widths, few compilations."""
    return -(-size // grain) * grain


def stack_rows(rows: list[np.ndarray]) -> np.ndarray:
    """Stacks [n_i] rows as [listeners, width], padded with -1."""
    width = round_up(max(map(len, rows)))
    return np.stack([pad_rows(r, width) for r in rows]).astype(np.int32)


def gather(pool: Pool, rows: np.ndarray) -> Batch:
    """Returns the ratings at `rows` [..., samples] as a batch; -1 is padding."""
    kept = rows != PADDING
    safe = np.where(kept, rows, 0)
    weights = pool.class_weights
    if weights is not None:
        weights = np.broadcast_to(weights, (*rows.shape, len(weights)))
    return Batch(
        pool.inputs[pool.row[safe]] * kept[..., None, None].astype(np.float32),
        pool.targets[safe] * kept[..., None].astype(np.float32),
        pool.mask[safe] & kept[..., None],
        weights,
    )


def pad_rows(rows: np.ndarray, size: int) -> np.ndarray:
    """Returns the rows cut or padded with -1 to `size`."""
    return np.pad(rows[:size], (0, max(size - len(rows), 0)), constant_values=PADDING)


def sample_rows(
    rng: np.random.Generator,
    rows: np.ndarray,
    num_support: int,
    num_query: int,
    mode: SupportMode,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the support and query rows of one listener, padded with -1.

    CSMT draws both from all of the listener's data: 'independent' draws twice (overlap
    allowed), 'same' takes the support set as the query set. 'disjoint' is standard
    MAML. Within a draw no row repeats; a listener with too few gives what it has (and
    at least one query clip in 'disjoint').

    Args:
      rng: the generator.
      rows: [n] the listener's rows, n >= 1 (n >= 2 for 'disjoint').
      num_support: support size.
      num_query: query size.
      mode: 'independent', 'same' or 'disjoint'.

    Returns:
      support [num_support] and query [num_query] (in mode 'same' [num_support]).
    """
    if mode not in MODES:
        raise InputError(f"mode={mode!r}: expected one of {', '.join(MODES)}.")
    if len(rows) < (2 if mode == "disjoint" else 1):
        raise InputError(
            f"a listener with {len(rows)} clip(s) cannot give an episode in mode "
            f"{mode!r}: leave it out of training."
        )
    first = rng.permutation(rows)
    if mode == "same":
        support = pad_rows(first, num_support)
        return support, support
    if mode == "independent":
        return pad_rows(first, num_support), pad_rows(rng.permutation(rows), num_query)
    split = _disjoint_split(len(rows), num_support, num_query)
    return pad_rows(first[:split], num_support), pad_rows(first[split:], num_query)


def _disjoint_split(count: int, num_support: int, num_query: int) -> int:
    """Shares too few clips in the proportion asked for, one at least to each side."""
    share = round(count * num_support / (num_support + num_query))
    wanted = num_support if count >= num_support + num_query else share
    return int(np.clip(wanted, 1, count - 1))


def sample_episode(
    rng: np.random.Generator,
    pool: Pool,
    annotator: int | np.integer,
    num_support: int,
    num_query: int,
    mode: SupportMode = "independent",
) -> Episode:
    """Returns one listener's episode of padded batches (see `sample_rows`)."""
    rows = rows_of(pool, annotator)
    support, query = sample_rows(rng, rows, num_support, num_query, mode)
    return Episode(gather(pool, support), gather(pool, query))


class EpisodeSampler:
    """Draws meta-batches from a pool; resumable, since each step has its own seed."""

    def __init__(self, pool: Pool, min_clips: int, seed: int):
        """Keeps the rows of every listener with at least `min_clips` ratings."""
        self.pool = pool
        self.seed = seed
        rows = {int(a): rows_of(pool, a) for a in listeners_of(pool)}
        kept = {a: r for a, r in rows.items() if len(r) >= max(min_clips, 2)}
        self.rows = list(kept.values())
        self.annotators = list(kept)
        self.num_left_out = len(rows) - len(kept)
        if not self.rows:
            raise InputError(
                f"no training listener has {max(min_clips, 2)} rated clips: give more "
                "ratings, or hold out fewer clips (split.unseen_fraction)."
            )

    @property
    def num_listeners(self) -> int:
        """How many listeners episodes are drawn from."""
        return len(self.rows)

    def listeners_at(self, step: int, num_tasks: int) -> np.ndarray:
        """Returns [tasks] listeners of a step: each once an epoch, in a new order."""
        places = np.arange(step * num_tasks, (step + 1) * num_tasks)
        epochs, offsets = np.divmod(places, self.num_listeners)
        orders = {
            int(e): np.random.default_rng((self.seed, 1, int(e))).permutation(
                self.num_listeners
            )
            for e in np.unique(epochs)
        }
        return np.array(
            [orders[int(e)][o] for e, o in zip(epochs, offsets, strict=True)]
        )

    def sample(
        self,
        step: int,
        num_tasks: int,
        num_support: tuple[int, int],
        num_query: int,
        mode: SupportMode,
    ) -> EpisodeRows:
        """Returns the rows of the meta-batch of a step, [tasks, ...].

        Args:
          step: 0-based step; the same step always gives the same episodes.
          num_tasks: listeners in the meta-batch.
          num_support: (fewest, most) support clips; each listener's number is drawn
            log-uniformly between them and the set padded to the most.
          num_query: query clips.
          mode: see `sample_rows`.
        """
        rng = np.random.default_rng((self.seed, 2, step))
        low, high = num_support
        pairs = []
        for listener in self.listeners_at(step, num_tasks):
            size = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
            support, query = sample_rows(
                rng, self.rows[listener], size, num_query, mode
            )
            pairs.append(
                (
                    pad_rows(support, high),
                    pad_rows(
                        query, max(num_query, high) if mode == "same" else num_query
                    ),
                )
            )
        support, query = (np.stack(rows) for rows in zip(*pairs, strict=True))
        return EpisodeRows(support.astype(np.int32), query.astype(np.int32))


def fit_width(rows: np.ndarray, width: int) -> np.ndarray:
    """Returns the rows [..., n] cut or padded with -1 to `width`."""
    missing = [(0, 0)] * (rows.ndim - 1) + [(0, max(width - rows.shape[-1], 0))]
    return np.pad(rows[..., :width], missing, constant_values=PADDING)


class EvaluationPlan(NamedTuple):
    """Which rows each held-out listener adapts to and is judged on, draw by draw."""

    annotators: np.ndarray  # [listeners] int
    support: np.ndarray  # [listeners, draws, most] rows in the order drawn, -1 padding
    query: np.ndarray  # [listeners, draws, query] rows, -1 padding
    num_left_out: int  # listeners with too few clips
    num_short: int  # listeners that could not give the largest support set


def plan_evaluation(
    pool: Pool,
    annotators: np.ndarray,
    most_support: int,
    num_draws: int,
    min_query: int,
    seed: int,
    max_query: int | None = None,
    support_pool: Pool | None = None,
) -> EvaluationPlan:
    """Draws nested support sets and their query sets.

    Within a draw the support set of K clips is the first K of one random order, and
    the query set is what the largest support set leaves: all K share a query set. A
    listener with fewer clips gives a smaller support set; one that cannot give a clip
    to adapt to and `min_query` to be judged on is left out and counted.

    Args:
      pool: ratings of one scenario.
      annotators: held-out listeners.
      most_support: the largest K.
      num_draws: random draws per listener.
      min_query: fewest query clips.
      seed: of the draws; the same for every method.
      max_query: most query clips, None for all.
      support_pool: what support sets are drawn from instead of `pool`, with clips of
        its own; then all of `pool` is the query set.
    """
    rows = [rows_of(pool, a) for a in annotators]
    others = rows if support_pool is None else [
        rows_of(support_pool, a) for a in annotators
    ]  # fmt: skip
    kept = min_query if support_pool is None else 0
    used = [
        (a, r, o)
        for a, r, o in zip(annotators, rows, others, strict=True)
        if len(r) >= min_query and len(o) > kept
    ]
    width = max((len(r) for _, r, _ in used), default=1)

    def draw(annotator: int, number: int, rows: np.ndarray, others: np.ndarray):
        rng = np.random.default_rng((seed, annotator, number))
        order = rng.permutation(others)
        split = min(most_support, len(others) - kept)
        query = order[split:] if support_pool is None else rng.permutation(rows)
        return pad_rows(order[:split], most_support), pad_rows(query[:max_query], width)

    draws = [[draw(int(a), d, r, o) for d in range(num_draws)] for a, r, o in used]
    if not draws:
        support, query = (np.zeros((0, num_draws, n), int) for n in (most_support, 1))
        return EvaluationPlan(np.zeros(0, int), support, query, len(rows), 0)
    support = np.array([[s for s, _ in per] for per in draws])
    query = np.array([[q for _, q in per] for per in draws])
    longest = int((query != PADDING).sum(-1).max())
    short = sum(len(o) < most_support + kept for _, _, o in used)
    return EvaluationPlan(
        np.array([a for a, _, _ in used]), support, fit_width(query, round_up(longest)),
        len(rows) - len(used), short,
    )  # fmt: skip
