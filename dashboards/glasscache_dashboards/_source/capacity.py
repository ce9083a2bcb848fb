"""Capacity: is there room for what is asked, and what has to go for it?"""

from __future__ import annotations

from glasscache.otel import names
from glasscache_dashboards._source import panels
from glasscache_dashboards._source.board import Band, Board, Section
from glasscache_dashboards._source.panels import BAD, GOOD, WATCH, Query, Words
from glasscache_dashboards._source.promql import DASHBOARD, legend, ratio

_LENS = DASHBOARD
_TIER = legend(names.TIER)
_WHY = legend(names.EVICTION_REASON)
_FOR_ROOM = {names.EVICTION_REASON: "evicted"}
_FULL_ENTRIES = ratio(_LENS.total(names.ENTRY_COUNT, names.TIER), _LENS.total(names.ENTRY_LIMIT, names.TIER))
_FULL_BYTES = ratio(_LENS.total(names.MEMORY_USAGE, names.TIER), _LENS.total(names.MEMORY_LIMIT, names.TIER))

_FIGURES = Band(
    4,
    panels.figure(
        Words(
            "Full, by entries",
            "Entries held, of those allowed. Full is fine as long as what goes is old (Age at eviction); if "
            "not, raise CACHE_MAX_SIZE.",
            "percentunit",
        ),
        _FULL_ENTRIES,
        base=GOOD,
        steps=((0.9, WATCH),),
        empty="no limit",
    ),
    panels.figure(
        Words(
            "Full, by bytes",
            "Bytes held, of those allowed. Full by bytes and not by entries: answers are large; raise "
            "GLASSCACHE_MAX_BYTES or store less of them.",
            "percentunit",
        ),
        _FULL_BYTES,
        base=GOOD,
        steps=((0.9, WATCH),),
        empty="no limit",
    ),
    panels.figure(
        Words(
            "Evicted for room",
            "Entries that went before their time. As many as misses: each new answer pushes out one that may "
            "have been asked again.",
            "ops",
        ),
        _LENS.rate(names.EVICTIONS, where=_FOR_ROOM),
    ),
    panels.figure(
        Words(
            "Age at eviction",
            "The median age of what had to go for room. Far below the ttl: the cache is too small for what is "
            "asked, and the ttl means little; the alert GlasscacheEvictedYoung compares the two.",
            "s",
        ),
        _LENS.quantile(0.5, names.EVICTION_AGE, where=_FOR_ROOM),
        base=BAD,
        steps=((10, WATCH), (60, GOOD)),
        empty="none evicted",
    ),
)

_ROOM = Band(
    8,
    panels.lines(
        Words(
            "Entries against limits",
            "Over all chosen processes. A saw that never reaches its limit: answers expire first, there is "
            "room to spare. A sudden fall: an invalidation, or processes that ended.",
            "short",
        ),
        Query(_LENS.total(names.ENTRY_COUNT, names.TIER), f"{_TIER} entries"),
        Query(_LENS.total(names.ENTRY_LIMIT, names.TIER), f"{_TIER} limit"),
    ),
    panels.lines(
        Words(
            "Bytes against limits",
            "What the entries take, over all chosen processes. Near the limit of the machine's memory: lower "
            "GLASSCACHE_MAX_BYTES; it is per process.",
            "bytes",
        ),
        Query(_LENS.total(names.MEMORY_USAGE, names.TIER), f"{_TIER} bytes"),
        Query(_LENS.total(names.MEMORY_LIMIT, names.TIER), f"{_TIER} limit"),
    ),
)

_GOING = Band(
    8,
    panels.lines(
        Words(
            "Removed by cause",
            "evicted: no room. expired: its age. replaced: a newer answer. invalidated: told so. rejected: "
            "never came in. Mostly evicted: too small. Mostly replaced: refreshed much, is the ttl too short?",
            "ops",
        ),
        Query(_LENS.rate(names.EVICTIONS, names.TIER, names.EVICTION_REASON), f"{_TIER} {_WHY}"),
        stacked=True,
    ),
    panels.lines(
        Words(
            "Age at removal, by cause",
            "The median age, a sample. expired: what the ttl is in practice; evicted far below it: too small.",
            "s",
        ),
        Query(_LENS.quantile(0.5, names.EVICTION_AGE, names.EVICTION_REASON), _WHY),
        exemplars=True,
    ),
    panels.heat(
        Words(
            "Age of what was evicted for room",
            "A band at the bottom: entries go seconds after they came, much is asked only once (a policy that "
            "keeps what is asked often helps: hand any cachetools.Cache to MemoryStore).",
            "s",
        ),
        _LENS.buckets(names.EVICTION_AGE, _FOR_ROOM),
    ),
)

_TOLD = Band(
    8,
    panels.lines(
        Words(
            "Rejected",
            "Answers that never came in: larger than the tier may be (GLASSCACHE_MAX_BYTES), refused by its policy, "
            "or no entry at all. Steady: store less of them, or raise the bytes. Longer than max_entry_bytes= of "
            "Limits: too_large in Answers not stored (Overview).",
            "ops",
        ),
        Query(
            _LENS.rate(names.EVICTIONS, names.TIER, where={names.EVICTION_REASON: "rejected"}),
            _TIER,
        ),
    ),
    panels.lines(
        Words(
            "Invalidated, by who told",
            "Entries removed on demand. api, tag: your code. unsafe_method: a POST, PUT or DELETE on the same "
            "URL. backplane: another machine. A flood: does one change invalidate more than it must? Use "
            "narrower tags.",
            "ops",
        ),
        Query(_LENS.rate(names.INVALIDATIONS, names.INVALIDATION_SOURCE), legend(names.INVALIDATION_SOURCE)),
        stacked=True,
    ),
)


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="glasscache-capacity",
        title="glasscache / Capacity",
        description="Is there room for what is asked, and what has to go for it?",
        sections=(
            Section("At a glance", (_FIGURES,)),
            Section("Room", (_ROOM,)),
            Section("What goes, and why", (_GOING, _TOLD)),
        ),
    )
