"use strict";
/* Numbers as people read them: rlm_eval/analysis/text.py in the page. */
(() => {
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

  Object.assign(REPORT, { formats, short, show });
})();
