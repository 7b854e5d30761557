"use strict";
/* Tables that sort, filter and page. */
(() => {
  const { h, show } = REPORT;
  const PAGE = 100; // rows of a list of samples
  const ROWS = 40; // rows of a table
  const CUT = 400; // characters of a text in a cell

  /* columns: [{label, kind, cell(row) -> value, link(row) -> href or null}] */
  function table(columns, rows, label, { filter = false, size = PAGE } = {}) {
    const state = { sort: null, descending: false, page: 0, text: "" };
    const body = h("tbody");
    const status = h("span", { class: "muted", role: "status" });
    const heads = columns.map((column, i) =>
      h("th", { scope: "col", class: classOf(column) },
        h("button", { type: "button", onclick: () => {
          state.descending = state.sort === i ? !state.descending : column.kind !== "text";
          state.sort = i;
          draw();
        } }, column.label)));
    const previous = h("button", { type: "button", onclick: () => turn(-1) }, "← previous");
    const next = h("button", { type: "button", onclick: () => turn(1) }, "next →");
    const pager = h("div", { class: "bar" }, previous, next, status);
    const turn = (by) => { state.page += by; draw(); };

    function classOf({ kind, stays }) {
      return (kind === "text" ? "text" : "number") + (stays ? " stays" : "");
    }
    function wanted() {
      let found = rows;
      if (state.text) {
        const words = state.text.toLowerCase().split(/\s+/);
        found = found.filter((row) => {
          const text = columns.map((c) => show(c.cell(row), c.kind)).join(" ").toLowerCase();
          return words.every((word) => text.includes(word));
        });
      }
      if (state.sort === null) return found;
      const value = columns[state.sort].cell;
      const sign = state.descending ? -1 : 1;
      return [...found].sort((a, b) => {
        const [x, y] = [value(a), value(b)].map((v) => (Array.isArray(v) ? v[0] : v));
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (typeof x === "number" ? x - y : x.localeCompare(y));
      });
    }
    function draw() {
      const found = wanted();
      const last = Math.max(0, Math.ceil(found.length / size) - 1);
      state.page = Math.min(Math.max(state.page, 0), last);
      const from = state.page * size;
      const shown = found.slice(from, from + size);
      body.replaceChildren(...shown.map((row) => h("tr", { class: row.quiet && "quiet" }, columns.map((column) => {
        const text = show(column.cell(row), column.kind).slice(0, CUT);
        const none = text === "–" || (column.kind === "int" && column.cell(row) === 0);
        const href = column.link && !none ? column.link(row) : null;
        const title = column.kind === "text" ? text : null;
        return h("td", { class: classOf(column), title }, href ? h("a", { href }, text) : text);
      }))));
      heads.forEach((head, i) => head.setAttribute("aria-sort",
        state.sort !== i ? "none" : state.descending ? "descending" : "ascending"));
      status.textContent = found.length
        ? `${from + 1}–${from + shown.length} of ${found.length.toLocaleString("en")}`
        : "nothing matches";
      previous.disabled = state.page === 0;
      next.disabled = state.page === last;
      pager.hidden = found.length <= size && !state.text;
    }
    draw();
    const search = filter && h("label", {}, "filter rows",
      h("input", { type: "search", oninput: (e) => {
        state.text = e.target.value.trim();
        state.page = 0;
        draw();
      } }));
    return h("div", {}, search ? h("div", { class: "bar" }, search) : null,
      scroller(label, h("table", {}, h("thead", {}, h("tr", {}, heads)), body)), pager);
  }

  /* What may be wider than the page, and is then moved with the keyboard too. */
  const scroller = (label, ...inside) =>
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, inside);

  const samplesLink = (filters) => "#/samples?"
    + new URLSearchParams(Object.entries(filters).filter(([, value]) => value)).toString();
  const filesOf = (id) => ["csv", "md", "tex"].flatMap((s) =>
    [" · ", h("a", { href: `report_data/tables/${id}.${s}` }, s)]);

  /* A table of the report; ``brief``: without the columns that say more, until they are wanted. */
  function dataTable(data, brief = false) {
    const columns = data.columns.map(([label, kind, link, more], i) => ({
      label,
      kind,
      more,
      stays: label === "method",
      cell: (row) => row.values[i],
      link: link === null ? null : (row) => samplesLink(
        { [REPORT.sets[link] ? "samples" : "outcome"]: link, ...row.filter }),
    }));
    const quiet = new Set(data.quiet);
    const rows = data.rows.map((values, i) =>
      ({ values, filter: data.filters[i], quiet: quiet.has(i) }));
    const made = () => table(columns.filter((c) => !(brief && c.more)), rows, data.title,
      { filter: rows.length > 8, size: ROWS });
    let shown = made();
    const words = () => (brief ? "all columns" : "fewer columns");
    const turn = brief && h("button", { type: "button", onclick: () => {
      brief = !brief;
      turn.textContent = words();
      const other = made();
      shown.replaceWith(other);
      shown = other;
    } }, words());
    return h("section", { id: `table-${data.id}`, tabindex: -1 }, h("h2", {}, data.title),
      h("p", { class: "note" }, data.note, filesOf(data.id),
        data.also.flatMap(([title, id]) => [` · ${title}`, ...filesOf(id)])),
      turn ? h("div", { class: "bar" }, turn) : null, shown);
  }

  Object.assign(REPORT, { table, dataTable, samplesLink, scroller });
})();
