"""What a specification may say."""

import pytest

from metaperser_jax.data.crema_d import CremaDSpec, check_spec
from metaperser_jax.errors import InputError


@pytest.mark.parametrize(
    "spec",
    [
        CremaDSpec(root="somewhere"),
        CremaDSpec(fake=True),
        CremaDSpec(fake=True, modality="face", max_seconds=3, fake_clips=12),
    ],
)
def test_sound_specs_pass(spec):
    check_spec(spec)


FAULTS = {
    "root": ({"root": ""}, "root is ''"),
    "root type": ({"root": None}, "root is None"),
    "fake": ({"fake": 1}, "fake is 1, expected True or False"),
    "responses": ({"responses": ""}, "responses is ''"),
    "audio": ({"audio": None}, "audio is None"),
    "modality": ({"modality": "voices"}, "Did you mean 'voice'"),
    "min_ratings": ({"min_ratings": 0}, "min_ratings is 0, .* at least 1"),
    "min_ratings type": ({"min_ratings": True}, "min_ratings is True"),
    "max_seconds": ({"max_seconds": 0}, "max_seconds is 0"),
    "max_seconds nan": ({"max_seconds": float("nan")}, "max_seconds is nan"),
    "fake_clips": ({"fake_clips": 7443}, "fake_clips is 7443, .* 12 to 7442"),
    "fake_raters": ({"fake_raters": 0}, "fake_raters is 0"),
    "fake_seed": ({"fake_seed": -1}, "fake_seed is -1"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_is_named(case):
    change, message = FAULTS[case]
    with pytest.raises(InputError, match=message):
        check_spec(CremaDSpec(root="somewhere")._replace(**change))


def test_all_faults_are_listed_at_once():
    with pytest.raises(InputError) as caught:
        check_spec(CremaDSpec(modality="x", min_ratings=0, fake_seed=-1))  # type: ignore[arg-type]
    for name in ("root", "modality", "min_ratings", "fake_seed"):
        assert name in str(caught.value)
