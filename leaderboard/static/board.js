// Sorts, searches and filters tables. Every table is whole and readable without it.
//
//   table.sortable          every heading becomes a button that sorts by its column
//   table[data-tools]       one per page: search, filters, choice of columns, kept in its address
//   th[data-column]         name of the column in the address
//   th[data-label]          its filter's name in place of the heading
//   th[data-first]          the column holds numbers; which order comes first
//   th[data-filter=choice]  the column holds few values, offered as a list
//   th[data-show]           shown at first on `wide` screens only, or only when `asked` for
//   td[data-value]          what is compared in place of the text
"use strict";

const NUMBER = /^[≤+]?\s*([-−]?\d[\d,]*(?:\.\d+)?)/;
const NOTHING = new Set(["", "–"]);
const NO_ROW = "No row matches.";
const PLAIN = { autocomplete: "off", spellcheck: "false" };

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const parse = (text) => Number.parseFloat(text.replaceAll(",", "").replace("−", "-"));

// One entry per column: what a cell says, and the number it starts with.
const read = (row, count) => {
  const entries = new Array(count).fill(undefined);
  let place = 0;
  for (const cell of row.cells) {
    if (cell.colSpan === 1) {
      const link = cell.querySelector(":scope > .link");
      const said = (cell.dataset.value ?? cell.textContent).trim();
      const text = link ? said.slice(0, -link.textContent.length).trim() : said;
      entries[place] = { cell, text, low: text.toLowerCase(), number: parse(NUMBER.exec(text)?.[1] ?? "") };
    }
    place += cell.colSpan;
  }
  return { row, entries, low: row.textContent.toLowerCase() };
};

const columnsOf = (table) =>
  [...table.tHead.rows[0].cells].map((head, place) => ({
    head,
    place,
    name: head.dataset.column ?? `c${place + 1}`,
    label: head.dataset.label ?? head.firstChild.textContent.trim().replace(/,.*/, ""),
    isNumber: "first" in head.dataset,
    first: head.dataset.first ?? "ascending",
    filter: head.dataset.filter ?? ("first" in head.dataset ? "number" : "text"),
  }));

const compare = (column, order) => (left, right) => {
  const [a, b] = [left.entries[column.place], right.entries[column.place]];
  const sign = order === "ascending" ? 1 : -1;
  const missing = (one) => one === undefined || (column.isNumber ? Number.isNaN(one.number) : NOTHING.has(one.text));
  if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b)); // nothing comes last
  if (column.isNumber) return sign * (a.number - b.number);
  return sign * (a.low < b.low ? -1 : Number(a.low > b.low));
};

// `>=50`, `< 5`, `50-60` or `50` as a test of a number; undefined where it is none of these.
const numberTest = (text) => {
  const bound = /^(>=|<=|>|<|=|≥|≤)?\s*([-−]?\d+(?:\.\d+)?)$/.exec(text);
  if (bound) {
    const limit = parse(bound[2]);
    const tests = { ">": (n) => n > limit, "<": (n) => n < limit, ">=": (n) => n >= limit, "<=": (n) => n <= limit };
    const sign = { "≥": ">=", "≤": "<=" }[bound[1]] ?? bound[1];
    return tests[sign] ?? ((n) => n === limit);
  }
  const range = /^([-−]?\d+(?:\.\d+)?)\s*(?:-|–|to|\.\.)\s*([-−]?\d+(?:\.\d+)?)$/.exec(text);
  if (!range) return undefined;
  const [low, high] = [parse(range[1]), parse(range[2])];
  return (n) => n >= low && n <= high;
};

const testOf = (column, wanted) => {
  if (column.filter === "choice") return (entry) => entry?.text === wanted;
  if (column.filter === "text") return (entry) => entry?.low.includes(wanted.toLowerCase());
  const test = numberTest(wanted.trim());
  return test && ((entry) => entry !== undefined && test(entry.number));
};

class Table {
  constructor(table) {
    this.table = table;
    this.columns = columnsOf(table);
    this.rows = [...table.tBodies[0].rows].map((row) => read(row, this.columns.length));
    for (const column of this.columns) {
      const button = element("button", { type: "button" }, ...column.head.childNodes);
      column.head.append(button);
      button.addEventListener("click", () => {
        const other = column.first === "ascending" ? "descending" : "ascending";
        this.sort(column, column.head.getAttribute("aria-sort") === column.first ? other : column.first);
        this.changed();
      });
    }
  }

  sort(column, order) {
    for (const each of this.columns) each.head.removeAttribute("aria-sort");
    if (column) column.head.setAttribute("aria-sort", order);
    const rows = column ? [...this.rows].sort(compare(column, order)) : this.rows;
    this.table.tBodies[0].append(...rows.map(({ row }) => row));
    this.sorted = column && { column, order };
  }

  changed() {}
}

class Tools extends Table {
  constructor(table) {
    super(table);
    this.filters = new Map();
    this.shown = new Set(this.usual());
    this.build();
    this.restore();
  }

  // The columns shown at first: those that say something, and as many as the screen is wide.
  usual() {
    const isNarrow = window.matchMedia("(max-width: 46rem)").matches;
    const hidden = isNarrow ? ["wide", "asked"] : ["asked"];
    const says = ({ place }) => this.rows.some(({ entries }) => entries[place] && !NOTHING.has(entries[place].text));
    return this.columns
      .filter((column) => !hidden.includes(column.head.dataset.show) && (says(column) || !column.head.dataset.show))
      .map(({ name }) => name);
  }

