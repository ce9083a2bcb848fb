"""Stored bytes that nobody else can read, change, or move to another key: AES-GCM (NIST SP 800-38D).

Decides which secret writes (the first) and which read (all of them), so that secrets can be changed one machine at a
time. A secret never leaves this module, and is never shown.
"""

from __future__ import annotations

import hashlib
import secrets as random
from collections.abc import Sequence

from glasscache.errors import ConfigurationError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:  # pragma: no cover - the tests run with the extra; test_envelope.py hides it for one test
    AESGCM = None  # type: ignore[assignment, misc]

_LENGTH = 32
_NONCE = 12
_ID = 4


class Sealer:
    """Seals under the first of `secrets`, opens under any. There is at least one."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if isinstance(secrets, str):
            raise ConfigurationError("secrets: give a list of them, the one that writes first")
        for number, secret in enumerate(secrets, start=1):
            if len(secret) < _LENGTH:
                raise ConfigurationError(
                    f"secret {number} of {len(secrets)} has {len(secret)} characters and needs {_LENGTH} or more: "
                    "make one with `glasscache key`"
                )
        if AESGCM is None:
            raise ConfigurationError("encryption needs cryptography: pip install 'glasscache[redis]'")
        self._ciphers = {_name(secret): AESGCM(_key(secret)) for secret in reversed(secrets)}
        self._first = _name(secrets[0])

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """`plain`, encrypted and bound to `bound`, which must be the same to open it."""
        nonce = random.token_bytes(_NONCE)
        return self._first + nonce + self._ciphers[self._first].encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """What was sealed. ValueError if it was not sealed like this, under one of the secrets."""
        cipher = self._ciphers.get(sealed[:_ID])
        if cipher is None:
            raise ValueError("sealed under another secret")
        nonce, rest = sealed[_ID : _ID + _NONCE], sealed[_ID + _NONCE :]
        try:
            return cipher.decrypt(nonce, rest, bound)
        except (InvalidTag, ValueError):
            raise ValueError("not what was sealed") from None


def _key(secret: str) -> bytes:
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"glasscache.seal").digest()


def _name(secret: str) -> bytes:
    """Tells secrets apart without telling anything about them."""
    return hashlib.blake2b(secret.encode(), digest_size=_ID, person=b"glasscache.id").digest()
