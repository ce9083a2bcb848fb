"""`make bench`: what glasscache costs, against a raw ASGI app and against its peers. See docs/benchmarks.md."""
