"""The process: sockets, signals, reloading, and the end of it all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import resource
import signal
import socket
import stat
from pathlib import Path
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Type, cast

import orjson
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from obert_edge.errors import UsageError
from obert_edge.serve.app import Application
from obert_edge.serve.batcher import Batcher
from obert_edge.serve.models import Shelf
from obert_edge.serve.refusal import RefusedError
from obert_edge.serve.settings import Settings

log = logging.getLogger("obert_edge.serve")

#: The environment's API keys, several between commas; and a file with one on each line, as systemd's
#: credentials and container secrets come. Never an option: whoever lists processes reads those.
KEYS, KEYS_FILE = "OBERT_EDGE_API_KEY", "OBERT_EDGE_API_KEY_FILE"
_FEWEST_CHARACTERS = 8
#: Bytes of a request's line and headers.
_LONGEST_HEAD = 64 << 10
#: Files that are open besides connections: bundles, sockets, pipes, and some to spare.
_OTHER_FILES = 64
#: The first file descriptor that a service manager passes (sd_listen_fds(3)).
_FIRST_PASSED = 3
_WITHOUT_MANAGER = "unset LISTEN_PID and LISTEN_FDS, which only a service manager such as systemd sets"


def serve(bundles: Sequence[str], settings: Settings) -> int:
    """Serve bundles until a signal ends it.

    SIGTERM and SIGINT: accept nothing more, answer what was accepted, return. A second one: return at once.
    SIGHUP: load the bundles whose files changed.

    Args:
        bundles: paths, each maybe behind a name: ``NAME=PATH``.
        settings: how.

    Returns:
        0; 1 where accepted requests were cut off, because they took too long or a second signal came.

    Raises:
        ObertEdgeError: a bundle cannot be loaded or served.
        UsageError: it is not possible to listen there, or the API key is no key.
    """
    keys = api_keys(os.environ)
    batcher = Batcher(settings.max_batch_tokens, settings.max_queue, settings.max_queue_tokens)
    shelf = Shelf(bundles, settings, lambda result: batcher.metrics.reloads.labels(result).inc())
    sockets, own = _listen(settings)
    application = Application(shelf, batcher, settings, keys)
    for model in shelf:
        log.info(
            "%s: %s, %s, %d threads, kernels %s",
            model.name,
            model.session.path,
            model.task,
            model.session.threads,
            model.session.implementation,
        )
    if not keys and any(_is_open(one) for one in sockets):
        log.warning("anybody who reaches this address may ask: set %s to ask for a key", KEYS)
    batcher.start()
    try:
        return uvloop.run(_serve(application, shelf, settings, sockets))
    finally:
        application.close()
        batcher.close()
        if own is not None:
            own.remove()


def api_keys(environment: Mapping[str, str]) -> List[str]:
    """The keys that an environment asks for; none: anybody may ask.

    Raises:
        UsageError: a file that cannot be read, or a key that is too short or empty.
    """
    keys = []
    if KEYS in environment:
        keys += environment[KEYS].split(",")
    if KEYS_FILE in environment:
        path = environment[KEYS_FILE]
        try:
            keys += [line for line in Path(path).read_text("utf-8").splitlines() if line.strip()] or [""]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"${KEYS_FILE} names {path}, which cannot be read: {error}",
                hint="give a file with a key a line",
            ) from error
    keys = [key.strip() for key in keys]
    if any(len(key) < _FEWEST_CHARACTERS for key in keys):
        # An empty variable is a mistake, and must not open the server to everybody.
        raise UsageError(
            f"an API key of the environment has less than {_FEWEST_CHARACTERS} characters",
            hint=f"make one with `openssl rand -hex 32`, or unset {KEYS} and {KEYS_FILE}",
        )
    return keys


async def _serve(
    application: Application, shelf: Shelf, settings: Settings, sockets: List[socket.socket]
) -> int:
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(
        application,
        http=_protocol(settings.body_timeout),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_most_connections(settings.max_connections),
        timeout_keep_alive=int(settings.keep_alive),
        timeout_graceful_shutdown=int(settings.shutdown_timeout),
        backlog=min(settings.max_connections, socket.SOMAXCONN),
    )
    server = _Server(config)

    def stop(number: signal.Signals) -> None:
        if application.stopping:
            log.warning("%s again: what is not answered yet is cut off", number.name)
            server.force_exit = True
        else:
            log.info("%s: accepting nothing more, and finishing what was accepted", number.name)
        application.stopping = True
        server.should_exit = True

    reloads = {asyncio.ensure_future(_watch(shelf, settings.watch))}

    def reload() -> None:
        task = asyncio.ensure_future(_reload(shelf, again=True))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await server.serve(sockets)
    finally:
        for task in list(reloads):
            task.cancel()
    cut_off = len(server.server_state.tasks)
    if cut_off:
        log.error("%d accepted requests were cut off", cut_off)
    log.info("stopped")
    return 1 if cut_off else 0


def _most_connections(wanted: int) -> int:
    """As many connections as are wanted, or as many as this process may open files.

    Where files run out first, connections would be closed without a word instead of answered with 503.
    """
    needed = wanted + _OTHER_FILES
    may, at_most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if may != resource.RLIM_INFINITY and may < needed:
        may = needed if at_most == resource.RLIM_INFINITY else min(needed, at_most)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (may, at_most))
        may, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if may < needed:
            most = max(may - _OTHER_FILES, 1)
            log.warning(
                "%d files may be open, so at most %d connections in place of %d: raise the limit (ulimit -n)",
                may,
                most,
                wanted,
            )
            return most
    return wanted


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals alone: it would end the process by the signal, not with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield

    async def startup(self, sockets: Optional[List[socket.socket]] = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        for one in sockets or ():
            log.info("listening on %s", address(one))


class _Protocol(HttpToolsProtocol):
    """What uvicorn speaks by httptools, with limits of size and time on the head of a request."""

    #: Seconds for the head to come.
    head_timeout = 30.0
    _timer: Optional[asyncio.TimerHandle] = None
    _head = 0
    _refused = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(cast(asyncio.Transport, _Transport(transport)))
        self._await_head()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._timer is not None:
            self._head += len(data)
            self._check_head(self._head)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        # All of it may have come in one read.
        self._check_head(len(self.url) + sum([len(name) + len(value) for name, value in self.headers]))
        if not self._refused:
            self._end_head()
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(b"400 Bad Request", RefusedError(400, msg, code="invalid_http"))

    def _check_head(self, length: int) -> None:
        if length > _LONGEST_HEAD and not self._refused:
            text = f"the line and the headers of a request may have {_LONGEST_HEAD} bytes"
            self._refuse(
                b"431 Request Header Fields Too Large", RefusedError(431, text, code="headers_too_large")
            )

    def _await_head(self) -> None:
        self._head = 0
        text = f"the head of a request did not come within {self.head_timeout:g} s"
        refusal = RefusedError(408, text, code="timeout")
        self._timer = self.loop.call_later(self.head_timeout, self._refuse, b"408 Request Timeout", refusal)

    def _end_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: bytes, refusal: RefusedError) -> None:
        self._end_head()
        self._refused = True
        body = orjson.dumps(refusal.body)
        head = b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-type: application/json\r\n" % status
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()


class _Transport:
    """A transport that takes what is written to a closed connection without a word.

    asyncio's do so; uvloop's raise, where a client has gone since the protocol last looked.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self.is_closing():
            self._transport.write(data)


