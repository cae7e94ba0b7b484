// The view of pipelab's TimelineLab: labelled controls, a picture, a sentence, a table.
//
// Words and figures come from Python, in traits; this file lays them out and sends what was chosen.

const DEBOUNCE = 100; // ms that a control must rest before it starts a run
const PATIENCE = 3000; // ms without an answer before the view says so
const NO_ANSWER =
  "No answer from the kernel: it is busy, or not running. " +
  "If this stays, run this cell again (Shift+Enter).";

// ------------------------------------------------------------------------- pure functions

/** The settings that differ from those that the model holds. */
export function changes(wanted, held) {
  return Object.fromEntries(Object.entries(wanted).filter(([name, value]) => held[name] !== value));
}

/** Calls `act` once things have been quiet for `ms`; `flush` does it now, if it is due. */
export function debounce(act, ms, clock = globalThis) {
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

/** The bytes of a picture, whether they came live (DataView) or from a saved notebook. */
export function bytesOf(value) {
  if (!value) return null;
  const view = value.buffer ? value : new DataView(value);
  return view.byteLength ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : null;
}

// ---------------------------------------------------------------------------- small parts

let count = 0;
const prefix = `pl-${Math.random().toString(36).slice(2)}`; // each lab loads its own copy of this
const newId = () => `${prefix}-${++count}`;

// JupyterLab takes keys (arrows, D D, Shift+Enter) from whatever has the focus, unless that very
// element says no: an ancestor that says so is asked too late.
const FOCUSABLE = new Set(["button", "input", "select", "summary"]);

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (FOCUSABLE.has(tag)) node.dataset.lmSuppressShortcuts = "true";
  node.append(...children);
  return node;
}

/** A labelled range: the number stands beside it for eyes; a screen reader hears the input's. */
function slider(label, letter, [min, max], value, onInput) {
  const id = newId();
  const number = element("span", { class: "pl-number", "aria-hidden": "true" });
  const input = element("input", { type: "range", id, min, max, step: 1 });
  const show = (v) => (number.textContent = input.value = v);
  show(value);
  input.addEventListener("input", () => {
    number.textContent = input.value;
    onInput();
  });
  const words = element("label", { for: id }, `${label} `, element("i", {}, letter));
  const node = element("div", { class: "pl-control" }, words, element("div", {}, input, number));
  return { node, show, value: () => Number(input.value) };
}

function dropdown(label, options, value, onChange) {
  const id = newId();
  const select = element("select", { id });
  for (const [name, words] of options) select.append(element("option", { value: name }, words));
  select.value = value;
  select.addEventListener("change", onChange);
  const words = element("label", { for: id }, label);
  const node = element("div", { class: "pl-control" }, words, select);
  return { node, show: (v) => (select.value = v), value: () => select.value };
}

function checkbox(label, help, value, onChange) {
  const id = newId();
  const input = element("input", { type: "checkbox", id, "aria-describedby": `${id}-help` });
  input.checked = value;
  input.addEventListener("change", onChange);
  const words = element("label", { for: id }, label);
  const more = element("p", { id: `${id}-help`, class: "pl-small" }, help);
  const node = element("div", { class: "pl-check" }, input, words, more);
  return { node, show: (v) => (input.checked = v), value: () => input.checked };
}

function button(words, onClick) {
  const node = element("button", { type: "button" }, words);
  node.addEventListener("click", onClick);
  return node;
}

/** Show what `table` holds: heads, and rows whose first cell names the row. */
function fillTable(node, table) {
  const { caption = "", heads = [], rows = [] } = table;
  const head = heads.map((text) => element("th", { scope: "col" }, text));
  const body = rows.map(([name, ...cells]) =>
    element("tr", {}, element("th", { scope: "row" }, name),
      ...cells.map((text) => element("td", {}, text))));
  node.replaceChildren(
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...body),
  );
}

function fillFigures(node, figures) {
  const item = ({ name, value }) =>
    element("li", {}, element("span", {}, name), " ", element("strong", {}, value));
  node.replaceChildren(...figures.map(item));
}

// ------------------------------------------------------------------------------- the view

