"""For tests of code that uses or extends glasscache.

Stand-ins: `ManualClock`, `entry`, `FlakyStore`, `RecordingTelemetry`, `SharedServer`. And one contract for each
Protocol of `glasscache.interfaces`: a base class of tests. Subclass it in a test module and make the thing under test
in its `make_...` method; the test runner does the rest:

    class TestMyStore(StoreContract):
        def make_store(self) -> Store:
            return MyStore(clock=self.clock)

Must never import a test framework: a contract is plain methods and assertions.
"""

from glasscache.testing._backplane_contract import BackplaneContract
from glasscache.testing._contracts import (
    ClockContract,
    CodecContract,
    KeyBuilderContract,
    TelemetryContract,
)
from glasscache.testing._doubles import FlakyStore, ManualClock, RecordingTelemetry, entry
from glasscache.testing._lease_contract import LeaseStoreContract
from glasscache.testing._near_contract import NearStoreContract
from glasscache.testing._shared import SharedServer
from glasscache.testing._store_contract import StoreContract

__all__ = [
    "BackplaneContract",
    "ClockContract",
    "CodecContract",
    "FlakyStore",
    "KeyBuilderContract",
    "LeaseStoreContract",
    "ManualClock",
    "NearStoreContract",
    "RecordingTelemetry",
    "SharedServer",
    "StoreContract",
    "TelemetryContract",
    "entry",
]
