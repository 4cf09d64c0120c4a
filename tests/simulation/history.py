"""What happens in a run, as data: so that a seed says it all, and that a history can be made shorter."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aiopool.testing.server import Faults

#: The timeout of a call that gives none.
USUAL = -1.0

Style = Literal["with", "lease", "lease-with"]
End = Literal["release", "break", "err", "discard", "twice", "drop"]


@dataclass(frozen=True, slots=True)
class Call:
    """Acquires, works, gives back."""

    at: float
    style: Style = "with"
    timeout: float | None = USUAL
    hold: float = 0.0
    queries: int = 0
    end: End = "release"
    #: Cancelled after so many steps of the loop, or in the very turn in which it is served.
    cancel: int | Literal["when served"] | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """Something that an operator, or fate, does to the pool."""

    at: float
    what: Literal[
        "resize", "drain", "suspend", "check", "close", "open", "evict", "capacity", "kill", "outage", "rotate", "look"
    ]
    a: float = 0.0
    b: float = 0.0
    cancel: int | None = None


Op = Call | Act


@dataclass(frozen=True)
class History:
    """A pool, a server, and who does what and when."""

    seed: int
    config: dict[str, Any]
    factory: Literal["plain", "session"]
    hooks: frozenset[str]
    faults: dict[str, Faults]
    lateness: float
    is_opened: bool
    ops: tuple[Op, ...] = field(repr=False)
    #: Other dice for the scheduler and the server: when operations are left out, the old ones fall differently anyway.
    variant: int = 0

    def only(self, numbers: list[int], variant: int = 0) -> History:
        return replace(self, ops=tuple(self.ops[n] for n in numbers), variant=variant)

    @property
    def dice(self) -> str:
        return f"{self.seed}/{self.variant}"


def draw(seed: int, length: int = 200) -> History:
    """The history of that seed."""
    dice = random.Random(seed)
    factory: Literal["plain", "session"] = "session" if dice.random() < 0.25 else "plain"
    hooks = frozenset(
        hook
        for hook, share in {
            "validator": 0.75,
            "resetter": 0.6,
            "quick resetter": 0.3,
            "destroyer": 0.85,
            "aborter": 0.6,
            "is_broken": 0.5,
            "listener": 0.3,
            "bad listener": 0.1,
            "configure": 0.3,
            "is_fatal": 0.1,
            "quick validator": 0.15,
        }.items()
        if dice.random() < share
    )
    if factory == "session":
        hooks -= {"destroyer", "aborter"}
    elif not hooks & {"destroyer", "aborter"}:
        hooks |= {"aborter"}
    config = _draw_config(dice)
    return History(
        seed=seed,
        config=config,
        factory=factory,
        hooks=hooks,
        faults={
            **{kind: _draw_faults(dice) for kind in ("opens", "checks", "resets", "closes")},
            # Callers are expected to go when they are told to.
            "queries": replace(_draw_faults(dice), ignore_cancel=0.0),
        },
        lateness=dice.choice([0.0, 0.0, 0.002]),
        is_opened=dice.random() < 0.5,
        ops=_draw_ops(dice, config, length),
    )


def _draw_config(dice: random.Random) -> dict[str, Any]:
    max_size = dice.choice([1, 1, 2, 2, 3, 4, 6])
    min_size = dice.choice([0, 0, dice.randint(0, max_size), max_size])
    some = dice.choice
    return {
        "min_size": min_size,
        "max_size": max_size,
        "max_idle": some([None, None, None, dice.randint(min_size, max_size)]),
        "max_idle_time": some([None, 2.0, 20.0]),
        "acquire_timeout": some([None, 0.5, 3.0, 10.0]),
        "health_check_interval": some([1.0, 5.0, 60.0]),
        "max_lifetime": some([None, None, 3.0, 20.0]),
        "max_uses": some([None, None, 1, 3]),
        "validate_after": some([None, 0, 0.3, 0.5]),
        "max_waiting": some([None, None, 0, 3]),
        "open_timeout": some([0.5, 2.0]),
        "validate_timeout": some([0.3, 1.0]),
        "reset_timeout": some([0.3, 1.0]),
        "close_timeout": some([0.3, 1.0]),
        "max_opening": some([None, None, 1, 2]),
        "backoff_initial": 0.1,
        "backoff_max": some([0.5, 2.0]),
        "unavailable_after": some([None, 0, 1.0]),
        "shed_target": some([None, None, None, 0.05]),
        "shed_interval": 0.5,
        "leak_after": some([None, None, 0.7]),
        "max_hold": some([None, None, None, 1.5]),
        "max_shares": some([1, 1, 1, 3]),
    }


def _draw_faults(dice: random.Random) -> Faults:
    if dice.random() < 0.4:
        return Faults(quick=dice.choice([0.0, 0.002, 0.05]))
    return Faults(
        slow=dice.choice([0.0, 0.1, 0.4]),
        fail=dice.choice([0.0, 0.03, 0.3]),
        hang=dice.choice([0.0, 0.02, 0.1]),
        ignore_cancel=dice.choice([0.0, 0.0, 0.1]),
        quick=dice.choice([0.0, 0.002, 0.05]),
        slowness=dice.choice([0.3, 1.0]),
    )


def _draw_ops(dice: random.Random, config: dict[str, Any], length: int) -> tuple[Op, ...]:
    span = dice.choice([2.0, 10.0, 60.0])
    share_of_acts = dice.choice([0.02, 0.1, 0.25])
    with_close = dice.random() < 0.4
    moments = [dice.random() * span for _ in range(max(1, dice.choice([length, length // 4, length // 20])))]
    ops: list[Op] = []
    for _ in range(length):
        at = round(dice.choice(moments), 3)
        is_act = dice.random() < share_of_acts
        ops.append(_draw_act(dice, at, span, config, with_close) if is_act else _draw_call(dice, at))
    return tuple(sorted(ops, key=lambda op: op.at))


def _draw_call(dice: random.Random, at: float) -> Call:
    styles: list[Style] = ["with", "with", "lease", "lease-with"]
    ends: list[End] = ["release"] * 14 + ["break", "err", "discard", "twice", "drop", "err"]  # type: ignore[assignment]
    cancel: int | Literal["when served"] | None = None
    luck = dice.random()
    if luck < 0.06:
        cancel = "when served"
    elif luck < 0.25:
        cancel = int(1.5 ** dice.uniform(0, 14))
    return Call(
        at=at,
        style=dice.choice(styles),
        timeout=dice.choice([USUAL, USUAL, USUAL, 0, 0.01, 0.2, 2.0, None]),
        hold=dice.choice([0, 0, 0.001, 0.01, 0.05, 0.2, 1.0, 4.0]) * dice.random(),
        queries=dice.choice([0, 1, 1, 3]),
        end=dice.choice(ends),
        cancel=cancel,
    )


def _draw_act(dice: random.Random, at: float, span: float, config: dict[str, Any], with_close: bool) -> Act:
    cancel = int(1.5 ** dice.uniform(0, 12)) if dice.random() < 0.15 else None
    kinds: list[Any] = ["resize", "drain", "suspend", "check", "evict", "kill", "kill", "outage", "rotate", "look"]
    if with_close:
        kinds += ["close", "open", "open"]
    if config["max_shares"] > 1:
        kinds += ["capacity", "capacity"]
    what = dice.choice(kinds)
    if what == "resize":
        max_size = dice.randint(1, 6)
        return Act(at, what, dice.randint(0, max_size), max_size, cancel)
    if what in ("drain", "rotate"):
        return Act(at, what, dice.choice([0, 0, 1.0]), 0, cancel)
    if what in ("suspend", "outage"):
        return Act(at, what, dice.random() * span / 10, dice.random(), None)
    if what == "close":
        return Act(at, what, dice.choice([0, 0.5, 5.0]), 0, cancel)
    if what == "capacity":
        return Act(at, what, dice.randint(0, 5), dice.random(), None)
    return Act(at, what, dice.random(), dice.random(), cancel if what in ("check", "open") else None)
