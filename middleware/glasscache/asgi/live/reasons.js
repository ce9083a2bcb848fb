// Why requests were not answered from the cache: each reason, how often, and in words what it is.
// Must never show more than the server tells.

const KINDS = { bypass: "went past the cache", not_stored: "loaded, and not stored" };

class Reasons {
  #section;
  #body;
  #drawn = "";

  constructor({ section, table }) {
    [this.#section, this.#body] = [section, table.tBodies[0]];
  }

  draw(figures, words) {
    const rows = Object.entries(KINDS)
      .flatMap(([kind, what]) => Object.entries(figures[kind]).map(([reason, count]) => [reason, count, what, words[kind][reason]]))
      .sort((one, other) => other[1] - one[1]);
    const drawn = JSON.stringify(rows);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.#section.hidden = !rows.length;
    this.#body.replaceChildren(
      ...rows.map(([reason, count, what, said]) =>
        make(
          "tr",
          {},
          make("th", { scope: "row", class: "mono" }, reason),
          make("td", { class: "number" }, shownCount(count)),
          make("td", {}, what),
          make("td", { class: "words" }, (said ?? "the rule's own key= says so").replaceAll("`", "")),
        ),
      ),
    );
  }
}
