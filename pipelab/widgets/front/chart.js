// @ts-check
// The small chart of the lab: the bubble of every run of this session, and what theory says.
/** @import { Run, Theory } from "./types.js" */
import { button, element, svg, write } from "./parts.js";
import { say } from "./scale.js";

/** @typedef {"m" | "p"} Axis */
const SIZE = { width: 440, height: 158, left: 44, right: 12, top: 10, bottom: 32 };
const RADIUS = 8; // of a mark
const STEPS = [0.02, 0.05, 0.1, 0.25]; // between two lines of the grid; at most four parts

/** Places of the runs, of their predictions, and of theory's curve. Shares go up to a round value.
 * @param {Run[]} runs @param {Theory | null} curve @param {Axis} by @param {Run[]} guesses */
export function chartOf(runs, curve, by, guesses = []) {
  const all = [...runs, ...guesses];
  const points = curve?.[by] ?? [];
  const last = Math.max(by === "m" ? 16 : 8, ...all.map((run) => run[by]));
  const highest = Math.max(0.1, ...all.map((run) => run.bubble), ...points.map(([, share]) => share));
  const step = STEPS.find((each) => highest <= 4 * each + 1e-9) ?? 0.25;
  const top = Math.min(1, Math.ceil(highest / step - 1e-9) * step);
  const x = (/** @type {number} */ value) => SIZE.left + ((SIZE.width - SIZE.left - SIZE.right) * value) / last;
  const y = (/** @type {number} */ share) =>
    SIZE.height - SIZE.bottom - ((SIZE.height - SIZE.top - SIZE.bottom) * share) / top;
  const line = points.map(([value, share], i) => `${i ? "L" : "M"}${x(value).toFixed(1)} ${y(share).toFixed(1)}`).join("");
  const place = (/** @type {Run} */ run) => ({ run, x: x(run[by]), y: y(run.bubble) });
  return { line, top, step, last, x, y, marks: apart(runs.map(place)), crosses: guesses.map(place) };
}

/** Schedules with the same bubble side by side: the last one would hide all others.
 * @param {{ run: Run, x: number, y: number }[]} marks */
function apart(marks) {
  return marks.map((mark) => {
    const near = marks.filter((other) => mark.x === other.x && Math.abs(mark.y - other.y) < RADIUS);
    const schedules = [...new Set(near.map(({ run }) => run.schedule))];
    const place = schedules.indexOf(mark.run.schedule) - (schedules.length - 1) / 2;
    return { ...mark, x: mark.x + 1.5 * RADIUS * place };
  });
}

/** @param {string | number} words @param {number} x @param {number} y @param {string} anchor */
function text(words, x, y, anchor) {
  const label = svg("text", { x, y, "text-anchor": anchor });
  label.textContent = String(words);
  return label;
}

/** @param {string} tag @param {Run} run @param {Record<string, unknown>} attributes @param {Node[]} children */
function hinted(tag, run, attributes, ...children) {
  const hint = svg("title");
  hint.textContent = run.words ?? "";
  return svg(tag, attributes, ...children, hint);
}

/** How a run's mark looks: the latest is full, a disturbed one hollow, one of other sizes pale.
 * @param {Run} run @param {Run} latest @param {Axis} by */
function looksOf(run, latest, by) {
  const other = by === "m" ? "p" : "m";
  const names = { "pl-latest": run === latest, "pl-free": !run.paced, "pl-hollow": run.disturbed,
    "pl-pale": run[other] !== latest[other] };
  return ["pl-mark", ...Object.entries(names).filter(([, holds]) => holds).map(([name]) => name)].join(" ");
}

