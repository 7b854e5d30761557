"use strict";
/* The page's data, loaded by need, and its elements. All text from runs enters the document
   through textContent only. */
(() => {
  const store = new Map();
  const waiting = new Map();
  window.REPORT = {
    put(name, data) {
      store.set(name, data);
      (waiting.get(name) || []).forEach((ready) => ready(data));
      waiting.delete(name);
      if (name === "main") REPORT.start();
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

  Object.assign(REPORT, { load, h });
})();
