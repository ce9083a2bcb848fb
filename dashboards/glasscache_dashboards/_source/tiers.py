"""Tiers and Redis: does each tier answer, how fast, and does every machine hear what was told invalid?"""

from __future__ import annotations

from glasscache.otel import names
from glasscache_dashboards._source import foreign, panels
from glasscache_dashboards._source.board import Band, Board, Choice, Section
from glasscache_dashboards._source.foreign import CLIENT, SERVER
from glasscache_dashboards._source.panels import BAD, GOOD, WATCH, Query, State, Words
from glasscache_dashboards._source.promql import DASHBOARD, HITS, INSTANCE, SOME, label, legend, prometheus_name, share

_LENS = DASHBOARD
_TIER = legend(names.TIER)
_ASKING = {names.OPERATION: "get"}

_FIGURES = Band(
    4,
    panels.figure(
        Words(
            "Breakers open",
            "Far tiers that are left alone because they do not answer, over all processes. Any: requests are "
            "answered from memory and the origin meanwhile; see to the server (Redis server, below).",
            "none",
        ),
        _LENS.total(names.TIER_STATES, where={names.TIER_STATE: "open"}),
        base=GOOD,
        steps=((1, BAD),),
    ),
    panels.figure(
        Words(
            "Found in far tiers",
            "Of all that memory did not have, what a far tier had. Low: machines do not share what they could; "
            "are GLASSCACHE_KEY and the prefix the same on all, and is there room in the far tier?",
            "percentunit",
        ),
        share(
            _LENS.rate(names.TIER_OPERATION_DURATION, where={**_ASKING, names.RESULT: "hit"}, part="count"),
            _LENS.rate(names.TIER_OPERATION_DURATION, where={**_ASKING, names.RESULT: ("hit", "miss")}, part="count"),
        ),
        empty="not asked",
    ),
    panels.figure(
        Words(
            "Failed operations",
            "Operations on far tiers that failed, of all. Above zero: Errors by type says how. No request "
            "fails for it, but each costs up to GLASSCACHE_FAR_TIMEOUT.",
            "ops",
        ),
        _LENS.rate(names.TIER_OPERATION_DURATION, where={names.ERROR_TYPE: SOME}, part="count"),
        base=GOOD,
        steps=((0.01, WATCH), (1, BAD)),
    ),
    panels.figure(
        Words(
            "Invalidation lag p99",
            "From telling to effect on another machine. Above a second: old answers are served that long; is a "
            "machine's event loop blocked, or its subscription gone?",
            "s",
        ),
        _LENS.quantile(0.99, names.INVALIDATION_LAG),
        base=GOOD,
        steps=((0.5, WATCH), (1, BAD)),
        empty="none told",
    ),
)

_OURS = Band(
    8,
    panels.lines(
        Words(
            "Answers by tier",
            "Where hits and stale answers came from. redis or disk far above memory: memory is too small (Capacity), "
            "or requests of one question go to many machines (send them to the same one).",
            "reqps",
        ),
        Query(_LENS.rate(names.REQUESTS, names.TIER, where={names.RESULT: HITS}), _TIER),
        stacked=True,
    ),
    panels.lines(
        Words(
            "Operation p99",
            "Per tier and operation. get is on the way of a miss, all others behind it. Near "
            "GLASSCACHE_REDIS_TIMEOUT: the server or the way to it is slow.",
            "s",
        ),
        Query(
            _LENS.quantile(0.99, names.TIER_OPERATION_DURATION, names.TIER, names.OPERATION),
            f"{_TIER} {legend(names.OPERATION)}",
        ),
        exemplars=True,
    ),
    panels.lines(
        Words(
            "Operations by kind",
            "How often far tiers are asked. get: lookups, which grant the right to load, too. set: what was loaded. "
            "lease: that right renewed, or given back with nothing stored; far above set: see Answers not stored "
            "(Overview). publish: what was told invalid, or replaced.",
            "ops",
        ),
        Query(
            _LENS.rate(names.TIER_OPERATION_DURATION, names.TIER, names.OPERATION, part="count"),
            f"{_TIER} {legend(names.OPERATION)}",
        ),
        stacked=True,
    ),
)

