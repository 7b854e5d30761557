"use strict";
/* The answers: a list to search, a page for each sample, its trajectories as trees. */
(() => {
  const { formats, h, load, samplesLink, short, show, table } = REPORT;
  const PAGE = 100; // answers, or sub-calls, shown at a time
  const FIRST = 10; // sub-calls shown of a block, or calls of a method without turns
  const [CUT, LINES, EXCERPT] = [1500, 16, 200]; // characters and lines of a text before a click
  const WHOLE = ["code", "answer", "error"]; // what is never cut

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
      row.settings = list.settings[row.setting];
      row.arm = list.arms[row.arm];
      const { question, gold, sample_id: id } = row.sample;
      row.searched = [question, gold, id, row.answer, row.error].join("\n").toLowerCase();
    });
    answers = { rows, arms: [...new Set(list.arm_keys)] };
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
    "no gold": (r) => r.right === null && classes.asked(r),
    "over the cap": (r) => r.over === 1,
    "recall known": (r) => classes.asked(r) && r.evidence_recall !== null,
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
    const answersTo = Map.groupBy(asked, (r) => r.sample);
    const methods = (answers) => new Set(answers.map((r) => r.armKey)).size;
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
    const labels = { task: "task", length: "length", arm: "method", against: "and method",
      samples: "samples", group: "question group", outcome: "outcome" };
    const state = Object.fromEntries(
      [...Object.keys(labels), "text"].map((k) => [k, query.get(k) || ""]));
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
      const open = found.filter(classes["no gold"]).length;
      const samples = new Set(found.map((r) => r.sample)).size.toLocaleString("en");
      line.textContent = (state.samples ? `${samples} samples, ` : "")
        + `${found.length.toLocaleString("en")} answers: ${right} right, `
        + `${found.length - right - pending - open} not, ${pending} pending`
        + (open ? `, ${open} to questions without a gold answer` : "");
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
    const select = ([key, label]) => h("label", {}, label,
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
      h("div", { class: "bar" }, Object.entries(labels).map(select),
        h("label", { class: "wide" }, "search", search)),
      line, out];
  }

  async function sampleView(_, query, id) {
    const { rows } = await loadAnswers();
    const named = rows.filter((r) => r.sample.sample_id === id); // maybe of several tasks
    if (!named.length) return h("p", { class: "error" }, `There is no sample ${id} in this report.`);
    const isAsked = (r) => r.result_key === query.get("key");
    const { sample } = named.find(isAsked) ?? named[0];
    const own = named.filter((r) => r.sample === sample);
    const facts = [["sample", id], ["task", sample.task],
      ["length", `${formats.int(sample.length_tokens)} tokens (asked for `
        + `${formats.int(sample.target_tokens)})`],
      ["question group", sample.question_group], ["context", sample.context_id],
      ["best constant", sample.constant_score === null ? ""
        : `scores ${show(sample.constant_score, "share")} %`],
      ["made with", sample.knobs]];
    return [h("p", {}, h("a", { href: "#/samples" }, "← all samples")),
      h("h2", {}, `${sample.task}, ${formats.int(sample.target_tokens)} tokens`),
      factsOf([["question", sample.question], ["gold", sample.gold]], "facts asked"),
      closed("About the sample", () => [factsOf(facts)]),
      closed("Context", async () => {
        const why = (await load("lost"))[sample.context_id];
        return why ? [h("p", { class: "muted" }, `Its text is not in this report: ${why}.`)]
          : [h("pre", {}, await load(`c/${sample.context_id}`))];
      }, `${formats.int(sample.length_tokens)} tokens`),
      h("h3", {}, "Answers"), own.sort((a, b) => isAsked(b) - isAsked(a))
        .map((r) => answerOf(r, isAsked(r)))];
  }

  const factsOf = (facts, kind = "facts") => h("dl", { class: kind },
    facts.flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, v || "–")]));

  /* A part that is made, or fetched, when it is first opened. */
  function folding(summary, make, open = false, kind = undefined) {
    const details = h("details", { class: kind }, h("summary", {}, summary));
    let made = false;
    const fill = async () => {
      if (made || !details.open) return;
      made = true;
      try {
        details.append(...(await make()).flat(2).filter(Boolean));
      } catch (error) {
        details.append(h("p", { class: "error" }, error.message));
      }
    };
    details.addEventListener("toggle", fill);
    details.open = open;
    fill();
    return details;
  }
  const closed = (title, make, meta = "") => folding([title, h("span", { class: "meta" }, meta)], make);

  function answerOf(row, open) {
    const tone = row.right === 1 ? "good" : classes["no gold"](row) ? "" : "bad";
    const state = row.right === 1 ? "right" : classes.wrong(row) ? "wrong" : row.outcome;
    return folding([h("b", {}, row.arm + (row.repeat ? `, repeat ${row.repeat}` : "")),
      h("span", { class: `tag ${tone}` }, state),
      h("span", { class: "muted" }, ` score ${show(row.points, "share")} % · ${short(row.tokens)} `
        + `tokens · ${row.subcalls} sub-calls · ${show(row.cost_usd, "usd")} · ${short(row.wall_s)} s`),
      h("span", { class: "excerpt" }, excerpt(row.answer || row.error || ""))],
    async () => {
      const nodes = (await load(`t/${row.bundle}`))[row.result_key];
      const began = nodes.filter((node) => node.kind === "start");
      const rest = nodes.filter((node) => node.kind !== "start");
      return [text("answer", row.answer), text("error", row.error),
        closed("Method settings", () =>
          [h("pre", {}, row.settings), began.map((node) => [meta(node), texts(node)])]),
        rest.length ? grow(h("div", { class: "tree" }), rest)
          : h("p", { class: "muted" }, "No trajectory was kept.")];
    }, open, "answer");
  }

  const excerpt = (value) => {
    const line = value.replace(/\s+/g, " ").trim();
    return line.length > EXCERPT ? `${line.slice(0, EXCERPT)}…` : line;
  };

  /* A text with what it is; of a long one the beginning, and the rest on a click. */
  function text(label, value, tag = "pre") {
    if (!value) return [];
    const begin = WHOLE.includes(label) ? value
      : value.slice(0, CUT).split("\n").slice(0, LINES).join("\n");
    const body = h(tag, { class: label === "error" && "error" }, begin);
    const more = begin.length < value.length && h("button", { type: "button", onclick: () => {
      body.textContent = value;
      more.remove();
    } }, `all ${formats.int(value.length)} characters`);
    return [label && h("div", { class: "label" }, label), body, more].filter(Boolean);
  }

  /* Calls come in steps, so that a block of a thousand opens at once; turns all together. */
  function grow(parent, nodes, from = 0, size = FIRST) {
    const end = nodes.some((node) => node.kind === "turn") ? nodes.length : from + size;
    parent.append(...nodes.slice(from, end).map(branch));
    const left = nodes.length - end;
    if (left <= 0) return parent;
    const more = h("button", { type: "button", onclick: () => {
      more.remove();
      grow(parent, nodes, end, PAGE);
    } }, left > PAGE ? `${PAGE} more of ${left}` : `${left} more`);
    parent.append(more);
    return parent;
  }

  const meta = (node) => h("span", { class: "meta" }, node.meta.join(" · "));
  const texts = (node) => node.parts.map(([label, value]) => text(label, value)).flat();

  function branch(node) {
    const kind = `node-${node.kind}${node.failed ? " failed" : ""}`;
    const part = Object.fromEntries(node.parts);
    if (node.kind === "words") return h("div", { class: kind }, text("", part.reply, "p"));
    if (node.kind === "block") return h("div", { class: kind }, blockOf(node, part));
    const short = node.kind === "call" || node.kind === "child";
    const asked = part.prompt || part.question;
    const came = part.reply || part.answer || part.error;
    return folding([h("span", { class: "title" }, node.title), meta(node),
      short && asked && h("span", { class: "excerpt" }, excerpt(asked)),
      short && came && h("span", { class: "excerpt reply" }, `→ ${excerpt(came)}`)].filter(Boolean),
    () => [texts(node), grow(h("div"), node.children)], !short, kind);
  }

  function blockOf({ meta: said, children }, { code, output, error }) {
    const counted = (test, what, more = "") => {
      const number = children.filter(test).length;
      return number && `${number} ${what}${number > 1 ? more : ""}`;
    };
    const calls = [counted((c) => c.kind === "call", "sub-call", "s"),
      counted((c) => c.kind === "child", "child RLM", "s"),
      counted((c) => c.meta.includes("from memory"), "from memory"),
      counted((c) => c.failed, "failed")];
    return [text("code", code), text(["output", ...said].join(" · "), output), text("error", error),
      children.length ? [h("div", { class: "label" }, calls.filter(Boolean).join(" · ")),
        grow(h("div"), children)] : []].flat(2);
  }

  Object.assign(REPORT, { sets, samplesView, sampleView });
})();
