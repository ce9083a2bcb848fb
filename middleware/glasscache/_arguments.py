"""What a `Cache` may be given: mistakes are refused when it is made, not when the first request needs what is wrong.

Decides kinds alone, not values: those are checked by what they belong to (`Policy`, `Limits`, `Keyring`, the stores).
Must never print a secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from random import Random
from typing import Any

from glasscache.errors import ConfigurationError
from glasscache.policy import Detail, Limits, Policy

_KINDS: Mapping[str, tuple[Any, str]] = {
    "name": (str, "give a text"),
    "policy": (Policy, "give a Policy, such as Policy(ttl=60)"),
    "limits": (Limits, "give a Limits, such as Limits(load_timeout=60)"),
    "detail": (Detail, "give a Detail, such as Detail(time_hits=100)"),
    "random": (Random, "give a random.Random"),
    "enabled": (bool, "give True or False"),
}

_METHODS: Mapping[str, tuple[str, ...]] = {
    "clock": ("now", "wall"),
    "codec": ("encode", "decode"),
    "telemetry": ("observe", "span", "emit", "annotate"),
    "tracer_provider": ("get_tracer",),
    "meter_provider": ("get_meter",),
}
"""What these must have; users bring classes of their own."""


def check(**given: object) -> None:
    """Check arguments of `Cache` by their names; None is always allowed. ConfigurationError for the first wrong one."""
    for name, value in given.items():
        if value is None:
            continue
        if name in _METHODS:
            missing = [method for method in _METHODS[name] if not hasattr(value, method)]
            if missing:
                raise ConfigurationError(f"Cache({name}={value!r}): it has no {' and no '.join(missing)}")
        elif not isinstance(value, _KINDS[name][0]):
            raise ConfigurationError(f"Cache({name}={value!r}): {_KINDS[name][1]}")


def check_policy(call: str, policy: object) -> None:
    """Check the `policy=` of one call. ConfigurationError if it is none."""
    if policy is not None and not isinstance(policy, Policy):
        raise ConfigurationError(f"{call}(policy={policy!r}): give a Policy, such as Policy(ttl=60)")


def check_secret_is_shared(store: object) -> None:
    """ConfigurationError for a tier that machines share, and a secret that each of them would have made for itself."""
    if not os.environ.get("GLASSCACHE_KEY"):
        raise ConfigurationError(
            f"Cache({store!r}): machines that share a tier need one secret for its keys: set GLASSCACHE_KEY "
            "(or key_secret=), the same on all of them, and after a restart: make one with `glasscache key`"
        )
