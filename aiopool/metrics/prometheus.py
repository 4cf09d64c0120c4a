"""Export the pools of managers to Prometheus: one collector per registry, read at scrape.

Nothing here runs when a connection is acquired or released. A registry in multiprocess mode
(`PROMETHEUS_MULTIPROC_DIR`) takes no collectors: there, let each process serve its own metrics.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

from aiopool.stats import stats_of

try:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.utils import floatToGoString
except ImportError as exc:
    raise ImportError(
        "exporting to Prometheus needs prometheus-client; run: pip install 'aiopool-core[prometheus]'"
    ) from exc

logger = logging.getLogger("aiopool")

_PREFIX = "connection_pool"

#: Key of `PoolStats` -> (name after the prefix, help).
_GAUGES = {
    "size": ("size", "Connections that exist"),
    "available": ("available", "Leases that could be granted now without opening a connection"),
    "in_use": ("in_use", "Leases held by callers"),
    "waiting": ("waiting", "Callers in line"),
    "opening": ("opening", "Connections being opened"),
    "min_size": ("min_size", "Connections kept open even when nobody asks"),
    "max_size": ("max_size", "Connections that may exist"),
    "oldest_wait": ("oldest_wait_seconds", "How long the first caller in line has waited"),
    "oldest_lease": ("oldest_lease_seconds", "How long the oldest lease has been held"),
}

_COUNTERS = {
    "acquired": "Leases granted",
    "waited": "Callers that had to stand in line",
    "timeouts": "Callers that waited in vain until their timeout",
    "rejected": "Callers refused because the line was full",
    "shed": "Callers refused under overload",
    "cancelled": "Callers that were cancelled while waiting",
    "opened": "Connections opened",
    "open_failures": "Attempts to open a connection that failed",
    "close_failures": "Connections that could not be closed politely",
    "leaks": "Leases reported as held for too long",
}

_HISTOGRAMS = {
    "wait": "How long callers waited for a connection",
    "use": "How long leases were held",
    "open": "How long opening a connection took",
}

#: The pool counts in buckets that double from 0.1 µs to an hour; series cost Prometheus memory, so only those
#: from 15 µs to two minutes are exported. Buckets are cumulative: leaving some out loses nothing else.
_SMALLEST, _LARGEST = 2.0**-16, 2.0**7


class Manager(Protocol):
    """What is exported: named pools."""

    @property
    def pools(self) -> Mapping[str, Any]: ...


class PoolCollector:
    """Turns the statistics of every pool of its managers into metrics, at each scrape.

    Managers are held weakly: the pools of a dropped one disappear. When two managers have a pool of the same
    name, the series of that name belongs to the manager that was exported last, and the older one's pool is
    shown as `name#1`, with the number of its manager. (A sum would look like a counter reset when one of them
    goes.) A pool that stands in both under one name is exported once.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        #: In the order of export. Copied before it is read: managers vanish whenever garbage is collected.
        self._managers: dict[int, weakref.ref[Manager]] = {}
        self._scrapes = 0

    def add(self, manager: Manager) -> None:
        """Export this manager too; a second time is a no-op."""
        if not any(known() is manager for known in list(self._managers.values())):
            number = next(self._numbers)
            self._managers[number] = weakref.ref(manager, lambda _: self._managers.pop(number, None))

    def stands_in(self, registry: CollectorRegistry) -> bool:
        """Is it still registered? Asked by a scrape: a registry has no public way to tell."""
        before = self._scrapes
        for _ in registry.restricted_registry([f"{_PREFIX}_size"]).collect():
            pass
        return self._scrapes > before

    def describe(self) -> Iterable[Metric]:
        """The names of all metrics, so that a registry can find them by name and refuse a second owner."""
        return _families([])

    def collect(self) -> Iterator[Metric]:
        self._scrapes += 1
        yield from (family for family in _families(self._pools()) if family.samples)

    def _pools(self) -> Iterable[tuple[str, Any]]:
        exported: dict[str, Any] = {}
        for number, reference in sorted(self._managers.items(), reverse=True):
            manager = reference()
            for name, pool in list(manager.pools.items()) if manager is not None else ():
                if exported.get(name) is pool:
                    continue
                label = name if name not in exported else f"{name}#{number}"
                while label in exported:  # somebody calls a pool so
                    label += "#"
                exported[label] = pool
        return exported.items()


