"""What is planted, by what it is about."""

from tests.mutations.faults.checks import CHECKS
from tests.mutations.faults.control import CONTROL
from tests.mutations.faults.counting import COUNTING
from tests.mutations.faults.leases import LEASES
from tests.mutations.faults.line import LINE
from tests.mutations.faults.opening import OPENING
from tests.mutations.faults.slots import SLOTS

FAULTS = [*LINE, *SLOTS, *OPENING, *CHECKS, *LEASES, *CONTROL, *COUNTING]
