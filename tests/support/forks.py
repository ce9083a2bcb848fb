"""How a test's process is started that forks while threads of it run, as `gunicorn --preload` does."""

from __future__ import annotations

MAY_FORK = ("-W", "ignore:This process:DeprecationWarning")
"""Options of Python. Since 3.12 it warns whoever calls `os.fork()` then; all other warnings are shown."""
