// @ts-check
// The playground: a page that predicts schedules with no kernel. Python is loaded when it is first asked.
/** @import { Model } from "./types.js" */
/** @import { Settings } from "./address.js" */
/** @import { Values } from "./remote.js" */
import { USUAL, addressOf, millisecondsOf, stateOf } from "./address.js";
import { loadingBar } from "./loading_bar.js";
import { button, element, write } from "./parts.js";
import { pictureButtons } from "./picture_file.js";
import { playgroundForm } from "./playground_form.js";
import { recordedRun } from "./recorded_run.js";
import { localModel, python } from "./remote.js";
import { renderEditor } from "./token_editor.js";

const TRAITS = ["rows", "message", "marks", "can_run", "checked", "stamp", "state", "live", "data", "head", "show", "path", "found"];
const SILENCE = "No answer yet: Python is being loaded.";
const INTRODUCTION = "Each row is a rank, each box an action: F forward, B backward, and grey is the bubble. Change the " +
  "microbatches from 8 to 32 and see it shrink; choose another schedule; or drag a token and see what breaks. Below is what real ranks did.";

/** What Python is asked. @param {Settings} s @param {string[][] | null} rows @param {number[]} stamp */
function requestOf(s, rows, stamp) {
  return { schedule: s.s, p: Number(s.p), m: Number(s.m), v: Number(s.v), k: Number(s.k), rows, stamp,
    f: millisecondsOf(s.f), i: millisecondsOf(s.i), w: millisecondsOf(s.w), l: millisecondsOf(s.l) };
}

const AFTER = 100; // ms
const SITE = [["index.html", "Home"], ["README.html", "The course"], ["gallery.html", "Gallery"]];

/** Links to the levels, and to the site's other pages. @param {string} site the way to it, "" for none */
function siteLinks(site) {
  const pages = [...(site ? SITE.map(([page, words]) => [site + page, words]) : []), ["levels.html", "Levels"]];
  return [element("nav", { class: "pl-site", "aria-label": "Site" }, ...pages.map(([href, words]) => element("a", { href }, words)))];
}

/** The address of the page, which follows what is shown: after the picture, since browsers take long. */
function addressBar() {
  let [isStep, wanted, timer] = [false, "", 0];
  const write = () => {
    if (wanted !== location.hash) history[isStep ? "pushState" : "replaceState"](null, "", wanted);
    isStep = false;
  };
  return {
    /** The next one is one to go back to. */
    step: () => void (isStep = true),
    /** @param {string} address */
    show(address) {
      wanted = address;
      clearTimeout(timer);
      timer = window.setTimeout(write, AFTER);
    },
    /** Write it now. */
    flush() {
      if (!timer) return;
      clearTimeout(timer);
      timer = 0;
      write();
    },
  };
}

/** The page.
 * @param {{ site: string, form: HTMLElement, loading: HTMLElement, path: HTMLElement, recorded: HTMLElement }} parts
 * @param {() => void} flush write the address of what is shown */
function pageOf({ site, form, loading, path, recorded }, flush) {
  const place = element("div", {});
  const link = button("Copy link", () => {
    flush();
    navigator.clipboard?.writeText(location.href).then(() => write(link.firstElementChild ?? link, "Copied"));
    setTimeout(() => write(link.firstElementChild ?? link, "Copy link"), 2000);
  });
  const files = element("div", { class: "pl-bar pl-files" }, element("div", { class: "pl-group" }, link, ...pictureButtons(place)));
  const critical = element("details", { class: "pl-path" }, element("summary", {}, "Critical path: to shorten the step, shorten one of these"), path);
  const node = element("main", { class: "pl-playground pl-root" }, ...siteLinks(site), element("h1", {}, "Pipeline playground"),
    element("p", { class: "pl-intro" }, INTRODUCTION), form, loading, place, files, critical, recorded);
  return { node, place };
}

/** @param {{ model: Model, el: HTMLElement }} page `model` has what the page shows at first */
function render({ model: page, el }) {
  /** @type {Values} */
  const values = { ...Object.fromEntries(TRAITS.map((name) => [name, page.get(name)])),
    rest: 0, runs: false, silence: SILENCE, ghost_data: null, ghost_head: {} };
  let isEdited = false; // rows were asked about
  const [address, loading] = [addressBar(), loadingBar(page.get("total"))];
  const path = element("p", {}, values.path);
  const ask = python("pipelab.widgets.playground_answers", {
    loaded: loading.show,
    ready: loading.hide,
    failed: loading.fail,
    answered(found, isFirst) {
      loading.hide();
      if (isFirst) found.checked = values.checked + 1;
      model.take(found);
      settle(found);
    },
  });
  const request = (/** @type {string[][] | null} */ rows, /** @type {number[]} */ stamp = []) => {
    isEdited = rows !== null;
    if (form.isSound) ask(requestOf({ ...form.read(), s: form.read().s || lastNamed }, rows, stamp));
  };
  const model = localModel(values, (names) => {
    if (names.includes("stamp")) request(model.get("rows"), model.get("stamp"));
    else if (names.includes("rows")) request(model.get("rows"));
  });
  let lastNamed = USUAL.s;
  const form = playgroundForm(page.get("choices"), (name) => {
    address.step();
    if (name === "s") lastNamed = form.read().s;
    form.show({}); // only some schedules have a choice of stages
    request("spmv".includes(name) ? null : model.get("rows"));
  });
  const recorded = recordedRun(page.get("runs"));
  /** Show a part of an answer, on the controls and in the address. @param {Values} part */
  function settle(part) {
    if ("path" in part) write(path, part.path);
    el.dataset.plAnswers = String(Number(el.dataset.plAnswers ?? 0) + 1);
    if (!("found" in part) && part.can_run !== false) return;
    const { schedule: s, p, m, v } = model.get("found");
    if (model.get("can_run")) form.show({ s, p: String(p), m: String(m), v: String(v) });
    if (s && model.get("can_run")) lastNamed = s;
    const [canRun, settings] = [model.get("can_run"), { ...form.read(), s: lastNamed }];
    const now = addressOf(settings, (canRun ? s : !isEdited) ? null : model.get("rows"));
    address.show(now);
    recorded.show(canRun ? { settings, address: now, isNamed: Boolean(s), hasStages: form.hasStages } : null);
  }
  const open = () => {
    const { settings, rows } = stateOf(location.hash);
    lastNamed = settings.s;
    form.show(settings);
    if (rows) model.take({ rows });
    request(rows);
  };
  const { node, place } = pageOf({ site: page.get("site"), form: form.node, loading: loading.node, path, recorded: recorded.node }, address.flush);
  el.append(node);
  form.show(USUAL);
  renderEditor({ model, el: place });
  if (location.hash.length > 1) open();
  else recorded.show({ settings: USUAL, address: "#", isNamed: true, hasStages: form.hasStages });
  window.addEventListener("popstate", open);
}

export default { render };
