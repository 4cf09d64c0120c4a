"""What a scrape shows of the pools of managers."""

from __future__ import annotations

import builtins
import gc
import logging
import subprocess
import sys
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from aiopool.config import PoolConfig
from aiopool.manager import PoolManager
from aiopool.metrics.prometheus import export
from aiopool.pool import ConnectionPool
from tests.fakes import Backend
from tests.unit.manager.stubs import MeasuredPool, StubPool


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


def value(registry: CollectorRegistry, name: str, pool_name: str = "database", **labels: str) -> float | None:
    return registry.get_sample_value(f"connection_pool_{name}", {"pool_name": pool_name, **labels})


def managed(registry: CollectorRegistry, **some: StubPool) -> PoolManager:
    manager = PoolManager(registry=registry)
    for name, pool in some.items():
        manager.register(name, pool)
    return manager


def test_a_registered_pool_is_in_the_default_registry_without_another_call() -> None:
    manager = PoolManager()
    manager.register("in the default registry", StubPool(size=7, available=3))
    assert value(REGISTRY, "size", "in the default registry") == 7
    assert value(REGISTRY, "available", "in the default registry") == 3
    assert len(manager) == 1  # alive until here


def test_the_figures_are_those_of_the_moment_of_the_scrape(registry: CollectorRegistry) -> None:
    pool = StubPool(size=1)
    manager = managed(registry, database=pool)
    assert value(registry, "size") == 1
    pool.figures["size"] = 2
    assert value(registry, "size") == 2
    assert len(manager) == 1


def test_every_figure_of_the_statistics_has_a_metric(registry: CollectorRegistry) -> None:
    gauges: dict[str, Any] = {
        "size": 1,
        "available": 2,
        "in_use": 3,
        "waiting": 4,
        "opening": 5,
        "min_size": 6,
        "max_size": 7,
    }
    counters: dict[str, Any] = {
        "acquired": 11, "waited": 12, "timeouts": 13, "rejected": 14, "shed": 15, "cancelled": 16,
        "opened": 17, "open_failures": 18, "close_failures": 19, "leaks": 20,
    }  # fmt: skip
    ages: dict[str, Any] = {"oldest_wait": 0.5, "oldest_lease": 1.5}
    pool = StubPool(**gauges, **counters, **ages, closed=3, closed_by={"idle": 1, "broken": 2})
    manager = managed(registry, database=pool)
    assert {key: value(registry, key) for key in gauges} == gauges
    assert {key: value(registry, f"{key}_total") for key in counters} == counters
    assert {key: value(registry, f"{key}_seconds") for key in ages} == ages
    assert value(registry, "closed_total", reason="idle") == 1
    assert value(registry, "closed_total", reason="broken") == 2
    assert len(manager) == 1


@pytest.mark.parametrize("name", ["wait_seconds", "use_seconds", "open_seconds"])
def test_histograms_are_cumulative_and_end_in_infinity(registry: CollectorRegistry, name: str) -> None:
    manager = managed(registry, database=MeasuredPool())
    assert value(registry, f"{name}_bucket", le="0.125") == 0
    assert value(registry, f"{name}_bucket", le="0.25") == 2
    assert value(registry, f"{name}_bucket", le="128.0") == 2
    assert value(registry, f"{name}_bucket", le="+Inf") == 3
    assert value(registry, f"{name}_count") == 3
    assert value(registry, f"{name}_sum") == 300.5
    assert len(manager) == 1


def test_an_adapter_shows_the_histograms_of_the_pool_that_it_stands_on(registry: CollectorRegistry) -> None:
    face: Any = StubPool()
    face.pool = MeasuredPool()
    manager = managed(registry, database=face)
    assert value(registry, "wait_seconds_count") == 3
    assert len(manager) == 1


def test_a_pool_that_knows_few_figures_exports_those_and_nothing_else(registry: CollectorRegistry) -> None:
    pool = StubPool(max_size=9)
    pool.figures.pop("available")
    manager = managed(registry, database=pool)
    shown = {family.name for family in text_string_to_metric_families(generate_latest(registry).decode())}
    assert shown == {"connection_pool_size", "connection_pool_max_size"}
    assert len(manager) == 1


def test_the_output_is_valid_for_a_name_that_needs_quoting(registry: CollectorRegistry) -> None:
    manager = managed(registry, **{'a "quoted"\nname': MeasuredPool()})
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert families[0].samples[0].labels == {"pool_name": 'a "quoted"\nname'}
    assert len(manager) == 1


def test_a_scrape_can_ask_for_one_metric_by_its_name(registry: CollectorRegistry) -> None:
    manager = managed(registry, database=StubPool(size=4))
    (family,) = registry.restricted_registry(["connection_pool_size"]).collect()
    assert family.samples[0].value == 4
    assert len(manager) == 1


