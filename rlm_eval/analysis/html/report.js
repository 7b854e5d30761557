"use strict";
/* The report's page. All text from runs enters the document through textContent only. */
(() => {
  const PAGE = 100; // samples and sub-calls shown at a time
  const ROWS = 40; // rows of a table
  const store = new Map();
  const waiting = new Map();
  window.REPORT = {
    put(name, data) {
      store.set(name, data);
      (waiting.get(name) || []).forEach((ready) => ready(data));
      waiting.delete(name);
      if (name === "main") start();
    },
  };

  /* Data by need: a script tag works from file://, where fetch does not. */
  function load(name) {
    if (store.has(name)) return Promise.resolve(store.get(name));
    return new Promise((resolve, reject) => {
      const first = !waiting.has(name);
      waiting.set(name, [...(waiting.get(name) || []), resolve]);
      if (!first) return;
      const script = h("script", { src: `report_data/${name}.js` });
      script.onerror = () =>
        reject(new Error(`report_data/${name}.js can't be read: keep the folder beside the page.`));
      document.head.append(script);
    });
  }

  function h(tag, props = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(props)) {
      if (value === undefined || value === null || value === false) continue;
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.flat().filter((c) => c !== null && c !== undefined));
    return element;
  }

  /* ---- numbers ---------------------------------------------------------------------------- */
  const short = (v) => {
    for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(v) >= size * 0.9995) return String(Number((v / size).toPrecision(3))) + unit;
    return String(Number(Number(v).toPrecision(3)));
  };
  const formats = {
    text: (v) => String(v),
    int: (v) => Math.round(v).toLocaleString("en"),
    count: short,
    number: (v) => (v !== 0 && Math.abs(v) < 0.001 ? "< 0.001" : String(Number(v.toPrecision(3))).replace("-", "−")),
    share: (v) => (Math.round(1000 * v) / 10 + 0).toFixed(1).replace("-", "−"),
    points: (v) => ((v > 0 ? "+" : "") + (100 * v).toFixed(1)).replace("-", "−"),
    usd: (v) => "$" + String(Number(Number(v).toPrecision(3))),
    money: (v) => formats.usd(v),
    seconds: (v) => (v > 0 && v < 0.01 ? "< 0.01" : short(v)),
    range: ([low, high]) => (low === null ? "–" : `${(100 * low).toFixed(0)} to ${(100 * high).toFixed(0)}`
      .replaceAll("-", "−")),
  };
  function show(value, kind) {
    if (value === null || value === undefined) return kind === "usd" ? "unpriced" : "–";
    return formats[kind](value);
  }

  /* ---- tables that sort, filter and page ---------------------------------------------------- */
  /* columns: [{label, kind, cell(row) -> value, link(row) -> href or null}] */
  function table(columns, rows, { filter = false, size = PAGE } = {}) {
    const state = { sort: null, descending: false, page: 0, text: "" };
    const body = h("tbody");
    const status = h("span", { class: "muted", role: "status" });
    const heads = columns.map((column, i) =>
      h("th", { scope: "col", class: column.kind === "text" ? null : "number" },
        h("button", { type: "button", onclick: () => {
          state.descending = state.sort === i ? !state.descending : column.kind !== "text";
          state.sort = i;
          draw();
        } }, column.label)));
    const previous = h("button", { type: "button", onclick: () => turn(-1) }, "← previous");
    const next = h("button", { type: "button", onclick: () => turn(1) }, "next →");
    const pager = h("div", { class: "bar" }, previous, next, status);
    const turn = (by) => { state.page += by; draw(); };

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
        if (x === null || x === undefined) return y === null || y === undefined ? 0 : 1;
        if (y === null || y === undefined) return -1;
        return sign * (typeof x === "number" && typeof y === "number" ? x - y
          : String(x).localeCompare(String(y)));
      });
    }
    function draw() {
      const found = wanted();
      const last = Math.max(0, Math.ceil(found.length / size) - 1);
      state.page = Math.min(Math.max(state.page, 0), last);
      const from = state.page * size;
      const shown = found.slice(from, from + size);
      body.replaceChildren(...shown.map((row) => h("tr", { class: row.quiet && "quiet" }, columns.map((column) => {
        const text = show(column.cell(row), column.kind);
        const href = column.link && text !== "–" ? column.link(row) : null;
        const props = column.kind === "text" ? { class: "text", title: text } : { class: "number" };
        return h("td", props, href ? h("a", { href }, text) : text);
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
      h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), body)), pager);
  }

  const samplesLink = (filters) => "#/samples?" + new URLSearchParams(filters).toString();
  function dataTable(data) {
    const columns = data.columns.map(([label, kind, link], i) => ({
      label,
      kind,
      cell: (row) => row.values[i],
      link: link === null ? null
        : (row) => (row.filter.arm ? samplesLink({ ...row.filter, ...link }) : null),
    }));
    const quiet = new Set(data.quiet);
    const rows = data.rows.map((values, i) =>
      ({ values, filter: data.filters[i], quiet: quiet.has(i) }));
    const files = ["csv", "md", "tex"].flatMap((s) =>
      [" · ", h("a", { href: `report_data/tables/${data.id}.${s}` }, s)]);
    return h("section", { id: `table-${data.id}` }, h("h2", {}, data.title),
      h("p", { class: "note" }, data.note, files), table(columns, rows, { filter: rows.length > 8, size: ROWS }));
  }

  /* ---- views -------------------------------------------------------------------------------- */
  function banners(main) {
    return [
      main.demonstration && "A demonstration, not evidence.",
      main.revisions > 1 && `Results of ${main.revisions} code revisions: see Runs.`,
      main.scripted && "Scripted models took part: rows marked (scripted) say nothing about any "
        + "language model.",
    ].filter(Boolean).map((text) => h("p", { class: "banner" }, text));
  }

  /* One RLM arm: its verdict. Several: one line on all of them, the sentences folded below. */
  const kinds = { "worth it": "good", "not worth it": "bad" };
  const verdictOf = (v) => h("p", { class: `verdict ${kinds[v.decision] || ""}` },
    v.text, " ", h("a", { href: samplesLink(v.filter) }, "samples"));
  const verdictsOf = (group) => (group.members.length === 1 ? verdictOf(group.members[0])
    : h("details", { class: `verdict ${kinds[group.decision] || ""}` },
      h("summary", {}, group.headline), group.members.map(verdictOf)));

  function summaryView(main) {
    const all = (key) => [...new Set(main.runs.flatMap((run) => run[key]))].filter(Boolean).sort();
    const runs = main.runs.length > 3
      ? [[`${main.runs.length} runs`, all("models").join(", "), all("dates").join(", ")].join(" · ")]
      : main.runs.map((run) =>
        `${run.name} · ${run.models.join(", ")}${run.dates ? " · " + run.dates : ""}`);
    const figure = main.figures.find((f) => f.id === "score_vs_length");
    return [
      h("p", { class: "muted" }, runs.join("; "), ` · ${main.answers.toLocaleString("en")} answers, `
        + `${main.calls.toLocaleString("en")} calls`),
      banners(main),
      h("h2", {}, "Is the RLM worth it?"),
      main.verdicts.map(verdictsOf),
      main.verdicts.length ? null
        : h("p", {}, "No verdict: there is no RLM arm beside an alternative."),
      dataTable(main.tables[0]),
      figure ? figureOf(figure) : null,
    ];
  }

  /* Where on a long page each part begins. Buttons, since the address holds the view. */
  const contents = (parts, kind) => h("div", { class: "bar", role: "navigation",
    "aria-label": `${kind}s on this page` }, parts.map(({ id, title }) =>
    h("button", { type: "button", onclick: () =>
      document.getElementById(`${kind}-${id}`).scrollIntoView() }, title)));

  const figureOf = (f) => h("figure", { id: `figure-${f.id}` }, h("h2", {}, f.title),
    h("img", { src: `report_data/figures/${f.id}.png`, alt: f.title, loading: "lazy" }),
    h("figcaption", {}, ["pdf", "png", "csv"].flatMap((s, i) =>
      [i ? " · " : "", h("a", { href: `report_data/figures/${f.id}.${s}` }, s)])));

  function runsView(main) {
    return main.runs.map((run) => h("section", {}, h("h2", {}, run.name),
      h("dl", { class: "facts" },
        ["path", "dates", "answers"].flatMap((k) => [h("dt", {}, k), h("dd", {}, String(run[k]))]),
        h("dt", {}, "models"), h("dd", {}, run.models.join(", "))),
      h("details", {}, h("summary", {}, "Configuration"), h("pre", {}, run.config || "not stored")),
      h("details", {}, h("summary", {}, "Environment"), h("pre", {}, run.environment))));
  }

  /* The answers as objects, made once from the compact lists. */
  let answers = null;
  async function loadAnswers() {
    if (answers) return answers;
    const data = await load("samples");
    const object = (fields, values) => Object.fromEntries(fields.map((f, i) => [f, values[i]]));
    const samples = data.samples.map((values) => object(data.sample_fields, values));
    const rows = data.rows.map((values) => {
      const row = object(data.row_fields, values);
      row.sample = samples[row.sample];
      row.armKey = data.arm_keys[row.arm];
      row.arm = data.arms[row.arm];
      return row;
    });
    answers = { samples, rows, arms: data.arm_keys };
    return answers;
  }

  const OWED = ["provider_error", "sandbox_error"];
  const SCORED = ["answered", "forced"];
  const classes = {
    right: (r) => r.right === 1,
    wrong: (r) => r.right === 0 && SCORED.includes(r.outcome),
    scored: (r) => SCORED.includes(r.outcome),
    failed: (r) => !SCORED.includes(r.outcome) && !OWED.includes(r.outcome),
    owed: (r) => OWED.includes(r.outcome),
  };

  async function samplesView(_, query) {
    const { rows, arms } = await loadAnswers();
    const state = Object.fromEntries(
      ["task", "length", "arm", "group", "outcome", "text"].map((k) => [k, query.get(k) || ""]));
    const unique = (f) => [...new Set(rows.map(f))];
    const ends = unique((r) => r.outcome).filter((o) => !(o in classes));
    const options = {
      task: unique((r) => r.sample.task),
      length: unique((r) => String(r.sample.target_tokens)).sort((a, b) => a - b),
      arm: arms,
      group: unique((r) => r.sample.question_group),
      outcome: [...Object.keys(classes), ...ends],
    };
    if (state.arm.includes("|")) options.arm = [state.arm, ...arms];
    const out = h("div");
    const line = h("p", { role: "status", class: "muted" });
    const haystack = (r) => [r.sample.question, r.sample.gold, r.sample.sample_id, r.answer, r.error]
      .map((t) => t || "").join("\n").toLowerCase();
    function draw() {
      const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
      const chosen = state.arm.split("|");
      const found = rows.filter((r) =>
        (!state.task || r.sample.task === state.task)
        && (!state.length || String(r.sample.target_tokens) === state.length)
        && (!state.arm || chosen.includes(r.armKey))
        && (!state.group || r.sample.question_group === state.group)
        && (!state.outcome
          || (classes[state.outcome] ? classes[state.outcome](r) : r.outcome === state.outcome))
        && (!words.length || ((text) => words.every((w) => text.includes(w)))(haystack(r))));
      const right = found.filter(classes.right).length;
      const owed = found.filter(classes.owed).length;
      line.textContent = `${found.length.toLocaleString("en")} answers: ${right} right, `
        + `${found.length - right - owed} not, ${owed} owed`;
      const href = (r) => `#/sample/${encodeURIComponent(r.sample.sample_id)}?key=`
        + encodeURIComponent(r.result_key);
      out.replaceChildren(table([
        { label: "question", kind: "text", cell: (r) => r.sample.question, link: href },
        { label: "task", kind: "text", cell: (r) => r.sample.task },
        { label: "length", kind: "int", cell: (r) => r.sample.target_tokens },
        { label: "method", kind: "text", cell: (r) => r.arm },
        { label: "outcome", kind: "text", cell: (r) => r.outcome },
        { label: "score %", kind: "share", cell: (r) => r.points },
        { label: "answer", kind: "text", cell: (r) => r.answer },
        { label: "gold", kind: "text", cell: (r) => r.sample.gold },
        { label: "sub-calls", kind: "count", cell: (r) => r.subcalls },
        { label: "tokens", kind: "count", cell: (r) => r.tokens },
        { label: "USD", kind: "usd", cell: (r) => r.cost_usd },
        { label: "s", kind: "seconds", cell: (r) => r.wall_s },
      ], found));
      const set = Object.fromEntries(Object.entries(state).filter(([, v]) => v));
      history.replaceState(null, "", samplesLink(set));
    }
    const select = (key, label) => h("label", {}, label,
      h("select", { name: key, onchange: (e) => { state[key] = e.target.value; draw(); } },
        h("option", { value: "" }, "all"),
        options[key].map((v) =>
          h("option", { value: v, selected: v === state[key] }, v.replace("|", " and ")))));
    const search = h("input", { type: "search", name: "text", value: state.text, id: "search",
      placeholder: "words in question, answer, gold or error  ( / )",
      oninput: (e) => { state.text = e.target.value; draw(); } });
    draw();
    return [h("h2", {}, "Samples"),
      h("div", { class: "bar" }, select("task", "task"), select("length", "length"),
        select("arm", "method"), select("group", "question group"), select("outcome", "outcome"),
        h("label", { class: "wide" }, "search", search)),
      line, out];
  }

  async function sampleView(_, query, id) {
    const { rows } = await loadAnswers();
    const own = rows.filter((r) => r.sample.sample_id === id);
    if (!own.length) return h("p", { class: "error" }, `There is no sample ${id} in this report.`);
    const sample = own[0].sample;
    const facts = [["question", sample.question], ["gold", sample.gold], ["task", sample.task],
      ["length", `${formats.int(sample.length_tokens)} tokens (asked for `
        + `${formats.int(sample.target_tokens)})`],
      ["question group", sample.question_group], ["context", sample.context_id],
      ["made with", sample.knobs]];
    return [h("p", {}, h("a", { href: "#/samples" }, "← all samples")), h("h2", {}, `Sample ${id}`),
      h("dl", { class: "facts" }, facts.flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, v || "–")])),
      h("h3", {}, "Answers"), own.map((r) => answerOf(r, r.result_key === query.get("key")))];
  }

  function answerOf(row, open) {
    const good = row.right === 1;
    const tree = h("div", { class: "tree" });
    const details = h("details", { class: "answer" },
      h("summary", {}, h("b", {}, row.arm + (row.repeat ? `, repeat ${row.repeat}` : "")),
        h("span", { class: `tag ${good ? "good" : "bad"}` },
          good ? "right" : classes.wrong(row) ? "wrong" : row.outcome),
        h("span", { class: "muted" }, ` score ${show(row.points, "share")} % · ${short(row.tokens)} `
          + `tokens · ${row.subcalls} sub-calls · ${show(row.cost_usd, "usd")} · `
          + `${short(row.wall_s)} s`)),
      text("answer", row.answer), text("error", row.error), tree);
    let asked = false;
    const fill = async () => {
      if (asked || !details.open) return;
      asked = true;
      try {
        const bundle = await load(`t/${row.bundle}`);
        const nodes = bundle[row.result_key] || [];
        tree.append(h("div", { class: "label" }, nodes.length ? "trajectory" : "no trajectory kept"));
        grow(tree, nodes, true);
      } catch (error) {
        tree.append(h("p", { class: "error" }, error.message));
      }
    };
    details.addEventListener("toggle", fill);
    if (open) {
      details.open = true;
      fill();
    }
    return details;
  }

  const text = (label, value) => (value
    ? [h("div", { class: "label" }, label), h("pre", {}, value)] : []);

  /* Children come in steps, so that a block of a thousand sub-calls opens at once. */
  function grow(parent, nodes, open, from = 0) {
    nodes.slice(from, from + PAGE).forEach((node) => parent.append(branch(node, open)));
    const left = nodes.length - from - PAGE;
    if (left <= 0) return;
    const more = h("button", { type: "button", onclick: () => {
      more.remove();
      grow(parent, nodes, open, from + PAGE);
    } }, `${Math.min(left, PAGE)} more of ${left}`);
    parent.append(more);
  }

  function branch(node, open) {
    const inside = h("div");
    const details = h("details", { class: `node-${node.k}${node.f ? " failed" : ""}` },
      h("summary", {}, node.t, h("span", { class: "meta" }, (node.m || []).join(" · "))), inside);
    let filled = false;
    const fill = () => {
      if (filled || !details.open) return;
      filled = true;
      (node.p || []).forEach(([label, value]) => inside.append(...text(label, value)));
      grow(inside, node.c || [], node.k === "turn");
    };
    details.addEventListener("toggle", fill);
    details.open = open && node.k !== "call";
    fill();
    return details;
  }

  /* ---- routes ------------------------------------------------------------------------------- */
  const views = {
    "": (main) => summaryView(main),
    tables: (main) => [contents(main.tables, "table"), main.tables.map(dataTable)],
    figures: (main) => [contents(main.figures, "figure"), main.figures.map(figureOf)],
    runs: (main) => runsView(main),
    samples: samplesView,
    sample: sampleView,
  };
  let shown = 0;
  async function route() {
    const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
    if (location.hash && !location.hash.startsWith("#/")) return;
    const [name, id = ""] = path.split("/");
    const mine = ++shown;
    const content = document.getElementById("content");
    document.querySelectorAll("nav a").forEach((a) => {
      const here = a.getAttribute("href") === `#/${name === "sample" ? "samples" : name}`;
      here ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current");
    });
    let made;
    try {
      const view = views[name];
      made = view
        ? await view(store.get("main"), new URLSearchParams(query), decodeURIComponent(id))
        : h("p", { class: "error" }, "There is no such page in this report.");
    } catch (error) {
      made = h("p", { class: "error" }, error.message);
    }
    if (mine !== shown) return;
    content.replaceChildren(...[made].flat(3).filter(Boolean));
    content.dataset.view = name || "summary";
    window.scrollTo(0, 0);
  }
  function start() {
    window.addEventListener("hashchange", route);
    document.addEventListener("keydown", (e) => {
      const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement.tagName);
      if (e.key !== "/" || typing || e.ctrlKey || e.metaKey || e.altKey) return;
      const search = document.querySelector("input[type=search]");
      if (!search) return;
      e.preventDefault();
      search.focus();
    });
    document.getElementById("theme").addEventListener("click", () => {
      const root = document.documentElement;
      const dark = root.dataset.theme ? root.dataset.theme === "dark"
        : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
    });
    route();
  }
})();
