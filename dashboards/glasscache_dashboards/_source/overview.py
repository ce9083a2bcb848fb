"""Overview: is the cache worth it, and does anybody suffer?"""

from __future__ import annotations

from typing import Final

from glasscache.otel import names
from glasscache_dashboards._source import panels
from glasscache_dashboards._source.board import Band, Board, Section, Text
from glasscache_dashboards._source.panels import BAD, GOOD, OUTCOMES, WATCH, Query, Words
from glasscache_dashboards._source.promql import ASKED, DASHBOARD, HITS, OVER_RANGE, SOME, WITHOUT_LOAD, legend, share
from glasscache_dashboards._source.rules import PREFIX

_LENS = DASHBOARD
_ASKED = _LENS.rate(names.REQUESTS, where={names.RESULT: ASKED})
HIT_RATIO: Final = share(_LENS.rate(names.REQUESTS, where={names.RESULT: HITS}), _ASKED)
OFFLOAD: Final = share(_LENS.rate(names.REQUESTS, where={names.RESULT: WITHOUT_LOAD}), _LENS.rate(names.REQUESTS))
MONEY_SAVED: Final = f"""sum(
({OVER_RANGE.increase(names.SAVED_PRICE, names.GROUP)} > 0)
or
{OVER_RANGE.increase(names.SAVED_TIME, names.GROUP)} / 3600 * $price_per_hour
)"""

_FIGURES = Band(
    4,
    panels.figure(
        Words(
            "Hit ratio",
            "Answers from a tier, fresh or stale, of all requests for which the cache was asked (hit_rate on the "
            "stats page). Whoever was served by another's load counts as collapsed, not as a hit. Too low: see "
            "Requests by outcome. Many misses: are answers stored at all (Why is this not cached?), is the ttl too "
            "short, the cache too small (Capacity), or do keys hold what does not change the answer?",
            "percentunit",
        ),
        HIT_RATIO,
        base=BAD,
        steps=((0.3, WATCH), (0.6, GOOD)),
        empty="no requests",
    ),
    panels.figure(
        Words(
            "Origin offload",
            "Requests that cost no load of their own (hit, stale, collapsed), of all requests, bypassed ones "
            "included. Much lower than the hit ratio: see Bypassed requests by reason.",
            "percentunit",
        ),
        OFFLOAD,
        base=BAD,
        steps=((0.3, WATCH), (0.6, GOOD)),
        empty="no requests",
    ),
    panels.figure(
        Words(
            "Requests",
            "All requests that a rule matched. None, with traffic on the service: is the middleware mounted, "
            "does a rule match, do metrics arrive (runbook: GlasscacheSilent)?",
            "reqps",
        ),
        _LENS.rate(names.REQUESTS),
    ),
    panels.figure(
        Words(
            "Failed requests",
            "Requests whose load failed with nothing stale to stand in. Above zero: Failed loads by error says "
            "what the origin raised; stale_if_error= on the rule would have served the last good answer.",
            "reqps",
        ),
        _LENS.rate(names.REQUESTS, where={names.RESULT: "error"}),
        base=GOOD,
        steps=((0.01, WATCH), (1, BAD)),
    ),
    panels.sum_figure(
        Words(
            "Time saved",
            "What the origin did not have to work in the shown time: for each answer served without a load, "
            "what its load had cost. Near zero: the answers are cheap to make; is the cache worth its room?",
            "s",
        ),
        OVER_RANGE.increase(names.SAVED_TIME),
    ),
    panels.sum_figure(
        Words(
            "Money saved",
            "What handlers say that their answers cost (answer().cost(), in dollars), for each answer served "
            "without a load. Key groups whose handlers say nothing: time saved, at the price of an hour of the "
            "origin's work that stands above. Too good to be true: is the price per hour right?",
            "currencyUSD",
        ),
        MONEY_SAVED,
    ),
)

_OUTCOMES = Band(
    8,
    panels.lines(
        Words(
            "Requests by outcome",
            "hit: fresh from a tier. stale: served on purpose past its freshness. collapsed: served by another "
            "request's load. miss: led a load. bypass: the cache was not asked. error: the load failed. Many "
            "misses after a deployment are normal for one ttl; if they stay, look for keys that never repeat.",
            "reqps",
        ),
        Query(_LENS.rate(names.REQUESTS, names.RESULT), legend(names.RESULT)),
        stacked=True,
        colours=OUTCOMES,
    ),
    panels.lines(
        Words(
            "Hit ratio and offload",
            "The two ratios over time. A sudden fall: a deployment, an invalidation of everything (Capacity), "
            "or a tier that is gone (Tiers and Redis). A slow one: more different questions than room.",
            "percentunit",
        ),
        Query(HIT_RATIO, "hit ratio"),
        Query(OFFLOAD, "origin offload"),
        most=1,
    ),
)

_LATENCY = Band(
    8,
    panels.heat(
        Words(
            "Latency",
            "How long requests took; of hits one in so many, if GLASSCACHE_TIME_HITS says so. Points are exemplars: "
            "each leads to the trace of a request. A second band far above the first are misses; a third above it "
            "are waits (Lock contention).",
            "s",
        ),
        _LENS.buckets(names.REQUEST_DURATION),
    ),
    panels.lines(
        Words(
            "Latency p99 by outcome",
            "collapsed far above miss: somebody waits for a load that began long before (Lock contention). hit "
            "(only with GLASSCACHE_TIME_HITS) above a millisecond: a far tier answers, or the event loop is blocked.",
            "s",
        ),
        Query(
            _LENS.quantile(0.99, names.REQUEST_DURATION, names.RESULT),
            legend(names.RESULT),
        ),
        exemplars=True,
        colours=OUTCOMES,
    ),
)

