"""From a config to settings: every fault at once, each with its key."""

import collections.abc
import pathlib
import runpy
import typing
from typing import Literal

import ml_collections
import pytest

from metaperser_jax import methods, settings
from metaperser_jax.data.crema_d import EMO_SUPERB_FOLDS as CREMA_D_FOLDS
from metaperser_jax.data.iemocap import EMO_SUPERB_FOLDS
from metaperser_jax.errors import InputError
from metaperser_jax.settings import EvaluationSettings, from_config

CONFIGS = sorted(pathlib.Path(__file__).parents[2].glob("configs/*.py"))
(COMMON,) = (path for path in CONFIGS if path.stem == "common")
SPEC_METHODS = {
    "no_adaptation",  # SSL-E
    "prior_calibration",
    "fine_tune",
    "scratch",
    "fomaml",
    "maml",
    "full",
    "minus_csmt",
    "minus_da",
    "minus_lslr",
    "anil",
    "reptile",
    "prototypes",
    "listener_embedding",
    "nearest_listener",
    "oracle",
}
MANIFEST = {"corpus": "manifest", "data": {"root": "folder"}}


def with_value(key: str, value: object) -> dict:
    """A synthetic config with one key of one section set."""
    section, _, name = key.rpartition(".")
    return {
        "corpus": "synthetic",
        **({section: {name: value}} if section else {name: value}),
    }


def faults_of(config) -> list[str]:
    with pytest.raises(InputError) as caught:
        from_config(config)
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"the config has {len(lines)} fault(s):"
    return [line.strip() for line in lines]


class TestDefaults:
    def test_sections_left_out_keep_the_defaults(self):
        found = from_config({"corpus": "synthetic"})
        assert found.evaluation == EvaluationSettings()
        assert found.meta.second_order_from == 0.5
        assert (found.seed, found.strict, found.tensorboard) == (0, False, True)

    @pytest.mark.parametrize(
        ("section", "name", "value"),
        [
            ("meta", "num_steps", 5),
            ("meta", "learning_rate", 1e-4),
            ("meta", "rate_learning_rate", 1e-3),
            ("meta", "clip_norm", 1.0),
            ("meta", "init_learning_rate", 1e-2),
            ("meta", "mode", "independent"),
            ("meta", "num_tasks", 4),
            ("meta", "num_query", 32),
            ("evaluation", "num_support", (4, 8, 16, 32)),
            ("evaluation", "headline_support", 16),
            ("evaluation", "num_draws", 20),
            ("head", "hidden", 256),
            ("head", "activation", "none"),
            ("loss", "smoothing", 0.05),
        ],
    )
    def test_the_defaults_are_those_of_the_method(self, section, name, value):
        found = getattr(from_config({"corpus": "synthetic"}), section)
        assert getattr(found, name) == value

    def test_settings_are_hashable(self):
        assert hash(from_config({"corpus": "synthetic", "data": {"seed": 3}}))
        assert hash(from_config(MANIFEST | {"data": {"root": "x", "classes": ["a"]}}))

    def test_a_config_dict_and_a_dict_give_the_same(self):
        plain = {"corpus": "synthetic", "meta": {"num_support": [2, 3]}}
        assert from_config(ml_collections.ConfigDict(plain)) == from_config(plain)
        frozen = ml_collections.FrozenConfigDict(plain)
        assert from_config(frozen) == from_config(plain)

    @pytest.mark.parametrize("key", ["meta.num_support", "evaluation.num_support"])
    def test_lists_become_tuples(self, key):
        found = from_config(with_value(key, [4, 16]))
        section, name = key.split(".")
        assert getattr(getattr(found, section), name) == (4, 16)

    def test_nested_lists_become_tuples(self):
        rows = {"root": "x", "keep_rows": [["query", ["1", "3"]]]}
        found = from_config({"corpus": "manifest", "data": rows})
        assert found.data.keep_rows == (("query", ("1", "3")),)

    def test_whole_numbers_become_floats_where_floats_are_meant(self):
        meta = {"clip_norm": 1, "rate_bounds": [0, 1], "num_steps": 5}
        found = from_config({"corpus": "synthetic", "meta": meta}).meta
        assert type(found.clip_norm) is float
        assert [type(value) for value in found.rate_bounds] == [float, float]
        assert type(found.num_steps) is int


