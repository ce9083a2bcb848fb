// Who waits for whom: the loads under way, and the last long waits, each under the load that it waited for.
// Must never show more than the server tells, nor take a row away from under the keyboard while it is still there.

const SHOWN = 8; // loads, until asked for more
const KEPT = 256; // waits, as many as the server keeps
const WORDS = {
  served: "served",
  promoted: "then led itself",
  acquired: "then loaded itself",
  timeout: "gave up",
  holder_failed: "the load failed",
  stale_served: "took a stale answer",
  cancelled: "client left",
  error: "failed",
};

function traceButton(span, whose, say) {
  if (!span.trace_id) return make("span", { class: "quiet" }, "no trace");
  const label = `trace ${span.trace_id.slice(0, 8)}…`;
  const button = make("button", { type: "button", class: "copy mono", title: span.trace_id }, label);
  button.setAttribute("aria-label", `Copy trace id ${span.trace_id} of ${whose}`);
  button.addEventListener("click", async () => {
    const done = await copied(span.trace_id);
    say(done ? `Trace id ${span.trace_id} copied.` : `It cannot be copied here: ${span.trace_id}`);
    button.textContent = done ? "copied" : label;
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text); // not there unless by https or on this machine
    return true;
  } catch {
    return false;
  }
}

function holderName(holder, process) {
  return holder.id ? `machine ${holder.id}` : `worker ${process.worker}`;
}

class Waterfalls {
  #list;
  #more;
  #groups;
  #order;
  #say;
  #loads = new Map(); // process and load -> {process, waits, element, drawn}
  #all = false;

