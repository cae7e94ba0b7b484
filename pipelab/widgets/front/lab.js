// The lab: controls whose changes start runs on real ranks, and the timeline that plays them.
//
// Words and figures come from Python, in traits; this file lays them out and sends what was chosen.

const DEBOUNCE = 50; // ms that a slider must rest before it starts a run, unless it is let go:
                     // a key that is held comes again after 30 or so
const PATIENCE = 3000; // ms without an answer before the view says so
const NO_ANSWER =
  "No answer from the kernel: it is busy, or not running. " +
  "If this stays, run this cell again (Shift+Enter).";

/** The settings that differ from those that the model holds. */
export function changes(wanted, held) {
  return Object.fromEntries(Object.entries(wanted).filter(([name, value]) => held[name] !== value));
}

function fillFigures(node, figures) {
  const item = ({ name, value }) =>
    element("li", {}, element("span", {}, name), " ", element("strong", {}, value));
  node.replaceChildren(...figures.map(item));
}

/** The controls: a change sends all settings that differ; one of a slider, once it has rested. */
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
  const now = () => {
    commit.soon();
    commit.flush();
  };
  const range = (label, letter, name) => slider(label, letter, choices[name], get(name), commit);
  const choice = (label, name) => dropdown(label, choices[name], get(name), now);
  const inputs = {
    schedule: choice("Schedule", "schedule"),
    num_ranks: range("Ranks", "p", "num_ranks"),
    num_microbatches: range("Microbatches", "m", "num_microbatches"),
    pacing: choice("Pacing", "pacing"),
    latency: choice("A message takes", "latency"),
    replicas: choice("Replicas", "replicas"),
    budget: choice("Memory of a rank", "budget"),
    overlap: checkbox(choices.overlap, "", get("overlap"), now),
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
  const nodes = Object.values(inputs).map((control) => control.node);
  const help = element("p", { class: "pl-small" }, choices.pacingHelp);
  const extra = element("div", { class: "pl-extra" }, ...nodes.slice(3), help);
  const more = element("details", { class: "pl-more" }, element("summary", {}, "More"), extra);
  const form = element("form", { class: "pl-controls", "aria-label": "Controls",
    submit: (event) => event.preventDefault() });
  form.append(...nodes.slice(0, 3), element("div", { class: "pl-buttons" }, again, stop), more);
  return { node: form, inputs, again, stop, end: commit.cancel };
}

/** The lab on a page: `el` gets it, the model's traits fill it. */
function renderLab({ model, el }) {
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
  const view = timeline();
  const chart = sessionChart();
  const summary = element("p", { class: "pl-summary", role: "status", "aria-live": "polite" });
  const error = element("pre", { class: "pl-error", role: "alert" });
  const figures = element("ul", { class: "pl-figures", "aria-label": "The run in numbers" });
  const root = element("section", { class: "pl-lab pl-root", "aria-label": "Timeline lab" });
  const below = element("div", { class: "pl-below" }, figures, chart.node);
  root.append(panel.node, summary, note, error, view.node, below);
  root.dataset.lmSuppressShortcuts = "true";

  const views = {
    state() {
      const running = get("state") === "running";
      root.dataset.plState = get("state");
      panel.stop.setAttribute("aria-disabled", String(!running));
      panel.again.firstChild.textContent = get("run_number") ? "Run again" : "Run";
      answered();
    },
    run_number() {
      root.dataset.plRun = get("run_number");
      answered();
    },
    summary: () => (summary.textContent = get("summary")),
    error: () => (error.textContent = get("error")),
    figures: () => fillFigures(figures, get("figures")),
    session: () => chart.show(get("session"), get("curves"), get("guesses")),
    curves: () => chart.show(get("session"), get("curves"), get("guesses")),
    live: () => (root.dataset.plLive = get("live")),
  };
  for (const [name, { show }] of Object.entries(panel.inputs)) views[name] = () => show(get(name));
  const ends = [hear(model, views), bind(model, view), view.end, panel.end, () => clearTimeout(patience)];
  el.append(root);
  return () => ends.forEach((end) => end());
}

export default { render: renderLab };
