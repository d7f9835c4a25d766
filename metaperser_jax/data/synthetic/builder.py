"""The synthetic corpus as a TensorFlow Datasets package, without TensorFlow.

One example a clip: its audio and all its ratings, in array_record files that
`as_data_source` reads back. What belongs to the whole corpus is in the metadata.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from metaperser_jax.data import builds
from metaperser_jax.data.synthetic import listeners, simulation

SCHEMA = 1  # raise when the features or the metadata change


@dataclasses.dataclass(eq=False)
class SyntheticConfig(tfds.core.BuilderConfig):
    """A specification; its name carries a hash of it, so that two never mix."""

    spec: simulation.SyntheticSpec = dataclasses.field(
        default_factory=simulation.SyntheticSpec
    )


def config_name(spec: simulation.SyntheticSpec) -> str:
    """Names a configuration after its specification."""
    parts = (SCHEMA, simulation.spec_hash(spec))
    return builds.config_name(f"seed{spec.seed}", *parts)


class SyntheticListeners(tfds.core.GeneratorBasedBuilder):
    """Speech-like clips rated by simulated listeners."""

    VERSION = tfds.core.Version(simulation.GENERATOR_VERSION)

    def _info(self) -> tfds.core.DatasetInfo:
        tensor, text = tfds.features.Tensor, tfds.features.Text
        num_classes, num_dimensions = len(listeners.CLASSES), len(listeners.DIMENSIONS)
        return builds.dataset_info(
            self,
            {
                "clip": text(),
                "speaker": text(),
                "session": text(),
                "sha256": text(),
                "audio": tensor(shape=(None,), dtype=np.int16),
                "annotator": tensor(shape=(None,), dtype=np.int32),
                "targets": tensor(shape=(None, num_classes), dtype=np.uint8),
                "dimensions": tensor(shape=(None, num_dimensions), dtype=np.uint8),
                "ground_truth": tensor(shape=(None, num_classes), dtype=np.float32),
            },
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        config, metadata = self.builder_config, self.info.metadata
        assert isinstance(config, SyntheticConfig)
        assert metadata is not None
        spec = config.spec
        plan = simulation.plan_clips(spec)
        ratings = simulation.simulate_ratings(spec, plan)
        metadata["summary"] = simulation.summarize(spec, plan, ratings)
        examples = self._generate_examples(spec, plan, ratings)
        return builds.filled_splits([("clips", examples)], metadata)

    def _generate_examples(
        self,
        spec: simulation.SyntheticSpec,
        plan: simulation.ClipPlan,
        ratings: simulation.SimulatedRatings,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        by_clip = np.argsort(ratings.clip, kind="stable")
        ends = np.cumsum(np.bincount(ratings.clip, minlength=spec.num_clips))
        for index, rows in enumerate(np.split(by_clip, ends[:-1])):
            audio = simulation.render_clip(spec, plan, index)
            speaker = plan.speaker[index]
            yield (
                index,
                {
                    "clip": f"clip{index:05d}_speaker{speaker:02d}",
                    "speaker": f"speaker{speaker:02d}",
                    "session": f"session{plan.session[index] + 1}",
                    "sha256": builds.samples_hash(audio),
                    "audio": audio,
                    "annotator": ratings.annotator[rows],
                    "targets": ratings.targets[rows].astype(np.uint8),
                    "dimensions": ratings.dimensions[rows].astype(np.uint8),
                    "ground_truth": ratings.ground_truth[rows].astype(np.float32),
                },
            )