_FAULTS = Band(
    8,
    panels.lines(
        Words(
            "Errors by type",
            "What failed operations met. TimeoutError: slow server or network, or GLASSCACHE_FAR_TIMEOUT is "
            "too short. ConnectionError: not there. MaxConnectionsError: allow more (REDIS_MAX_CONNECTIONS). "
            "NoPermissionError, ReadOnlyError, OutOfMemoryError: the server refuses (docs/redis-acl.md; is it "
            "a replica; is it full?). OperationalError: a disk that is full, locked or read-only (docs/disk.md). "
            "StoreError: left alone, or nonsense.",
            "ops",
        ),
        Query(
            _LENS.rate(
                names.TIER_OPERATION_DURATION,
                names.ERROR_TYPE,
                names.OPERATION,
                where={names.ERROR_TYPE: SOME},
                part="count",
            ),
            f"{legend(names.ERROR_TYPE)}, {legend(names.OPERATION)}",
        ),
        stacked=True,
    ),
    panels.states(
        Words(
            "State of each tier",
            "degraded: some operations fail. open: left alone, tried again every few seconds. One machine "
            "alone: its network; all machines: the server.",
            "none",
        ),
        Query(
            f"2 * {_LENS.most(names.TIER_STATES, INSTANCE, names.TIER, where={names.TIER_STATE: 'open'})}\n+\n"
            f"{_LENS.most(names.TIER_STATES, INSTANCE, names.TIER, where={names.TIER_STATE: 'degraded'})}",
            f"{_TIER} {{{{{INSTANCE}}}}}",
        ),
        State(0, "ok", GOOD),
        State(1, "degraded", WATCH),
        State(2, "open", BAD),
    ),
    panels.lines(
        Words(
            "Invalidation lag",
            "From telling to effect on another machine, p50 and p99. Milliseconds are normal. The exemplars "
            "lead to what the peer did, and its link to who told.",
            "s",
        ),
        *panels.p50_and_p99(_LENS, names.INVALIDATION_LAG),
        exemplars=True,
    ),
)

_CLIENT = Band(
    8,
    panels.lines(
        Words(
            "Command p99",
            "By redis-py's own clock, and only what goes through its clients: our scripts are sent in batches "
            "past it, and Operation p99 has those. Slow here, too: the server or the network is. Empty: "
            "docs/dashboards.md says how to turn it on.",
            "s",
        ),
        Query(CLIENT.quantile(0.99, foreign.CLIENT_OPERATIONS, foreign.COMMAND), legend(foreign.COMMAND)),
    ),
    panels.lines(
        Words(
            "Connections by state",
            "Lookups share one, and use more while it is busy. used near REDIS_MAX_CONNECTIONS for long: allow more, "
            "or find out why the server is slow.",
            "none",
        ),
        Query(
            CLIENT.total(foreign.CLIENT_CONNECTIONS, foreign.CONNECTION_STATE),
            legend(foreign.CONNECTION_STATE),
        ),
    ),
    panels.lines(
        Words(
            "Client errors",
            "All errors that redis-py met, those included that were handled. Some at a failover are normal; a "
            "steady rate is not.",
            "ops",
        ),
        Query(CLIENT.rate(foreign.CLIENT_ERRORS, foreign.ERROR), legend(foreign.ERROR)),
        stacked=True,
    ),
)

_SERVER = Band(
    8,
    panels.figure(
        Words(
            "Servers that answer",
            "Of the servers chosen above, by redis_exporter. Too few: one is down, or its exporter.",
            "none",
        ),
        SERVER.total(foreign.UP),
        base=BAD,
        steps=((1, GOOD),),
        empty="no exporter",
    ),
    panels.lines(
        Words(
            "Memory",
            "Used, and allowed (none, if the server has no maxmemory: give it one, with volatile-lru). Used at "
            "its limit: entries are evicted before their time.",
            "bytes",
        ),
        Query(SERVER.total(foreign.USED, INSTANCE), f"used {{{{{INSTANCE}}}}}"),
        Query(SERVER.total(foreign.MOST, INSTANCE), f"allowed {{{{{INSTANCE}}}}}"),
    ),
    panels.lines(
        Words(
            "Commands",
            "What the server does in all. Far above Operations by kind: others use it too; their load is your latency.",
            "ops",
        ),
        Query(SERVER.rate(foreign.COMMANDS, INSTANCE), f"{{{{{INSTANCE}}}}}"),
    ),
    panels.lines(
        Words(
            "Keys that went",
            "expired is normal. evicted: no room; more memory, or a shorter ttl (REDIS_CACHE_TTL).",
            "ops",
        ),
        Query(SERVER.rate(foreign.EVICTED, INSTANCE), f"evicted {{{{{INSTANCE}}}}}"),
        Query(SERVER.rate(foreign.EXPIRED, INSTANCE), f"expired {{{{{INSTANCE}}}}}"),
    ),
    panels.lines(
        Words(
            "Connected clients",
            "Each process holds up to REDIS_MAX_CONNECTIONS, and some for what it hears. A fall to zero: the "
            "server started anew, or the network was cut.",
            "none",
        ),
        Query(SERVER.total(foreign.CLIENTS, INSTANCE), f"{{{{{INSTANCE}}}}}"),
    ),
    widths=(4, 5, 5, 5, 5),
)


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="glasscache-tiers",
        title="glasscache / Tiers and Redis",
        description="Does each tier answer, how fast, and does every machine hear what was told invalid?",
        sections=(
            Section("At a glance", (_FIGURES,)),
            Section("Tiers", (_OURS, _FAULTS)),
            Section("redis-py, by its own metrics", (_CLIENT,)),
            Section("Redis server, by redis_exporter", (_SERVER,)),
        ),
        choices=(Choice("redis", "Redis server", prometheus_name(foreign.UP), label(INSTANCE)),),
    )
