"""Lock contention: who waits for another's load, how long, and who holds them up?"""

from __future__ import annotations

from glasscache.otel import names
from glasscache_dashboards._source import panels, traceql
from glasscache_dashboards._source.board import Band, Board, Section, Text
from glasscache_dashboards._source.panels import BAD, GOOD, WATCH, Query, Words
from glasscache_dashboards._source.promql import DASHBOARD, legend, share

_LENS = DASHBOARD
_SCOPE = legend(names.LOCK_SCOPE)
_GROUP = legend(names.GROUP)
_CONTENDED = _LENS.rate(names.LOCK_ACQUISITIONS, names.LOCK_SCOPE, where={names.LOCK_RESULT: ("contended", "timeout")})
_AVOIDED = _LENS.rate(names.REQUESTS, where={names.RESULT: "collapsed"})

_FIGURES = Band(
    4,
    panels.figure(
        Words(
            "Blocked now",
            "Requests that wait for another's load at this moment. Much, and growing: a load hangs. It has no span "
            "before it ends: the live page of the process, or its stats page + /contention, says which one.",
            "none",
        ),
        _LENS.total(names.LOCK_WAITERS),
        base=GOOD,
        steps=((50, WATCH), (500, BAD)),
    ),
    panels.figure(
        Words(
            "Loads under way",
            "How many hold the right to load at this moment. Constant and above zero while nothing is "
            "answered: those loads hang (load_timeout= ends them).",
            "none",
        ),
        _LENS.total(names.LOCK_HOLDERS, where={names.LOCK_SCOPE: "process"}),
    ),
    panels.figure(
        Words(
            "Contention",
            "Of all who asked for the right to load, how many had to wait. High is what collapsing is for; "
            "high with long waits is not: refresh before answers expire (stale_while_revalidate=, "
            "early_refresh=).",
            "percentunit",
        ),
        share(
            _LENS.rate(names.LOCK_ACQUISITIONS, where={names.LOCK_RESULT: ("contended", "timeout")}),
            _LENS.rate(names.LOCK_ACQUISITIONS),
        ),
    ),
    panels.figure(
        Words(
            "Wait p99",
            "Of a hundred waits, ninety-nine were shorter. Above your patience: Slowest waits, below, leads to "
            "the trace of who waited, and from there to who held the lock.",
            "s",
        ),
        _LENS.quantile(0.99, names.LOCK_WAIT_DURATION),
        base=GOOD,
        steps=((0.5, WATCH), (1, BAD)),
    ),
    panels.figure(
        Words(
            "Waits timed out",
            "Waits longer than wait_timeout=: the follower took a stale answer or loaded by itself. Any: the "
            "load is slower than you said it may be, or hangs.",
            "ops",
        ),
        _LENS.rate(names.LOCK_ACQUISITIONS, where={names.LOCK_RESULT: "timeout"}),
        base=GOOD,
        steps=((0.001, BAD),),
    ),
    panels.figure(
        Words(
            "Loads avoided",
            "Requests that another's load served: loads that the origin did not see. None under contention: "
            "are answers of this key shared at all (private, Set-Cookie)?",
            "reqps",
        ),
        _AVOIDED,
    ),
)

_NOW = Band(
    8,
    panels.lines(
        Words(
            "Blocked by scope",
            "process: waits for a load in the same process. cluster: loads that wait for one on another "
            "machine, each perhaps with waiters of its own. A line that never reaches zero: a load hangs.",
            "none",
        ),
        Query(_LENS.total(names.LOCK_WAITERS, names.LOCK_SCOPE), f"waiting, {_SCOPE}"),
        Query(_LENS.total(names.LOCK_HOLDERS, names.LOCK_SCOPE), f"holding, {_SCOPE}"),
    ),
    panels.lines(
        Words(
            "Mean blocked requests by key group",
            "Seconds waited in each second: how many requests are blocked on average, and in which group. The "
            "tallest group is where stale_while_revalidate= or a longer ttl helps first.",
            "none",
        ),
        Query(_LENS.rate(names.LOCK_WAIT_DURATION, names.GROUP, part="sum"), _GROUP),
        stacked=True,
    ),
    panels.lines(
        Words(
            "Contention by scope",
            "Of all who asked for the right to load, the share that had to wait. cluster near one: all "
            "machines ask for the same at once, as after a deployment with an empty cache.",
            "percentunit",
        ),
        Query(share(_CONTENDED, _LENS.rate(names.LOCK_ACQUISITIONS, names.LOCK_SCOPE)), _SCOPE),
        most=1,
    ),
)

