"""Write the committed files anew: `python -m glasscache_dashboards._source [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

from glasscache_dashboards import FILES
from glasscache_dashboards._source.files import write

write(Path(sys.argv[1]) if sys.argv[1:] else FILES)