_LOADS = Band(
    8,
    panels.lines(
        Words(
            "Loads by trigger",
            "Runs of the origin. miss: a request waited for it. revalidate: it was asked to confirm what is stored. "
            "refresh: behind a stale answer, or early. warm: before anybody asked. Refreshes far above "
            "misses: the ttl is short for what is asked often.",
            "ops",
        ),
        Query(
            _LENS.rate(names.LOAD_DURATION, names.LOAD_TRIGGER, part="count"),
            legend(names.LOAD_TRIGGER),
        ),
        stacked=True,
    ),
    panels.lines(
        Words(
            "Load time by key group",
            "The origin's own time, p50 and p99. A rise here is the origin's: the cache can only hide it "
            "(stale_while_revalidate=, soft_timeout=).",
            "s",
        ),
        *panels.p50_and_p99(_LENS, names.LOAD_DURATION, names.GROUP),
        exemplars=True,
    ),
    panels.lines(
        Words(
            "Failed loads by error",
            "What the origin raised, or the status it answered with. Any: its trace has the details; the alert "
            "on failed requests is yours to set, with your own idea of normal.",
            "ops",
        ),
        Query(
            _LENS.rate(names.LOAD_DURATION, names.ERROR_TYPE, where={names.ERROR_TYPE: SOME}, part="count"),
            legend(names.ERROR_TYPE),
        ),
    ),
)

_STALE = Band(
    8,
    panels.lines(
        Words(
            "Stale answers by reason",
            "revalidating is normal. error: the origin fails and stale_if_error saves the day, for as long as "
            "it lasts. wait_timeout: loads take longer than followers may wait.",
            "reqps",
        ),
        Query(
            _LENS.rate(names.STALE_AGE, names.STALE_REASON, part="count"),
            legend(names.STALE_REASON),
        ),
        stacked=True,
    ),
    panels.lines(
        Words(
            "How stale",
            "How far past their freshness stale answers were, p50 and p99. Near the whole stale window: "
            "refreshes fail or cannot keep up (Failed loads by error).",
            "s",
        ),
        *panels.p50_and_p99(_LENS, names.STALE_AGE),
        exemplars=True,
    ),
)

_NOT_CACHED = Band(
    8,
    panels.lines(
        Words(
            "Bypassed requests by reason",
            "Requests that went past the cache. credentials, unscoped: say on the rule who shares an answer "
            "(tenant=, shared=True). unkeyed_field: list the field or ignore it. method, range: normal. "
            "uncacheable: Answers not stored, beside, says why. All words: docs/why.md, or glasscache why REASON.",
            "reqps",
        ),
        Query(
            _LENS.rate(names.REQUEST_BYPASSES, names.BYPASS_REASON, names.GROUP),
            f"{legend(names.BYPASS_REASON)}, {legend(names.GROUP)}",
        ),
        stacked=True,
    ),
    panels.lines(
        Words(
            "Answers not stored, by reason",
            "Answers that were loaded and not kept. As many as a key group has loads: nothing of it is ever "
            "cached. set_cookie, private, no_store: its handler, or middleware inside of the cache, says so. "
            "status: list it (statuses=). no_freshness: give the rule a ttl=. too_large: raise "
            "max_entry_bytes= of Limits. All words: docs/why.md, or glasscache why REASON. Which requests: traces "
            "whose cache.load has a cache.unstored.reason.",
            "ops",
        ),
        Query(
            _LENS.rate(names.UNSTORED_ANSWERS, names.UNSTORED_REASON, names.GROUP),
            f"{legend(names.UNSTORED_REASON)}, {legend(names.GROUP)}",
        ),
        stacked=True,
    ),
)

_SAVED = Band(
    8,
    panels.lines(
        Words(
            "Time saved by key group",
            "Seconds of the origin's work that each second did not cost: how many origins you would need "
            "besides. A group with none: its rule is not worth its room.",
            "none",
        ),
        Query(_LENS.rate(names.SAVED_TIME, names.GROUP), legend(names.GROUP)),
        stacked=True,
    ),
    panels.lines(
        Words(
            "Bytes saved by key group",
            "What was answered without the origin. Much in a group that saves little time: large answers that "
            "are cheap to make; do they push out the costly ones (Capacity)?",
            "Bps",
        ),
        Query(_LENS.rate(names.SAVED_IO, names.GROUP), legend(names.GROUP)),
        stacked=True,
    ),
    panels.alerts(
        Words(
            "Alerts",
            "What fires now, of the rules that come with glasscache. Each links to its part of the runbook.",
            "none",
        ),
        PREFIX,
    ),
)


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="glasscache-overview",
        title="glasscache / Overview",
        description="Is the cache worth it, and does anybody suffer? Figures of requests, loads, and what was saved.",
        sections=(
            Section("At a glance", (_FIGURES,)),
            Section("Requests", (_OUTCOMES, _LATENCY)),
            Section("The origin", (_LOADS,)),
            Section("Why is this not cached?", (_NOT_CACHED,)),
            Section("Stale answers", (_STALE,)),
            Section("Saved, and alerts", (_SAVED,)),
        ),
        texts=(
            Text("price_per_hour", "Price per hour", "What an hour of the origin's work costs, in dollars", "1.00"),
        ),
    )