  build() {
    const id = `tools-${this.table.caption?.id || "table"}`;
    this.search = element("input", { type: "search", id: `${id}-search`, ...PLAIN });
    this.search.addEventListener("input", () => this.changed());
    this.status = element("p", { role: "status", class: "count" });
    this.nothing = element("tbody");
    this.nothing.append(element("tr", {}, element("td", { colspan: this.columns.length }, NO_ROW)));
    const reset = element("button", { type: "button", class: "plain" }, "Reset");
    reset.addEventListener("click", () => this.reset());
    this.filterCount = element("span");
    this.tools = element(
      "div",
      { class: "tools", role: "group", "aria-label": "Search, filter and choose columns" },
      element("div", { class: "search" }, element("label", { for: this.search.id }, "Search"), this.search),
      this.menu(element("summary", {}, "Filter", this.filterCount), "filters", (c) => this.filterOf(c, id)),
      this.menu(element("summary", {}, "Columns"), "columns", (c) => this.choiceOf(c, id)),
      reset,
      this.status,
    );
    (this.table.closest(".scroll") ?? this.table).before(this.tools);
  }

  menu(summary, kind, make) {
    const box = element("div", { class: kind }, ...this.columns.map(make));
    const hint = "Numbers: >=50, <5, 50-60 or 50. Text: any part of it.";
    if (kind === "filters") box.append(element("p", { class: "quiet" }, hint));
    const menu = element("details", { class: "menu" }, summary, box);
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      menu.open = false;
      summary.focus();
    });
    return menu;
  }

  filterOf(column, id) {
    const name = `${id}-filter-${column.name}`;
    const input =
      column.filter === "choice"
        ? element("select", { id: name }, element("option", { value: "" }, "any"), ...this.options(column))
        : element("input", { id: name, type: "text", ...PLAIN });
    if (column.filter === "number") input.placeholder = ">=";
    input.addEventListener("input", () => this.changed());
    this.filters.set(column, input);
    return element("div", {}, element("label", { for: name }, column.label), input);
  }

  options({ place }) {
    const counts = new Map();
    for (const { entries } of this.rows) {
      const text = entries[place]?.text ?? "";
      if (text) counts.set(text, (counts.get(text) ?? 0) + 1);
    }
    const sorted = [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
    return sorted.map(([text, count]) => element("option", { value: text }, `${text} (${count})`));
  }

  choiceOf(column, id) {
    const box = element("input", { type: "checkbox", id: `${id}-column-${column.name}` });
    column.box = box;
    box.disabled = this.table.tBodies[0].rows[0]?.cells[column.place]?.tagName === "TH"; // names the row
    box.addEventListener("change", () => {
      if (box.checked) this.shown.add(column.name);
      else this.shown.delete(column.name);
      this.show();
      this.changed();
    });
    return element("label", { for: box.id }, box, ` ${column.label}`);
  }

  show() {
    for (const column of this.columns) {
      const isHidden = !this.shown.has(column.name) && !column.box.disabled;
      column.box.checked = !isHidden;
      column.head.hidden = isHidden;
      for (const { entries } of this.rows) {
        if (entries[column.place]) entries[column.place].cell.hidden = isHidden;
      }
    }
  }

  apply() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const tests = [];
    for (const [column, input] of this.filters) {
      const test = input.value ? testOf(column, input.value) : undefined;
      if (input.value && !test) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      if (test) tests.push((entries) => test(entries[column.place]));
    }
    const target = location.hash.slice(1);
    let count = 0;
    for (const { row, entries, low } of this.rows) {
      const fits = words.every((word) => low.includes(word)) && tests.every((test) => test(entries));
      row.hidden = !fits && !(target && row.id === target); // a linked row is always there
      count += Number(fits);
    }
    this.filterCount.textContent = tests.length ? ` (${tests.length})` : "";
    this.status.textContent = count ? `${count} of ${this.rows.length} rows` : NO_ROW;
    if (this.rows.some(({ row }) => !row.hidden)) this.nothing.remove();
    else this.table.append(this.nothing);
  }

  changed() {
    this.apply();
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.remember(), 80);
  }

  remember() {
    const said = new URLSearchParams();
    if (this.search.value) said.set("q", this.search.value);
    for (const [column, input] of this.filters) if (input.value) said.set(column.name, input.value);
    if (this.sorted) said.set("sort", (this.sorted.order === "descending" ? "-" : "") + this.sorted.column.name);
    const chosen = this.columns.filter(({ name }) => this.shown.has(name)).map(({ name }) => name);
    if (chosen.join() !== this.usual().join()) said.set("columns", chosen.join());
    const query = said.toString();
    history.replaceState(null, "", location.pathname + (query && `?${query}`) + location.hash);
  }

  restore() {
    const said = new URLSearchParams(location.search);
    this.search.value = said.get("q") ?? "";
    for (const [column, input] of this.filters) input.value = said.get(column.name) ?? "";
    const sort = said.get("sort") ?? "";
    const column = this.columns.find(({ name }) => name === sort.replace(/^-/, ""));
    if (column) this.sort(column, sort.startsWith("-") ? "descending" : "ascending");
    if (said.has("columns")) this.shown = new Set(said.get("columns").split(","));
    this.show();
    this.apply();
    const target = document.getElementById(location.hash.slice(1));
    if (target && this.table.contains(target)) target.scrollIntoView({ block: "center" });
  }

  reset() {
    this.search.value = "";
    for (const input of this.filters.values()) input.value = "";
    this.shown = new Set(this.usual());
    this.sort(undefined);
    this.show();
    this.changed();
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  if ("tools" in table.dataset) new Tools(table);
  else new Table(table);
}
