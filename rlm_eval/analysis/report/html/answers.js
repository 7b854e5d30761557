"use strict";
/* The answers: a list to search, a page for each sample, its trajectories as trees. */
(() => {
  const { formats, h, load, samplesLink, short, show, table } = REPORT;
  const PAGE = 100; // answers, or sub-calls, shown at a time

  /* The answers as objects, made once from the compact lists. */
  let answers = null;
  async function loadAnswers() {
    if (answers) return answers;
    const list = await load("samples");
    const objects = ({ columns, data }) =>
      data.map((values) => Object.fromEntries(columns.map((name, i) => [name, values[i]])));
    const [samples, rows] = [objects(list.samples), objects(list.rows)];
    rows.forEach((row) => {
      row.sample = samples[row.sample];
      row.armKey = list.arm_keys[row.arm];
      row.arm = list.arms[row.arm];
      const { question, gold, sample_id: id } = row.sample;
      row.searched = [question, gold, id, row.answer, row.error].join("\n").toLowerCase();
    });
    answers = { rows, arms: list.arm_keys };
    return answers;
  }

  const PENDING = ["provider_error", "sandbox_error"];
  const SCORED = ["answered", "forced"];
  const classes = {
    asked: (r) => !PENDING.includes(r.outcome),
    right: (r) => r.right === 1,
    wrong: (r) => r.right === 0 && SCORED.includes(r.outcome),
    scored: (r) => SCORED.includes(r.outcome),
    failed: (r) => !SCORED.includes(r.outcome) && !PENDING.includes(r.outcome),
    pending: (r) => PENDING.includes(r.outcome),
    "over the cap": (r) => r.over === 1,
    "recall known": (r) => classes.asked(r) && r.evidence_recall !== null,
    "all shown": (r) => classes.asked(r) && r.evidence_recall === 1,
    "not all shown": (r) => classes["recall known"](r) && r.evidence_recall < 1,
  };

  /* Which samples, going by the answers that count. */
  const sets = {
    shared: "counted for every method",
    repeated: "with every repeat",
    incomplete: "lacking a repeat",
    constant: "best constant known",
  };
  function among(set, rows) {
    if (set === "constant") return rows.filter((r) => r.sample.constant_score !== null);
    const asked = rows.filter(classes.asked);
    const answersTo = new Map();
    asked.forEach((r) => answersTo.set(r.sample, [...(answersTo.get(r.sample) || []), r]));
    const methods = (answers) => new Set(answers.map((r) => r.arm)).size;
    const most = Math.max(...[...answersTo.values()].map((answers) => answers.length));
    const belongs = {
      shared: (answers) => methods(answers) === methods(rows),
      repeated: (answers) => answers.length === most,
      incomplete: (answers) => answers.length < most,
    }[set];
    return asked.filter((r) => belongs(answersTo.get(r.sample)));
  }

  async function samplesView(_, query) {
    const { rows, arms } = await loadAnswers();
    const state = Object.fromEntries(
      ["task", "length", "arm", "against", "samples", "group", "outcome", "text"]
        .map((k) => [k, query.get(k) || ""]));
    const unique = (f) => [...new Set(rows.map(f))];
    const ends = unique((r) => r.outcome).filter((o) => !(o in classes));
    const options = {
      task: unique((r) => r.sample.task),
      length: unique((r) => String(r.sample.target_tokens)).sort((a, b) => a - b),
      arm: arms,
      against: arms,
      samples: Object.keys(sets),
      group: unique((r) => r.sample.question_group),
      outcome: [...Object.keys(classes).filter((c) => c === state.outcome || rows.some(classes[c])),
        ...ends],
    };
    const out = h("div");
    const line = h("p", { role: "status", class: "muted" });
    function draw() {
      const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
      const chosen = [state.arm, state.against].filter(Boolean);
      const placed = rows.filter((r) =>
        (!state.task || r.sample.task === state.task)
        && (!state.length || String(r.sample.target_tokens) === state.length)
        && (!chosen.length || chosen.includes(r.armKey)));
      const found = (state.samples ? among(state.samples, placed) : placed).filter((r) =>
        (!state.group || r.sample.question_group === state.group)
        && (!state.outcome
          || (classes[state.outcome] ? classes[state.outcome](r) : r.outcome === state.outcome))
        && words.every((w) => r.searched.includes(w)));
      const right = found.filter(classes.right).length;
      const pending = found.filter(classes.pending).length;
      const samples = new Set(found.map((r) => r.sample)).size.toLocaleString("en");
      line.textContent = (state.samples ? `${samples} samples, ` : "")
        + `${found.length.toLocaleString("en")} answers: ${right} right, `
        + `${found.length - right - pending} not, ${pending} pending`;
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
      ], found, "answers", PAGE));
      if (location.hash.startsWith("#/samples")) history.replaceState(null, "", samplesLink(state));
    }
    const select = (key, label) => h("label", {}, label,
      h("select", { name: key, onchange: (e) => { state[key] = e.target.value; draw(); } },
        h("option", { value: "" }, "all"),
        options[key].map((v) =>
          h("option", { value: v, selected: v === state[key] },
            key === "samples" ? sets[v] : v))));
    const search = h("input", { type: "search", name: "text", value: state.text, id: "search",
      placeholder: "words in question, answer, gold or error",
      oninput: (e) => { state.text = e.target.value; draw(); } });
    draw();
    return [h("h2", {}, "Samples"),
      h("div", { class: "bar" }, select("task", "task"), select("length", "length"),
        select("arm", "method"), select("against", "and method"), select("samples", "samples"),
        select("group", "question group"), select("outcome", "outcome"),
        h("label", { class: "wide" }, "search", search)),
      line, out];
  }

  async function sampleView(_, query, id) {
    const { rows } = await loadAnswers();
    const own = rows.filter((r) => r.sample.sample_id === id);
    if (!own.length) return h("p", { class: "error" }, `There is no sample ${id} in this report.`);
    const { sample } = own[0];
    const facts = [["question", sample.question], ["gold", sample.gold], ["task", sample.task],
      ["length", `${formats.int(sample.length_tokens)} tokens (asked for `
        + `${formats.int(sample.target_tokens)})`],
      ["question group", sample.question_group], ["context", sample.context_id],
      ["best constant", sample.constant_score === null ? ""
        : `scores ${show(sample.constant_score, "share")} %`],
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
        const nodes = bundle[row.result_key];
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
    const details = h("details", { class: `node-${node.kind}${node.failed ? " failed" : ""}` },
      h("summary", {}, node.title, h("span", { class: "meta" }, node.meta.join(" · "))), inside);
    let filled = false;
    const fill = () => {
      if (filled || !details.open) return;
      filled = true;
      node.parts.forEach(([label, value]) => inside.append(...text(label, value)));
      grow(inside, node.children, node.kind === "turn");
    };
    details.addEventListener("toggle", fill);
    details.open = open && node.kind !== "call";
    fill();
    return details;
  }

  Object.assign(REPORT, { sets, samplesView, sampleView });
})();