class TestMethods:
    def test_every_method_of_the_specification_is_there(self):
        controls = {"base_rate", "wrong_listener", "ground_truth"}
        assert set(settings.METHODS) == SPEC_METHODS | controls

    def test_every_name_has_one_way_to_be_made(self):
        made = [*methods.RECIPES, *methods.DERIVED, "ground_truth"]
        assert sorted(made) == sorted(settings.METHODS)


class TestConfigFiles:
    @pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
    def test_each_config_is_without_fault(self, path):
        names = runpy.run_path(str(path))
        if "get_config" in names:
            config = names["get_config"]()
            if "root" in config.data and not config.data.root:
                config.data.root = "folder"
            assert from_config(config)

    @pytest.mark.parametrize(
        "choice", ["fake", "fake:wavlm:2", "hubert:3", "wav2vec2", "all", "logmel:1"]
    )
    def test_choices_of_iemocap(self, choice):
        config = runpy.run_path("configs/iemocap.py")["get_config"](choice)
        config.data.root = "" if config.data.fake else "folder"
        chosen = from_config(config)
        numbers = [int(word) for word in choice.split(":") if word.isdigit()]
        folds = [EMO_SUPERB_FOLDS[n - 1] for n in numbers] or list(EMO_SUPERB_FOLDS)
        assert list(chosen.split.partitions) == folds
        assert len(chosen.sweep.encoders) == (3 if choice == "all" else 0)

    @pytest.mark.parametrize("choice", ["fake", "face", "hubert:audio_visual:5", "all"])
    def test_choices_of_crema_d(self, choice):
        config = runpy.run_path("configs/crema_d.py")["get_config"](choice)
        config.data.root = "" if config.data.fake else "folder"
        chosen, words = from_config(config), choice.split(":")
        folds = CREMA_D_FOLDS[4:] if "5" in words else CREMA_D_FOLDS
        assert chosen.split.partitions == folds
        found = set(words) & {"face", "audio_visual"}
        assert chosen.data.modality == (found or {"voice"}).pop()
        encoder = "logmel" if "fake" in words else "microsoft/wavlm-large"
        if "hubert" in words:
            encoder = "facebook/hubert-large-ll60k"
        assert chosen.encoder.name == encoder
        assert len(chosen.sweep.encoders) == (3 if choice == "all" else 0)

    @pytest.mark.parametrize(
        ("config", "choice", "said"),
        [
            ("iemocap", "wavlm:6", "'6': expected one of wavlm"),
            ("iemocap", "face", "'face': expected one of wavlm"),
            ("iemocap", "hubert:wavlm", "hubert and wavlm: name one of them"),
            ("iemocap", "logmel:all", "logmel and all: name one of them"),
            ("iemocap", "fake:1:1", "'1' is named twice"),
            ("crema_d", "voice:face", "voice and face: name one of them"),
        ],
    )
    def test_a_choice_that_cannot_be_is_told(self, config, choice, said):
        with pytest.raises(ValueError, match=said):
            runpy.run_path(f"configs/{config}.py")["get_config"](choice)

    def test_each_key_can_be_set_by_a_flag_and_keeps_its_default(self):
        base = runpy.run_path(str(COMMON))["base_config"]().to_dict()
        for name, section in settings.SECTIONS.items():
            assert base[name] == section()._asdict(), name
        assert from_config(base) == from_config({"corpus": "synthetic"})


