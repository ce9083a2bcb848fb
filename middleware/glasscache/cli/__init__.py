"""The command line: `glasscache proxy`, `check`, `key`, `why`, `stats`, `invalidate`, `warm`.

Decides what a command is called, what it may be told, and its exit status: 0 done, 1 it could not be done, 2 it was
told what cannot work. Must never print a secret that it did not make.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from glasscache.cli._parser import parser
from glasscache.errors import ConfigurationError, GlasscacheError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (by default the one that the process was started with); its exit status."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except GlasscacheError as error:
        print(f"glasscache {options.command}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to say at the end
        return 141
    return status
