"use strict";
// Sorting and search of the class table. Without this script the page has the same content.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const text = (row, column) => row.cells[column].textContent;
  const number = (shown) => Number(shown.replaceAll(",", ""));

  const compare = (column, way) => (a, b) => {
    const [left, right] = [text(a, column), text(b, column)];
    if (column === 0) return way * left.localeCompare(right);
    const [x, y] = [number(left), number(right)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return way * (x - y);
  };

  const sortBy = (head) => {
    const first = head.cellIndex < 2 ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    rows.sort(compare(head.cellIndex, order === "ascending" ? 1 : -1));
    body.append(...rows);
  };

  for (const head of table.tHead.querySelectorAll("th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortBy(head));
    head.replaceChildren(button);
  }
  table.tHead.rows[0].cells[2].setAttribute("aria-sort", "descending");

  const search = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("span");
  search.className = "search";
  input.type = "search";
  count.setAttribute("role", "status");
  search.append("Find a topic", input, count);
  const show = () => {
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !text(row, 0).toLowerCase().includes(wanted) && text(row, 1) !== wanted;
      shown += !row.hidden;
    }
    count.textContent = wanted ? `${shown} of ${rows.length} classes` : "";
  };
  input.addEventListener("input", show);
  (table.closest(".scroll") || table).before(search);
}
