// @ts-check
// The lab: controls whose changes start runs on real ranks, and the timeline that plays them.
//
// Words and figures come from Python, in traits; this file lays them out and sends what was chosen.
/** @import { Model } from "./types.js" */
import { atWork } from "./at_work.js";
import { sessionChart } from "./chart.js";
import { exportButton } from "./export.js";
import { makeControls } from "./lab_controls.js";
import { element, write } from "./parts.js";
import { patience } from "./patience.js";
import { bind, onTraits, timeline } from "./timeline.js";

/** @param {Element} node @param {{ name: string, value: string }[]} figures */
function fillFigures(node, figures) {
  node.replaceChildren(...figures.map(({ name, value }) =>
    element("li", {}, element("span", {}, name), " ", element("strong", {}, value))));
}

/** The lab on a page: `el` gets it, the model's traits fill it. @param {{ model: Model, el: HTMLElement }} place */
function render({ model, el }) {
  const get = (/** @type {string} */ name) => model.get(name);
  const note = patience();
  const panel = makeControls(model, note.sent);
  const view = timeline([exportButton(model)], get("show"), atWork);
  const chart = sessionChart(() => {
    model.set("session", []);
    model.save_changes();
  });
  const title = element("p", { class: "pl-title", "aria-hidden": "true" });
  const summary = element("p", { class: "pl-summary pl-spoken", role: "status", "aria-live": "polite" });
  const error = element("pre", { class: "pl-error", role: "alert" });
  const figures = element("ul", { class: "pl-figures", "aria-label": "The run in numbers" });
  const root = element("section", { class: "pl-lab pl-root", "aria-label": "Timeline lab" });
  chart.node.hidden = Boolean(get("choices").story);
  chart.more.hidden = chart.node.hidden;
  root.classList.toggle("pl-story", chart.node.hidden);
  const side = element("div", { class: "pl-side" }, element("div", {}, figures, chart.more), chart.node);
  const status = element("div", { class: "pl-state" }, title, summary);
  const main = element("div", { class: "pl-main" }, side, view.node);
  root.append(panel.node, status, note.node, error, main);
  status.append(view.disturbed); // first and loud
  root.dataset.lmSuppressShortcuts = "true";
  const showChart = () => chart.show(get("session"), get("curves"), get("guesses") ?? []);
  /** @type {Record<string, () => void>} */
  const views = {
    state() {
      root.dataset.plState = get("state");
      panel.stop.setAttribute("aria-disabled", String(get("state") !== "running"));
      if (panel.again.firstChild) panel.again.firstChild.textContent = get("run_number") ? "Run again" : "Run";
      note.answered();
    },
    run_number() {
      root.dataset.plRun = get("run_number");
      note.answered();
    },
    title: () => write(title, get("title")),
    summary: () => write(summary, get("summary")),
    error: () => void (error.textContent = get("error")),
    figures: () => fillFigures(figures, get("figures")),
    session: showChart,
    curves: showChart,
  };
  for (const [name, { show }] of Object.entries(panel.inputs)) views[name] = () => show(get(name));
  const ends = [onTraits(model, views), bind(model, view, () => void (root.dataset.plLive = get("live"))), view.end, panel.end, note.end];
  el.append(root);
  return () => ends.forEach((end) => end());
}

export default { render };
