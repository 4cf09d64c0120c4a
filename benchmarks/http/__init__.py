"""`http1` and `http2`: GET over TLS, through our client and transport, and those of others."""

from __future__ import annotations

from benchmarks.harness import Run
from benchmarks.http import ours, peers
from benchmarks.http.client import Client
from benchmarks.http.server import granian
from benchmarks.results import Target
from benchmarks.servers import compare_clients

HTTP1: tuple[type[Client], ...] = (
    ours.Ours,
    ours.OurTransport,
    peers.HTTPX,
    peers.HTTPXOfOurSize,
    peers.HTTPCore,
    peers.AIOHTTP,
)
HTTP1_TASKS = (10, 100, 1000)
OVER_DEFAULT = {10: 1.3, 100: 20.0, 1000: 8.0}
OVER_SAME_SIZE = {10: 1.5, 100: 3.0, 1000: 3.0}

HTTP2: tuple[type[Client], ...] = (ours.Ours, ours.OurTransport, peers.HTTPX, peers.HTTPCore)
HTTP2_TASKS = (100,)

ABOUT = "GET of 200 bytes. What has no size in its name has the limits that it comes with."


def http1_targets(tasks: int) -> tuple[Target, ...]:
    return (
        Target(ours.Ours.name, at_least=OVER_DEFAULT[tasks], times=peers.HTTPX.name),
        Target(ours.Ours.name, at_least=OVER_SAME_SIZE[tasks], times=peers.HTTPXOfOurSize.name),
        Target(ours.Ours.name, at_most=2.5, metric="tail"),
        # More than was asked for, and good to know.
        Target(ours.Ours.name, at_least=0.333, times=peers.AIOHTTP.name),
    )


def http2_targets(tasks: int) -> tuple[Target, ...]:
    return (Target(ours.Ours.name, at_least=1.5, times=peers.HTTPX.name),)


async def run_http1(run: Run) -> None:
    async with granian() as server:
        clients = [kind(server, http2=False) for kind in HTTP1]
        references = (peers.HTTPX.name, peers.HTTPXOfOurSize.name, peers.AIOHTTP.name)
        await compare_clients(
            run,
            "http1",
            "HTTPS, HTTP/1.1",
            ABOUT,
            clients,
            HTTP1_TASKS,
            references=references,
            targets=http1_targets,
        )


async def run_http2(run: Run) -> None:
    async with granian() as server:
        clients = [kind(server, http2=True) for kind in HTTP2]
        await compare_clients(
            run,
            "http2",
            "HTTPS, HTTP/2",
            ABOUT,
            clients,
            HTTP2_TASKS,
            references=(peers.HTTPX.name,),
            targets=http2_targets,
        )
