"use strict";
/* The page's data, loaded by need, its elements, and numbers as people read them. All text from
   runs enters the document through textContent only. */
(() => {
  const arrived = new Map(); // name → promise of its data
  const receivers = new Map(); // name → who waits for its script
  window.REPORT = {
    put(name, data) {
      if (!receivers.has(name)) arrived.set(name, Promise.resolve(data));
      else receivers.get(name)(data);
      if (name === "main") REPORT.start();
    },
  };

  /* Data by need: a script tag works from file://, where fetch does not. */
  function load(name) {
    if (!arrived.has(name)) {
      arrived.set(name, new Promise((resolve, reject) => {
        receivers.set(name, resolve);
        const script = h("script", { src: `report_data/${name}.js` });
        script.onerror = () => {
          arrived.delete(name);
          reject(new Error(`report_data/${name}.js can't be read: keep the folder beside the page.`));
        };
        document.head.append(script);
      }));
    }
    return arrived.get(name);
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

  /* rlm_eval/analysis/text.py in the page. */
  const minus = (text) => text.replaceAll("-", "−");
  /* A half, where it is one in binary too, goes to the even digit. */
  const digits = (v, n) => {
    const bare = (text) => text.replace(/e.*|\D/g, "").replace(/^0+/, "");
    const text = Number(v).toPrecision(n);
    const half = /^50*$/.test(bare(Number(v).toPrecision(60)).slice(n)) && bare(text).at(-1) % 2;
    return Number(half ? (v * (1 - Number.EPSILON)).toPrecision(n) : text)
      .toLocaleString("en", { maximumSignificantDigits: n, useGrouping: false });
  };
  const fixed = (v, n) => {
    const text = v.toFixed(n);
    const half = Math.abs(v * 2 ** (n + 1)) % 2 === 1;
    return half && text.at(-1) % 2 ? (v * (1 - Number.EPSILON)).toFixed(n) : text;
  };
  const short = (v) => {
    for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (v >= size * 0.9995) return digits(v / size, 3) + unit;
    return digits(v, 3);
  };
  const dollars = (v) => "$" + (v < 0.1 ? digits(v, 2) : Number(fixed(v, 2))
    .toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 }));
  const formats = {
    text: String,
    int: (v) => Math.round(v).toLocaleString("en"),
    count: short,
    number: (v) => (v !== 0 && Math.abs(v) < 0.001 ? "<0.001" : minus(digits(v, 3))),
    share: (v) => minus(Number(fixed(100 * v, 1)).toFixed(1)),
    points: (v) => minus((v < 0 ? "" : "+") + fixed(100 * v, 1)),
    usd: dollars,
    money: dollars,
    seconds: (v) => (v > 0 && v < 0.01 ? "<0.01" : short(v)),
    range: ([low, high]) => minus(`${fixed(100 * low, 0)} to ${fixed(100 * high, 0)}`),
  };
  function show(value, kind) {
    const missing = kind === "range" ? value[0] : value;
    if (missing === null) return kind === "usd" ? "unpriced" : "–";
    return formats[kind](value);
  }

  /* A link to a file of the report, which is in the page itself where that is all there is. */
  const hrefOf = (path) => REPORT.files?.[path] ?? `report_data/${path}`;
  const fileLink = (path, ...inside) =>
    h("a", { href: hrefOf(path), download: REPORT.files && path.split("/").pop() }, inside);

  Object.assign(REPORT, { fileLink, formats, h, hrefOf, load, short, show });
})();
