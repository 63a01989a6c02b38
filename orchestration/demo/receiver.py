"""A small webhook receiver on loopback that believes nothing: every signature is checked by an independent library.

Belongs here: what somebody else's server would do with Tidemark's webhooks. Does not belong here: any of Tidemark's own
signing code; sharing it would prove nothing.
"""

import hashlib
import hmac
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_LARGEST_BODY = 1024 * 1024
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Received:
    """One request that was answered.

    Attributes:
        path: where it was sent.
        webhook_id: the header `webhook-id`, empty if absent; stays the same over retries.
        event_type: what the body says it is, empty if it isn't verified.
        verified: both signatures are right and the headers agree with the body.
        problem: why it isn't verified, else empty.
        repeated: a verified request whose webhook-id had come before.
        body: the bytes.
    """

    path: str
    webhook_id: str
    event_type: str
    verified: bool
    problem: str
    repeated: bool
    body: bytes


class _Server(ThreadingHTTPServer):
    # The default of five refuses connections when a dispatcher sends more at once.
    request_queue_size = 128


class Receiver:
    """A context manager: serves while it is open, remembers what came.

    Verified requests are answered 204, others 401, too large ones 413.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._secrets: dict[str, list[str]] = {}
        self._requests: list[Received] = []
        self._server = _Server(("127.0.0.1", 0), _handler_for(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="webhook-receiver")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str) -> str:
        """The address to register as a webhook; `path` starts with a slash."""
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def trust(self, path: str, secret: str) -> None:
        """Accept on `path` what is signed with `secret` (`whsec_…`), beside secrets trusted before."""
        with self._lock:
            self._secrets.setdefault(path, []).append(secret)

    @property
    def requests(self) -> tuple[Received, ...]:
        """Every request so far, in order, verified or not."""
        with self._lock:
            return tuple(self._requests)

    @property
    def events(self) -> tuple[Received, ...]:
        """Verified requests, each webhook-id once."""
        return tuple(request for request in self.requests if request.verified and not request.repeated)

    def wait_for_events(self, count: int, timeout: float) -> bool:
        """Wait until at least `count` different events have come; False after `timeout` seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: self._distinct() >= count, timeout)

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Received:
        """Judge a request and remember it.

        Args:
            path: where it was sent.
            headers: by lower-case name.
            body: the bytes as they came.
        """
        with self._lock:
            secrets = tuple(self._secrets.get(path, ()))
        problem = _problem(secrets, headers, body)
        webhook_id = headers.get("webhook-id", "")
        event_type = "" if problem else str(json.loads(body)["type"])
        with self._lock:
            known = {request.webhook_id for request in self._requests if request.verified}
            repeated = not problem and webhook_id in known
            received = Received(path, webhook_id, event_type, not problem, problem, repeated, body)
            self._requests.append(received)
            self._lock.notify_all()
        return received

    def _distinct(self) -> int:
        return sum(request.verified and not request.repeated for request in self._requests)


def _problem(secrets: tuple[str, ...], headers: Mapping[str, str], body: bytes) -> str:
    if not secrets:
        return "no secret is known for this path"
    problem = ""
    for secret in secrets:
        problem = _signature_problem(secret, headers, body)
        if not problem:
            return _content_problem(headers, body)
    return problem


def _signature_problem(secret: str, headers: Mapping[str, str], body: bytes) -> str:
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError

    try:
        Webhook(secret).verify(body, dict(headers))
    except WebhookVerificationError as error:
        return f"webhook-signature: {error}"
    except ValueError as error:
        return f"webhook-signature can't be read, or the body is no JSON: {error}"
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(headers.get("x-webhook-signature", "").encode(), expected.encode()):
        return "X-Webhook-Signature is not the HMAC-SHA256 of the body"
    return ""


def _content_problem(headers: Mapping[str, str], body: bytes) -> str:
    content = json.loads(body)
    if not isinstance(content, dict) or not isinstance(content.get("type"), str):
        return "the body names no event type"
    if headers.get("x-webhook-event") != content["type"]:
        return "X-Webhook-Event is not the body's type"
    if headers.get("x-webhook-delivery-id") != headers["webhook-id"]:
        return "X-Webhook-Delivery-ID is not the webhook-id"
    return ""


def _handler_for(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE_SECONDS

        def do_POST(self) -> None:
            length = self.headers.get("content-length", "")
            if not length.isascii() or not length.isdigit():
                return self._answer(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length")
            if int(length) > _LARGEST_BODY:
                return self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "at most 1 MiB")
            body = self.rfile.read(int(length))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = receiver.take(self.path, headers, body)
            status = HTTPStatus.NO_CONTENT if received.verified else HTTPStatus.UNAUTHORIZED
            return self._answer(status, received.problem)

        def _answer(self, status: HTTPStatus, words: str) -> None:
            content = words.encode()
            self.send_response(status)
            if status is not HTTPStatus.NO_CONTENT:
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if status is not HTTPStatus.NO_CONTENT:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            # Silent: the receiver's user looks at `requests`, and stderr belongs to the demo's progress bars.
            del format, args

    return Handler
