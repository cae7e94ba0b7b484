// @ts-check
// The levels as a page: no kernel. The first look at each needs no Python; it is loaded with the first edit.
/** @import { Model } from "./types.js" */
/** @import { Values } from "./remote.js" */
import { levelAddress, levelOf, packRows } from "./address.js";
import { renderLevels } from "./level_view.js";
import { button, element, write } from "./parts.js";
import { loadingBar } from "./loading_bar.js";
import { localModel, python, withBytes } from "./remote.js";

const SILENCE = "No answer yet: Python is being loaded.";

/** @param {{ model: Model, el: HTMLElement }} page `model` has what the page shows at first */
function render({ model: page, el }) {
  /** @type {Record<string, Values>} */
  const firsts = page.get("firsts");
  for (const first of Object.values(firsts)) withBytes(first);
  const names = Object.keys(firsts);
  /** @type {Values} */
  const values = { contents: page.get("contents"), level: names[0], asked: [], progress: {}, checked: 0, stamp: [], state: "idle",
    live: false, show: ["memory", "prediction"], rest: 0, runs: false, silence: SILENCE, usual: page.get("usual"), ...firsts[names[0]] };
  const loading = loadingBar(page.get("total"));
  let [level, isStep] = [names[0], false]; // what was asked last; the next address is one to go back to
  const ask = python("pipelab.widgets.level_answers", {
    loaded: loading.show,
    ready: loading.hide,
    failed: loading.fail,
    answered(found) {
      loading.hide();
      take(found);
    },
  });
  /** @param {Values} found */
  function take(found) {
    model.take({ ...found, level, checked: values.checked + 1 });
    const address = levelAddress(level, model.get("rows"), firsts[level].rows);
    if (address !== location.hash) history[isStep ? "pushState" : "replaceState"](null, "", address);
    isStep = false;
    el.dataset.plAnswers = String(values.checked);
  }
  /** @param {string | null} name @param {string[][] | null} rows @param {boolean} coached */
  function begin(name, rows, coached = false) {
    level = name && names.includes(name) ? name : names[0];
    if (rows && packRows(rows) !== packRows(firsts[level].rows)) ask({ level, rows, asked: "begin", coached });
    else take({ ...firsts[level], undo: "none" });
  }
  const model = localModel(values, (changed) => {
    const { coached, stamp } = values;
    const [, what, place, name, rows, left] = values.asked;
    if (changed.includes("asked")) {
      isStep = what === "begin" && name !== level;
      if (what === "begin") begin(name, rows, left);
      else if (what === "again") take({ ...firsts[level], undo: coached ? "none" : "step" });
      else ask({ level, rows: values.rows, asked: what, place: place ?? 0, coached });
    } else if (changed.includes("stamp")) ask({ level, rows: values.rows, stamp, coached });
    else if (changed.includes("rows")) ask({ level, rows: values.rows, coached });
  });
  const link = button("Copy link", () => {
    navigator.clipboard?.writeText(location.href).then(() => write(link.children[0], "Copied"));
    setTimeout(() => write(link.children[0], "Copy link"), 2000);
  });
  const home = page.get("site") ? [element("a", { href: `${page.get("site")}index.html` }, "Home")] : [];
  el.append(element("div", { class: "pl-page-head pl-root" }, element("h1", {}, "Pipeline levels"), link,
    element("a", { href: "index.html" }, "Playground"), ...home, loading.node));
  renderLevels({ model, el });
  const open = () => {
    const asked = levelOf(location.hash);
    begin(asked.level, asked.rows);
  };
  if (location.hash.length > 1) open();
  window.addEventListener("popstate", open);
}

export default { render };
