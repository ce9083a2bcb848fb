// Two minutes of figures. Decides what is shown of counts that only grow: rates, and quantiles of a few seconds.
// Must never touch the document.

const SPAN = 120; // seconds shown
const WINDOW = 5; // seconds that a quantile is taken over
const OUTCOMES = ["hit", "stale", "revalidated", "collapsed", "miss", "bypass", "error"];

class History {
  bounds = [];
  points = [];
  #totals = []; // what was counted until then, of the last few seconds

  clear() {
    this.points = [];
    this.#totals = [];
  }

  add(figures) {
    const last = this.#totals.at(-1);
    if (last && figures.at === last.at) return; // read once for all who watch: we have these
    if (last && figures.at < last.at) this.clear(); // the server's clock was set back
    const now = { at: figures.at, counts: countsOf(figures), durations: timesOf(figures.durations) };
    this.#totals.push(now);
    while (this.#totals.length > 2 && this.#totals[1].at <= now.at - WINDOW) this.#totals.shift();
    const since = this.#totals.findLast((one) => one.at <= now.at - 0.9) ?? this.#totals[0];
    const seconds = now.at - since.at;
    const rates = {};
    for (const name of OUTCOMES) {
      rates[name] = seconds > 0 ? (now.counts[name] - since.counts[name]) / seconds : 0;
    }
    this.points.push({
      at: now.at,
      counts: now.counts,
      rates,
      times: this.#quantiles(now.durations, this.#totals[0].durations),
      waiters: figures.waiters + (figures.waiting_abroad ?? 0),
      loads: figures.loads,
    });
    while (this.points[0].at < now.at - SPAN) this.points.shift();
  }

  // Of all that came while these points were taken: hits (stale ones too) / all but the bypassed.
  hitRate() {
    const sum = (point) => OUTCOMES.reduce((all, name) => all + point.counts[name], 0) - point.counts.bypass;
    const hits = (point) => point.counts.hit + point.counts.stale;
    const [first, last] = [this.points[0], this.points.at(-1)];
    return first && sum(last) > sum(first) ? (hits(last) - hits(first)) / (sum(last) - sum(first)) : null;
  }

  #quantiles(now, before) {
    const found = {};
    for (const [kind, counts] of Object.entries(now)) {
      const fresh = counts.map((count, index) => count - (before[kind]?.[index] ?? 0));
      const [p50, p99] = [quantile(fresh, 0.5, this.bounds), quantile(fresh, 0.99, this.bounds)];
      if (p50 !== null) found[kind] = { p50, p99 };
    }
    return found;
  }
}

function countsOf(figures) {
  return {
    hit: figures.total_hits - figures.stale,
    stale: figures.stale,
    revalidated: figures.revalidated,
    collapsed: figures.collapsed,
    miss: figures.total_misses,
    bypass: Object.values(figures.bypass).reduce((sum, count) => sum + count, 0),
    error: figures.errors,
  };
}

// Durations come by result and tier ("hit memory", "miss origin"): what is shown by result, hits in other tiers apart.
function timesOf(durations) {
  const times = {};
  for (const [kind, buckets] of Object.entries(durations)) {
    const [result, tier] = kind.split(" ");
    const name = result === "hit" && tier !== "memory" ? "far" : result;
    times[name] ??= [];
    for (const [index, count] of Object.entries(buckets)) times[name][index] = (times[name][index] ?? 0) + count;
  }
  return times;
}

// The middle of the bucket in which the quantile lies, as ratios go; null of nothing.
function quantile(counts, share, bounds) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (!total) return null;
  let left = share * total;
  const index = counts.findIndex((count) => (left -= count ?? 0) <= 0);
  const upper = bounds[Math.min(index, bounds.length - 1)];
  return index ? Math.sqrt(upper * bounds[index - 1]) : upper;
}

function shownSeconds(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const [value, unit] =
    seconds >= 1 ? [seconds, "s"] : seconds >= 0.001 ? [seconds * 1000, "ms"] : [seconds * 1e6, "µs"];
  if (seconds === 0) return "0";
  const digits = value >= 100 || unit === "µs" ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)}\u00a0${unit}`;
}

// The same for a scale, whose values are round.
function shownRound(seconds) {
  return shownSeconds(seconds).replace(/\.0+/, "");
}

function shownCount(count) {
  return count.toLocaleString("en", { maximumFractionDigits: count < 10 ? 1 : 0 });
}