FAULTS = [
    # key, value, what the message says
    ("meta.num_steps", -1, "at least 0"),
    ("meta.num_steps", 2.0, "int"),
    ("meta.num_steps", True, "int"),
    ("meta.num_steps", "5", "int"),
    ("meta.num_support", (4,), "tuple[int, int]"),
    ("meta.num_support", (8, 4), "fewest <= most"),
    ("meta.num_support", (0, 4), "1 <= fewest"),
    ("meta.num_support", ("4", 8), "tuple[int, int]"),
    ("meta.rate_bounds", (0.1,), "low < high"),
    ("meta.rate_bounds", (0.1, 0.0), "low < high"),
    ("meta.rate_bounds", ("a", "b"), "tuple[float"),
    ("meta.multi_step_weights", (1.0, 2.0), "meta.num_steps=5"),
    ("meta.duration", "soon", "'25 epochs'"),
    ("meta.duration", "-3 epochs", "'25 epochs'"),
    ("meta.duration", "40%", "'25 epochs'"),
    ("meta.duration", 300, "str"),
    ("meta.adapt", "(", "regular expression"),
    ("meta.mode", "both", "independent, same, disjoint"),
    ("meta.second_order_from", 1.5, "between 0 and 1"),
    ("meta.learning_rate", 0.0, "above 0"),
    ("meta.learning_rate", float("nan"), "above 0"),
    ("meta.learning_rate", float("inf"), "finite"),
    ("meta.clip_norm", -1.0, "above 0"),
    ("meta.remat", 1, "bool"),
    ("evaluation.num_support", (), "one number or more"),
    ("evaluation.num_support", (0, 4), "the first at least 1"),
    ("evaluation.num_support", (16, 4), "each larger than the one before"),
    ("evaluation.num_support", (4, 4), "each larger than the one before"),
    ("evaluation.num_support", (4, "8"), "tuple[int"),
    ("evaluation.num_support", 16, "tuple[int"),
    ("evaluation.num_support", (4, 8), "headline_support=16"),
    ("evaluation.headline_support", 5, "num_support=(4, 8, 16, 32)"),
    ("evaluation.methods", ("full", "magic"), "one of full"),
    ("evaluation.methods", "full", "tuple[str"),
    ("evaluation.methods", ("full", "maml", "full"), "none twice"),
    ("evaluation.methods", (), "1 or more"),
    ("evaluation.headline_metrics", ("nll", "nll"), "none twice"),
    ("evaluation.scenarios", ("unsen",), "seen, unseen"),
    ("evaluation.scenarios", ("seen", "seen"), "none twice"),
    ("evaluation.headline_metrics", ("f2",), "macro_f1"),
    ("evaluation.num_resamples", 1, "at least 2"),
    ("split.group_by", "day", "session, speaker, clip"),
    ("split.unseen_fraction", 1.0, "below 1"),
    ("split.num_test_listeners", 0, "at least 1"),
    ("split.seed", -1, "at least 0"),
    ("head.activation", "tanh", "none, relu, gelu"),
    ("head.hidden", 0, "at least 1"),
    ("loss.family", "hinge", "softmax, sigmoid"),
    ("loss.smoothing", 1.0, "below 1"),
    ("pretrain.epochs", 0, "at least 1"),
    ("pretrain.batch_size", -1, "at least 1"),
    ("features.inputs", "text", "audio, precomputed, other_raters"),
    ("features.inputs", "precomputed", "synthetic corpus"),
    ("features.batch_size", -1, "at least 0"),
    ("features.memory_gb", 0.0, "above 0"),
    ("features.encoder", "logmel", "unknown key"),
    ("encoder", "logmel", "a section of keys"),
    ("encoder.name", "", "a name on the hub"),
    ("encoder.name", None, "str"),
    ("encoder.revision", 3, "str"),
    ("encoder.dtype", "float16", "float32, bfloat16"),
    ("encoder.tuning", "adapters", "frozen, top_n, lora, full"),
    ("encoder.tuning", "lora", "'logmel' has no weights"),
    ("encoder.num_tuned_layers", 0, "at least 1"),
    ("encoder.lora_rank", 0, "at least 1"),
    ("encoder.lora_alpha", 0.0, "above 0"),
    ("encoder.lora_pattern", "(", "regular expression"),
    ("encoder.tune_front_end", 1, "bool"),
    ("encoder.learning_rate", -1e-5, "at least 0"),
    ("encoder.learning_rate", float("inf"), "finite"),
    ("encoder.epochs", 0, "at least 1"),
    ("encoder.batch_size", 0, "at least 1"),
    ("encoder.accumulate", 0, "at least 1"),
    ("encoder.warmup", 1.0, "below 1"),
    ("encoder.remat", "yes", "bool"),
    ("data.num_clips", 1, "num_clips = 1: expected 12"),
    ("data.num_listeners", "many", "int"),
    ("seed", -1, "at least 0"),
    ("seed", 2**32, "below 2^32"),
    ("strict", "yes", "bool"),
    ("corpus", "iemocapp", "synthetic, manifest"),
    ("corpus", ["synthetic"], "synthetic, manifest"),
    ("meta", 3, "a section of keys"),
]  # fmt: skip