/** The controls: a change sends all settings that differ, once it has rested. */
function controls(model, sent) {
  const choices = model.get("choices");
  const get = (name) => model.get(name);
  const commit = debounce(() => {
    const read = (of) => Object.fromEntries(Object.keys(inputs).map((name) => [name, of(name)]));
    const patch = Object.entries(changes(read((name) => inputs[name].value()), read(get)));
    for (const [name, value] of patch) model.set(name, value);
    if (patch.length) send();
  }, DEBOUNCE);
  const send = () => {
    model.save_changes();
    sent();
  };
  const { soon } = commit;
  const range = (label, letter, name) => slider(label, letter, choices[name], get(name), soon);
  const inputs = {
    num_ranks: range("Ranks", "p", "num_ranks"),
    num_microbatches: range("Microbatches", "m", "num_microbatches"),
    schedule: dropdown("Schedule", choices.schedule, get("schedule"), soon),
    paced: checkbox(choices.paced, choices.pacedHelp, get("paced"), soon),
  };
  const ask = (name) => {
    model.set(name, get(name) + 1);
    send();
  };
  const again = button("Run again", () => commit.flush() || ask("run_asked"));
  const stop = button("Stop", () => {
    commit.cancel();
    if (get("state") === "running") ask("stop_asked");
  });
  const { paced, ...main } = inputs;
  const more = element("details", { class: "pl-more" }, element("summary", {}, "More"), paced.node);
  const form = element("form", { class: "pl-controls", "aria-label": "Controls" });
  form.append(...Object.values(main).map((control) => control.node));
  form.append(element("div", { class: "pl-buttons" }, again, stop), more);
  form.addEventListener("submit", (event) => event.preventDefault());
  return { node: form, inputs, again, stop, end: commit.cancel };
}

/** The picture, from bytes to an address that only this page knows. */
function picture() {
  const image = element("img", { alt: "", hidden: "" });
  let address = null;
  const end = () => address && URL.revokeObjectURL(address);
  return {
    node: image,
    end,
    show(bytes, alt) {
      end();
      address = bytes && URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
      image.hidden = !address;
      if (address) image.src = address;
      image.alt = alt;
    },
  };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  let patience = null;
  const note = element("p", { class: "pl-note", role: "status" });
  const answered = () => {
    clearTimeout(patience);
    note.textContent = "";
  };
  const sent = () => {
    clearTimeout(patience);
    patience = setTimeout(() => (note.textContent = NO_ANSWER), PATIENCE);
  };

  const panel = controls(model, sent);
  const image = picture();
  const summary = element("p", { class: "pl-summary", role: "status", "aria-live": "polite" });
  const error = element("pre", { class: "pl-error", role: "alert" });
  const figures = element("ul", { class: "pl-figures" });
  const table = element("table");
  const root = element("section", { class: "pl-lab", "aria-label": "Timeline lab" });
  root.append(panel.node, summary, note, error, element("figure", {}, image.node));
  root.append(element("div", { class: "pl-below" }, figures, table));
  root.dataset.lmSuppressShortcuts = "true";

  const views = {
    state() {
      const running = get("state") === "running";
      root.dataset.plState = get("state");
      panel.stop.setAttribute("aria-disabled", String(!running));
      panel.again.textContent = get("run_number") ? "Run again" : "Run";
      answered();
    },
    run_number() {
      root.dataset.plRun = get("run_number");
      answered();
    },
    summary: () => (summary.textContent = get("summary")),
    error: () => (error.textContent = get("error")),
    picture: () => image.show(bytesOf(get("picture")), get("alt")),
    alt: () => (image.node.alt = get("alt")),
    figures: () => fillFigures(figures, get("figures")),
    table: () => fillTable(table, get("table")),
  };
  for (const [name, { show }] of Object.entries(panel.inputs)) views[name] = () => show(get(name));
  for (const [name, show] of Object.entries(views)) {
    model.on(`change:${name}`, show);
    show();
  }
  el.append(root);
  return () => {
    for (const [name, show] of Object.entries(views)) model.off(`change:${name}`, show);
    clearTimeout(patience);
    panel.end();
    image.end();
  };
}

export default { render };
