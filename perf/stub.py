"""A chat endpoint that answers each question after a fixed time.

`python -m perf.stub SECONDS` runs in a process of its own, so that its CPU time is not
the client's. It prints its port, serves until its standard input ends, and then prints
how many answers it gave and the CPU seconds they took.
"""

import asyncio
import contextlib
import json
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
RIGHT, WRONG = "right", "wrong"  # first words of answers that are judged YES and NO
SAID = "It sounds like anger."  # where nothing is to be judged
_BLOCK = re.compile(rb"<<<RESPONSE (\w+)>>>\\n(\w+)")  # in JSON: an escaped line end
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_BACKLOG = 256


class Endpoint(NamedTuple):
    """A running stub."""

    url: str
    effort: dict[str, float]  # once it has ended: 'answers', 'cpu' seconds


@contextlib.contextmanager
def serve(latency: float) -> Iterator[Endpoint]:
    """Runs the stub in a process of its own; a question takes `latency` seconds."""
    command = [sys.executable, "-m", "perf.stub", str(latency)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe
    ) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", {})
        try:
            yield endpoint
        finally:
            told, _ = process.communicate()
            endpoint.effort.update(json.loads(told))


def answer_to(body: bytes) -> str:
    """Returns the verdict on a judged answer by its first word, else `SAID`."""
    block = _BLOCK.search(body)
    if not block:
        return SAID
    token, word = (part.decode() for part in block.groups())
    verdict = "YES" if word == RIGHT else "NO"
    return json.dumps({"reason": "so", "token": token, "verdict": verdict})


def as_http(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = json.dumps({"choices": choices}).encode()
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run(latency: float) -> None:
    """Answers until the standard input ends; prints port and effort."""
    answers = 0

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal answers
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        await asyncio.sleep(latency)
        writer.write(as_http(answer_to(body)))
        answers += 1
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=_BACKLOG)
    start = time.process_time()
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    effort = {"answers": answers, "cpu": time.process_time() - start}
    server.close()
    print(json.dumps(effort))


if __name__ == "__main__":
    asyncio.run(run(float(sys.argv[1])))
