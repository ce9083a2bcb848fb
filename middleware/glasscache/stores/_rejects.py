"""Bytes under our keys that are no entry of ours: what is told of them, and when they are left alone.

Decides whether they are removed: they are, for a load to take their place, unless another process writes what this one
cannot read. Two that did not stop would throw out each other's answers at every request, and serve none.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from glasscache.stores._envelope import EnvelopeError, Reason

if TYPE_CHECKING:
    from glasscache._entry import Key

_log = logging.getLogger("glasscache")

_PEACE = 60.0  # seconds for which a key is left to who has written there after us
_MOST = 4096
_WHY: dict[Reason, str] = {
    "sealed": "it is encrypted with secrets that this process does not have, or not encrypted: "
    "give all machines the same GLASSCACHE_SECRETS, and each application its own GLASSCACHE_NAME",
    "version": "another release of glasscache writes there: that ends when all machines have the same one",
    "foreign": "something else writes there: give the cache a GLASSCACHE_NAME of its own",
}
_BROKEN = "it is damaged, or somebody has tampered with it"


class Rejects:
    """Those of one store. `where`: as its user knows it."""

    def __init__(self, where: str, now: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        """By reason."""
        self._where = where
        self._now = now
        self._lately: dict[Key, float] = {}

    def meet(self, key: Key, error: EnvelopeError) -> None:
        """Count it, and tell of the first one of its kind. Raises the error where the bytes are to be left alone."""
        reason = error.reason
        self.counts[reason] += 1
        if self.counts[reason] == 1:
            why = _WHY.get(reason, _BROKEN)
            _log.warning("%s: what is stored there is no entry (%s), it is loaded anew: %s", self._where, reason, why)
        if reason in ("sealed", "version") and self._is_disputed(key):
            raise error

    def _is_disputed(self, key: Key) -> bool:
        """Whether it was removed a moment ago already: what we have put there instead has been replaced."""
        now, until = self._now(), self._lately.get(key, 0.0)
        if now < until:
            return True
        if len(self._lately) >= _MOST:
            self._lately.clear()
        self._lately[key] = now + _PEACE
        return False
