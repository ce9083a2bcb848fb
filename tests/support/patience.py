"""How long a test waits for what must happen before it says that it does not."""

from __future__ import annotations

PATIENCE = 60.0
"""Seconds until a wait has failed: so many that only a test that fails waits for so long, on a slow machine, too."""