  constructor({ list, more, group, order, say }) {
    [this.#list, this.#more, this.#groups, this.#order, this.#say] = [list, more, group, order, say];
    for (const choice of [group, order]) choice.addEventListener("change", () => this.draw());
    more.addEventListener("click", () => {
      this.#all = !this.#all;
      this.draw();
    });
  }

  get isEmpty() {
    return !this.#loads.size;
  }

  // Those of a process that has ended stay: why it was slow is asked afterwards.
  add(contentions, process) {
    for (const one of contentions.toReversed()) { // oldest first
      const id = `${process.counts} ${one.load}`;
      const load = this.#loads.get(id) ?? { process, waits: [], drawn: 0 };
      load.waits.push(one);
      this.#loads.set(id, load);
    }
    let kept = [...this.#loads.values()].reduce((sum, load) => sum + load.waits.length, 0);
    for (const [id, load] of this.#loads) { // in the order in which they were first waited for
      if (kept <= KEPT) break;
      kept -= load.waits.length;
      this.#loads.delete(id);
    }
  }

  draw() {
    this.#offerGroups();
    const wanted = [...this.#loads.values()].filter((load) => [load.waits[0].key_group, ""].includes(this.#groups.value));
    const by = this.#order.value === "longest" ? longest : (load) => load.waits.at(-1).ended;
    wanted.sort((one, other) => by(other) - by(one));
    const shown = this.#all ? wanted : wanted.slice(0, SHOWN);
    const elements = shown.map((load) => this.#element(load));
    for (const old of [...this.#list.children]) if (!elements.includes(old)) old.remove();
    elements.forEach((element, index) => {
      if (this.#list.children[index] !== element) this.#list.insertBefore(element, this.#list.children[index] ?? null);
    });
    this.#more.hidden = wanted.length <= SHOWN;
    this.#more.textContent = this.#all ? `Show the first ${SHOWN}` : `Show all ${wanted.length}`;
  }

  #offerGroups() {
    const known = new Set([...this.#groups.options].map((option) => option.value));
    for (const { waits } of this.#loads.values()) {
      const group = waits[0].key_group;
      if (!known.has(group)) this.#groups.append(make("option", { value: group }, group));
      known.add(group);
    }
  }

  #element(load) {
    load.element ??= make("li");
    if (load.drawn !== load.waits.length) {
      load.drawn = load.waits.length;
      load.element.replaceChildren(...this.#rows(load));
    }
    return load.element;
  }

  #rows(load) {
    const last = load.waits.at(-1);
    const start = Math.min(...load.waits.map((one) => Math.min(one.ended - one.holder.running, one.ended - one.waited)));
    const end = Math.max(...load.waits.map((one) => one.ended));
    const queue = Math.max(...load.waits.map((one) => one.queue_length), load.waits.length);
    const when = new Date(end * 1000);
    const summary = make(
      "div",
      { class: "summary" },
      make("h3", {}, last.key_group),
      make("span", { class: "mono quiet", title: "cache.key_hash" }, last.key_hash),
      make("span", {}, `${queue} waited, the longest ${shownSeconds(longest(load))}`),
      make("time", { class: "quiet", datetime: when.toISOString() }, when.toLocaleTimeString()),
    );
    const rows = make("ol", { class: "rows" }, this.#holderRow(load, start, end));
    for (const one of load.waits) rows.append(this.#waitRow(one, start, end));
    const rest = queue - load.waits.length;
    if (rest <= 0) return [summary, rows];
    return [summary, rows, make("p", { class: "rest quiet" }, `… and ${rest.toLocaleString("en")} more, whose waits were shorter or are not kept`)];
  }

  #holderRow(load, start, end) {
    const ended = load.waits.find((one) => one.holder.held !== null);
    const { holder, ended: at } = ended ?? load.waits.at(-1);
    const begun = at - holder.running;
    const until = ended ? begun + holder.held : end;
    const lasted = ended ? `loaded for ${shownSeconds(holder.held)}` : `loaded for more than ${shownSeconds(end - begun)}`;
    const bar = this.#lane(begun, Math.min(until, end), start, end);
    if (!ended) bar.firstChild.classList.add("open");
    const text = `${holderName(holder, load.process)} ${lasted}`;
    return make("li", { class: "holder" }, make("span", {}, text), bar, traceButton(holder, "the load", this.#say));
  }

  #waitRow(one, start, end) {
    const bar = this.#lane(one.ended - one.waited, one.ended, start, end);
    bar.firstChild.dataset.outcome = one.outcome;
    const outcome = WORDS[one.outcome] ?? one.outcome;
    const text = `waited ${shownSeconds(one.waited)}, ${outcome}`;
    return make("li", {}, make("span", {}, text), bar, traceButton(one.waiter, `who waited ${one.waited.toFixed(2)} s`, this.#say));
  }

  #lane(from, to, start, end) {
    const bar = make("i");
    const share = (seconds) => `${(100 * seconds) / (end - start || 1)}%`;
    bar.style.left = share(from - start);
    bar.style.width = share(to - from);
    return make("div", { class: "lane", "aria-hidden": "true" }, bar);
  }
}

function longest(load) {
  return Math.max(...load.waits.map((one) => one.waited));
}

class LoadsTable {
  #body;
  #none;
  #say;
  #rows = new Map();

  constructor({ table, none, say }) {
    [this.#body, this.#none, this.#say] = [table.tBodies[0], none, say];
  }

  draw(loads, process) {
    const shown = new Map();
    for (const load of loads) {
      let id = load.holder.span_id ?? load.key_hash;
      while (shown.has(id)) id += "'";
      shown.set(id, this.#rows.get(id) ?? this.#row(load));
      this.#fill(shown.get(id), load, process);
    }
    for (const [id, row] of this.#rows) if (!shown.has(id)) row.remove();
    this.#rows = shown;
    const ordered = [...shown.values()].every((row, index) => this.#body.rows[index] === row);
    if (!ordered && !this.#body.contains(document.activeElement)) this.#body.append(...shown.values());
    this.#none.hidden = loads.length > 0;
  }

  #row(load) {
    const trace = make("td", {}, traceButton(load.holder, "the load", this.#say));
    const row = make("tr", {}, make("th", { scope: "row" }), make("td", { class: "mono" }));
    row.append(make("td", { class: "number" }), make("td", { class: "number" }), make("td"), trace);
    this.#body.append(row);
    return row;
  }

  #fill(row, load, process) {
    const where = `${holderName(load.holder, process)} ${load.holder.id ? "(waited for from here)" : `(${load.trigger})`}`;
    const texts = [load.key_group, load.key_hash, shownSeconds(load.running), shownCount(load.waiting), where];
    texts.forEach((text, index) => (row.cells[index].textContent = text));
  }
}