def test_a_pool_whose_statistics_fail_does_not_hide_the_others(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    broken: Any = StubPool()
    broken.stats = lambda: 1 / 0
    manager = managed(registry, broken=broken, database=StubPool(size=1))
    assert value(registry, "size") == 1
    assert value(registry, "size", "broken") is None
    assert "'broken': its statistics cannot be read" in caplog.text
    assert len(manager) == 2


def test_statistics_that_change_while_another_thread_reads_them_are_read_again(
    registry: CollectorRegistry,
) -> None:
    pool: Any = StubPool()
    outcomes = [RuntimeError("dictionary changed size during iteration"), None]

    def stats() -> dict[str, Any]:
        if error := outcomes.pop(0):
            raise error
        return {"size": 5}

    pool.stats = stats
    manager = managed(registry, database=pool)
    (family,) = registry.restricted_registry(["connection_pool_size"]).collect()
    assert family.samples[0].value == 5
    assert len(manager) == 1


def test_the_pools_of_a_dropped_manager_disappear(registry: CollectorRegistry) -> None:
    manager = managed(registry, database=StubPool(size=1))
    assert value(registry, "size") == 1
    del manager
    gc.collect()
    assert value(registry, "size") is None


def test_managers_share_one_collector(registry: CollectorRegistry) -> None:
    one, two = managed(registry, a=StubPool(size=1)), managed(registry, b=StubPool(size=2))
    assert value(registry, "size", "a") == 1
    assert value(registry, "size", "b") == 2
    assert export(one, registry) is export(two, registry)


def test_of_two_pools_of_one_name_the_later_managers_keeps_it(registry: CollectorRegistry) -> None:
    old, new = managed(registry, database=StubPool(size=1)), managed(registry, database=StubPool(size=2))
    assert value(registry, "size") == 2
    assert value(registry, "size", "database#1") == 1
    del old
    gc.collect()
    assert value(registry, "size") == 2
    assert value(registry, "size", "database#1") is None
    assert len(new) == 1


def test_no_two_series_are_alike_even_if_a_pool_is_called_like_a_substitute(
    registry: CollectorRegistry,
) -> None:
    managers = [
        managed(registry, database=StubPool(), **{"database#1": StubPool()}),
        managed(registry, database=StubPool(), **{"database#1": StubPool()}),
    ]
    (family,) = registry.restricted_registry(["connection_pool_size"]).collect()
    names = [sample.labels["pool_name"] for sample in family.samples]
    assert len(names) == len(set(names)) == 4
    assert len(managers) == 2


def test_a_pool_that_stands_in_two_managers_is_shown_once(registry: CollectorRegistry) -> None:
    pool = StubPool(size=1)
    managers = [managed(registry, database=pool), managed(registry, database=pool)]
    (family,) = registry.restricted_registry(["connection_pool_size"]).collect()
    assert [sample.labels["pool_name"] for sample in family.samples] == ["database"]
    assert len(managers) == 2


# -- update_metrics


def test_update_metrics_can_be_called_again_and_again(registry: CollectorRegistry) -> None:
    manager = managed(registry, database=StubPool(size=1))
    for _ in range(3):
        manager.update_metrics()
    assert value(registry, "size") == 1
    assert len(export(manager, registry)._managers) == 1


def test_update_metrics_puts_back_a_collector_that_was_unregistered(registry: CollectorRegistry) -> None:
    manager = managed(registry, database=StubPool(size=1))
    registry.unregister(export(manager, registry))
    assert value(registry, "size") is None
    manager.update_metrics()
    assert value(registry, "size") == 1


def test_update_metrics_shows_what_a_scrape_would_only_log(registry: CollectorRegistry) -> None:
    pool: Any = StubPool()
    pool.stats = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        managed(registry, database=pool).update_metrics()


def test_gauges_of_the_same_names_are_told_of_and_do_not_stop_the_registration(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    Gauge("connection_pool_size", "the application's own", ["pool_name"], registry=registry)
    manager = managed(registry, database=StubPool())
    assert "database" in manager
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    with pytest.raises(ValueError, match="remove the gauges that the application defines"):
        manager.update_metrics()


def test_without_prometheus_client_managers_work_and_update_metrics_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without_prometheus(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ModuleNotFoundError("No module named 'prometheus_client'", name="prometheus_client")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "aiopool.metrics.prometheus")
    monkeypatch.setattr(builtins, "__import__", without_prometheus)
    manager = PoolManager()
    manager.register("database", StubPool(size=1))
    assert manager.stats()["database"]["size"] == 1
    with pytest.raises(ImportError, match=r"aiopool-core\[prometheus\]"):
        manager.update_metrics()


def test_importing_the_manager_imports_neither_drivers_nor_prometheus() -> None:
    code = (
        "import sys, aiopool.manager; "
        "print([m for m in ('prometheus_client', 'asyncpg', 'redis', 'httpx', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- with a real pool


async def test_a_real_pool_shows_its_connections_and_waits(registry: CollectorRegistry) -> None:
    backend = Backend()
    pool = ConnectionPool(backend.open, PoolConfig(min_size=2, max_size=3), destroyer=backend.close, name="x")
    manager = PoolManager(registry=registry)
    manager.register("database", pool)
    async with manager:
        async with pool.acquire():
            assert value(registry, "size") == 2
            assert value(registry, "available") == 1
            assert value(registry, "in_use") == 1
            assert value(registry, "max_size") == 3
        assert value(registry, "acquired_total") == 1
        assert value(registry, "use_seconds_count") == 1
        assert value(registry, "open_seconds_count") == 2
        assert value(registry, "open_seconds_bucket", le="+Inf") == 2
    assert value(registry, "size") == 0
    assert value(registry, "closed_total", reason="pool_closed") == 2
