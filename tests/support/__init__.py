"""What the tests share: a seeded loop, an ASGI client, live servers, OTLP receivers. No test is in here."""
