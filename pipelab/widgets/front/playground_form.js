// @ts-check
// The playground's controls: a schedule, its sizes, what its actions cost, a memory limit.
/** @import { Settings } from "./address.js" */
import { millisecondsOf } from "./address.js";
import { newId } from "./new_id.js";
import { element } from "./parts.js";

/** @typedef {{ name: string, title: string, chosen: boolean }} Choice */
/** @typedef {keyof Settings} Letter */

/** @type {[Letter, string, number, number][]} */
const NUMBERS = [["p", "Ranks p", 1, 32], ["m", "Microbatches m", 1, 256], ["v", "Stages per rank v", 1, 8]];
/** @type {[Letter, string][]} */
const TIMES = [["f", "Forward F, ms"], ["i", "Input gradient I, ms"], ["w", "Weight gradient W, ms"], ["l", "A message, ms"]];
const A_LIST = "One number, for a rank's whole slice of the model; or one for each stage, with commas between.";

/** A label above its control. @param {string} words @param {HTMLElement} input */
function labelled(words, input) {
  input.id = newId();
  return element("div", { class: "pl-field" }, element("label", { for: input.id }, words), input);
}

/** @param {string} words @param {number} least @param {number} most */
function numberField(words, least, most) {
  const input = element("input", { type: "number", min: least, max: most, step: 1, required: "" });
  return { node: labelled(words, input), input };
}

/** @param {Letter} name @param {string} words */
function timeField(name, words) {
  const input = element("input", { autocomplete: "off", inputmode: "decimal", size: 7, title: name === "l" ? "" : A_LIST });
  return { node: labelled(words, input), input };
}

/** @param {Choice[]} choices */
function scheduleField(choices) {
  const own = element("option", { value: "", disabled: "" }, "your own");
  const input = element("select", {}, ...choices.map(({ name, title }) => element("option", { value: name }, title)), own);
  return { node: labelled("Schedule", input), input };
}

/** Whether a text is a time, or for what is priced by stage a list of times. @param {Letter} name @param {string} text */
function isTime(name, text) {
  const found = millisecondsOf(text);
  return typeof found === "number" || (found !== null && name !== "l");
}

/** The controls; `changed` is called with the letter of the one that was moved.
 * @param {Choice[]} choices @param {(name: Letter) => void} changed */
export function playgroundForm(choices, changed) {
  /** @type {Map<Letter, { node: HTMLElement, input: HTMLInputElement | HTMLSelectElement }>} */
  const fields = new Map([["s", scheduleField(choices)]]);
  for (const [name, words, least, most] of NUMBERS) fields.set(name, numberField(words, least, most));
  for (const [name, words] of TIMES) fields.set(name, timeField(name, words));
  fields.set("k", numberField("Memory limit (0: none)", 0, 256));
  const node = element("form", { class: "pl-fields", "aria-label": "Settings", submit: (/** @type {Event} */ event) => event.preventDefault() },
    ...[...fields.values()].map((field) => field.node));
  const check = (/** @type {Letter} */ name) => {
    const isWrong = TIMES.some(([time]) => time === name) && !isTime(name, read(name));
    fields.get(name)?.input.setCustomValidity(isWrong ? `Milliseconds, such as 10${name === "l" ? "" : " or 10,20,10,10"}` : "");
  };
  for (const [name, { input }] of fields) {
    input.addEventListener("input", () => {
      check(name);
      if (input.reportValidity()) changed(name);
    });
  }
  const read = (/** @type {Letter} */ name) => fields.get(name)?.input.value ?? "";
  return {
    node,
    /** Whether all of them hold what they may. */
    get isSound() { return node.checkValidity(); },
    /** Whether the schedule leaves the stages per rank to the reader. */
    get hasStages() { return !fields.get("v")?.node.hidden; },
    /** @returns {Settings} */
    read: () => ({ s: read("s"), p: read("p"), m: read("m"), v: read("v"), f: read("f"), i: read("i"), w: read("w"), l: read("l"), k: read("k") }),
    /** Show other settings; no schedule stands for the reader's own. @param {Partial<Settings>} settings */
    show(settings) {
      for (const [name, value] of /** @type {[Letter, string][]} */ (Object.entries(settings))) {
        const field = fields.get(name);
        if (field && field.input.value !== value) field.input.value = value;
        check(name);
      }
      const chosen = choices.find((choice) => choice.name === read("s"))?.chosen ?? false;
      const stages = fields.get("v");
      if (stages) stages.node.hidden = !chosen;
    },
  };
}
