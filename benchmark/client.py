"""One small client of OpenAI-compatible chat endpoints, for models and for judges.

Standard library only. What an endpoint can do wrong ends in one of four outcomes of
a question (answered, refused, failed, not asked) or in one error that stops the run;
docs/benchmark_judge.md has the table. A key is read from the environment when it is
sent, and is taken out of everything that comes back.
"""

import contextlib
import email.utils
import http.client
import json
import os
import random
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from benchmark.errors import InputError, MachineError

MAX_FAILURES_IN_A_ROW = 20  # questions given up before the run stops
_READ_BYTES = 1 << 16
_RETRIED_STATUS = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501}
_HINT_CHARACTERS = 200
_SHORTEST_KEY = 8  # a shorter one is no secret: local servers are given 'EMPTY'


class Endpoint(NamedTuple):
    """Where questions go, and how patiently."""

    url: str  # base, 'https://host/v1'
    model: str
    key_variable: str = ""  # environment variable that holds the key, '' = see `chat`
    connect_seconds: float = 10.0
    read_seconds: float = 60.0  # silence between two pieces of an answer
    total_seconds: float = 180.0  # of one attempt
    max_bytes: int = 1 << 20  # of one answer
    max_attempts: int = 5  # of one question
    backoff_seconds: float = 1.0  # doubles with each attempt
    max_wait_seconds: float = 120.0  # a longer Retry-After stops the run


class Reply(NamedTuple):
    """What came of one question."""

    outcome: Literal["answered", "refused", "failed", "not_asked"]
    text: str = ""
    reason: str = ""  # why there is no answer
    finish: str = ""  # the endpoint's finish reason: 'stop', 'length' ...
    status: int = 0  # HTTP status of the last attempt, 0 = none
    num_calls: int = 0  # attempts


class _Attempt(NamedTuple):
    """One HTTP exchange, before it is read."""

    status: int = 0
    headers: Mapping[str, str] = {}
    body: bytes = b""
    fault: str = ""  # '' = a whole response came back


