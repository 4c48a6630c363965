// The table of what was found: sorted by any column, walked with the arrow keys, linked with the picture.

import { make, word } from "./elements.js";

const MOST_ROWS = 1000;
const COLUMNS = [
  { name: "#", title: "Place in the server's record", value: one => one.index + 1 },
  { name: "Class", value: one => one.name },
  { name: "Score", value: one => one.score, text: one => one.score?.toFixed(3) ?? "–" },
  { name: "Found by", needs: "found", value: one => one.found },
  ...["Left", "Top", "Right", "Bottom"].map((name, side) => ({
    name, needs: "box", title: "Pixels of the image", value: one => one.box?.[side], text: one => one.box?.[side]?.toFixed(1) ?? "–",
  })),
  { name: "Angle", needs: "angle", title: "Degrees", value: one => one.angle, text: one => `${((one.angle * 180) / Math.PI).toFixed(1)}°` },
];

const isNumber = name => !["#", "Class", "Found by"].includes(name);

export class Table {
  #sort = { column: 0, down: false }; #rows = []; #shown = []; #at = 0; #columns = "";

  /**
   * @param {string} title For screen readers.
   * @param {{point: (index: number | null) => void, pick: (index: number) => void}} told What happens when a row is
   *   pointed at or walked to, and when it is chosen.
   */
  constructor(title, told) {
    this.told = told;
    this.caption = make("caption", { class: "unseen" }, title);
    this.head = make("tr");
    this.body = make("tbody");
    this.more = make("p", { class: "hint", hidden: true });
    this.scroll = make("div", { class: "scroll" },
      make("table", { class: "found" }, this.caption, make("thead", {}, this.head), this.body));
    this.root = make("div", {}, this.scroll, this.more);
    this.body.addEventListener("keydown", event => this.#walk(event));
    this.root.addEventListener("pointerleave", () => told.point(null));
    this.root.addEventListener("focusout", event => { if (!this.root.contains(event.relatedTarget)) told.point(null); });
  }

  /**
   * Show objects; `active` is pointed at, `picked` was chosen: both are indices of the record.
   * `has` says whether the objects have a `box` and an `angle`, and whether it was `found` by the other model too.
   */
  update(objects, { active, picked, has, colorOf }) {
    const columns = COLUMNS.filter(({ needs }) => !needs || has[needs]);
    this.#makeHead(columns);
    const { column, down } = this.#sort, by = columns[Math.min(column, columns.length - 1)].value;
    const order = (a, b) => {
      const [x, y] = [by(a), by(b)];
      return (typeof x === "string" ? x.localeCompare(y) : x - y) || a.index - b.index;
    };
    this.#shown = [...objects].sort((a, b) => (down ? order(b, a) : order(a, b))).slice(0, MOST_ROWS);
    this.more.hidden = objects.length <= MOST_ROWS;
    this.more.textContent = `The table has the first ${MOST_ROWS.toLocaleString("en")} of ${objects.length.toLocaleString("en")}; the JSON has all.`;
    while (this.#rows.length < this.#shown.length) this.#addRow();
    this.#at = Math.max(0, Math.min(this.#at, this.#shown.length - 1));
    this.#rows.forEach((row, place) => this.#fill(row, this.#shown[place], columns, { place, active, picked, colorOf }));
  }

  /** Bring the row of an object into sight. */
  reveal(index) {
    const place = this.#shown.findIndex(one => one.index === index);
    if (place < 0) return;
    this.#at = place;
    this.#rows.forEach(({ button }, other) => { button.tabIndex = other === place ? 0 : -1; });
    this.#rows[place].row.scrollIntoView({ block: "nearest" });
  }

  #makeHead(columns) {
    const names = columns.map(one => one.name).join();
    if (names !== this.#columns) {
      this.#columns = names;
      this.head.replaceChildren(...columns.map(({ name, title }, column) => {
        const button = make("button", { type: "button", title: title ?? null }, name);
        button.addEventListener("click", () => {
          const { column: before, down } = this.#sort;
          this.#sort = { column, down: before === column ? !down : name === "Score" };
          this.told.sorted();
        });
        return make("th", { scope: "col", class: isNumber(name) ? "number" : null }, button);
      }));
      if (this.#sort.column >= columns.length) this.#sort = { column: 0, down: false };
    }
    [...this.head.children].forEach((cell, column) => {
      if (column !== this.#sort.column) cell.removeAttribute("aria-sort");
      else cell.setAttribute("aria-sort", this.#sort.down ? "descending" : "ascending");
    });
  }

  #addRow() {
    const button = make("button", { type: "button", class: "pick" }), row = make("tr");
    const place = this.#rows.length, object = () => this.#shown[place];
    row.addEventListener("pointerenter", () => this.told.point(object().index));
    row.addEventListener("click", () => this.told.pick(object().index));
    button.addEventListener("focus", () => { this.#at = place; this.told.point(object().index); });
    this.#rows.push({ row, button });
    this.body.append(row);
  }

  #fill({ row, button }, one, columns, { place, active, picked, colorOf }) {
    row.hidden = !one;
    if (!one) return;
    button.textContent = one.index + 1;
    button.tabIndex = place === this.#at ? 0 : -1;
    button.setAttribute("aria-pressed", String(one.index === picked));
    button.setAttribute("aria-label", `Object ${one.index + 1}: show in the picture`);
    row.classList.toggle("active", one.index === active || one.index === picked);
    while (row.cells.length > columns.length) row.lastChild.remove();
    columns.forEach(({ name, value, text }, column) => {
      const cell = row.cells[column] ?? row.appendChild(make("td"));
      if (name === "#") { if (button.parentNode !== cell) cell.replaceChildren(button); return; }
      if (name !== "Class") { cell.textContent = text ? text(one) : value(one); return; }
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = colorOf(one);
      cell.replaceChildren(swatch, word(one.name));
    });
    [...row.cells].forEach((cell, column) => { cell.className = isNumber(columns[column].name) ? "number" : ""; });
  }

  #walk(event) {
    const last = this.#shown.length - 1;
    const to = { ArrowDown: this.#at + 1, ArrowUp: this.#at - 1, PageDown: this.#at + 10, PageUp: this.#at - 10, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const { row, button } = this.#rows[Math.max(0, Math.min(to, last))];
    button.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }
}
