"use strict";
/* The page's data, loaded by need, and its elements. All text from runs enters the document
   through textContent only. */
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

  Object.assign(REPORT, { load, h });
})();
