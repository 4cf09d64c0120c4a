"""What `/metrics` tells: the pools, read at each scrape, and the calls of the tools."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

from aiopool.metrics.prometheus import export
from aiopool.toolserver.current import Current


class Meter:
    """Counts calls, as an `Observer`. It has a registry of its own, so that servers in one process do not mix."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, current: Current) -> None:
        self._registry = CollectorRegistry()
        export(current, self._registry)
        self._calls = Counter(
            "mcp_tool_calls", "Calls that ended, by outcome", ["tool", "outcome"], registry=self._registry
        )
        self._durations = Histogram(
            "mcp_tool_call_duration_seconds",
            "How long calls took",
            ["tool"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self._registry,
        )

    def __call__(self, tool: str, outcome: str, seconds: float) -> None:
        self._calls.labels(tool, outcome).inc()
        self._durations.labels(tool).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)