class TestFaults:
    @pytest.mark.parametrize(("key", "value", "message"), FAULTS)
    def test_a_value_that_cannot_be(self, key, value, message):
        (fault,) = faults_of(with_value(key, value))
        assert fault.startswith(key.split(".")[0])
        assert message in fault
        assert key in fault or key.split(".")[0] == "data"

    @pytest.mark.parametrize(
        ("key", "near"),
        [
            ("meta.num_stepz", "num_steps"),
            ("data.num_clip", "num_clips"),
            ("sed", "seed"),
            ("evaluaton.num_draws", "evaluation"),
        ],
    )
    def test_an_unknown_key_comes_with_the_nearest_known_one(self, key, near):
        (fault,) = faults_of(with_value(key, 3))
        unknown = key if near != "evaluation" else "evaluaton"
        assert fault == f"{unknown}: unknown key. Did you mean {near!r}?"

    @pytest.mark.parametrize(
        ("config", "fault"),
        [
            ({"corpus": "manifest"}, "data.root: missing."),
            ({}, "corpus=None: expected one of synthetic, manifest, iemocap, crema_d."),
        ],
    )
    def test_missing_keys(self, config, fault):
        assert faults_of(config) == [fault]

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("root", "", "a folder (--config.data.root=FOLDER)"),
            ("label_columns", "label", "Sequence[str]"),
            ("classes", [1, 2], "Sequence[str] | None"),
            ("keep_rows", [["query", [1]]], "Sequence[tuple[str, Sequence[str]]]"),
            ("min_ratings", 0, "at least 1"),
            ("unknown_labels", "skip", "error_row"),
            ("label_columns", [], "name one"),
        ],
    )
    def test_faults_of_a_manifest(self, key, value, message):
        (fault,) = faults_of({"corpus": "manifest", "data": {"root": "x", key: value}})
        assert key in fault
        assert message in fault

    @pytest.mark.parametrize("inputs", ["precomputed", "other_raters"])
    def test_an_encoder_is_tuned_on_recordings_alone(self, inputs):
        config = MANIFEST | {"features": {"inputs": inputs}}
        config |= {"encoder": {"name": "some/encoder", "tuning": "full"}}
        (fault,) = faults_of(config)
        assert "encoder.tuning='full'" in fault
        assert f"features.inputs={inputs!r}" in fault
        config["encoder"]["tuning"] = "frozen"
        assert from_config(config).encoder.tuning == "frozen"

    def test_all_faults_are_told_at_once(self):
        config = {
            "corpus": "synthetic",
            "seed": -1,
            "metta": {},
            "data": {"num_clips": 3},
            "meta": {"num_steps": -1, "num_stepz": 1, "mode": "x"},
            "evaluation": {"num_support": (0,)},
        }
        assert len(faults_of(config)) == 7

    @pytest.mark.parametrize("config", [None, 3, "synthetic", ["corpus"]])
    def test_what_is_no_config_is_refused(self, config):
        with pytest.raises(InputError, match="expected sections of keys"):
            from_config(config)

    def test_every_rule_names_a_key_that_exists(self):
        data = settings.CORPORA["manifest"]
        sections = {**settings.SECTIONS, "": settings.Settings, "data": data}
        for key in settings.RULES:
            section, _, name = key.rpartition(".")
            assert name in sections[section]._fields, key


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (True, float, False),
        (True, int, False),
        (1.0, int, False),
        (None, float | None, True),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ((1, 2), tuple[int, int], True),
        ((1, 2, 3), tuple[int, int], False),
        ((), tuple[float, ...], True),
        ((1.0, "a"), tuple[float, ...], False),
        ("ab", collections.abc.Sequence[str], False),
        (("a", "b"), collections.abc.Sequence[str], True),
        ((("a", ("b",)),), collections.abc.Sequence[tuple[str, typing.Any]], True),
    ],
)
def test_fits(value, hint, expected):
    assert settings.fits(value, hint) is expected
