"""`make bench`: what glasscache costs, measured against a raw ASGI app and against its peers. See docs/benchmarks.md."""