def _protocol(head_timeout: float) -> Type[asyncio.Protocol]:
    return type("_TimedProtocol", (_Protocol,), {"head_timeout": head_timeout})


async def _watch(shelf: Shelf, seconds: float) -> None:
    """Look for files that were replaced, every some seconds."""
    while seconds:
        await asyncio.sleep(seconds)
        await _reload(shelf, again=False)


async def _reload(shelf: Shelf, *, again: bool) -> None:
    try:
        await asyncio.get_running_loop().run_in_executor(None, lambda: shelf.reload(again=again))
    except Exception:
        log.exception("a reload failed, and the older bundles go on")


class _OwnFile(NamedTuple):
    """A file that this process made, and what tells it from one that another has put in its place.

    The time of its last change counts as well: file systems give the number of an inode again at once.
    """

    path: Path
    state: Tuple[int, int, int]

    @classmethod
    def at(cls, path: str) -> _OwnFile:
        """The file that was just made at a path."""
        place = Path(path).absolute()
        return cls(place, cls._state(place))

    def remove(self) -> None:
        """Take it away, unless another is there."""
        with contextlib.suppress(OSError):
            if self._state(self.path) == self.state:
                self.path.unlink()

    @staticmethod
    def _state(path: Path) -> Tuple[int, int, int]:
        found = path.lstat()
        return found.st_dev, found.st_ino, found.st_mtime_ns


