"""What a test of a pool, or of code that uses one, can break on purpose: time, order, servers and networks."""

from __future__ import annotations

from aiopool.testing.loop import SimulationLoop, Stuck, run
from aiopool.testing.proxy import FaultProxy
from aiopool.testing.server import Faults, SimulatedConnection, SimulatedServer

__all__ = ["FaultProxy", "Faults", "SimulatedConnection", "SimulatedServer", "SimulationLoop", "Stuck", "run"]
