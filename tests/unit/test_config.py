"""Every knob: its default, and what it refuses."""

import dataclasses
import math

import pytest

from aiopool import PoolConfig, PoolConfigError

DEFAULTS = {
    "min_size": 5,
    "max_size": 20,
    "max_idle": None,
    "max_idle_time": 300,
    "acquire_timeout": 30,
    "health_check_interval": 60,
    "validation_query": None,
    "max_lifetime": 1800,
    "lifetime_jitter": 0.1,
    "max_uses": None,
    "validate_after": 0.5,
    "max_waiting": None,
    "open_timeout": 10,
    "validate_timeout": 5,
    "reset_timeout": 5,
    "close_timeout": 5,
    "max_opening": None,
    "backoff_initial": 0.1,
    "backoff_max": 10,
    "unavailable_after": 5,
    "shed_target": None,
    "shed_interval": 2.0,
    "leak_after": None,
    "max_hold": None,
    "max_shares": 1,
}


def test_the_defaults():
    config = PoolConfig()
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS


def test_an_unset_min_size_never_exceeds_max_size():
    assert PoolConfig(max_size=3).min_size == 3
    assert PoolConfig(max_size=50).min_size == 5


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PoolConfig().max_size = 7  # type: ignore[misc]


def test_configs_compare_by_value_and_can_be_varied():
    assert PoolConfig(max_size=7) == PoolConfig(max_size=7)
    assert dataclasses.replace(PoolConfig(), max_size=30).max_size == 30


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_size", -1),
        ("max_size", 0),
        ("max_size", -3),
        ("max_size", 2.5),
        ("max_size", "10"),
        ("max_idle", -1),
        ("max_idle_time", -1),
        ("acquire_timeout", -1),
        ("acquire_timeout", math.nan),
        ("acquire_timeout", "30"),
        ("health_check_interval", -1),
        ("health_check_interval", 0),
        ("max_lifetime", -1),
        ("lifetime_jitter", -0.1),
        ("lifetime_jitter", 1.5),
        ("max_uses", 0),
        ("validate_after", -1),
        ("max_waiting", -1),
        ("open_timeout", 0),
        ("validate_timeout", -1),
        ("reset_timeout", -1),
        ("close_timeout", -1),
        ("max_opening", 0),
        ("backoff_initial", -1),
        ("backoff_max", -1),
        ("unavailable_after", -1),
        ("shed_target", -1),
        ("shed_interval", 0),
        ("leak_after", -1),
        ("max_hold", -1),
        ("max_shares", 0),
    ],
)
def test_a_bad_value_is_refused_by_name(field, value):
    with pytest.raises(PoolConfigError) as caught:
        PoolConfig(**{field: value})
    assert isinstance(caught.value, ValueError)
    assert field in str(caught.value)
    assert str(value) in str(caught.value)


def test_a_min_size_above_max_size_is_refused():
    with pytest.raises(PoolConfigError, match="min_size"):
        PoolConfig(min_size=5, max_size=4)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="maxsize"):
        PoolConfig(maxsize=4)  # type: ignore[call-arg]
