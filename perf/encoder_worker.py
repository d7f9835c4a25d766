"""One competitor in a process of its own, asked for one call at a time.

`python -m perf.encoder_worker JOB`, JOB being JSON with the fields of `Job`. Lines on
standard input ask; each answer is a line of JSON.
"""

import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Job(NamedTuple):
    """What a worker runs."""

    library: str  # 'jax' | 'torch'
    folder: str  # of the encoder
    dtype: str
    attention: str  # 'eager' | 'sdpa', PyTorch only
    threads: int
    keep_memory: bool
    batch: int
    seconds: float
    cache: str = ""  # folder of compilations, JAX only


class Ready(NamedTuple):
    """What a worker measured before its first call."""

    load_seconds: float
    compile_seconds: float  # nothing cached; the first call for PyTorch
    cached_seconds: float  # compiled before, by another process


def waveforms(job: Job) -> np.ndarray:
    """[batch, samples] noise with the level of speech."""
    rng = np.random.default_rng(0)
    shape = (job.batch, int(16_000 * job.seconds))
    return 0.1 * rng.standard_normal(shape, dtype=np.float32)


def jax_side(job: Job) -> tuple[Ready, Callable[[], np.ndarray]]:
    import jax

    from metaperser_jax.encoders.encoder import encode_pooled, prepare
    from metaperser_jax.encoders.pretrained import load_encoder

    jax.config.update("jax_compilation_cache_dir", job.cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    start = time.perf_counter()
    encoder, params = load_encoder(job.folder, dtype=job.dtype)
    params = jax.jit(lambda tree: prepare(encoder, tree))(params)
    jax.block_until_ready(params)
    loaded = time.perf_counter() - start
    clips = waveforms(job)
    inputs = params, clips, np.full(len(clips), clips.shape[1], np.int32)

    def compile_once() -> tuple[Any, float]:
        start = time.perf_counter()
        jitted = jax.jit(lambda p, w, n: encode_pooled(encoder, p, w, n))
        return jitted.lower(*inputs).compile(), time.perf_counter() - start

    _, cold = compile_once()
    jax.clear_caches()
    compiled, cached = compile_once()
    return Ready(loaded, cold, cached), lambda: np.asarray(compiled(*inputs))


def torch_side(job: Job) -> tuple[Ready, Callable[[], np.ndarray]]:
    import torch
    import transformers

    torch.set_num_threads(job.threads)
    transformers.logging.set_verbosity_error()
    start = time.perf_counter()
    model = transformers.AutoModel.from_pretrained(
        job.folder,
        dtype=getattr(torch, job.dtype),
        attn_implementation=job.attention,
    ).eval()
    loaded = time.perf_counter() - start
    normalise = json.load(open(f"{job.folder}/preprocessor_config.json"))  # noqa: SIM115

    def call() -> np.ndarray:
        clips = torch.from_numpy(waveforms(job))
        if normalise["do_normalize"]:
            mean, variance = (
                clips.mean(1, True),
                clips.var(1, keepdim=True, correction=0),
            )
            clips = (clips - mean) / torch.sqrt(variance + 1e-7)
        clips = clips.to(getattr(torch, job.dtype))
        with torch.inference_mode():
            states = model(clips, output_hidden_states=True).hidden_states
            pooled = [state.float().mean(1) for state in states]
            return torch.stack(pooled, 1).numpy()

    start = time.perf_counter()
    call()
    return Ready(loaded, time.perf_counter() - start, 0.0), call


def answers(job: Job) -> Iterator[Any]:
    """Yields the worker's readiness, then an answer to each line that asks."""
    ready, call = (jax_side if job.library == "jax" else torch_side)(job)
    pooled = call()
    yield ready._asdict()
    for line in sys.stdin:
        if line.strip() == "result":
            yield pooled.astype(float).tolist()
        elif line.strip() == "memory":
            yield peak_gigabytes()
        else:
            start = time.perf_counter()
            call()
            yield time.perf_counter() - start


def peak_gigabytes() -> float:
    """Most memory that this process held; getrusage counts the parent's too."""
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 2**20


def main(job: Job) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    os.environ["OMP_NUM_THREADS"] = str(job.threads)
    if job.keep_memory:
        from metaperser_jax.allocator import keep_freed_memory

        keep_freed_memory()
    for answer in answers(job):
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