class Budget:
    """A number of calls that all threads together do not exceed; None = unlimited."""

    def __init__(self, limit: int | None = None):
        if limit is not None and limit < 0:
            raise InputError(f"budget {limit}: expected a number of calls, 0 or more")
        self.limit, self.used = limit, 0
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Takes one call; False, and nothing taken, when none is left."""
        with self._lock:
            if self.limit is not None and self.used >= self.limit:
                return False
            self.used += 1
            return True


class Client:
    """Asks one endpoint, from many threads; lives as long as one run."""

    def __init__(self, endpoint: Endpoint, budget: Budget | None = None):
        self.endpoint = endpoint
        self.budget = budget or Budget()
        self._address = _address(endpoint.url)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._first = threading.Lock()
        self._asked = False
        self._failures = 0

    def stop(self) -> None:
        """Ends all waiting; every later question is `not_asked`."""
        self._stopped.set()

    def chat(self, messages: list[dict], **options: Any) -> Reply:
        """Asks one question, again where that may help.

        The key comes from the variable that the endpoint names; where it names none,
        `OPENAI_API_KEY` is sent to api.openai.com and nothing to any other host.

        Args:
          messages: chat messages, JSON values.
          **options: further fields of the request: temperature, max_tokens ...

        Returns:
          The reply; what failed is said in it, not raised.

        Raises:
          InputError: the key, the address or the model's name is wrong (401, 403,
            404, a redirect).
          MachineError: the quota is spent (402), nobody answers at the address, the
            endpoint asks to wait too long, or `MAX_FAILURES_IN_A_ROW` were reached.
        """
        body = {"model": self.endpoint.model, "messages": messages, **options}
        try:
            return self._ask(json.dumps(body).encode())
        except (InputError, MachineError):
            self.stop()
            raise

    def _ask(self, body: bytes) -> Reply:
        reply, attempt = Reply("failed"), _Attempt()
        for calls in range(self.endpoint.max_attempts):
            wait = self._delay(calls, attempt) if calls else 0.0
            stopped = self._stopped.wait(wait)
            attempt = None if stopped else self._call(body)
            if attempt is None:
                return Reply("not_asked", reason=self._why_not(), num_calls=calls)
            reply, again = _read(attempt, self.endpoint)
            reply = reply._replace(num_calls=calls + 1, status=attempt.status)
            if not again:
                self._count(failed=False)
                return reply
        return self._give_up(reply)

    def _call(self, body: bytes) -> _Attempt | None:
        """Calls once; the first call goes alone, so a wrong key is shown once."""
        if not self._asked:
            with self._first:
                if not self._asked:
                    attempt = self._paid_call(body)
                    self._check_first(attempt)
                    return attempt
        return self._paid_call(body)

    def _check_first(self, attempt: _Attempt | None) -> None:
        try:
            _stop_if_fatal(attempt or _Attempt(fault="none"), self.endpoint)
        except (InputError, MachineError):
            self.stop()  # before the next thread gets its turn
            raise
        self._asked = attempt is not None

    def _paid_call(self, body: bytes) -> _Attempt | None:
        if self._stopped.is_set() or not self.budget.take():
            return None
        return _exchange(self._address, body, self.endpoint)

    def _why_not(self) -> str:
        if self._stopped.is_set():
            return "the run was stopped"
        return f"the budget of {self.budget.limit} calls is spent"

    def _delay(self, calls: int, attempt: _Attempt) -> float:
        """Returns seconds: exponential with jitter, never less than Retry-After."""
        endpoint = self.endpoint
        wait = endpoint.backoff_seconds * 2 ** (calls - 1)
        wait = min(wait, endpoint.max_wait_seconds) * random.uniform(0.5, 1.0)
        asked = _retry_after(attempt.headers.get("retry-after", ""))
        if asked > endpoint.max_wait_seconds:
            raise MachineError(
                f"{_host(endpoint)} asks to wait {asked:.0f} s (HTTP {attempt.status}):"
                " start again then; what was answered is kept"
            )
        return max(wait, asked)

    def _give_up(self, reply: Reply) -> Reply:
        if reply.reason.startswith("unreachable"):
            raise MachineError(
                f"{_host(self.endpoint)}: {reply.reason}, {reply.num_calls} attempts: "
                "is the server up, and the address right?"
            )
        self._count(failed=True)
        if self._failures >= MAX_FAILURES_IN_A_ROW:
            raise MachineError(
                f"{_host(self.endpoint)}: {self._failures} questions in a row failed, "
                f"the last with: {reply.reason}; what was answered is kept"
            )
        return reply

    def _count(self, failed: bool) -> None:
        with self._lock:
            self._failures = self._failures + 1 if failed else 0


def key_variable(endpoint: Endpoint) -> str:
    """Returns the name of the variable whose key is sent, '' = no key is sent."""
    if endpoint.key_variable:
        return endpoint.key_variable
    host = urllib.parse.urlsplit(endpoint.url).hostname
    return "OPENAI_API_KEY" if host == "api.openai.com" else ""


def _key(endpoint: Endpoint) -> str:
    name = key_variable(endpoint)
    key = os.environ.get(name, "").strip() if name else ""
    if not all("!" <= character <= "~" for character in key):
        raise InputError(
            f"the variable {name} holds characters that no key has: set it again"
        )
    return key


def _address(url: str) -> urllib.parse.SplitResult:
    """Checks a base address; it is not shown in full, for it may hold a secret."""
    expected = "expected http://HOST/v1 or https://HOST/v1"
    try:
        parts = urllib.parse.urlsplit(url)
        host, port, user = parts.hostname, parts.port, parts.username
    except ValueError:
        raise InputError(f"the endpoint's address is malformed: {expected}") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise InputError(f"the endpoint's address is malformed: {expected}")
    if user is not None or parts.query or parts.fragment:
        raise InputError(
            f"the address of {host} holds a user, a query or a fragment: {expected}; "
            "a key goes into an environment variable"
        )
    if not re.fullmatch(r"[\x21-\x7e]+", url):
        raise InputError(f"the address of {host} holds spaces or non-ASCII: {expected}")
    return parts


def _host(endpoint: Endpoint) -> str:
    return urllib.parse.urlsplit(endpoint.url).netloc


def _exchange(
    address: urllib.parse.SplitResult, body: bytes, endpoint: Endpoint
) -> _Attempt:
    """Posts once; what goes wrong on the way is named in `fault`."""
    key = _key(endpoint)
    connection = _connection(address, endpoint)
    with contextlib.closing(connection):
        try:
            connection.connect()
        except OSError as error:
            return _Attempt(fault=_connect_fault(error))
        with _deadline(connection.sock, endpoint.total_seconds) as expired:
            attempt = _post(connection, address, body, key, endpoint)
    if expired.is_set():
        return _Attempt(fault=f"time-out after {endpoint.total_seconds:g} s")
    return _without_key(attempt, key)


def _connection(
    address: urllib.parse.SplitResult, endpoint: Endpoint
) -> http.client.HTTPConnection:
    host, seconds = str(address.hostname), endpoint.connect_seconds
    if address.scheme == "http":
        return http.client.HTTPConnection(host, address.port, timeout=seconds)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(
        host, address.port, timeout=seconds, context=context
    )


@contextlib.contextmanager
def _deadline(sock: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Ends an exchange that drips on: a read time-out sees only the silence."""
    expired = threading.Event()
    timer = threading.Timer(seconds, _cut, (sock, expired))
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _cut(sock: socket.socket, expired: threading.Event) -> None:
    expired.set()
    with contextlib.suppress(OSError):  # closed meanwhile
        # Of the connection alone: a TLS socket would forget its TLS, in mid-sentence.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _post(
    connection: http.client.HTTPConnection,
    address: urllib.parse.SplitResult,
    body: bytes,
    key: str,
    endpoint: Endpoint,
) -> _Attempt:
    headers = {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if key:
        headers["Authorization"] = f"Bearer {key}"
    path = address.path.rstrip("/") + "/chat/completions"
    try:
        connection.sock.settimeout(endpoint.read_seconds)
        connection.request("POST", path, body, headers)
        return _receive(connection.getresponse(), endpoint.max_bytes)
    except TimeoutError:
        return _Attempt(fault=f"time-out: {endpoint.read_seconds:g} s of silence")
    except (OSError, http.client.HTTPException) as error:
        # Only the error's name: its text may quote what was sent.
        return _Attempt(fault=f"reset: {type(error).__name__}")


def _receive(response: http.client.HTTPResponse, max_bytes: int) -> _Attempt:
    headers = {name.lower(): value for name, value in response.getheaders()}
    received = bytearray()
    while piece := response.read(_READ_BYTES):
        received += piece
        if len(received) > max_bytes:
            fault = f"endless: more than {max_bytes} bytes"
            return _Attempt(response.status, headers, fault=fault)
    if response.length:  # what Content-Length still promises
        return _Attempt(response.status, headers, fault="reset: cut off")
    return _Attempt(response.status, headers, bytes(received))


def _connect_fault(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "unreachable: its certificate is not trusted"
    return f"unreachable: {error.strerror or type(error).__name__}"


def _without_key(attempt: _Attempt, key: str) -> _Attempt:
    """Takes the key out of what came back: some gateways quote the request."""
    if len(key) < _SHORTEST_KEY:
        return attempt
    body = re.sub(_quoted(key).encode(), b"[key]", attempt.body)
    headers = {k: v.replace(key, "[key]") for k, v in attempt.headers.items()}
    return attempt._replace(body=body, headers=headers)


def _quoted(key: str) -> str:
    r"""Returns a pattern of the key as JSON may write it: '/' as '\/' or '\u002f'."""
    return "".join(
        rf"(?:\\?{re.escape(character)}|(?i:\\u{ord(character):04x}))"
        for character in key
    )


def _read(attempt: _Attempt, endpoint: Endpoint) -> tuple[Reply, bool]:
    """Reads an exchange; returns the reply and whether asking again may help."""
    if attempt.fault:
        again = not attempt.fault.startswith("endless")
        return Reply("failed", reason=attempt.fault), again
    _stop_if_fatal(attempt, endpoint)
    if attempt.status != 200:
        reason = f"HTTP {attempt.status}{_hint(attempt.body)}"
        return Reply("failed", reason=reason), attempt.status in _RETRIED_STATUS
    try:
        return _read_choice(_parse(attempt.body)), False
    except ValueError as error:
        return Reply("failed", reason=str(error)), True


def _stop_if_fatal(attempt: _Attempt, endpoint: Endpoint) -> None:
    """Raises where every further question would fare the same."""
    status, host, name = attempt.status, _host(endpoint), key_variable(endpoint)
    if attempt.fault:
        return
    if status in (401, 403):
        missing = "" if name and os.environ.get(name) else " (which is not set)"
        what = (
            f"the key in the variable {name}{missing}" if name else "a call without key"
        )
        todo = "set it to a valid key" if name else "name the key's variable"
        raise InputError(f"{host} refused {what}: HTTP {status}; {todo}")
    if status == 402 or (status == 429 and b"insufficient_quota" in attempt.body):
        raise MachineError(
            f"{host}: HTTP {status}, the quota of this key is spent: top it up and "
            "start again; what was answered is kept"
        )
    if status in (404, 405, 410) or 300 <= status < 400:
        raise InputError(
            f"{host}: HTTP {status}{_hint(attempt.body)} for model "
            f"{endpoint.model!r}: check the address (it ends in /v1 as a rule, "
            "redirects are not followed) and the model's name"
        )


def _hint(body: bytes) -> str:
    """Returns ': ' and the message of an error body, in one short printable line."""
    try:
        parsed = json.loads(body[:_READ_BYTES])
    except (ValueError, RecursionError):
        return ""
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str):
        return ""
    printable = "".join(c if c.isprintable() else " " for c in message)
    return ": " + printable[:_HINT_CHARACTERS]


def _parse(body: bytes) -> dict[str, Any]:
    """Returns the JSON object of a body; raises ValueError with the fault's name."""
    text = body.decode("utf-8", errors="replace").strip("\ufeff \t\r\n")
    if not text:
        raise ValueError("empty body")
    if text.startswith("<"):
        raise ValueError("HTML body")
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("truncated or malformed JSON") from None
    if not isinstance(parsed, dict):
        raise ValueError("a body that is no JSON object")
    return parsed


def _read_choice(parsed: dict[str, Any]) -> Reply:
    """Reads the first choice; raises ValueError where there is none."""
    choices = parsed.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        raise ValueError("a body without choices" + _hint(json.dumps(parsed).encode()))
    finish = str(first.get("finish_reason") or "")
    refusal = message.get("refusal")
    text = _text(message.get("content"))
    if isinstance(refusal, str) and refusal:
        return Reply("refused", text or refusal, "refusal", finish)
    if finish == "content_filter":
        return Reply("refused", text, "content filter", finish)
    return Reply("answered", text, "", finish)


def _text(content: Any) -> str:
    """Returns a message's text, whether one string or a list of parts."""
    if isinstance(content, list):
        parts = [p.get("text") for p in content if isinstance(p, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _retry_after(value: str) -> float:
    """Returns the seconds of a Retry-After header, 0 where it holds none."""
    if re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", value):
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, when.timestamp() - time.time())
