"""Rows of results as the evaluation writes them, for tests that show them."""


def record(method="full", metric="macro_f1", mean=0.5, half=0.02, **changes):
    """A mean with its interval."""
    row = {
        "corpus": "toy",
        "scenario": "seen",
        "num_support": 16,
        "method": method,
        "metric": metric,
        "mean": mean,
        "low": None if mean is None else mean - half,
        "high": None if mean is None else mean + half,
        "num_listeners": 12,
        "num_draws": 20,
    }
    return row | changes


def comparison(reference="no_adaptation", metric="macro_f1", **changes):
    """A paired difference of the full method."""
    row = {
        "scenario": "seen",
        "num_support": 16,
        "method": "full",
        "reference": reference,
        "metric": metric,
        "difference": 0.08,
        "low": 0.06,
        "high": 0.1,
        "p_value": 0.001,
        "p_holm": 0.004,
        "share_worse": 0.25,
        "num_listeners": 12,
    }
    return row | changes


def listener_value(annotator="E1", method="full", value=0.5, **changes):
    """What one listener reached."""
    row = {
        "scenario": "seen",
        "num_support": 16,
        "method": method,
        "metric": "macro_f1",
        "annotator": annotator,
        "value": value,
    }
    return row | changes


def before_and_after(gains, value=0.5, **changes):
    """Values without adaptation and with it: annotator -> what it gains."""
    return [
        listener_value(name, method, value + shift, **changes)
        for name, gain in gains.items()
        for method, shift in (("no_adaptation", 0.0), ("full", gain))
    ]


def curve_points(methods, stages=("pretrain", "meta"), steps=range(5), height=1):
    """Losses that fall as 1 / (1 + step)."""
    return [
        {
            "method": method,
            "stage": stage,
            "step": step,
            "name": name,
            "value": height / (1 + step),
        }
        for method in methods
        for stage in stages
        for step in steps
        for name in ("train_loss", "dev_loss")
    ]
