// Charts of the last two minutes, in SVG. Decides how figures look, and how a moment of them is read by pointer or key.
// Must never know where they come from.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 52; // room for the numbers beside a plot
const BOTTOM = 18;

function make(tag, attributes = {}, ...children) {
  const element = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

class Chart {
  static cursor = null; // seconds ago, the same in all charts; null: now
  static all = [];

  #figure;
  #svg = make("svg:svg", { class: "plot", tabindex: 0, role: "slider", "aria-valuemin": -SPAN, "aria-valuemax": 0, "aria-valuenow": 0 });
  #moment = make("p", { class: "moment quiet", "aria-hidden": "true" });
  #legend = make("ul", { class: "legend" });
  #paths;
  #values;
  #options;
  #points = [];

  // options: {series: [{name, label, colour, style, beside}], read(point) -> {name: value}, show(value), mark(value), stacked, log}
  // beside: another series whose value stands before this one's in the legend; it has no place of its own there.
  constructor(figure, options) {
    this.#figure = figure;
    this.#options = options;
    this.#svg.setAttribute("aria-label", `${figure.querySelector("h2").textContent}: seconds ago`);
    this.#paths = options.series.map((series) => {
      const path = make("svg:path", { class: series.style });
      path.style[series.style === "area" ? "fill" : "stroke"] = series.colour;
      return path;
    });
    this.#values = options.series.map((series) => {
      const swatch = make("span", { class: "swatch" });
      swatch.style.background = series.colour;
      const value = make("b");
      const item = make("li", {}, swatch, `${series.label} `, value);
      if (!options.series.some(({ beside }) => beside === series.name)) this.#legend.append(item);
      return value;
    });
    figure.querySelector("figcaption").append(this.#moment);
    figure.append(this.#svg, this.#legend);
    this.#listen();
    Chart.all.push(this);
    new ResizeObserver(() => this.draw(this.#points)).observe(this.#svg);
  }

  static point(secondsAgo) {
    Chart.cursor = secondsAgo === null ? null : Math.min(Math.max(secondsAgo, 0), SPAN);
    for (const chart of Chart.all) chart.draw(chart.#points);
  }

  draw(points) {
    this.#points = points;
    const [width, height] = [this.#svg.clientWidth, this.#svg.clientHeight];
    if (!width || !points.length) return;
    const now = points.at(-1).at;
    const rows = points.map((point) => this.#row(point));
    const [lowest, highest] = this.#range(rows);
    const x = (at) => LEFT + (1 - (now - at) / SPAN) * (width - LEFT);
    const scale = this.#options.log ? Math.log10 : (value) => value;
    const y = (value) =>
      (height - BOTTOM) * (1 - (scale(Math.max(value, lowest)) - scale(lowest)) / (scale(highest) - scale(lowest)));
    this.#paths.forEach((path, index) => path.setAttribute("d", this.#line(index, points, rows, x, y)));
    this.#svg.replaceChildren(...this.#grid(lowest, highest, width, height, y), ...this.#paths, ...this.#mark(x, now, height));
    this.#tell(points, now);
  }

  // The tops of the series at one moment: of a stack each stands on those before it.
  #row(point) {
    const found = this.#options.read(point);
    let below = 0;
    return this.#options.series.map(({ name }) => {
      const value = found[name] ?? null;
      if (!this.#options.stacked) return value;
      below += value ?? 0;
      return below;
    });
  }

  #range(rows) {
    const values = rows.flat().filter((value) => value !== null);
    const most = Math.max(...values, this.#options.log ? 0.001 : 1);
    if (!this.#options.log) return [0, niceTop(most)];
    const least = Math.min(...values, most / 100);
    return [10 ** Math.floor(Math.log10(least)), 10 ** Math.ceil(Math.log10(most))];
  }

  #line(index, points, rows, x, y) {
    const parts = [];
    let run = [];
    const end = () => {
      if (run.length) parts.push(this.#shape(index, run, rows, x, y));
      run = [];
    };
    points.forEach((point, at) => {
      const gap = at > 0 && point.at - points[at - 1].at > 3;
      if (gap || rows[at][index] === null) end();
      if (rows[at][index] !== null) run.push([point.at, at]);
    });
    end();
    return parts.join("");
  }

  #shape(index, run, rows, x, y) {
    const trace = (along, column) =>
      along.map(([at, row]) => `${x(at).toFixed(1)},${y(column < 0 ? 0 : rows[row][column]).toFixed(1)}`).join("L");
    const top = `M${trace(run, index)}`;
    if (this.#options.series[index].style !== "area") return run.length > 1 ? top : `${top}h1`;
    return `${top}L${trace(run.toReversed(), this.#options.stacked ? index - 1 : -1)}Z`;
  }

  #grid(lowest, highest, width, height, y) {
    const lines = [];
    const values = this.#options.log ? decades(lowest, highest) : [0, highest / 2, highest];
    for (const value of values) {
      const at = y(value);
      const text = make("svg:text", { x: LEFT - 6, y: Math.max(at + 4, 9), "text-anchor": "end" }, this.#options.mark(value));
      lines.push(make("svg:line", { class: "grid", x1: LEFT, x2: width, y1: at, y2: at }), text);
    }
    for (const [at, label, anchor] of [[LEFT, "2 min ago", "start"], [(LEFT + width) / 2, "1 min", "middle"], [width, "now", "end"]]) {
      lines.push(make("svg:text", { x: at, y: height - 3, "text-anchor": anchor }, label));
    }
    return lines;
  }

  #mark(x, now, height) {
    if (Chart.cursor === null) return [];
    const at = x(now - Chart.cursor);
    return [make("svg:line", { class: "cursor", x1: at, x2: at, y1: 0, y2: height - BOTTOM })];
  }

  #tell(points, now) {
    const wanted = now - (Chart.cursor ?? 0);
    const point = points.reduce((best, one) => (Math.abs(one.at - wanted) < Math.abs(best.at - wanted) ? one : best));
    const found = this.#options.read(point);
    const shown = (name) => (found[name] === undefined ? "–" : this.#options.show(found[name]));
    this.#options.series.forEach(({ name, beside }, index) => {
      this.#values[index].textContent = beside ? `${shown(beside)} · ${shown(name)}` : shown(name);
      this.#values[index].parentNode.hidden = points.every((one) => this.#options.read(one)[name] === undefined);
    });
    const when = Chart.cursor === null ? "now" : `${Math.round(Chart.cursor)} s ago`;
    this.#moment.textContent = when;
    this.#words = `${when}: ${this.#options.series.map(({ name }) => `${name} ${shown(name)}`).join(", ")}`;
  }

  #words = "";

  // Said when asked for: a value that changes twice a second is nothing to read aloud.
  #say() {
    this.#svg.setAttribute("aria-valuenow", -(Chart.cursor ?? 0));
    this.#svg.setAttribute("aria-valuetext", this.#words);
  }

  #listen() {
    const svg = this.#svg;
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      Chart.point(SPAN * (1 - (event.clientX - box.left - LEFT) / (box.width - LEFT)));
    });
    svg.addEventListener("pointerleave", () => Chart.point(null));
    svg.addEventListener("focus", () => this.#say());
    svg.addEventListener("blur", () => Chart.point(null));
    svg.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: 1, ArrowRight: -1, ArrowDown: 1, ArrowUp: -1, PageUp: -10, PageDown: 10 };
      const step = steps[event.key];
      if (event.key === "Home") Chart.point(SPAN);
      else if (event.key === "End" || event.key === "Escape") Chart.point(null);
      else if (step) Chart.point((Chart.cursor ?? 0) + step);
      else return;
      event.preventDefault();
      this.#say();
    });
  }
}

function niceTop(value) {
  const step = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 10].map((times) => times * step).find((top) => top >= value * 0.999);
}

function decades(lowest, highest) {
  const found = [];
  for (let value = lowest; value <= highest * 1.01; value *= 10) found.push(value);
  const every = Math.ceil(found.length / 5);
  return found.filter((_, index) => (found.length - 1 - index) % every === 0);
}
