// @ts-check
// Around the grid of tokens: undo and redo, a block to stamp, and the schedule as a CSV file.
/** @import { Model } from "./types.js" */
/** @import { Edit, Tokens } from "./token_grid.js" */
import { newId } from "./new_id.js";
import { button, element } from "./parts.js";
import { STEPS, moveBy } from "./token_grid.js";

/** What was edited, to go back to and forth again.
 * @param {{ rows: string[][], spot: number[] }} state @param {() => void} show called when other rows are to be seen */
export function makeHistory(state, show) {
  /** @type {string[][][]} */
  const before = [];
  /** @type {string[][][]} */
  const after = [];
  /** @param {string[][][]} from @param {string[][][]} to */
  const go = (from, to) => {
    const rows = from.pop();
    if (!rows) return;
    to.push(state.rows);
    const rank = Math.min(state.spot[0], rows.length - 1);
    const place = Math.min(state.spot[1], (rows[rank]?.length ?? 1) - 1);
    Object.assign(state, { rows, spot: [rank, Math.max(0, place)] });
    show();
  };
  return {
    /** Remember the rows as they are, before others take their place.
     * @param {string} how "joined": the others belong to the last step; "none": nothing leads back */
    remember(how = "step") {
      if (how === "none") before.length = 0;
      else if (how !== "joined") before.push(state.rows);
      after.length = 0;
    },
    undo: () => go(before, after),
    redo: () => go(after, before),
    get canUndo() { return before.length > 0; },
    get canRedo() { return after.length > 0; },
    /** Whether a key was meant for it: Ctrl+Z, Ctrl+Y or Ctrl+Shift+Z. @param {KeyboardEvent} event */
    press(event) {
      const key = event.key.toLowerCase();
      if (!(event.ctrlKey || event.metaKey) || !"zy".includes(key) || event.target instanceof HTMLInputElement) return false;
      if (key === "y" || event.shiftKey) this.redo();
      else this.undo();
      return true;
    },
  };
}

/** The schedule as torch's compute-only CSV: one rank a line. @param {string[][]} rows */
export const csvOf = (rows) => rows.map((row) => `${row.join(",")}\n`).join("");

/** A button that saves the CSV. @param {{ rows: string[][] }} state */
export function csvButton(state) {
  return button("Save CSV", () => {
    const link = element("a", { href: URL.createObjectURL(new Blob([csvOf(state.rows)], { type: "text/csv" })),
      download: "schedule.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

/** How many slots microbatch 0 takes on the rank where it takes most: no period can be shorter.
 * @param {string[][]} rows */
function leastPeriod(rows) {
  const taken = rows.map((row) => [...row.join(" ").matchAll(/\d([FBIW])0(?![\d.])/g)]
    .reduce((sum, [, kind]) => sum + (kind === "B" ? 2 : 1), 0));
  return Math.max(1, ...taken);
}

/** Two numbers and a button: repeat the block of microbatch 0 with a period.
 * @param {Model} model @param {() => void} flush sends what was edited last */
export function stampForm(model, flush) {
  const usual = model.get("usual") ?? [String(leastPeriod(model.get("rows"))), "8"];
  const [period, count] = usual.map((/** @type {string} */ value) => {
    const input = element("input", { id: newId(), type: "number", min: 1, max: 999, value, size: 4 });
    input.dataset.lmSuppressShortcuts = "true";
    return input;
  });
  const node = element("form", { class: "pl-stamp", "aria-label": "Stamp a block", submit: (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!period.checkValidity() || !count.checkValidity()) return;
    flush();
    const [asked] = model.get("stamp");
    model.set("stamp", [(asked ?? 0) + 1, Number(period.value), Number(count.value)]);
    model.save_changes();
  } });
  node.append(element("div", { class: "pl-group" },
    element("label", { for: period.id }, "Period"), period,
    element("label", { for: count.id }, "Microbatches"), count,
    element("button", { type: "submit", title: "Repeat what is done for microbatch 0, one period later each" }, "Stamp block")));
  return node;
}

/** Buttons that move the chosen token: for fingers, and where dragging is hard.
 * @param {Tokens} state @param {Edit} edit */
export function moveButtons(state, edit) {
  const names = new Map([["ArrowLeft", ["←", "left"]], ["ArrowRight", ["→", "right"]], ["ArrowUp", ["↑", "to the rank above"]],
    ["ArrowDown", ["↓", "to the rank below"]]]);
  const buttons = [...names].map(([key, [sign, words]]) => {
    const node = button(sign, () => moveBy(state, edit, STEPS.get(key) ?? []));
    node.setAttribute("aria-label", `Move the chosen token ${words}`);
    return node;
  });
  return element("div", { class: "pl-group pl-moves" }, element("span", {}, "Move"), ...buttons);
}
