"""The server as an ASGI application: paths, keys, limits, counting."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from typing import Any, Awaitable, Callable, Dict, List, Mapping, Sequence, Tuple

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from obert_edge import __version__
from obert_edge.serve.batcher import Batcher, log_failure
from obert_edge.serve.bodies import parse
from obert_edge.serve.endpoints import Disconnected, Endpoints
from obert_edge.serve.logs import printable
from obert_edge.serve.models import Shelf
from obert_edge.serve.refusal import RefusedError, refusal_of
from obert_edge.serve.settings import Settings

log = logging.getLogger("obert_edge.serve")

Compute = Callable[[Mapping[str, Any], Disconnected], Awaitable[Any]]
Handler = Callable[[Request], Awaitable[Response]]
#: Paths that anybody may ask for: what looks after a server has no key.
_OPEN = ("/health", "/health/live", "/health/ready", "/live", "/ready")
#: What a request for any other path is counted as, so that nobody can make labels without end.
_ELSEWHERE = "other"
#: Characters of a path in the log.
_LONGEST_LOGGED = 200


class Application:
    """Everything of a server but its sockets.

    Args:
        shelf: the models.
        batcher: what runs them.
        settings: of the server.
        keys: one of which a request must have; none: anybody may ask.
    """

    def __init__(self, shelf: Shelf, batcher: Batcher, settings: Settings, keys: Sequence[str] = ()) -> None:
        self.stopping = False
        self._shelf = shelf
        self._batcher = batcher
        self._settings = settings
        self._metrics = batcher.metrics
        self._endpoints = Endpoints(shelf, batcher, settings)
        # Hashes have one length, so that comparing them takes as long for every key.
        self._keys = [hashlib.sha256(key.encode()).digest() for key in keys]
        computed: List[Tuple[str, Compute]] = [
            ("/v1/embeddings", self._endpoints.embeddings),
            ("/embed", self._endpoints.embed),
            ("/rerank", self._endpoints.rerank),
            ("/v1/rerank", self._endpoints.rerank),
            ("/v2/rerank", self._endpoints.rerank),
            ("/predict", self._endpoints.predict),
            ("/classify", self._endpoints.predict),
        ]
        self._computing = {path: self._handler(compute) for path, compute in computed}
        routes = [
            # Any other method than POST comes here, and is refused.
            *(Route(path, handler, methods=["POST"]) for path, handler in self._computing.items()),
            Route("/v1/models", self._list, methods=["GET"]),
            Route("/v1/models/{name:path}", self._describe, methods=["GET"]),
            Route("/metrics", self._read_metrics, methods=["GET"]),
            *(Route(path, self._health, methods=["GET"]) for path in _OPEN),
        ]
        self._paths = {route.path for route in routes}
        self._app: ASGIApp = Starlette(
            routes=routes, exception_handlers={HTTPException: self._no_such, Exception: _failed}
        )

    def close(self) -> None:
        """End what runs beside the event loop."""
        self._endpoints.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, counted and timed; the ``lifespan`` of ASGI is left to starlette."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._may(scope):
                await self._answer(scope, receive, counted)
            else:
                refusal = RefusedError(
                    401,
                    "the API key is missing or wrong: send `Authorization: Bearer KEY`",
                    code="invalid_api_key",
                )
                await self._refuse(refusal)(scope, receive, counted)
        finally:
            path = scope["path"] if scope["path"] in self._paths else _ELSEWHERE
            seconds = time.perf_counter() - began
            self._metrics.answered(path, status, seconds)
            if self._settings.access_log:
                log.info("%s %s %d %.1f ms", scope["method"], _logged_path(scope), status, 1000 * seconds)

    def _may(self, scope: Scope) -> bool:
        """Whether a request may be answered at all."""
        if not self._keys or scope["path"] in _OPEN:
            return True
        headers = dict(scope["headers"])
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        key = given.strip() if kind.lower() == b"bearer" else headers.get(b"api-key", b"")
        found = hashlib.sha256(key).digest()
        matches = [hmac.compare_digest(found, known) for known in self._keys]
        return any(matches)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._computing.get(scope["path"])
        if handler is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        # Past starlette's router and middleware, which would take a tenth of what a short text costs here.
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)

    def _handler(self, compute: Compute) -> Handler:
        """The handler of a path that reads JSON and runs a model."""

        async def handle(request: Request) -> Response:
            if self.stopping:
                stopped = RefusedError(503, "the server is stopping", code="stopping", retry_after=1)
                return self._refuse(stopped)
            try:
                self._batcher.enter()
            except RefusedError as refusal:
                return self._refuse(refusal)
            try:
                body = parse(await self._body(request))
                return _json(await compute(body, _waits_for_the_end(request)))
            except RefusedError as refusal:
                return self._refuse(refusal)
            except asyncio.CancelledError:
                if not self.stopping:
                    raise
                stopped = RefusedError(503, "the server stopped before this was answered", code="stopping")
                return self._refuse(stopped)
            except ClientDisconnect:
                return self._refuse(RefusedError(499, "the client is gone", code="client_gone"))
            except Exception as error:
                log_failure(error)
                return self._refuse(refusal_of(error))
            finally:
                self._batcher.leave()

        return handle

    async def _body(self, request: Request) -> bytes:
        """The whole body of a request.

        Raises:
            RefusedError: 413: it is too large; 415: it is no JSON, or packed; 408: the client takes too long.
            ClientDisconnect: the client is gone.
        """
        content_type, encoding, length = _headers_of(request.scope)
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise RefusedError(
                415,
                f"the content type is {content_type[:80]}; expected application/json: send the header "
                "Content-Type: application/json",
                code="unsupported_media_type",
            )
        if encoding.strip().lower() != "identity":
            raise RefusedError(
                415,
                f"the body is packed (Content-Encoding: {encoding[:80]}); send it as it is",
                code="unsupported_media_type",
            )
        most = self._settings.max_body_bytes
        if length.isdigit() and int(length) > most:
            raise self._too_large(length)
        task = asyncio.current_task()
        assert task is not None
        late = False

        def stop() -> None:
            nonlocal late
            late = True
            task.cancel()

        # A task of its own for every body, as wait_for makes one, would cost more than the reading.
        timer = asyncio.get_running_loop().call_later(self._settings.body_timeout, stop)
        parts: List[bytes] = []
        size = 0
        try:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise self._too_large(f"more than {most}")
                parts.append(part)
        except asyncio.CancelledError:
            if not late:
                raise
            seconds = self._settings.body_timeout
            raise RefusedError(408, f"the body did not come within {seconds:g} s", code="timeout") from None
        finally:
            timer.cancel()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self, found: str) -> RefusedError:
        most = self._settings.max_body_bytes
        return RefusedError(413, f"the body has {found} bytes; it may have {most}", code="body_too_large")

    def _refuse(self, refusal: RefusedError) -> Response:
        self._metrics.refused.labels(refusal.code).inc()
        return _json(refusal.body, refusal.status, refusal.headers)

    async def _no_such(self, request: Request, error: Exception) -> Response:
        """A path or a method that there is not."""
        assert isinstance(error, HTTPException)
        path, headers = request.url.path[:200], error.headers or {}
        if error.status_code == 405:
            text, code = f"{path} answers {headers.get('Allow')}, not {request.method}", "method_not_allowed"
        else:
            text, code = f"there is no {path}; there is {', '.join(sorted(self._paths))}", "no_such_path"
        self._metrics.refused.labels(code).inc()
        return _json(RefusedError(error.status_code, text, code=code).body, error.status_code, headers)

    async def _list(self, request: Request) -> Response:
        return _json({"object": "list", "data": [model.facts() for model in self._shelf]})

    async def _describe(self, request: Request) -> Response:
        model = self._shelf.get(request.path_params["name"])
        if model is None:
            known = ", ".join(map(repr, self._shelf.names))
            return self._refuse(
                RefusedError(
                    404, f"there is no such model; there is {known}", code="model_not_found", param="model"
                )
            )
        return _json(model.facts())

    async def _read_metrics(self, request: Request) -> Response:
        metrics = self._metrics
        metrics.models.clear()
        for model in self._shelf:
            metrics.models.labels(model.name, model.task, model.session.implementation, __version__).set(1)
        text, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})

    async def _health(self, request: Request) -> Response:
        """Alive: the engine's thread runs. Ready, and healthy: and requests are accepted."""
        alive = self._batcher.is_alive
        well = alive if request.url.path.endswith("live") else alive and not self.stopping
        state = "ok" if well else "stopping" if alive else "dead"
        return _json({"status": state, "models": self._shelf.names}, 200 if well else 503)


