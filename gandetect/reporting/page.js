"use strict";
(() => {
  const table = document.getElementById("samples");
  const body = table.tBodies[0];
  const status = document.getElementById("status");
  const headers = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.sort;

  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    if (a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return a.localeCompare(b, undefined, { numeric: true });
  };

  headers.forEach((header, column) => {
    const button = header.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      // Numbers begin with the largest, words with the first.
      const first = header.classList.contains("number") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = header.getAttribute("aria-sort") === first ? other : first;
      const sign = direction === "ascending" ? 1 : -1;
      headers.forEach((cell) => cell.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", direction);
      const rows = [...body.rows];
      rows.sort((a, b) => sign * compare(key(a, column), key(b, column)));
      body.append(...rows);
      status.textContent = `Sorted by ${button.textContent}, ${direction}.`;
    });
  });

  const marks = () =>
    [...body.querySelectorAll("select")]
      .filter((select) => select.value !== "")
      .sort((a, b) => Number(a.dataset.rank) - Number(b.dataset.rank));

  body.addEventListener("change", (event) => {
    event.target.closest("td").dataset.sort = event.target.value;
    const n = marks().length;
    status.textContent = `${n} ${n === 1 ? "sample is" : "samples are"} marked.`;
  });

  // A spreadsheet takes a cell that begins so for a formula, and runs it.
  const harmless = (text) => (/^[=+\-@\t\r\n＝＋－＠]/.test(text) ? `'${text}` : text);
  const cell = (text) => `"${harmless(text).replaceAll('"', '""')}"`;

  document.getElementById("export").addEventListener("click", () => {
    const marked = marks();
    if (!marked.length) {
      status.textContent = "No sample is marked.";
      return;
    }
    const lines = marked.map((select) => `${cell(select.dataset.sample)},${select.value}`);
    const content = ["sample,label", ...lines].join("\n") + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
    link.download = "marks.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    status.textContent = `${marked.length} marks were written to marks.csv.`;
  });
})();
