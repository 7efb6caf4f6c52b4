// The full table: sorts, filters and pages rows that were packed by packed_table.py.
// Text is inserted only by textContent, so markup in a cell has no effect.
"use strict";
(() => {
  const PAGE = 100;
  const columns = JSON.parse(document.getElementById("rows").textContent);
  const body = document.querySelector("#full-table tbody");
  const headers = [...document.querySelectorAll("#full-table th")];
  const search = document.getElementById("search");
  const status = document.getElementById("shown");
  const [previous, next] = [document.getElementById("previous"), document.getElementById("next")];
  const every = columns[0].codes.map((_, row) => row);
  let rows = every;
  let page = 0;
  let sorted = { column: -1, ascending: true };

  function draw() {
    const start = page * PAGE;
    const lines = rows.slice(start, start + PAGE).map((row) => {
      const line = document.createElement("tr");
      for (const column of columns) {
        const cell = line.insertCell();
        cell.textContent = column.words[column.codes[row]];
        if (column.number) cell.className = "number";
      }
      return line;
    });
    body.replaceChildren(...lines);
    const end = start + lines.length;
    const of = rows.length === every.length ? "" : ` that match, of ${every.length}`;
    status.textContent = rows.length ? `Rows ${start + 1} to ${end} of ${rows.length}${of}` : "No row matches";
    previous.disabled = page === 0;
    next.disabled = end >= rows.length;
  }

  function arrange() {
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = terms.map((term) =>
      columns.map((column) => column.words.map((word) => word.toLowerCase().includes(term))));
    rows = every.filter((row) =>
      hits.every((hit) => columns.some((column, i) => hit[i][column.codes[row]])));
    if (sorted.column >= 0) {
      const { codes } = columns[sorted.column];
      const sign = sorted.ascending ? 1 : -1;
      // Empty cells (index 0) come last in both directions.
      rows.sort((a, b) => (!codes[a] - !codes[b]) || sign * (codes[a] - codes[b]) || a - b);
    }
    page = 0;
    draw();
  }

  headers.forEach((header, i) => {
    header.querySelector("button").addEventListener("click", () => {
      sorted = { column: i, ascending: sorted.column === i ? !sorted.ascending : true };
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", sorted.ascending ? "ascending" : "descending");
      arrange();
    });
  });
  search.addEventListener("input", arrange);
  previous.addEventListener("click", () => { page -= 1; draw(); });
  next.addEventListener("click", () => { page += 1; draw(); });
  document.getElementById("table-tools").hidden = false;
  draw();
})();
