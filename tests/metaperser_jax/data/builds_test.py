"""Builds of a toy corpus: whole or not at all, quiet, and read back checked."""

import concurrent.futures
import dataclasses
import hashlib
import importlib
import logging
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from metaperser_jax.data import builds
from metaperser_jax.data.crema_d.sources import Sources
from metaperser_jax.data.synthetic import SyntheticSpec
from metaperser_jax.errors import InputError, MachineError

SIZES = {"north": 3, "south": 0, "east": 4}  # in no order, one without examples
AUDIO = [np.arange(i, 400 * (i + 1), dtype=np.int16) for i in range(7)]


@dataclasses.dataclass(eq=False)
class ToyConfig(tfds.core.BuilderConfig):
    extra: tuple[str, ...] = ()  # features beside the common ones


class ToyClips(tfds.core.GeneratorBasedBuilder):
    """Clips that count."""

    VERSION = tfds.core.Version("1.2.3")
    num_generated = 0

    def _info(self):
        assert isinstance(self.builder_config, ToyConfig)
        text = tfds.features.Text
        features = {name: text() for name in self.builder_config.extra}
        features["audio"] = tfds.features.Tensor(shape=(None,), dtype=np.int16)
        return builds.dataset_info(self, {"id": text(), "sha256": text(), **features})

    def _split_generators(self, dl_manager):
        self.info.metadata["colour"] = "red"
        first, splits = 0, []
        for name, size in SIZES.items():
            splits.append((name, self._generate_examples(range(first, first + size))))
            first += size
        return builds.filled_splits(splits, self.info.metadata)

    def _generate_examples(self, numbers):
        for key, number in enumerate(numbers):
            type(self).num_generated += 1
            audio, names = AUDIO[number], ("id", *self.builder_config.extra)
            example = {"audio": audio, "sha256": builds.samples_hash(audio)}
            yield key, example | {name: f"{name}{number}" for name in names}


def prepare(place, name="toy", extra=(), **options):
    config = ToyConfig(name=name, extra=extra)
    return builds.prepare(ToyClips, config, place, "the toy", **options)


def open_toy(place, **options):
    return builds.Source(prepare(place, **options), clip="id")


def read(source):
    return [source.read_audio(index) for index in range(len(source))]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("builds")


@pytest.fixture(scope="module")
def toy(place):
    return open_toy(place)


def test_examples_are_numbered_across_the_splits_in_their_order(toy):
    assert len(toy) == 7
    assert toy.fact("splits") == ["north", "east"]
    assert builds.texts([toy[i] for i in range(7)], "id") == tuple(
        f"id{i}" for i in range(7)
    )


def test_audio_comes_back_as_float32(toy):
    for index, audio in enumerate(AUDIO):
        found = toy.read_audio(index)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found * 32768, audio)


def test_read_all_gives_seconds_for_audio(toy):
    examples = list(toy.read_all())
    expected = [len(audio) / 16_000 for audio in AUDIO]
    assert [example["seconds"] for example in examples] == expected
    assert all("audio" not in example for example in examples)


def test_many_threads_may_read(toy):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waves = list(pool.map(toy.read_audio, [*range(7)] * 20))
    for index, wave in enumerate(waves):
        np.testing.assert_array_equal(wave * 32768, AUDIO[index % 7])


def test_the_description_is_that_of_the_builder(place, toy):
    assert prepare(place).info.description == "Clips that count."


def test_a_build_that_is_there_is_not_made_again(tmp_path):
    before = ToyClips.num_generated
    first = open_toy(tmp_path)
    assert ToyClips.num_generated == before + 7
    np.testing.assert_equal(read(open_toy(tmp_path)), read(first))
    assert ToyClips.num_generated == before + 7


def test_a_stopped_build_leaves_nothing_and_is_begun_anew(tmp_path, monkeypatch):
    def stop(audio):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(builds, "samples_hash", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path)
    assert not list(tmp_path.rglob("*.array_record*"))
    assert len(read(open_toy(tmp_path))) == 7


def test_who_loses_a_race_takes_the_build_of_the_winner(tmp_path, monkeypatch):
    build = ToyClips.download_and_prepare

    def lose(self):
        build(self)
        raise FileExistsError("the other one was first")

    with monkeypatch.context() as patch:
        patch.setattr(ToyClips, "download_and_prepare", lose)
        assert len(open_toy(tmp_path)) == 7


@pytest.mark.parametrize(
    ("room", "space"), [("", "some space or"), ("9 GB", r"some space \(9 GB\) or")]
)
def test_a_folder_that_cannot_be_written_is_the_machines_fault(tmp_path, room, space):
    (tmp_path / "file").write_text("in the way")
    words = rf"file: the toy could not be written .*Free {space} choose another data"
    with pytest.raises(MachineError, match=words):
        prepare(tmp_path / "file", room=room)


