"use strict";
/* Tables that sort, and lists of samples in pages. */
(() => {
  const { fileLink, h, show } = REPORT;
  const CUT = 400; // characters of a text in a cell

  /* columns: [{label, kind, cell(row) -> value, link(row) -> href or null}] */
  function table(columns, rows, label, size = rows.length) {
    const state = { sort: null, descending: false, page: 0 };
    const last = Math.max(0, Math.ceil(rows.length / size) - 1);
    const body = h("tbody");
    const status = h("span", { class: "muted", role: "status" });
    const classOf = ({ kind, label: name }) =>
      (kind === "text" ? "text" : "number") + (name === "method" ? " stays" : "");
    const heads = columns.map((column, i) =>
      h("th", { scope: "col", class: classOf(column) },
        h("button", { type: "button", onclick: () => {
          state.descending = state.sort === i ? !state.descending : column.kind !== "text";
          state.sort = i;
          state.page = 0;
          draw();
        } }, column.label)));
    const turn = (by) => { state.page += by; draw(); };
    const previous = h("button", { type: "button", onclick: () => turn(-1) }, "← previous");
    const next = h("button", { type: "button", onclick: () => turn(1) }, "next →");
    const pager = h("div", { class: "bar" }, previous, next, status);

    function sorted() {
      if (state.sort === null) return rows;
      const value = columns[state.sort].cell;
      const sign = state.descending ? -1 : 1;
      return [...rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)].map((v) => (Array.isArray(v) ? v[0] : v));
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y)));
      });
    }
    function cellOf(column, row) {
      const text = show(column.cell(row), column.kind).slice(0, CUT);
      const none = text === "–" || (column.kind === "int" && column.cell(row) === 0);
      const href = column.link && !none ? column.link(row) : null;
      const title = column.kind === "text" ? text : null;
      return h("td", { class: classOf(column), title }, href ? h("a", { href }, text) : text);
    }
    function draw() {
      const from = state.page * size;
      const shown = sorted().slice(from, from + size);
      body.replaceChildren(...shown.map((row) =>
        h("tr", { class: row.quiet && "quiet" }, columns.map((column) => cellOf(column, row)))));
      heads.forEach((head, i) => head.setAttribute("aria-sort",
        state.sort !== i ? "none" : state.descending ? "descending" : "ascending"));
      status.textContent = `${from + 1}–${from + shown.length} of ${rows.length.toLocaleString("en")}`;
      previous.disabled = state.page === 0;
      next.disabled = state.page === last;
      pager.hidden = last === 0;
    }
    draw();
    return h("div", {},
      scroller(label, h("table", {}, h("thead", {}, h("tr", {}, heads)), body)), pager);
  }

  /* What may be wider than the page, and is then moved with the keyboard too. */
  const scroller = (label, ...inside) =>
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, inside);

  const samplesLink = (filters) => "#/samples?"
    + new URLSearchParams(Object.entries(filters).filter(([, value]) => value)).toString();
  const filesOf = (id) => ["csv", "md", "tex"].flatMap((s) =>
    [" · ", fileLink(`tables/${id}.${s}`, s)]);

  /* A table of the report; ``brief``: without the columns that say more. */
  function dataTable(data, brief = false) {
    const columns = data.columns.map(([label, kind, link, more], i) => ({
      label,
      kind,
      more,
      cell: (row) => row.values[i],
      link: link === null ? null : (row) => samplesLink(
        { [REPORT.sets[link] ? "samples" : "outcome"]: link, ...row.filter }),
    })).filter((column) => !(brief && column.more));
    const rows = data.rows.map((values, i) =>
      ({ values, filter: data.filters[i], quiet: data.quiet.includes(i) }));
    return h("section", { id: `table-${data.id}`, tabindex: -1 }, h("h2", {}, data.title),
      h("p", { class: "note" }, data.note, filesOf(data.id),
        data.also.flatMap(([title, id]) => [` · ${title}`, ...filesOf(id)])),
      table(columns, rows, data.title));
  }

  Object.assign(REPORT, { table, dataTable, samplesLink, scroller });
})();
