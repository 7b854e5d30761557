"use strict";
/* The report's views and what leads to them. */
(() => {
  const { dataTable, fileLink, h, hrefOf, load, sampleView, samplesLink, samplesView, scroller } = REPORT;

  function banners(main) {
    return [
      main.demonstration && "A demonstration, not evidence.",
      main.changed.length && `Made by several versions of ${main.changed.join(", ")}: see Runs.`,
      main.scripted && "Scripted models took part: rows marked (scripted) say nothing about any "
        + "language model.",
    ].filter(Boolean).map((text) => h("p", { class: "banner" }, text));
  }

  /* The answer: a row per task and RLM arm, a cell per length, its sentences below on demand. */
  function verdictGrid(verdicts) {
    if (!verdicts.length) return h("p", {}, "No verdict: that takes an RLM arm, an alternative and gold answers.");
    const words = h("p", { class: "verdict", role: "status", hidden: true });
    const cellOf = (v) => h("button", { type: "button", class: `cell ${v.kind}`, onclick: () => {
      words.hidden = false;
      words.className = `verdict ${v.kind}`;
      words.replaceChildren(v.text, " ", h("a", { href: samplesLink(v.filter) }, "samples"));
      words.scrollIntoView({ block: "nearest" });
    } },
    h("small", {}, v.length ? `${v.length.toLocaleString("en")} tokens` : v.all ? "all lengths" : ""),
    h("strong", {}, v.decision), h("span", {}, v.points),
    h("small", {}, `against ${v.against} · n ${v.n}`));
    const rows = Map.groupBy(verdicts, (v) => [v.task, ...v.row].join(" · "));
    const parts = [...rows].map(([name, found]) => h("section", { "aria-label": name },
      h("h3", {}, name), h("div", { class: "cells" }, found.map(cellOf))));
    if (verdicts.length === 1) parts[0].querySelector("button").click();
    return [h("div", { class: "grid" }, parts), words];
  }

  function summaryView(main) {
    const all = (key) => [...new Set(main.runs.flatMap((run) => run[key]))].filter(Boolean).sort();
    const runs = main.runs.length > 3
      ? [[`${main.runs.length} runs`, all("models").join(", "), all("dates").join(", ")].join(" · ")]
      : main.runs.map((run) =>
        `${run.name} · ${run.models.join(", ")}${run.dates ? " · " + run.dates : ""}`);
    const figure = main.figures[0];
    return [
      h("p", { class: "muted" }, runs.join("; "), ` · ${main.answers.toLocaleString("en")} answers, `
        + `${main.calls.toLocaleString("en")} calls`),
      banners(main),
      h("h2", {}, "Is the RLM worth it?"),
      verdictGrid(main.verdicts),
      figure ? figureOf(figure) : null,
      dataTable(main.tables[0], true),
    ];
  }

  /* Where on a long page each part begins. Buttons, since the address holds the view. */
  const contents = (parts, kind) => h("div", { class: "bar", role: "navigation",
    "aria-label": `${kind}s on this page` }, parts.map(({ id, title }) =>
    h("button", { type: "button", onclick: () => {
      const part = document.getElementById(`${kind}-${id}`);
      part.focus({ preventScroll: true });
      part.scrollIntoView();
    } }, title)));

  const figureOf = (f) => h("figure", { id: `figure-${f.id}`, tabindex: -1 }, h("h2", {}, f.title),
    scroller(f.title, fileLink(`figures/${f.id}.png`,
      h("img", { src: hrefOf(`figures/${f.id}.png`), alt: f.title, loading: "lazy" }))),
    h("figcaption", {}, ["png", "csv"].flatMap((s, i) =>
      [i ? " · " : "", fileLink(`figures/${f.id}.${s}`, s)])));

  function runsView(main) {
    return main.runs.map((run) => h("section", {}, h("h2", {}, run.name),
      h("dl", { class: "facts" },
        ["path", "dates", "answers"].flatMap((k) => [h("dt", {}, k), h("dd", {}, String(run[k]))]),
        h("dt", {}, "models"), h("dd", {}, run.models.join(", "))),
      h("details", {}, h("summary", {}, "Configuration"), h("pre", {}, run.config || "not stored")),
      h("details", {}, h("summary", {}, "Environment"), h("pre", {}, run.environment))));
  }

  /* What a part of the address after # shows, and its title. */
  const views = {
    "": ["Summary", summaryView],
    tables: ["Tables", (main) =>
      [contents(main.tables, "table"), main.tables.map((data) => dataTable(data))]],
    figures: ["Figures", (main) => [contents(main.figures, "figure"), main.figures.map(figureOf)]],
    runs: ["Runs", runsView],
    samples: ["Samples", samplesView],
    sample: ["Sample", sampleView],
  };
  let shown = 0;
  async function route() {
    const place = location.hash.startsWith("#/") ? location.hash : ""; // else a spot on the page
    if (shown && location.hash && !place) return;
    const [path, query = ""] = place.replace(/^#\/?/, "").split("?");
    const [name, id = ""] = path.split("/");
    const mine = ++shown;
    const content = document.getElementById("content");
    document.querySelectorAll("nav a").forEach((a) => {
      const here = a.getAttribute("href") === `#/${name === "sample" ? "samples" : name}`;
      here ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current");
    });
    const [title, view] = views[name] || [];
    let made;
    try {
      made = view
        ? await view(await load("main"), new URLSearchParams(query), decodeURIComponent(id))
        : h("p", { class: "error" }, "There is no such page in this report.");
    } catch (error) {
      made = h("p", { class: "error" }, error.message);
    }
    if (mine !== shown) return;
    content.replaceChildren(...[made].flat(3).filter(Boolean));
    content.dataset.view = name || "summary";
    document.title = [title, id && decodeURIComponent(id), "rlm_eval report"]
      .filter(Boolean).join(" · ");
    if (mine > 1) content.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }

  function start() {
    window.addEventListener("hashchange", route);
    document.querySelector(".skip").addEventListener("click", (e) => {
      e.preventDefault(); // the address holds the view
      document.getElementById("content").focus();
    });
    route();
  }

  Object.assign(REPORT, { start });
})();
