// @ts-check
// The controls of the lab: a change sends all settings that differ from the model's.
/** @import { Control, Debounced, Model } from "./types.js" */
import { debounce } from "./debounce.js";
import { newId } from "./new_id.js";
import { button, element } from "./parts.js";

// ms that a slider must rest before it starts a run, while it is dragged or a key is held, which
// repeats after 30 or so
const DEBOUNCE = 50;

/** The settings that differ from those that the model holds.
 * @param {Record<string, unknown>} wanted @param {Record<string, unknown>} held */
export function changes(wanted, held) {
  return Object.fromEntries(Object.entries(wanted).filter(([name, value]) => held[name] !== value));
}

/** @param {Model} model @param {() => void} sent called after each message to Python */
export function makeControls(model, sent) {
  const get = (/** @type {string} */ name) => model.get(name);
  const send = () => {
    model.save_changes();
    sent();
  };
  const commit = debounce(() => {
    const wanted = Object.entries(inputs).map(([name, input]) => [name, input.value()]);
    const held = Object.keys(inputs).map((name) => [name, get(name)]);
    const patch = Object.entries(changes(Object.fromEntries(wanted), Object.fromEntries(held)));
    for (const [name, value] of patch) model.set(name, value);
    if (patch.length) send();
  }, DEBOUNCE);
  const inputs = makeInputs(model, commit);
  const ask = (/** @type {string} */ name) => {
    model.set(name, get(name) + 1);
    send();
  };
  const again = button("Run again", () => commit.flush() || ask("run_asked"));
  again.classList.add("pl-again");
  const reset = button("Reset", () => {
    for (const [name, value] of Object.entries(get("start"))) inputs[name]?.show(value);
    commit.soon();
    commit.flush();
  });
  reset.title = "Back to what the lesson began with";
  const stop = button("Stop", () => {
    commit.cancel();
    if (get("state") === "running") ask("stop_asked");
  });
  const nodes = Object.values(inputs).map((control) => control.node);
  const { story, pacingHelp } = get("choices");
  const help = element("p", { class: "pl-small" }, pacingHelp);
  const extra = element("div", { class: "pl-extra" }, ...nodes.slice(3), help);
  const more = element("details", { class: "pl-more" }, element("summary", {}, "More"), extra);
  const form = element("form", { class: "pl-controls", "aria-label": "Controls",
    submit: (/** @type {Event} */ event) => event.preventDefault() });
  form.append(...nodes.slice(0, 3), element("div", { class: "pl-buttons" }, again, stop, reset), ...(story ? [] : [more]));
  return { node: form, inputs, again, stop, end: commit.cancel };
}

/** One control for each setting; a slider that still moves waits until it rests, the others act at once.
 * @param {Model} model @param {ReturnType<typeof debounce>} commit @returns {Record<string, Control>} */
function makeInputs(model, commit) {
  const choices = model.get("choices");
  const now = () => {
    commit.soon();
    commit.flush();
  };
  const range = (/** @type {string} */ label, /** @type {string} */ letter, /** @type {string} */ name) =>
    slider(label, letter, choices[name], model.get(name), commit);
  const choice = (/** @type {string} */ label, /** @type {string} */ name) =>
    dropdown(label, choices[name], model.get(name), now);
  if (choices.story) {
    const { labels } = choices;
    return { schedule: choice(labels.schedule, "schedule"), num_ranks: range(labels.num_ranks, "", "num_ranks"),
      num_microbatches: range(labels.num_microbatches, "", "num_microbatches") };
  }
  return {
    schedule: choice("Schedule", "schedule"),
    num_ranks: range("Ranks", "p", "num_ranks"),
    num_microbatches: range("Microbatches", "m", "num_microbatches"),
    pacing: choice("Pacing", "pacing"),
    latency: choice("A message takes", "latency"),
    replicas: choice("Replicas", "replicas"),
    budget: choice("Memory of a rank", "budget"),
    overlap: checkbox(choices.overlap, model.get("overlap"), now),
  };
}

/** A labelled range, with its number beside it; a screen reader reads that of the input.
 * @param {string} label @param {string} letter @param {number[]} range @param {number} value
 * @param {Debounced} act due while it moves, and done when it has its value
 * @returns {Control} */
function slider(label, letter, [min, max], value, act) {
  const id = newId();
  const number = element("span", { class: "pl-number", "aria-hidden": "true" });
  const input = element("input", { type: "range", id, min, max, step: 1 });
  const show = (/** @type {number} */ v) => {
    input.value = String(v);
    number.textContent = input.value;
  };
  show(value);
  input.addEventListener("input", () => void (number.textContent = input.value));
  onMoves(input, act);
  const words = element("label", { for: id }, `${label} `, element("i", {}, letter));
  const node = element("div", { class: "pl-control" }, words, element("div", {}, input, number));
  return { node, input, show, value: () => Number(input.value) };
}

/** Calls `act` when a slider has its value: it is released, or one press of a key has moved it.
 * @param {EventTarget} slider @param {Debounced} act due while it is dragged, or a key is held */
export function onMoves(slider, act) {
  let isHeld = false; // a key, and each of its repeats is a change; a drag has one, at its end
  slider.addEventListener("input", act.soon);
  slider.addEventListener("keydown", (event) => void (isHeld = /** @type {KeyboardEvent} */ (event).repeat));
  slider.addEventListener("change", () => isHeld || act.flush());
  slider.addEventListener("keyup", () => {
    isHeld = false;
    act.flush();
  });
}

/** A labelled choice; `options` are pairs of value and words.
 * @param {string} label @param {string[][]} options @param {string} value @param {() => void} onChange
 * @returns {Control} */
function dropdown(label, options, value, onChange) {
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
function checkbox(label, value, onChange) {
  const id = newId();
  const input = element("input", { type: "checkbox", id, change: onChange });
  input.checked = value;
  const node = element("div", { class: "pl-check" }, input, element("label", { for: id }, label));
  return { node, input, show: (v) => void (input.checked = v), value: () => input.checked };
}
