"""Every error that glasscache raises itself: one root, few leaves.

The origin's own errors are never wrapped by choice: they pass to the caller as they are.
"""

from __future__ import annotations


class GlasscacheError(Exception):
    """Root of all errors of this package."""


class ConfigurationError(GlasscacheError, ValueError):
    """A setting that cannot work; the message names the value and the remedy. Raised at construction time."""


class MissingExtraError(ConfigurationError, ImportError):
    """What was asked for needs an extra of the distribution that is not installed; the message names it."""


class StoreError(GlasscacheError):
    """A store could not answer. The engine treats it as a miss and reports it; it never reaches a request."""


class UnstorableError(StoreError):
    """A store does not take this entry: too large, or without an end. The store itself is well."""


class CodecError(GlasscacheError, ValueError):
    """A value cannot be encoded, or bytes cannot be decoded, as the annotated type. No call fails for it."""


class LoadTimeoutError(GlasscacheError, TimeoutError):
    """The origin made no progress for `Limits.load_timeout` seconds."""


class LoadStoppedError(GlasscacheError):
    """The load ended without an answer: the origin was cancelled, or returned before it had answered."""


class RecursiveLoadError(GlasscacheError, RuntimeError):
    """A load asked, directly or through other loads, for the key that it is itself loading: it would wait for ever."""


class ReaderCutError(GlasscacheError, ConnectionError):
    """An answer that had begun cannot be continued; the reader is cut rather than given a clean but wrong end."""
