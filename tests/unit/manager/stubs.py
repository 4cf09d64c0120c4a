"""Pools that are nothing but what a manager asks of them."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any


class StubPool:
    """Opens and closes as told, and writes both into `log`."""

    def __init__(
        self,
        name: str = "stub",
        log: list[str] | None = None,
        *,
        open_error: BaseException | None = None,
        close_error: BaseException | None = None,
        **stats: Any,
    ) -> None:
        self.name = name
        self.log = log if log is not None else []
        self.open_error = open_error
        self.close_error = close_error
        self.figures: dict[str, Any] = {"size": 0, "available": 0} | stats

    async def open(self) -> None:
        self.log.append(f"open {self.name}")
        if self.open_error is not None:
            raise self.open_error

    async def close(self) -> None:
        self.log.append(f"close {self.name}")
        if self.close_error is not None:
            raise self.close_error

    def stats(self) -> Mapping[str, Any]:
        return self.figures


class StubHistogram:
    """Two waits of 0.25 s and one of 300 s, in the core's kind of buckets."""

    count = 3
    total = 300.5

    def buckets(self) -> list[tuple[float, int]]:
        bounds = [2.0**e for e in range(-23, 13)]
        return [(bound, 0 if bound < 0.25 else 2 if bound < 300 else 3) for bound in bounds] + [(inf, 3)]


class MeasuredPool(StubPool):
    def histograms(self) -> dict[str, StubHistogram]:
        return {"wait": StubHistogram(), "use": StubHistogram(), "open": StubHistogram()}
