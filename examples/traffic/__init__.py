"""Visitors for the knowledge service: a seeded stream of questions over HTTP, and what came of it."""