def _logged_path(scope: Scope) -> str:
    """The path of a request as a log may show it: as it was sent, without what would end or color a line."""
    sent = scope.get("raw_path") or scope["path"].encode("utf-8", "backslashreplace")
    path = printable(sent.decode("ascii", "backslashreplace"))
    return path if len(path) <= _LONGEST_LOGGED else f"{path[:_LONGEST_LOGGED]}..."


def _headers_of(scope: Scope) -> Tuple[str, str, str]:
    """The first content type, encoding and length of a request, or what they are where it does not say.

    Headers of starlette would cost more than the rest of the checks.
    """
    found: Dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        found.setdefault(name, value)
    content_type = found.get(b"content-type", b"application/json").decode("latin-1")
    encoding = found.get(b"content-encoding", b"identity").decode("latin-1")
    return content_type, encoding, found.get(b"content-length", b"").decode("latin-1")


def _waits_for_the_end(request: Request) -> Disconnected:
    async def wait() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return wait


def _json(value: Any, status: int = 200, headers: Mapping[str, str] = {}) -> Response:
    all_headers: Dict[str, str] = {**headers, "Content-Type": "application/json"}
    return Response(orjson.dumps(value), status, all_headers)


async def _failed(request: Request, error: Exception) -> Response:
    refusal = refusal_of(error)
    return _json(refusal.body, refusal.status)