def _listen(settings: Settings) -> Tuple[List[socket.socket], Optional[_OwnFile]]:
    """The sockets to listen on: those that a service manager passed, a Unix socket, or host and port.

    With them the file of a Unix socket that is this process's own, to be removed at the end.
    """
    passed = _passed(os.environ)
    if passed:
        return passed, None
    if settings.uds is not None:
        return [_unix_socket(settings.uds)], _OwnFile.at(settings.uds)
    where = f"{settings.host} port {settings.port}"
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, place = found[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
    except OSError as error:
        raise UsageError(
            f"it is not possible to listen on {where}: {error}", hint="give another --host or --port"
        ) from error
    return [listening], None


def _passed(environment: Mapping[str, str]) -> List[socket.socket]:
    """Sockets of systemd's socket activation; connections wait in them while the server restarts.

    Raises:
        UsageError: the environment speaks of sockets that are not there.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    given = environment.get("LISTEN_FDS", "0")
    if not re.fullmatch("[0-9]{1,6}", given):
        raise UsageError(
            f"$LISTEN_FDS is {given!r}; expected how many sockets a service manager passed",
            hint=_WITHOUT_MANAGER,
        )
    found = []
    for number in range(_FIRST_PASSED, _FIRST_PASSED + int(given)):
        try:
            one = socket.socket(fileno=number)
            accepts = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"$LISTEN_FDS is {given}, and file descriptor {number} is no socket: {error}",
                hint=_WITHOUT_MANAGER,
            ) from error
        if one.type != socket.SOCK_STREAM or not accepts:
            raise UsageError(
                f"$LISTEN_FDS is {given}, and file descriptor {number} is a socket that does not listen",
                hint="give the unit of the socket ListenStream= and Accept=no",
            )
        one.setblocking(False)
        os.set_inheritable(number, False)
        found.append(one)
    return found


def _unix_socket(path: str) -> socket.socket:
    """A socket at a path, in place of one that nobody listens on."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if Path(path).exists():
            if not stat.S_ISSOCK(Path(path).stat().st_mode):
                raise UsageError(f"{path} is there, and is no socket", hint="give another --uds")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
                if asking.connect_ex(path) == 0:
                    raise UsageError(
                        f"a server listens on {path} already", hint="give another --uds, or stop it"
                    )
            Path(path).unlink()
        before = os.umask(0o117)
        try:
            listening.bind(path)
        finally:
            os.umask(before)
    except OSError as error:
        raise UsageError(
            f"it is not possible to listen on {path}: {error}", hint="give a path in a folder that is there"
        ) from error
    return listening


def _is_open(listening: socket.socket) -> bool:
    """Whether other machines may reach a socket."""
    if listening.family == socket.AF_UNIX:
        return False
    host = str(listening.getsockname()[0])
    return not (host.startswith("127.") or host == "::1")


def address(listening: socket.socket) -> str:
    """Where a socket listens, as a client writes it."""
    place = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:{place}"
    host = f"[{place[0]}]" if ":" in place[0] else place[0]
    return f"http://{host}:{place[1]}"
