// Sorts a board by any column. The table is complete and readable without this file.
"use strict";

const key = (row, column) => {
  let place = 0;
  for (const cell of row.cells) {
    if (place === column && cell.colSpan === 1) {
      const text = cell.textContent.trim();
      return { text, number: Number.parseFloat(text.replaceAll(",", "")) };
    }
    place += cell.colSpan;
  }
  return { text: "", number: Number.NaN }; // under a failure: no value of its own
};

const compare = (isNumber, sign) => (left, right) => {
  if (!isNumber) return sign * left.text.localeCompare(right.text, "en");
  if (Number.isNaN(left.number) || Number.isNaN(right.number)) {
    return Number(Number.isNaN(left.number)) - Number(Number.isNaN(right.number)); // no number: last
  }
  return sign * (left.number - right.number);
};

const sort = (table, head, column) => {
  const first = head.dataset.first ?? "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: key(row, column) }));
  const inOrder = compare("first" in head.dataset, order === "ascending" ? 1 : -1);
  rows.sort((left, right) => inOrder(left.key, right.key));
  table.tBodies[0].append(...rows.map(({ row }) => row));
};

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, head, column));
  });
}
