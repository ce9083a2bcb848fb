"""Lets the contract's asserts say what they found, as those of test modules do."""

from __future__ import annotations

import pytest

for module in ("cell", "contract", "instead"):
    pytest.register_assert_rewrite(f"tests.frameworks.{module}")
