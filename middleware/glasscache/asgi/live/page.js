// The page: who is let in, what is shown when, and how the connection is.
// The token is kept in sessionStorage at most, and is sent to this server only.

const STORED = "glasscache stats token";
const at = (id) => document.getElementById(id);
const say = (text) => (at("said").textContent = text);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const past = new History();
const kinds = [["hit", "hit", "--hit"], ["far", "hit, far tier", "--revalidated"], ["collapsed", "collapsed", "--collapsed"], ["miss", "miss", "--miss"]];
const charts = {
  outcomes: new Chart(at("outcomes"), {
    series: OUTCOMES.map((name) => ({ name, label: name, colour: `var(--${name})`, style: "area" })),
    read: (point) => point.rates,
    show: shownCount,
    mark: shownCount,
    stacked: true,
  }),
  latency: new Chart(at("latency"), {
    series: kinds.flatMap(([name, label, colour]) => [
      { name: `${name} p50`, label, colour: `var(${colour})`, style: "line dashed" },
      { name: `${name} p99`, label, colour: `var(${colour})`, style: "line", beside: `${name} p50` },
    ]),
    read: (point) =>
      Object.fromEntries(Object.entries(point.times).flatMap(([kind, { p50, p99 }]) => [[`${kind} p50`, p50], [`${kind} p99`, p99]])),
    show: shownSeconds,
    mark: shownRound,
    log: true,
  }),
  waiting: new Chart(at("waiting"), {
    series: [
      { name: "waiters", label: "requests that wait", colour: "var(--wait)", style: "area" },
      { name: "loads", label: "loads under way", colour: "var(--holder)", style: "line" },
    ],
    read: ({ waiters, loads }) => ({ waiters, loads }),
    show: shownCount,
    mark: shownCount,
  }),
};
const loads = new LoadsTable({ table: at("loads"), none: at("no-loads"), say });
const reasons = new Reasons({ section: at("past"), table: at("reasons") });
const waterfalls = new Waterfalls({ list: at("waterfalls"), more: at("more"), group: at("group"), order: at("order"), say });

let whose = null; // what `hello` said
let latest = null;
let drawn = 0;
let paused = false;
let connection = ["closed", "Not connected"];

function showState(...news) {
  if (news.length) connection = news;
  const [state, text] = paused && connection[0] === "live" ? ["paused", "Paused"] : connection;
  if (at("state").textContent !== text) at("state").textContent = text; // else it would be read aloud again
  at("state").dataset.state = state;
}

function showTiles(figures) {
  const rate = past.hitRate();
  const point = past.points.at(-1);
  const tiles = {
    "Hit rate, last 2 min": rate === null ? "–" : `${(100 * rate).toFixed(1)} %`,
    "Requests / s": shownCount(OUTCOMES.reduce((sum, name) => sum + point.rates[name], 0)),
    "Waiting now": shownCount(figures.waiters),
    "Loads under way": shownCount(figures.loads),
    "Miss, p99": shownSeconds(point.times.miss?.p99),
    "Entries": figures.entries_limit ? `${shownCount(figures.cache_size)} / ${shownCount(figures.entries_limit)}` : shownCount(figures.cache_size),
    "Time saved": shownSaved(figures.saved_seconds),
  };
  if (figures.leases !== null) {
    tiles["Wait for other machines"] = shownCount(figures.waiting_abroad);
    tiles["Leases held"] = shownCount(figures.leases);
  }
  for (const [tier, state] of Object.entries(figures.tiers)) tiles[tier] = state;
  const list = at("tiles");
  Object.entries(tiles).forEach(([name, value], index) => {
    const tile = list.children[index] ?? list.appendChild(make("div", {}, make("dt"), make("dd")));
    tile.firstChild.textContent = name;
    tile.lastChild.textContent = value;
  });
}

function shownSaved(seconds) {
  if (seconds < 120) return shownSeconds(seconds);
  return seconds < 7200 ? `${shownCount(seconds / 60)}\u00a0min` : `${shownCount(seconds / 3600)}\u00a0h`;
}

function draw() {
  const now = performance.now();
  if (paused || !latest || now - drawn < (calm.matches ? 1900 : 0)) return;
  drawn = now;
  showTiles(latest);
  loads.draw(latest.under_way, whose);
  reasons.draw(latest, whose.why);
  for (const chart of Object.values(charts)) chart.draw(past.points);
}

function drawWaits() {
  if (paused || !whose) return;
  waterfalls.draw();
  at("explain").textContent = waterfalls.isEmpty
    ? `No request has waited longer than ${shownSeconds(whose.threshold)} for another’s load. ` +
      "To see shorter waits, set GLASSCACHE_CONTENTION_THRESHOLD to fewer seconds."
    : `Waits longer than ${shownSeconds(whose.threshold)}, under the load that they waited for; the first 16 of each load.`;
}

const events = {
  hello(told) {
    if (whose && whose.counts !== told.counts) {
      past.clear();
      say(`Another process answers now: worker ${told.worker}.`);
    }
    whose = told;
    past.bounds = told.bounds;
    at("cache").textContent = told.name;
    document.title = `${told.name} · glasscache live`;
    at("worker").textContent = `answered by worker ${told.worker}${told.of ? `, one of ${told.of}` : " alone"}`;
    drawWaits();
  },
  figures(told) {
    latest = told;
    past.add(told);
    draw();
  },
  contentions(told) {
    waterfalls.add(told, whose);
    drawWaits();
  },
};

const feed = new Feed(`${location.pathname.replace(/\/$/, "")}/events`, {
  open() {
    show("view");
    showState("live", "Live");
  },
  event: (name, data) => events[name]?.(data),
  trying: (why) => showState("trying", `Not connected: ${why}. Trying again.`),
  refused() {
    forget();
    at("refusal").textContent = "That is not the token that this server expects.";
  },
});

function show(part) {
  for (const id of ["door", "view"]) at(id).hidden = id !== part;
  for (const id of ["pause", "forget"]) at(id).hidden = part !== "view";
  if (part === "door") at("token").focus();
}

function watch(token) {
  sessionStorage.setItem(STORED, token);
  at("refusal").textContent = "";
  at("forget").hidden = false;
  showState("trying", "Connecting");
  feed.start(token);
}

function forget() {
  feed.stop();
  sessionStorage.removeItem(STORED);
  showState("closed", "Not connected");
  show("door");
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  watch(at("token").value);
  at("token").value = "";
});
at("forget").addEventListener("click", forget);
at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", paused);
  showState();
  draw();
  drawWaits();
});

const given = new URLSearchParams(location.hash.slice(1)).get("token"); // a link that was made for whoever reads it
if (given) window.history.replaceState(null, "", location.pathname);
const known = given ?? sessionStorage.getItem(STORED);
if (known) watch(known);
else show("door");
