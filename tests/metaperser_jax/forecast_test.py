"""What is ahead, said before any of it is done."""

import numpy as np
import pytest

from metaperser_jax import cells, forecast, sweep
from metaperser_jax.errors import Problems
from tests.metaperser_jax.sweeps import SEEDS, make_settings


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """The workdir of a sweep that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    assert sweep.run_sweep(make_settings(cache), workdir, Problems()) == 12
    return workdir


class TestForecast:
    def test_it_counts_what_is_done_and_computes_nothing(self, whole, cache, tmp_path):
        settings = make_settings(cache)
        before = forecast.forecast(settings, tmp_path, "sweep", Problems())
        assert (before.variants, before.folds, before.listeners) == (2, 2, 4)
        assert (before.cells, before.done, before.measured) == (12, 0, 0)
        assert before.cell_seconds > 0
        after = forecast.forecast(settings, whole, "sweep", Problems())
        assert (after.cells, after.done, after.cell_seconds) == (12, 12, 0)
        assert list(tmp_path.iterdir()) == []

    def test_finished_cells_tell_the_time_of_the_others(self, cache, tmp_path):
        settings = make_settings(cache)
        sweep.run_sweep(settings, tmp_path, Problems(), (1, 4))
        rows = cells.read_cells(tmp_path, Problems()).values()
        found = forecast.forecast(settings, tmp_path, "sweep", Problems())
        assert found.measured == 3
        expected = 3 * sum(row["seconds"] for row in rows)  # three folds are left
        np.testing.assert_allclose(found.cell_seconds, expected)

    def test_cells_of_other_settings_are_open(self, whole, cache):
        settings = make_settings(cache)
        more = settings._replace(evaluation=settings.evaluation._replace(num_draws=3))
        found = forecast.forecast(more, whole, "sweep", Problems())
        assert (found.cells, found.done) == (12, 0)
        assert found.measured == 0  # their times tell nothing of these

    def test_a_run_has_one_variant(self, cache, tmp_path):
        settings = make_settings(cache)
        found = forecast.forecast(settings, tmp_path, "all", Problems())
        assert (found.variants, found.cells) == (1, 6)

    def test_more_work_takes_longer_and_more_room(self, cache, tmp_path):
        def ahead(**changes):
            settings = make_settings(cache, **changes)
            return forecast.forecast(settings, tmp_path, "sweep", Problems())

        small = ahead()
        large = ahead(sweep={"seeds": SEEDS, "encoders": ("microsoft/wavlm-large",)})
        assert large.encoder_seconds["microsoft/wavlm-large"] > 10 * max(
            small.encoder_seconds.values()
        )
        assert large.disk_bytes > small.disk_bytes
        assert large.memory_bytes > small.memory_bytes

    def test_the_page_holds_every_number(self, whole, cache):
        found = forecast.forecast(make_settings(cache), whole, "sweep", Problems())
        page = forecast.describe(found)
        for text in ("12, 12 done", "4 listeners", "base_rate", "logmel", "GB"):
            assert text in page
        assert max(map(len, page.splitlines())) <= 100

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.4, "0 s"), (89.0, "89 s"), (120.0, "2 min"), (9e3, "2.5 h")],
    )
    def test_durations(self, seconds, text):
        assert forecast.duration(seconds) == text
