"""A local chat endpoint that can misbehave in every way that is documented."""

import contextlib
import http.server
import json
import socket
import struct
import threading
import time
from typing import NamedTuple


class Act(NamedTuple):
    """What the endpoint does with one request."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    kind: str = "whole"  # or 'reset', 'silence', 'cut', 'endless', 'drip', 'drip_head'
    delay: float = 0.0  # seconds before anything is sent


def said(text, finish="stop", refusal=None, **act):
    """A well-formed answer."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    return Act(200, json.dumps({"choices": choices}).encode(), **act)


def error(status, message="no", headers=(), code=None):
    """An error as OpenAI-compatible endpoints send it."""
    body = json.dumps({"error": {"message": message, "code": code}})
    return Act(status, body.encode(), tuple(headers))


class Stub:
    """What the endpoint was asked, and where it is."""

    def __init__(self, port, behave):
        self.url = f"http://127.0.0.1:{port}/v1"
        self.behave = behave
        self.bodies, self.headers, self.times, self.paths = [], [], [], []
        self.most_at_once = self.now = 0
        self.lock, self.done = threading.Lock(), threading.Event()

    def act(self, body, headers, path):
        with self.lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append(headers)
            self.times.append(time.monotonic())
            self.paths.append(path)
        return self.behave(body, number)


def user_text(body):
    """The text of the last message of a request."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)


def in_turn(*acts):
    """A behaviour: one act after the other, the last for ever."""
    return lambda body, number: acts[min(number, len(acts) - 1)]


@contextlib.contextmanager
def serve(behave):
    """Runs a stub that answers requests by `behave(body, number) -> Act`."""
    server = _Server(("127.0.0.1", 0), _Handler)
    stub = server.stub = Stub(server.server_address[1], behave)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.done.set()
        server.shutdown()
        thread.join()
        server.server_close()


def free_port():
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False
    request_queue_size = 128  # with fewer, a burst waits a second


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        sent = self.rfile.read(length)
        if len(sent) < length:  # the client was killed
            return
        body = json.loads(sent)
        stub = self.server.stub
        with stub.lock:
            stub.now += 1
            stub.most_at_once = max(stub.now, stub.most_at_once)
        try:
            act = stub.act(body, dict(self.headers.items()), self.path)
            time.sleep(act.delay)
            self.play(act, stub)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client left, or was killed
        finally:
            with stub.lock:
                stub.now -= 1
        self.close_connection = True

    def play(self, act, stub):
        if act.kind == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        elif act.kind == "silence":
            stub.done.wait(20)
        elif act.kind == "drip_head":
            self.drip(b"HTTP/1.1 200 OK\r\nX-Pad: ", stub)
        else:
            self.send_whole(act, stub)

    def send_whole(self, act, stub):
        endless = act.kind in ("endless", "drip")
        self.send_response(act.status)
        for name, value in act.headers:
            self.send_header(name, value)
        self.send_header("Connection", "close")
        if not endless:
            length = len(act.body) + (100 if act.kind == "cut" else 0)
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(act.body)
        if act.kind == "drip":
            self.drip(b" ", stub)
        while act.kind == "endless" and not stub.done.is_set():
            self.wfile.write(b" " * 65536)

    def drip(self, start, stub):
        self.wfile.write(start)
        while not stub.done.wait(0.02):
            self.wfile.write(b"x")

    def log_message(self, *args):
        pass
