"""Whether anything is cached in this process at all: `GLASSCACHE_ENABLED`.

Decides what counts as yes and as no, here, in all other switches of the environment and in the rules of `glasscache
proxy`. Must never take a word that it does not know for either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from glasscache.errors import ConfigurationError

ENABLED = "GLASSCACHE_ENABLED"

_FLAGS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def flag(text: str) -> bool:
    """What a switch says. ValueError with the remedy."""
    try:
        return _FLAGS[text.strip().lower()]
    except KeyError:
        raise ValueError("give true or false") from None


def is_enabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether caches that are not told otherwise cache; True if the environment does not say. ConfigurationError."""
    said = environ.get(ENABLED)
    try:
        return flag(said) if said else True
    except ValueError as error:
        raise ConfigurationError(f"{ENABLED}={said!r}: {error}") from None
