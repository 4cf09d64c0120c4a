"""`FaultProxy`: a TCP proxy that breaks on command, in front of a real server."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

DEFAULT_PORTS: Final = {"postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379, "http": 80, "https": 443}
#: Closing a socket that lingers for 0 seconds sends RST.
NO_LINGER: Final = struct.pack("ii", 1, 0)
BACKLOG: Final = 1024


class FaultProxy:
    """Carries TCP between clients on loopback and a server, and breaks in the ways in which networks and servers do.

        async with FaultProxy.before("postgresql://user@host/database") as proxy:
            async with DatabasePool(proxy.url) as db:
                proxy.black_hole()
                ...
                proxy.pass_through()

    A mode lasts until the next one is set, and holds for established connections and newcomers alike. Those that
    were merely held up go on where they were, as TCP does after an outage; those that were closed stay closed.
    To end an outage like a network that has forgotten its flows, call `reset()` before `pass_through()`.

    `sent` counts the pieces of data that came from clients, one for each write of a driver that waits for answers;
    `connections` counts those accepted. Raises `OSError` on entry if the server's name cannot be resolved.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._url: SplitResult | None = None
        self.port = 0
        self.sent = 0
        self.connections = 0
        #: In bytes a second, each way on each connection; None is as fast as it goes.
        self._rate: float | None = None
        self._switched = asyncio.Event()
        self._resets_newcomers = False
        self._flows: dict[asyncio.Task[None], socket.socket] = {}
        self._plugs: dict[object, socket.socket] = {}

    @classmethod
    def before(cls, url: str) -> Self:
        """A proxy before the server of that URL; `url` is then the same through the proxy.

        Raises `ValueError` if the URL names no host, or no port and its scheme has none that is known.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORTS.get(parts.scheme)
        except ValueError:  # it quotes what may be a piece of the password
            raise ValueError("that URL can't be read: percent-encode what is special in its password") from None
        if not parts.hostname or port is None:
            raise ValueError(
                f"the {parts.scheme or 'nameless'} URL has no host or no port: write scheme://host:port/…, or use "
                "FaultProxy(host, port)"
            )
        proxy = cls(parts.hostname, port)
        proxy._url = parts
        return proxy

    @property
    def url(self) -> str:
        """The URL that `before` was given, through the proxy."""
        if self._url is None or not self.port:
            raise RuntimeError("only FaultProxy.before(url) has a URL, and only inside `async with`")
        user, at, _ = self._url.netloc.rpartition("@")
        return urlunsplit(self._url._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._addresses = await loop.getaddrinfo(*self._target, type=socket.SOCK_STREAM)
        self._bind()
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close_listener()
        self._end_flows()
        await asyncio.gather(*self._flows, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------- modes

    def pass_through(self) -> None:
        """As if it were not there. Mends whatever was broken; what had been held up arrives now."""
        self._switch(rate=None)

    def black_hole(self) -> None:
        """Packets vanish: nothing passes, and nobody is told, not even of a close. Newcomers' `connect()` hangs.

        They hang as long as nobody answers their SYN, and come through with the first one that is sent again after
        the mend: on Linux 1, 3, 7, … seconds after the first. What established connections write is still
        acknowledged by this machine's kernel, so that keepalives and TCP_USER_TIMEOUT notice nothing.
        """
        self._switch(rate=0.0)
        # A listener whose line is full leaves SYNs unanswered. One connection fills a line of none.
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.listen(0)
        plug = socket.socket()
        plug.setblocking(False)
        plug.connect_ex(("127.0.0.1", self.port))
        self._plugs[plug.getsockname()] = plug

    def refuse(self) -> None:
        """The server has ended: established connections are closed, newcomers get `ConnectionRefusedError`."""
        self._end_flows()
        self._switch(rate=None)
        # The port stays taken, but nobody listens.
        self._close_listener()
        self._bind()

    def reset(self) -> None:
        """Established connections are reset (RST), newcomers at once after they were accepted."""
        for client in self._flows.values():
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self._end_flows()
        self._switch(rate=None)
        self._resets_newcomers = True

    def silence(self) -> None:
        """The server hangs: connections are accepted, newcomers too, and nothing is ever answered."""
        self._switch(rate=0.0)

    def trickle(self, bytes_per_second: float = 1.0) -> None:
        """So slow that it is worse than dead: so many bytes a second, each way, on each connection.

        Raises `ValueError` if that is not above 0.
        """
        if not bytes_per_second > 0:
            raise ValueError(f"bytes_per_second={bytes_per_second!r} must be above 0: silence() passes nothing")
        self._switch(rate=bytes_per_second)

    def _switch(self, *, rate: float | None) -> None:
        self._resets_newcomers = False
        self._rate = rate
        switched, self._switched = self._switched, asyncio.Event()
        switched.set()
        self._listen()

    # ---------------------------------------------------------------------------------------------- newcomers

    def _bind(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setblocking(False)
        self._listener.bind(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]

    def _listen(self) -> None:
        self._listener.listen(BACKLOG)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _close_listener(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        while self._plugs:
            self._plugs.popitem()[1].close()

    def _accept(self) -> None:
        try:
            client, address = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # the client left first
            return
        if plug := self._plugs.pop(address, None):
            plug.close()
            client.close()
            return
        self.connections += 1
        if self._resets_newcomers:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            client.close()
            return
        client.setblocking(False)
        flow = asyncio.create_task(self._serve(client))
        self._flows[flow] = client
        # Not in the task: one that is cancelled before its first step never runs.
        flow.add_done_callback(lambda flow: self._flows.pop(flow).close())

    # ----------------------------------------------------------------------------------- established connections

    async def _serve(self, client: socket.socket) -> None:
        await self._until_something_passes()
        with suppress(OSError), await self._connect() as server:
            await self._join(client, server)

    async def _connect(self) -> socket.socket:
        error: OSError | None = None
        for family, kind, protocol, _, address in self._addresses:
            server = socket.socket(family, kind, protocol)
            server.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(server, address)
                return server
            except OSError as exc:
                server.close()
                error = exc
            except BaseException:
                server.close()
                raise
        assert error is not None
        raise error

    async def _join(self, client: socket.socket, server: socket.socket) -> None:
        for end in client, server:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(client, server, counts=True))
                both.create_task(self._carry(server, client, counts=False))
        except* OSError:
            # One end was reset, and the other shall know it as such, but not before something passes again.
            await self._until_something_passes()
            for end in client, server:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)

    async def _carry(self, source: socket.socket, sink: socket.socket, *, counts: bool) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, 65536):
            await self._until_something_passes()
            self.sent += counts
            while (rate := await self._until_something_passes()) is not None and data:
                switched = self._switched
                piece = max(1, int(rate / 20))
                await loop.sock_sendall(sink, data[:piece])
                data = data[piece:]
                with suppress(TimeoutError):
                    async with asyncio.timeout(piece / rate):
                        await switched.wait()
            await loop.sock_sendall(sink, data)
        await self._until_something_passes()
        sink.shutdown(socket.SHUT_WR)

    async def _until_something_passes(self) -> float | None:
        while self._rate == 0:
            await self._switched.wait()
        return self._rate

    def _end_flows(self) -> None:
        """Before the switch, which would wake those that hold something up, and they would let it pass."""
        for flow in self._flows:
            flow.cancel()
