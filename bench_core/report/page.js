// The script of the page. Text is inserted only by textContent, so markup in a cell has no effect.
"use strict";

// The full table: sorts, filters and pages rows that were packed by packed_table.py. Rows with a value come first; below
// them stands one line for each reason why there is none, which opens to its rows.
(() => {
  const PAGE = 100;
  const columns = JSON.parse(document.getElementById("rows").textContent);
  const [value, reason] = ["Value", "Status"].map((title) => columns.find((column) => column.title === title));
  const every = value.codes.map((_, row) => row);
  const total = value.codes.filter((code) => code).length;
  const table = document.getElementById("full-table");
  const body = table.tBodies[0];
  const headers = [...table.querySelectorAll("thead th")];
  const search = document.getElementById("search");
  const status = document.getElementById("shown");
  const [previous, next] = [document.getElementById("previous"), document.getElementById("next")];
  const number = (count) => count.toLocaleString("en");
  const opened = new Set(); // the codes of the reasons whose rows are shown
  let found = []; // the rows with a value that match
  let lost = 0; // the number of those without one
  let page = 0;
  let sorted = { column: -1, ascending: true };

  function line(row) {
    const drawn = document.createElement("tr");
    for (const column of columns) {
      const cell = drawn.insertCell();
      const text = column.words[column.codes[row]];
      // The rest of a status, the reason, stands above the rows that share it.
      // On paper, where the columns are narrow, a name may break after "_".
      const parts = (column === reason ? text.split(":", 1)[0] : text).split(/(?<=_)/);
      cell.append(...parts.flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part])));
      cell.dataset.column = column.title;
      if (column.number) cell.className = "number";
    }
    return drawn;
  }

  function draw() {
    const start = page * PAGE;
    const end = Math.min(start + PAGE, found.length);
    body.replaceChildren(...found.slice(start, end).map(line));
    previous.disabled = page === 0;
    next.disabled = end >= found.length;
    const of = found.length === total ? "" : ` that match, of ${number(total)}`;
    const rows = `Rows ${number(start + 1)} to ${number(end)} of ${number(found.length)} with a value${of}`;
    const below = lost ? `; below them ${number(lost)} without one, by reason` : "";
    status.textContent = (found.length ? rows : "No row with a value matches") + below;
  }

  // A reason as a body of the table: a button with the number of its rows, and the rows while it is open.
  function group([code, rows]) {
    const drawn = document.createElement("tbody");
    const head = drawn.insertRow().insertCell();
    const button = head.appendChild(document.createElement("button"));
    head.colSpan = columns.length;
    button.type = "button";
    button.textContent = `${number(rows.length)} ${rows.length === 1 ? "row" : "rows"} ${reason.words[code]}`;
    const show = () => {
      button.setAttribute("aria-expanded", opened.has(code));
      drawn.replaceChildren(drawn.rows[0], ...(opened.has(code) ? rows.map(line) : []));
    };
    button.addEventListener("click", () => {
      if (!opened.delete(code)) opened.add(code);
      show();
      button.focus();
    });
    show();
    return drawn;
  }

  function arrange() {
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = terms.map((term) =>
      columns.map((column) => column.words.map((word) => word.toLowerCase().includes(term))));
    const rows = every.filter((row) =>
      hits.every((hit) => columns.some((column, i) => hit[i][column.codes[row]])));
    if (sorted.column >= 0) {
      const { codes } = columns[sorted.column];
      const sign = sorted.ascending ? 1 : -1;
      // Empty cells (index 0) come last in both directions.
      rows.sort((a, b) => (!codes[a] - !codes[b]) || sign * (codes[a] - codes[b]) || a - b);
    }
    found = rows.filter((row) => value.codes[row]);
    lost = rows.length - found.length;
    const reasons = new Map();
    for (const row of rows.filter((one) => !value.codes[one])) {
      const code = reason.codes[row];
      reasons.set(code, [...(reasons.get(code) ?? []), row]);
    }
    page = 0;
    draw();
    table.replaceChildren(table.tHead, body, ...[...reasons].sort(([, a], [, b]) => b.length - a.length).map(group));
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
  arrange();
})();

// Boxes whose content is wider than they are: style.css says so, and the keyboard reaches them.
(() => {
  function mark(box) {
    const wider = box.scrollWidth > box.clientWidth + 1;
    box.classList.toggle("wider", wider);
    if (wider) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
  const watcher = new ResizeObserver((entries) =>
    requestAnimationFrame(() => entries.forEach(({ target }) => mark(target))));
  document.querySelectorAll(".scroll").forEach((box) => watcher.observe(box));
})();
