// The small chart of the lab: the bubble of every run of this session, and what theory says.

const SIZE = { width: 380, height: 210, left: 44, right: 12, top: 12, bottom: 36 };
const RADIUS = 8; // of a mark

/**
 * Places of the runs, of what was predicted before them, and of theory's curve; `by` is "m" or "p".
 * Shares go up to a round value.
 */
export function chartOf(runs, curve, by, guesses = []) {
  const all = [...runs, ...guesses];
  const points = curve?.[by] ?? [];
  const last = Math.max(by === "m" ? 16 : 8, ...all.map((run) => run[by]));
  const highest = Math.max(0.1, ...all.map((run) => run.bubble), ...points.map(([, share]) => share));
  const top = Math.min(1, Math.ceil(highest * 10) / 10);
  const x = (value) => SIZE.left + ((SIZE.width - SIZE.left - SIZE.right) * value) / last;
  const y = (share) => SIZE.height - SIZE.bottom - ((SIZE.height - SIZE.top - SIZE.bottom) * share) / top;
  const line = points.map(([value, share], i) => `${i ? "L" : "M"}${x(value).toFixed(1)} ${y(share).toFixed(1)}`).join("");
  const place = (run) => ({ run, x: x(run[by]), y: y(run.bubble) });
  return { line, top, last, x, y, marks: apart(runs.map(place)), crosses: guesses.map(place) };
}

/** Schedules with the same bubble side by side: the last one would hide all others. */
function apart(marks) {
  const isNear = (a, b) => a.x === b.x && Math.abs(a.y - b.y) < RADIUS;
  return marks.map((mark) => {
    const near = marks.filter((other) => isNear(mark, other)).map(({ run }) => run.schedule);
    const schedules = [...new Set(near)];
    const place = schedules.indexOf(mark.run.schedule) - (schedules.length - 1) / 2;
    return { ...mark, x: mark.x + 1.5 * RADIUS * place };
  });
}

/** The chart with its choice of axis and its twin in words. */
function sessionChart() {
  let by = "m";
  let [runs, curve, guesses] = [[], null, []];
  const drawing = svg("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, class: "pl-chart", role: "img" });
  const title = element("b");
  const axis = (name, words) => {
    const node = button(words, () => {
      by = name;
      show();
    });
    node.dataset.by = name;
    return node;
  };
  const choice = element("div", { class: "pl-group", role: "group", "aria-label": "Against" },
    axis("m", "against m"), axis("p", "against p"));
  const list = element("ul", { class: "pl-scroll" });
  const says = element("p", { class: "pl-small" });
  const more = element("details", {}, element("summary", {}, "The same in words"), list);
  const node = element("figure", { class: "pl-session" }, element("figcaption", {}, title, choice, says), drawing, more);

  function text(words, x, y, attributes = {}) {
    const label = svg("text", { x, y, ...attributes });
    label.textContent = words;
    return label;
  }
  function show() {
    for (const axis of choice.children) axis.setAttribute("aria-pressed", axis.dataset.by === by);
    title.textContent = "Bubble of every run";
    says.textContent = [curve?.name && `line: ${curve.name} in theory, ${curve.fixed[by]}`,
      guesses.length && "×: your prediction"].filter(Boolean).join(" · ");
    const { line, top, last, x, y, marks, crosses } = chartOf(runs, curve, by, guesses);
    const low = SIZE.height - SIZE.bottom;
    const parts = [];
    for (let k = 0; k <= 4; k++) {
      const share = (top * k) / 4;
      parts.push(svg("path", { class: "pl-grid", d: `M${SIZE.left} ${y(share)}H${SIZE.width - SIZE.right}` }),
        text(`${Math.round(100 * share)} %`, SIZE.left - 6, y(share) + 4, { "text-anchor": "end" }));
    }
    for (let value = by === "m" ? 4 : 1; value <= last; value += by === "m" ? 4 : 1)
      parts.push(text(value, x(value), low + 16, { "text-anchor": "middle" }));
    parts.push(text(by === "m" ? "microbatches m" : "ranks p", SIZE.width - SIZE.right, low + 31, { "text-anchor": "end" }));
    parts.push(svg("path", { class: "pl-theory", d: line }));
    marks.forEach(({ run, x: at, y: up }, i) => {
      const latest = i === marks.length - 1 ? " pl-latest" : "";
      const mark = svg("g", { class: `pl-mark${latest}${run.paced ? "" : " pl-free"}` },
        svg("circle", { cx: at, cy: up, r: RADIUS }), text(run.mark, at, up + 4, { "text-anchor": "middle" }));
      const hint = svg("title");
      hint.textContent = run.words;
      mark.append(hint);
      parts.push(mark);
    });
    for (const { run, x: at, y: up } of crosses) { // last, so that a run does not hide it
      const hint = svg("title");
      hint.textContent = run.words;
      parts.push(svg("path", { class: "pl-cross", d: `M${at - 5} ${up - 5}l10 10m0 -10l-10 10` }, hint));
    }
    drawing.replaceChildren(...parts);
    drawing.setAttribute("aria-label", `The bubble of ${runs.length} runs against ${by === "m" ? "microbatches" : "ranks"}`);
    list.replaceChildren(...[...guesses, ...runs].map((run) => element("li", {}, run.words)));
    node.hidden = !runs.length;
  }
  return {
    node,
    /** New runs, or theory's curve for the latest; the axis is the one that was changed last. */
    show(newRuns, newCurve, newGuesses) {
      const [a, b] = newRuns.slice(-2);
      if (newRuns.length > runs.length && b && a.p !== b.p) by = "p";
      if (newRuns.length > runs.length && b && a.m !== b.m) by = "m";
      [runs, curve, guesses] = [newRuns, newCurve, newGuesses ?? []];
      show();
    },
  };
}
