// @ts-check
// The schedule editor: a grid of tokens, whether they can run, and what they are predicted to do.
/** @import { Model } from "./types.js" */
/** @import { Tokens } from "./token_grid.js" */
import { atWork } from "./at_work.js";
import { debounce } from "./debounce.js";
import { exportButton } from "./export.js";
import { newId } from "./new_id.js";
import { button, element, write } from "./parts.js";
import { patience } from "./patience.js";
import { say } from "./scale.js";
import { bind, onTraits, timeline } from "./timeline.js";
import { makeGrid } from "./token_grid.js";
import { csvButton, makeHistory, moveButtons, stampForm } from "./token_tools.js";

const REST = 150; // ms without an edit before Python checks the schedule

/** The editor's buttons. @param {Record<"run" | "stop" | "undo" | "redo", () => void>} act
 * @param {(token: string) => void} add @param {HTMLElement} save @param {HTMLElement} moves */
function makeForm(act, add, save, moves) {
  const run = button("Run it", act.run);
  const stop = button("Stop", act.stop);
  const undo = button("Undo", act.undo);
  const redo = button("Redo", act.redo);
  const id = newId();
  const fresh = element("input", { id, size: 6, autocomplete: "off", placeholder: "2F0" });
  fresh.dataset.lmSuppressShortcuts = "true";
  const addFresh = () => {
    const token = fresh.value.trim().toUpperCase();
    if (token) add(token);
    fresh.value = "";
  };
  const label = element("label", { for: id });
  const node = element("form", { class: "pl-edit", "aria-label": "Edit", submit: (/** @type {Event} */ event) => {
    event.preventDefault();
    addFresh();
  } });
  node.append(element("div", { class: "pl-group" }, run, stop, undo, redo, save), moves,
    element("div", { class: "pl-group pl-add" }, label, fresh, button("Add", addFresh)));
  return { node, run, stop, undo, redo, label };
}

/** Send the rows to Python, unless it has these; whether they were sent.
 * @param {Model} model @param {string[][]} rows @param {Element} message */
function sendRows(model, rows, message) {
  if (JSON.stringify(rows) === JSON.stringify(model.get("rows"))) {
    write(message, model.get("message")); // a token was moved, and moved back
    return false;
  }
  model.set("rows", rows);
  model.save_changes();
  return true;
}

/** The editor on a page: edits are sent to Python, which checks them.
 * @param {{ model: Model, el: HTMLElement }} place */
export function renderEditor({ model, el }) {
  const get = (/** @type {string} */ name) => model.get(name);
  const copied = () => get("rows").map((/** @type {string[]} */ row) => [...row]);
  /** @type {Tokens} */
  const state = { rows: copied(), spot: [0, 0], dragged: null, marks: () => get("marks"), moved: showRank,
    pointed: () => get("pointed") ?? [] };
  const message = element("pre", { class: "pl-status", role: "status", "aria-live": "polite" });
  const note = patience(get("silence"));
  const send = debounce(() => sendRows(model, state.rows, message) && note.sent(), get("rest") ?? REST);
  function showRank() {
    write(form.label, say("token_for", { rank: state.spot[0] }));
  }
  const ask = (/** @type {string} */ name) => {
    send.flush();
    model.set(name, get(name) + 1);
    model.save_changes();
  };
  const draw = (/** @type {boolean} */ focus) => {
    grid.draw(focus);
    showRank();
    form.undo.setAttribute("aria-disabled", String(!history.canUndo));
    form.redo.setAttribute("aria-disabled", String(!history.canRedo));
  };
  const edit = (/** @type {string[][]} */ rows, /** @type {number[]} */ spot) => {
    history.remember();
    Object.assign(state, { rows, spot });
    changed(true);
  };
  const changed = (/** @type {boolean} */ focus) => {
    draw(focus);
    write(message, "…");
    send.soon();
  };
  const history = makeHistory(state, () => changed(grid.node.matches(":focus-within"))); // the keys that asked for it go on
  const grid = makeGrid(state, edit);
  const form = makeForm({
    run: () => get("can_run") && ask("run_asked"),
    stop: () => get("state") === "running" && ask("stop_asked"),
    undo: history.undo,
    redo: history.redo,
  }, (token) => {
    const [rank] = state.spot;
    edit(state.rows.map((row, r) => (r === rank ? [...row, token] : row)), [rank, state.rows[rank].length]);
  }, csvButton(state), moveButtons(state, edit));
  const stamp = stampForm(model, send.flush);
  const view = timeline([exportButton(model)], get("show"), atWork);
  const root = element("section", { class: "pl-editor pl-root", "aria-label": "Schedule editor" },
    grid.node, element("div", { class: "pl-bar" }, form.node, stamp), message, note.node, view.node);
  root.dataset.lmSuppressShortcuts = "true";
  root.addEventListener("keydown", (event) => history.press(event) && event.preventDefault());
  draw(false);
  const views = traitViews({ model, root, form, message, grid, note }, () => {
    if (JSON.stringify(state.rows) === JSON.stringify(get("rows"))) return;
    history.remember(get("undo")); // Python stamped a block, or a cell set other rows
    state.rows = copied();
    draw(false);
  });
  const ends = [onTraits(model, views), bind(model, view, () => void (root.dataset.plLive = get("live"))), view.end, send.cancel, note.end];
  el.append(root);
  return () => ends.forEach((end) => end());
}

/** What each trait changes on the page.
 * @param {{ model: Model, root: HTMLElement, message: HTMLElement, form: ReturnType<typeof makeForm>,
 *   grid: ReturnType<typeof makeGrid>, note: ReturnType<typeof patience> }} parts @param {() => void} rows */
function traitViews({ model, root, form, message, grid, note }, rows) {
  const get = (/** @type {string} */ name) => model.get(name);
  return {
    rows,
    message: () => write(message, get("message")),
    checked() { // after each edit, also one that leaves the message as it was
      note.answered();
      write(message, get("message"));
    },
    marks: grid.mark,
    pointed: grid.mark,
    runs: () => void (form.run.hidden = form.stop.hidden = get("runs") === false), // a page without ranks
    can_run() {
      form.run.setAttribute("aria-disabled", String(!get("can_run")));
      root.dataset.plCanRun = get("can_run");
    },
    state() {
      form.stop.setAttribute("aria-disabled", String(get("state") !== "running"));
      root.dataset.plState = get("state");
    },
  };
}
