// @ts-check
// Labelled controls, and a delay that ends when a control has been quiet for a moment.
/** @import { Control, Debounced } from "./types.js" */
import { element, newId } from "./parts.js";

/**
 * A labelled range, with its number beside it; a screen reader reads that of the input.
 * @param {string} label @param {string} letter @param {number[]} range @param {number} value
 * @param {Debounced} act due while it moves, and done when it is released
 * @returns {Control}
 */
export function slider(label, letter, [min, max], value, act) {
  const id = newId();
  const number = element("span", { class: "pl-number", "aria-hidden": "true" });
  const input = element("input", { type: "range", id, min, max, step: 1 });
  const show = (/** @type {number} */ v) => {
    input.value = String(v);
    number.textContent = input.value;
  };
  show(value);
  input.addEventListener("input", () => {
    number.textContent = input.value;
    act.soon();
  });
  input.addEventListener("pointerup", act.flush);
  const words = element("label", { for: id }, `${label} `, element("i", {}, letter));
  const node = element("div", { class: "pl-control" }, words, element("div", {}, input, number));
  return { node, input, show, value: () => Number(input.value) };
}

/** A labelled choice; `options` are pairs of value and words.
 * @param {string} label @param {string[][]} options @param {string} value @param {() => void} onChange
 * @returns {Control} */
export function dropdown(label, options, value, onChange) {
  const id = newId();
  const select = element("select", { id, change: onChange });
  for (const [name, words] of options) select.append(element("option", { value: name }, words));
  select.value = value;
  const words = element("label", { for: id }, label);
  const node = element("div", { class: "pl-control" }, words, select);
  return { node, input: select, show: (v) => void (select.value = v), value: () => select.value };
}

/** A labelled switch.
 * @param {string} label @param {boolean} value @param {() => void} onChange @returns {Control} */
export function checkbox(label, value, onChange) {
  const id = newId();
  const input = element("input", { type: "checkbox", id, change: onChange });
  input.checked = value;
  const node = element("div", { class: "pl-check" }, input, element("label", { for: id }, label));
  return { node, input, show: (v) => void (input.checked = v), value: () => input.checked };
}

/** Calls `act` once `soon` was not called for `ms`; `flush` does it now, if it is due.
 * @param {() => void} act @param {number} ms
 * @param {{ setTimeout: (act: () => void, ms: number) => any, clearTimeout: (timer: any) => void }} clock
 * @returns {Debounced} */
export function debounce(act, ms, clock = globalThis) {
  /** @type {any} */
  let timer = null;
  const fire = () => {
    timer = null;
    act();
  };
  return {
    soon() {
      clock.clearTimeout(timer);
      timer = clock.setTimeout(fire, ms);
    },
    flush() {
      if (timer === null) return false;
      clock.clearTimeout(timer);
      fire();
      return true;
    },
    cancel() {
      clock.clearTimeout(timer);
      timer = null;
    },
  };
}