_WAITS = Band(
    9,
    panels.lines(
        Words(
            "Wait p50 and p99 by scope",
            "Points are exemplars: open the trace of one, and follow its link lock_holder to who held the lock. "
            "cluster above process: waking another machine takes a round trip; far above: its holder died and "
            "its lease had to run out (GLASSCACHE_LEASE_SECONDS).",
            "s",
        ),
        *panels.p50_and_p99(_LENS, names.LOCK_WAIT_DURATION, names.LOCK_SCOPE),
        exemplars=True,
    ),
    panels.heat(
        Words(
            "Waits in the process",
            "Each point is an exemplar: click it, open its trace, and follow the link lock_holder to the load "
            "that was waited for. A band as high as the load itself: who comes first waits all of it.",
            "s",
        ),
        _LENS.buckets(names.LOCK_WAIT_DURATION, {names.LOCK_SCOPE: "process"}),
    ),
    panels.heat(
        Words(
            "Waits for other machines",
            "The same, for loads on another machine: the link leads into its trace. A band at the length of "
            "the lease: holders die or stand still (Lock timeouts and lost leases are logged).",
            "s",
        ),
        _LENS.buckets(names.LOCK_WAIT_DURATION, {names.LOCK_SCOPE: "cluster"}),
    ),
)

_HOLDS = Band(
    8,
    panels.lines(
        Words(
            "Hold time by scope",
            "How long the right to load was held, p50 and p99: what waits are made of. Longer than the load "
            "itself: storing in a far tier takes its time (Tiers and Redis).",
            "s",
        ),
        *panels.p50_and_p99(_LENS, names.LOCK_HOLD_DURATION, names.LOCK_SCOPE),
        exemplars=True,
    ),
    panels.lines(
        Words(
            "Holds by their end",
            "released is normal. expired, lost: a machine stood still longer than its lease, and another "
            "loaded besides; its answer was refused. Look at that machine's CPU and event loop.",
            "ops",
        ),
        Query(
            _LENS.rate(names.LOCK_HOLD_DURATION, names.LOCK_RELEASE, names.LOCK_SCOPE, part="count"),
            f"{legend(names.LOCK_RELEASE)}, {_SCOPE}",
        ),
        stacked=True,
    ),
    panels.lines(
        Words(
            "Queue length at release",
            "How many waited for a load when it ended, p50 and p99. Hundreds: one key is very hot; it should "
            "never expire under load (stale_while_revalidate=).",
            "none",
        ),
        *panels.p50_and_p99(_LENS, names.LOCK_QUEUE_LENGTH, names.LOCK_SCOPE),
    ),
    panels.lines(
        Words(
            "Waits by outcome",
            "served, acquired are normal. promoted: the leader went away. timeout, holder_failed, error: the "
            "load is slow, failed or lost; its trace says which. cancelled: the client gave up waiting.",
            "ops",
        ),
        Query(
            _LENS.rate(names.LOCK_WAIT_DURATION, names.LOCK_OUTCOME, part="count"),
            legend(names.LOCK_OUTCOME),
        ),
        stacked=True,
    ),
)

_AVOIDING = Band(
    8,
    panels.lines(
        Words(
            "Rights to load, by result",
            "immediate: nobody else was loading. contended: waited for one who was. timeout: waited too long. "
            "error: the tier that grants leases could not answer, so this machine loaded without one.",
            "ops",
        ),
        Query(
            _LENS.rate(names.LOCK_ACQUISITIONS, names.LOCK_RESULT, names.LOCK_SCOPE),
            f"{legend(names.LOCK_RESULT)}, {_SCOPE}",
        ),
        stacked=True,
    ),
    panels.lines(
        Words(
            "Loads avoided by key group",
            "Requests that another request's load served. None in a busy group with many misses: its answers "
            "cannot be shared, or no two ask the same at once.",
            "reqps",
        ),
        Query(_LENS.rate(names.REQUESTS, names.GROUP, where={names.RESULT: "collapsed"}), _GROUP),
        stacked=True,
    ),
)

_TRACES = Band(
    10,
    panels.spans(
        Words(
            "Slowest waits",
            "Recent waits of at least the length above, the longest first. Span ID opens who waited; the "
            "holder's trace id opens who held the lock, on whichever machine. Empty: nobody waited that long, "
            "or it was not sampled.",
            "short",
        ),
        traceql.SLOW_WAITS,
        sort_by="Duration",
        trace_ids=names.HOLDER_TRACE_ID,
    ),
    panels.spans(
        Words(
            "Loads with the most waiters",
            "Recent loads that others waited for. Span ID opens the load with all that the origin did in it, "
            "and its links to those who waited. What it spent its time on is what to make faster, or to "
            "refresh behind.",
            "short",
        ),
        traceql.LEADERS,
        sort_by=names.LOCK_WAITER_COUNT,
    ),
)


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="glasscache-contention",
        title="glasscache / Lock contention",
        description="Who waits for another's load, how long, and who holds them up?",
        sections=(
            Section("At a glance", (_FIGURES,)),
            Section("Who waits", (_NOW, _WAITS)),
            Section("Who holds", (_HOLDS, _AVOIDING)),
            Section("Find the culprit", (_TRACES,)),
        ),
        texts=(
            Text(
                "min_wait", "Slowest waits from", "The shortest wait that is searched for, such as 100ms or 2s", "100ms"
            ),
        ),
    )
