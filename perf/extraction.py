"""Extracting the features of a corpus, end to end: where the time goes.

`python -m perf.extraction FOLDER [--shape facebook/wav2vec2-base] [--dtype bfloat16]`
reads all recordings under FOLDER, encodes them with drawn weights and writes the cache,
twice: with nothing compiled before, and with the compilations kept.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "extraction_speed.md"


def measure(options: argparse.Namespace, scratch: str, run: str) -> str:
    """Returns the effort of one run, in a line."""
    import jax
    import numpy as np

    from benchmark import audio
    from metaperser_jax import features
    from metaperser_jax.allocator import keep_freed_memory
    from metaperser_jax.encoders.published import PUBLISHED
    from metaperser_jax.encoders.transformer import init_params, speech_encoder
    from metaperser_jax.errors import Problems
    from metaperser_jax.typing import Corpus, Ratings

    keep_freed_memory()
    jax.config.update("jax_compilation_cache_dir", f"{scratch}/compilations")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    paths = sorted(map(str, pathlib.Path(options.folder).rglob("*.wav")))
    names, count = tuple(map(str, paths)), len(paths)
    nobody, unknown = Ratings(*[np.zeros((0, 1))] * 5), np.full(count, "")
    hashes = tuple(map(audio.content_hash, paths))
    corpus = Corpus(
        "folder", names, (), (), (), unknown, unknown, nobody, hashes,
        lambda clip: audio.load(paths[clip]), None, None, {},
    )  # fmt: skip
    config = PUBLISHED[options.shape]
    params = init_params(config, 0)
    encoder = speech_encoder(config, params, dtype=options.dtype)
    cache = features.open_cache(encoder, pathlib.Path(scratch) / run, Problems())
    effort = features.fill(cache, corpus, encoder, params, Problems())
    share = effort.encoder_seconds / effort.wall_seconds
    return f"{features.describe(effort)}; {share:.0%} of all the time"


INTRO = """# Extraction, end to end

Written by `python -m perf.extraction FOLDER`; here FOLDER held {count} recordings.
{shape}, {dtype}, drawn weights; from files to the written cache, decoding and
compilation included. Last figure: the encoder's share of all the time.

- nothing compiled before: {first}
- compilations kept from the first run: {second}
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--shape", default="facebook/wav2vec2-base")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--page", type=pathlib.Path, default=PAGE)
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run:
        print(measure(options, options.scratch, options.run))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "perf.extraction", *arguments]
        lines = [
            subprocess.run(
                [*command, f"--run={run}", f"--scratch={scratch}"],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout.strip()
            for run in ("first", "second")
        ]
    count = len(list(pathlib.Path(options.folder).rglob("*.wav")))
    text = INTRO.format(
        count=count,
        shape=options.shape,
        dtype=options.dtype,
        first=lines[0],
        second=lines[1],
    )
    options.page.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
