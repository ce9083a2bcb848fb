"""gunicorn's settings for gRPC: a channel does not survive a fork, so each worker sets up its own exporters."""

from __future__ import annotations

from tests.telemetry import site


def post_fork(server: object, worker: object) -> None:  # gunicorn wants just these two
    site.exporters = site.start_exporters()
