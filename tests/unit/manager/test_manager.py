"""Named pools that open and close together."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

import anyio
import pytest

from aiopool.config import PoolConfig
from aiopool.errors import PoolError, PoolNotFound, PoolUnavailable
from aiopool.manager import CLOSE_TIMEOUT, PoolManager, pools
from aiopool.pool import ConnectionPool
from tests.fakes import Backend, Step, now
from tests.unit.manager.stubs import StubPool


def managed(*some: StubPool) -> PoolManager:
    manager = PoolManager()
    for pool in some:
        manager.register(pool.name, pool)
    return manager


# -- names


def test_a_registered_pool_is_found_by_its_name() -> None:
    pool = StubPool()
    manager = PoolManager()
    manager.register("database", pool)
    assert manager.get("database") is pool


def test_a_name_is_taken_once() -> None:
    first = StubPool()
    manager = PoolManager()
    manager.register("database", first)
    with pytest.raises(ValueError, match="'database' is registered already"):
        manager.register("database", StubPool())
    assert manager.get("database") is first


def test_a_missing_pool_is_a_key_error_that_proposes_the_closest_name() -> None:
    manager = managed(StubPool("database"), StubPool("redis"))
    with pytest.raises(KeyError) as caught:
        manager.get("databse")
    assert isinstance(caught.value, PoolNotFound)
    assert isinstance(caught.value, PoolError)
    assert str(caught.value) == "no pool 'databse' is registered; did you mean 'database'?"


def test_a_missing_pool_unlike_any_other_names_those_that_exist() -> None:
    manager = managed(StubPool("redis"), StubPool("database"))
    with pytest.raises(PoolNotFound, match="'queue' is registered; known are: database, redis"):
        manager.get("queue")


def test_a_name_that_is_no_text_is_not_found_either() -> None:
    with pytest.raises(PoolNotFound, match="no pool 3 is registered"):
        managed(StubPool("a")).get(3)  # type: ignore[arg-type]


def test_an_empty_manager_says_that_nothing_is_registered() -> None:
    with pytest.raises(PoolNotFound, match="no pool 'x' is registered; register one first"):
        PoolManager().get("x")


def test_a_manager_is_a_collection_of_names() -> None:
    manager = managed(StubPool("b"), StubPool("a"))
    assert "a" in manager
    assert "c" not in manager
    assert list(manager) == ["b", "a"]
    assert len(manager) == 2


def test_the_view_of_the_pools_cannot_be_written() -> None:
    manager = managed(StubPool("a"))
    with pytest.raises(TypeError):
        manager.pools["b"] = StubPool()  # type: ignore[index]


@pytest.mark.parametrize("pool", [object(), None, "postgresql://user:swordfish@localhost/database", {"max_size": 5}])
def test_what_cannot_be_closed_is_refused_when_it_is_registered_not_when_it_is_closed(pool: Any) -> None:
    manager = PoolManager()
    with pytest.raises(TypeError, match=rf"'x': {type(pool).__name__} is no pool: it has no close\(\) to call$"):
        manager.register("x", pool)
    assert "x" not in manager


async def test_somebody_elses_pool_is_closed_too_and_has_no_statistics() -> None:
    class Client:
        is_closed = False

        async def aclose(self) -> None:
            self.is_closed = True

    manager, client = PoolManager(), Client()
    manager.register("api", client)
    async with manager:
        assert manager.stats() == {"api": {}}
        manager.update_metrics()
    assert client.is_closed


async def test_statistics_of_another_form_are_none_and_a_close_that_only_begins_is_waited_for() -> None:
    class Foreign:
        told: ClassVar[list[str]] = []

        def __getattr__(self, name: str) -> Any:
            raise NotImplementedError(name)

        async def stats(self) -> dict[str, int]:
            return {"size": 1}

        def close(self) -> None:
            self.told.append("close")

        async def wait_closed(self) -> None:
            self.told.append("wait_closed")

    manager = PoolManager()
    manager.register("foreign", Foreign())
    manager.update_metrics()
    assert manager.stats() == {"foreign": {}}
    await manager.close_all()
    assert Foreign.told == ["close", "wait_closed"]


async def test_a_pool_may_open_itself_and_close_with_a_plain_method() -> None:
    class Plain:
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

        def stats(self) -> dict[str, int]:
            return {"size": 1}

    manager, pool = PoolManager(), Plain()
    manager.register("plain", pool)
    async with manager:
        assert manager.stats()["plain"]["size"] == 1
    assert pool.is_closed


def test_a_class_is_no_pool() -> None:
    with pytest.raises(TypeError, match="the class StubPool is no pool"):
        PoolManager().register("x", StubPool)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_is_text(name: Any) -> None:
    with pytest.raises(TypeError, match="name must be a string"):
        PoolManager().register(name, StubPool())


def test_the_statistics_of_all_pools_stand_under_their_names() -> None:
    manager = managed(StubPool("a", size=1), StubPool("b", size=2))
    assert {name: stats["size"] for name, stats in manager.stats().items()} == {"a": 1, "b": 2}


def test_the_repr_shows_names_only() -> None:
    assert repr(managed(StubPool("a"), StubPool("b"))) == "<PoolManager a, b>"


def test_a_manager_for_the_whole_program_stands_ready() -> None:
    assert isinstance(pools, PoolManager)


# -- opening and closing


async def test_pools_open_in_order_and_close_in_reverse() -> None:
    log: list[str] = []
    async with managed(StubPool("a", log), StubPool("b", log), StubPool("c", log)) as manager:
        assert log == ["open a", "open b", "open c"]
        assert isinstance(manager, PoolManager)
    assert log[3:] == ["close c", "close b", "close a"]


async def test_a_pool_registered_inside_the_block_is_closed_with_the_others() -> None:
    log: list[str] = []
    async with managed(StubPool("a", log)) as manager:
        manager.register("late", StubPool("late", log))
    assert log == ["open a", "close late", "close a"]


async def test_a_failing_open_closes_those_already_open_and_is_raised_as_it_is() -> None:
    log: list[str] = []
    refusal = ConnectionError("refused")
    manager = managed(
        StubPool("a", log), StubPool("b", log), StubPool("c", log, open_error=refusal), StubPool("d", log)
    )
    with pytest.raises(ConnectionError) as caught:
        async with manager:
            pytest.fail("the block must not run")
    assert caught.value is refusal
    assert log == ["open a", "open b", "open c", "close b", "close a"]


async def test_a_close_that_fails_after_a_failed_open_hides_neither(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    manager = managed(
        StubPool("a", log),
        StubPool("b", log, close_error=OSError("b is stuck")),
        StubPool("c", open_error=KeyError()),
    )
    with pytest.raises(KeyError) as caught:
        await manager.open_all()
    assert "close a" in log
    assert caught.value.__notes__ == ["while closing pool 'b': OSError"]
    assert "while closing pool 'b': OSError" in caplog.text


async def test_failing_closes_are_raised_together_after_every_pool_was_closed() -> None:
    log: list[str] = []
    one, two = OSError("one"), ValueError("two")
    manager = managed(StubPool("a", log, close_error=one), StubPool("b", log), StubPool("c", log, close_error=two))
    with pytest.raises(ExceptionGroup) as caught:
        await manager.close_all()
    assert caught.value.exceptions == (two, one)
    assert one.__notes__ == ["while closing pool 'a'"]
    assert log == ["close c", "close b", "close a"]


async def test_a_single_failing_close_is_a_group_too() -> None:
    with pytest.raises(ExceptionGroup):
        async with managed(StubPool("a", close_error=OSError("one"))):
            pass


async def test_an_error_of_the_block_is_not_replaced_by_one_of_a_close(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(LookupError) as caught:
        async with managed(StubPool("a", close_error=OSError("stuck"))):
            raise LookupError
    assert caught.value.__notes__ == ["while closing pool 'a': OSError"]
    assert [r.levelno for r in caplog.records if r.name == "aiopool"] == [logging.ERROR]


class SlowPool(StubPool):
    """Takes its time to open and to close."""

    delay = 1.0

    async def open(self) -> None:
        await asyncio.sleep(self.delay)
        await super().open()

    async def close(self) -> None:
        await asyncio.sleep(self.delay)
        await super().close()


async def test_a_cancelled_block_closes_every_pool_and_stays_cancelled() -> None:
    log: list[str] = []

    async def serve() -> None:
        async with managed(SlowPool("a", log), SlowPool("b", log, close_error=OSError())):
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await asyncio.sleep(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log[2:] == ["close b", "close a"]


async def test_an_anyio_scope_that_is_cancelled_does_not_cut_the_closing_short() -> None:
    log: list[str] = []
    with anyio.move_on_after(5):
        async with managed(SlowPool("a", log), SlowPool("b", log)):
            await anyio.sleep_forever()
    assert log[2:] == ["close b", "close a"]


async def test_a_cancelled_open_closes_those_already_open() -> None:
    log: list[str] = []
    hanging = SlowPool("b", log)
    hanging.delay = 1000
    with anyio.move_on_after(5):
        async with managed(SlowPool("a", log), hanging):
            pytest.fail("the block must not run")
    assert log == ["open a", "close a"]


async def test_a_cancellation_while_closing_still_closes_the_other_pools() -> None:
    log: list[str] = []
    manager = managed(SlowPool("a", log), SlowPool("b", log), SlowPool("c", log))
    task = asyncio.create_task(manager.close_all())
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["close b", "close a"]


async def test_a_close_that_hangs_is_given_up_and_named() -> None:
    log: list[str] = []
    hanging = SlowPool("b", log)
    hanging.delay = 10_000
    start = now()
    with pytest.raises(ExceptionGroup) as caught:
        await managed(StubPool("a", log), hanging).close_all()
    assert now() - start == pytest.approx(CLOSE_TIMEOUT)
    (error,) = caught.value.exceptions
    assert isinstance(error, TimeoutError)
    assert error.__notes__ == ["while closing pool 'b'"]
    assert log == ["close a"]


async def test_a_manager_may_be_opened_again() -> None:
    log: list[str] = []
    manager = managed(StubPool("a", log))
    for _ in range(2):
        async with manager:
            pass
    assert log == ["open a", "close a"] * 2


# -- with real pools


async def test_real_pools_stand_open_inside_the_block_and_have_no_connection_after_it() -> None:
    first, second = Backend(), Backend()
    manager = PoolManager()
    for name, backend in (("first", first), ("second", second)):
        manager.register(
            name,
            ConnectionPool(backend.open, PoolConfig(min_size=2, max_size=4), destroyer=backend.close, name=name),
        )
    async with manager:
        assert len(first.live) == len(second.live) == 2
        async with manager.get("first").acquire():
            assert manager.stats()["first"]["in_use"] == 1
    assert first.live == second.live == []
    assert manager.stats()["second"]["size"] == 0


def real(backend: Backend, **config: Any) -> ConnectionPool[Any]:
    return ConnectionPool(backend.open, PoolConfig(**config), destroyer=backend.close)


async def test_a_real_pool_that_cannot_open_leaves_nothing_of_the_others() -> None:
    good, bad = Backend(), Backend(opens=Step(error=ValueError("wrong password")))
    manager = PoolManager()
    manager.register("good", real(good, min_size=2))
    manager.register("bad", real(bad, min_size=1))
    with pytest.raises(PoolUnavailable):
        async with manager:
            pytest.fail("the block must not run")
    assert good.live == []


async def test_a_cancelled_opening_of_real_pools_leaves_nothing_behind() -> None:
    good, slow = Backend(), Backend(opens=Step(delay=3))
    manager = PoolManager()
    manager.register("good", real(good, min_size=2))
    manager.register("slow", real(slow, min_size=2))
    with anyio.move_on_after(1):
        async with manager:
            pytest.fail("the block must not run")
    await asyncio.sleep(10)
    assert good.live == slow.live == []
