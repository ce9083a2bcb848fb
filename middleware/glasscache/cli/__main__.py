"""`python -m glasscache.cli`."""

from __future__ import annotations

import sys

from glasscache.cli import main

sys.exit(main())
