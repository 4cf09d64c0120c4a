"""The storm of `python -m tests.storms.mcp_sessions`, small enough for the suite."""

from __future__ import annotations

import pytest

pytest.importorskip("mcp")

from tests.storms.mcp_sessions import Storm


@pytest.mark.parametrize("kept", [True, False], ids=["with keepers", "with the SDK alone"])
async def test_callers_whose_servers_are_killed_are_served_or_told_and_nothing_is_left(kept: bool) -> None:
    storm = Storm(callers=200, servers=2, rounds=2, kills_per_second=10, seed=1, kept=kept)
    await storm.run()
    assert storm.complaints == []
    assert storm.outcomes["answered"]