def test_nothing_is_printed_without_a_terminal(tmp_path, capfd, caplog):
    prepare(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_quiet_ends_where_it_ends(capsys, monkeypatch):
    logger = logging.getLogger("absl")
    monkeypatch.setattr(logger, "level", logging.INFO)
    with builds.quiet():
        print("hidden")
        assert logger.level == logging.ERROR
    print("shown")
    assert logger.level == logging.INFO
    assert capsys.readouterr().out == "shown\n"


DAMAGES = {
    "truncated": lambda path, content: path.write_bytes(content[: len(content) // 2]),
    "overwritten": lambda path, content: path.write_bytes(
        content[: len(content) // 2] + bytes(99) + content[len(content) // 2 + 99 :]
    ),
    "emptied": lambda path, content: path.write_bytes(b""),
    "of another": lambda path, content: path.write_bytes(b"{}"),
    "missing": lambda path, content: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["*east.array_record*", "dataset_info.json", "metadata.json"]
)
def test_a_damaged_file_has_one_clear_message(tmp_path, name, damage):
    open_toy(tmp_path)
    (path,) = tmp_path.rglob(name)
    DAMAGES[damage](path, path.read_bytes())
    with pytest.raises(InputError) as caught:
        read(open_toy(tmp_path))
    message = str(caught.value)
    folder = tmp_path / "toy_clips" / "toy" / "1.2.3"
    assert message.startswith(f"{folder}: the corpus is damaged (")
    assert message.endswith(builds.ADVICE)


def test_audio_that_is_not_what_was_written_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(builds, "samples_hash", lambda audio: str(len(audio)))
        source = open_toy(tmp_path)
        assert len(source.read_audio(2)) == len(AUDIO[2])
    with pytest.raises(InputError, match=r"audio of id2 is not what was written"):
        source.read_audio(2)


def test_what_the_builder_did_not_note_is_damage(toy):
    assert toy.fact("colour") == "red"
    with pytest.raises(InputError, match=r"damaged \('taste'\)"):
        toy.fact("taste")


def test_a_build_of_an_older_schema_is_not_looked_at(tmp_path):
    old, new = (builds.config_name("toy", schema, "files") for schema in (1, 2))
    open_toy(tmp_path, name=old)
    (old_folder,) = (tmp_path / "toy_clips").iterdir()
    before = {path: path.read_bytes() for path in old_folder.glob("*/*")}
    with pytest.raises(InputError, match="damaged"):  # under the same name
        read(open_toy(tmp_path, name=old, extra=("mood",)))
    found = open_toy(tmp_path, name=new, extra=("mood",))
    assert found[6]["mood"] == b"mood6"
    assert {path: path.read_bytes() for path in before} == before


def name_synthetic(package, folder):
    return package.config_name(SyntheticSpec())


def name_iemocap(package, folder):
    return package.config_name("digest", 60.0)


def name_crema_d(package, folder):
    path = pathlib.Path(folder / "answers")
    path.write_text("answers")
    none = dict.fromkeys(("first_clicks", "votes", "summary"))
    return package.config_name(Sources(folder, path, folder, {}, **none), 60.0)


PACKAGES = {
    "synthetic": ("SyntheticListeners", name_synthetic, "1: ca3f994f0b95"),
    "iemocap": ("IemocapUtterances", name_iemocap, "1: 8cf83dd9acad"),
    "crema_d": ("CremaDClips", name_crema_d, "1: 3e67c2b5bd7a"),
}


def package_of(corpus):
    return importlib.import_module(f"metaperser_jax.data.{corpus}.builder")


@pytest.mark.parametrize("corpus", PACKAGES)
def test_each_package_names_its_builds_after_its_schema(corpus, tmp_path, monkeypatch):
    package, (_, make_name, _) = package_of(corpus), PACKAGES[corpus]
    name = make_name(package, tmp_path)
    assert make_name(package, tmp_path) == name
    monkeypatch.setattr(package, "SCHEMA", package.SCHEMA - 1)
    assert make_name(package, tmp_path) != name


@pytest.mark.parametrize("corpus", PACKAGES)
def test_features_do_not_change_without_a_new_schema(corpus, tmp_path):
    package, (builder, _, expected) = package_of(corpus), PACKAGES[corpus]
    with builds.quiet():
        made = getattr(package, builder)(data_dir=str(tmp_path))
    features = made.info.features
    text = f"{features.get_tensor_info()} {features.get_serialized_info()}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    advice = f"raise SCHEMA of {package.__name__}, then write both here"
    assert f"{package.SCHEMA}: {digest}" == expected, advice


@pytest.mark.parametrize("change", [("b", 1, "x"), ("a", 2, "x"), ("a", 1, "y")])
def test_names_tell_builds_apart(change):
    name = builds.config_name("a", 1, "x")
    assert name.startswith("a_")
    assert builds.config_name(*change) != name


def test_sixteen_bits_are_kept_exactly():
    samples = np.arange(-(2**15), 2**15).astype(np.int16)
    wave = samples.astype(np.float32) / 32768
    np.testing.assert_array_equal(builds.to_int16(wave), samples)
    np.testing.assert_array_equal(builds.to_float(samples), wave)
    loud = np.array([1.0, 1.5, -2.0], np.float32)
    assert builds.to_int16(loud).tolist() == [32767, 32767, -32768]


def test_the_digest_does_not_hang_on_the_byte_order():
    samples = np.array([1, -2, 300], np.int16)
    expected = hashlib.sha256(b"\x01\x00\xfe\xff\x2c\x01").hexdigest()
    assert builds.samples_hash(samples) == expected
    assert builds.samples_hash(samples.astype(">i2")) == expected
