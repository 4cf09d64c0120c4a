"""A TCP server that answers questions, in a process of its own, and the connections that put them to it.

One line each way: `hello NAME` · `ask N SECONDS TEXT` → `N CONNECTION TEXT` · `count NAME` → how many of that name
are connected · `prefix TEXT` goes before all answers from then on · `die` resets the connection. Answers may overtake
each other, as in any multiplexed protocol.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

from anyio import create_task_group, to_thread


class EchoServer:
    """Controlled as the servers of `aiopool.embedded` are. It ends when its standard input does."""

    host, port = "127.0.0.1", 0
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Self]:
        server = cls()
        await server.start()
        try:
            yield server
        finally:
            await server.kill()

    @property
    def url(self) -> str:
        return f"echo://{self.host}:{self.port}"

    async def start(self) -> None:
        await to_thread.run_sync(self._start)

    async def kill(self) -> None:
        await to_thread.run_sync(self._kill)

    def _start(self) -> None:
        command = [sys.executable, str(Path(__file__)), str(self.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def _kill(self) -> None:
        if self._process is not None:
            with self._process:
                self._process.kill()


class EchoConnection:
    """Reads each answer after its question, so whoever is cancelled in between leaves one behind."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        self.reader, self.writer = reader, writer
        self.number = 0  # the server's, known after the first answer
        self._questions = itertools.count(1)
        self.say("hello", name)

    @classmethod
    async def connect(cls, host: str, port: int, name: str) -> Self:
        reader, writer = await asyncio.open_connection(host, port)
        connection = cls(reader, writer, name)
        try:
            await connection.ask("ready")
        except BaseException:
            connection.abort()
            raise
        return connection

    def say(self, *words: object) -> None:
        self.writer.write(" ".join(map(str, words)).encode() + b"\n")

    async def hear(self) -> list[str]:
        line = await self.reader.readline()
        if not line:
            raise ConnectionResetError("the server has closed the connection")
        return line.decode().rstrip("\n").split(" ", 2)

    async def ask(self, text: str, delay: float = 0.0) -> str:
        self.say("ask", next(self._questions), delay, text)
        _, number, answer = await self.hear()
        self.number = int(number)
        return answer

    async def is_well(self) -> bool:
        return await self.ask("well?") == "well?"

    async def reset(self) -> None:
        self.say("prefix", "")
        await self.ask("clean?")

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def abort(self) -> None:
        self.writer.transport.abort()


class EchoSession(EchoConnection):
    """Matches answers to questions, so many may ask at once, and a cancelled one disturbs nobody."""

    _expected: dict[str, asyncio.Future[list[str]]]
    _is_over = False

    @classmethod
    @asynccontextmanager
    async def session(cls, host: str, port: int, name: str) -> AsyncIterator[Self]:
        """With a task of its own that reads, as anyio's clients have it."""
        self = cls(*await asyncio.open_connection(host, port), name)
        self._expected = {}
        try:
            async with create_task_group() as tasks:
                tasks.start_soon(self._read)
                await self.ask("ready")
                yield self
                tasks.cancel_scope.cancel()
        finally:
            self.writer.close()

    async def ask(self, text: str, delay: float = 0.0) -> str:
        if self._is_over:
            raise ConnectionResetError("the session has ended")
        question = str(next(self._questions))
        answer = self._expected[question] = asyncio.get_running_loop().create_future()
        try:
            self.say("ask", question, delay, text)
            _, number, said = await answer
        finally:
            self._expected.pop(question, None)
        self.number = int(number)
        return said

    async def _read(self) -> None:
        try:
            while True:
                heard = await self.hear()
                if (answer := self._expected.get(heard[0])) is not None and not answer.done():
                    answer.set_result(heard)
        finally:
            self._is_over = True
            for answer in self._expected.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError("the session has ended"))


async def count(host: str, port: int, name: str) -> int:
    """How many connections of that name the server has."""
    connection = EchoConnection(*await asyncio.open_connection(host, port), "auditor")
    try:
        connection.say("count", name)
        return int((await connection.hear())[0])
    finally:
        await connection.close()


async def serve(port: int) -> None:
    numbers, present = itertools.count(1), Counter[str]()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, name, prefix, later = next(numbers), "", "", set[asyncio.Task[Any]]()

        async def answer(question: str, seconds: str, text: str) -> None:
            await asyncio.sleep(float(seconds))
            writer.write(f"{question} {number} {prefix}{text}\n".encode())

        try:
            while line := await reader.readline():
                match line.decode().rstrip("\n").split(" ", 3):
                    case ["hello", name]:
                        present[name] += 1
                    case ["ask", *what]:
                        task = asyncio.create_task(answer(*what))
                        later.add(task)
                        task.add_done_callback(later.discard)
                    case ["count", who]:
                        writer.write(f"{present[who]}\n".encode())
                    case ["prefix", prefix]:
                        pass
                    case ["die"]:
                        # Lingering for 0 seconds sends RST.
                        no_linger = struct.pack("ii", 1, 0)
                        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
                        writer.transport.abort()
        except ConnectionError:
            pass
        finally:
            present[name] -= 1
            for task in later:
                task.cancel()
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port, reuse_address=True)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