/** The nodes of the chart. @param {ReturnType<typeof chartOf>} chart @param {Axis} by */
function draw({ line, top, step: apart, last, x, y, marks, crosses }, by) {
  const low = SIZE.height - SIZE.bottom;
  const parts = [];
  for (let share = 0; share <= top + 1e-9; share += apart) {
    parts.push(svg("path", { class: "pl-grid", d: `M${SIZE.left} ${y(share)}H${SIZE.width - SIZE.right}` }),
      text(say("percent", { value: Math.round(100 * share) }), SIZE.left - 6, y(share) + 4, "end"));
  }
  const step = by === "m" ? 4 : 1;
  for (let value = step; value <= last; value += step) parts.push(text(value, x(value), low + 16, "middle"));
  const name = say(by === "m" ? "microbatches_axis" : "ranks_axis");
  parts.push(text(name, SIZE.width - SIZE.right, low + 29, "end"), svg("path", { class: "pl-theory", d: line }));
  const latest = marks[marks.length - 1]?.run;
  // Under the marks, whose letters stay readable, and larger than these, so that a run does not hide one.
  for (const { run, x: at, y: up } of crosses)
    parts.push(hinted("path", run, { class: "pl-cross", d: `M${at - 9} ${up - 9}l18 18m0 -18l-18 18` }));
  marks.forEach(({ run, x: at, y: up }) => {
    parts.push(hinted("g", run, { class: looksOf(run, latest ?? run, by) }, svg("circle", { cx: at, cy: up, r: RADIUS }),
      text(run.mark ?? "?", at, up + 4, "middle")));
  });
  return parts;
}

/** What the letters and looks of these marks say. @param {Run[]} runs @param {Theory | null} curve
 * @param {Axis} by @param {Run[]} guesses */
function keyOf(runs, curve, by, guesses) {
  const letters = new Map(runs.map((run) => [run.mark, run.name]));
  const latest = runs[runs.length - 1];
  const isPale = runs.some((run) => (by === "m" ? run.p !== latest.p : run.m !== latest.m));
  return [
    curve?.name ? say("theory", { name: curve.name, fixed: curve.fixed?.[by] ?? "" }) : "",
    ...[...letters].map(([mark, name]) => say("mark", { mark: mark ?? "?", name: name ?? "" })),
    guesses.length ? say("prediction_mark") : "",
    runs.some((run) => run.disturbed) ? say("hollow_mark") : "",
    isPale ? say("pale_mark", { letter: by === "m" ? "p" : "m" }) : "",
  ].filter(Boolean).join(" · ");
}

/** The chart with its choice of axis, and the same in words. @param {() => void} clear forgets all runs */
export function sessionChart(clear) {
  /** @type {Axis} */
  let by = "m";
  /** @type {{ runs: Run[], curve: Theory | null, guesses: Run[] }} */
  let shown = { runs: [], curve: null, guesses: [] };
  const drawing = svg("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, class: "pl-chart", role: "img" });
  const axis = (/** @type {Axis} */ name, /** @type {string} */ words) => {
    const node = button(words, () => {
      by = name;
      update();
    });
    node.dataset.by = name;
    return node;
  };
  const axes = [axis("m", "against m"), axis("p", "against p")];
  const choice = element("div", { class: "pl-group", role: "group", "aria-label": "Against" }, ...axes, button("Clear", clear));
  const list = element("ul", { class: "pl-scroll" });
  const key = element("p", { class: "pl-small pl-key" });
  const more = element("details", {}, element("summary", {}, "The same in words"), list);
  const node = element("figure", { class: "pl-session" },
    element("figcaption", {}, element("b", {}, "Bubble of every run"), choice), drawing, key);

  function update() {
    const { runs, curve, guesses } = shown;
    for (const each of axes) each.setAttribute("aria-pressed", String(each.dataset.by === by));
    write(key, keyOf(runs, curve, by, guesses));
    drawing.replaceChildren(...draw(chartOf(runs, curve, by, guesses), by));
    drawing.setAttribute("aria-label", say(by === "m" ? "chart_m" : "chart_p", { count: runs.length }));
    list.replaceChildren(...[...guesses, ...runs].map((run) => element("li", {}, run.words ?? "")));
  }
  return {
    node, more,
    /** New runs, or theory's curve for the latest; the axis is the one that was changed last.
     * @param {Run[]} runs @param {Theory | null} curve @param {Run[]} guesses */
    show(runs, curve, guesses) {
      const [a, b] = runs.slice(-2);
      const isNew = runs.length > shown.runs.length && b;
      if (isNew && a.p !== b.p) by = "p";
      if (isNew && a.m !== b.m) by = "m";
      shown = { runs, curve, guesses };
      update();
    },
  };
}