def export(manager: Manager, registry: CollectorRegistry | None = None) -> PoolCollector:
    """Export a manager's pools in the default registry, or in another.

    Idempotent; puts the collector back if it was unregistered. Raises `ValueError` if other metrics have
    our names.
    """
    registry = REGISTRY if registry is None else registry
    with _lock:
        collector = _collectors.get(registry)
        if collector is None or not collector.stands_in(registry):
            collector = collector or PoolCollector()
            try:
                registry.register(collector)
            except ValueError as exc:
                raise ValueError(
                    f"the registry already has metrics of aiopool's names ({exc}): remove the gauges that "
                    "the application defines by itself, or give PoolManager another registry"
                ) from exc
            _collectors[registry] = collector
        collector.add(manager)
    return collector


_lock = threading.Lock()
_collectors: weakref.WeakKeyDictionary[CollectorRegistry, PoolCollector] = weakref.WeakKeyDictionary()


def _families(pools: Iterable[tuple[str, Any]]) -> list[Metric]:
    label = ["pool_name"]
    gauges = {key: GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=label) for key, (name, text) in _GAUGES.items()}
    counters = {key: CounterMetricFamily(f"{_PREFIX}_{key}", text, labels=label) for key, text in _COUNTERS.items()}
    closed = CounterMetricFamily(f"{_PREFIX}_closed", "Connections closed, by reason", labels=[*label, "reason"])
    histograms = {
        key: HistogramMetricFamily(f"{_PREFIX}_{key}_seconds", text, labels=label) for key, text in _HISTOGRAMS.items()
    }
    for name, pool in pools:
        try:
            stats, measured = _read(pool)
        except Exception as exc:
            # One broken pool must not take the metrics of the whole process away. Its words may be about an address.
            what, where = type(exc).__name__, "".join(traceback.format_tb(exc.__traceback__))
            logger.warning("pool %r: its statistics cannot be read, so it is not exported: %s\n%s", name, what, where)
            continue
        # A class of the user's own may know only some of the figures.
        for families in (gauges, counters):
            for key, family in families.items():
                if key in stats:
                    family.add_metric([name], stats[key])
        for reason, count in stats.get("closed_by", {}).items():
            closed.add_metric([name, reason], count)
        for key, (buckets, total) in measured.items():
            histograms[key].add_metric([name], buckets, total)
    return [*gauges.values(), *counters.values(), closed, *histograms.values()]


Buckets = list[tuple[str, float]]


def _read(pool: Any) -> tuple[Mapping[str, Any], dict[str, tuple[Buckets, float]]]:
    """Its statistics and histograms, all read before any is exported: a pool appears whole or not at all."""
    stats = _settled(partial(stats_of, pool))
    # An adapter stands on a pool; a class of the user's own may have no histograms.
    measured_by = pool if hasattr(pool, "histograms") else getattr(pool, "pool", None)
    measured = _settled(getattr(measured_by, "histograms", dict))
    return stats, {key: (_buckets(h), h.total) for key, h in measured.items() if key in _HISTOGRAMS}


def _settled(read: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Read again what changed while it was read: a scrape often comes from another thread than the pool's."""
    for _ in range(3):
        with contextlib.suppress(RuntimeError):
            return read()
    return read()


def _buckets(histogram: Any) -> Buckets:
    return [
        (floatToGoString(bound), count)  # type: ignore[no-untyped-call]
        for bound, count in histogram.buckets()
        if _SMALLEST <= bound <= _LARGEST or math.isinf(bound)
    ]
