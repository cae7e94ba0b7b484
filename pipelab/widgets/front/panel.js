// What stands around the picture: a sentence, buttons, what each rank does now, words, tables.

/** The parts of a timeline, and how they tell what changed. `act` holds what its buttons do. */
function makeParts(s, image, act) {
  const stage = element("div", { class: "pl-stage" }, image.node);
  const tip = element("div", { class: "pl-tip", "aria-hidden": "true", hidden: "" });
  stage.append(tip);
  const says = element("p", { class: "pl-sentence" });
  const about = element("p", { class: "pl-about", role: "status" });
  const spoken = element("p", { class: "pl-spoken", role: "status", "aria-live": "polite" });
  const legend = element("ul", { class: "pl-legend", "aria-label": "Legend" });
  const now = element("ul", { class: "pl-now", "aria-label": "What each rank does at this time" });
  const clock = element("output", { class: "pl-clock" });
  const tables = element("div", { class: "pl-tables" });
  const bar = makeBar(s, act);
  const scrub = element("input", { type: "range", min: 0, max: 1000, step: 1, class: "pl-scrub",
    "aria-label": "Time of the replay",
    input: () => act.jump(s.whole.from + (scrub.value / 1000) * (s.whole.to - s.whole.from)) });
  const figure = element("figure", {}, stage, element("div", { class: "pl-time" }, scrub, clock));
  const node = element("section", { class: "pl-timeline", "aria-label": "Timeline" },
    says, bar.node, figure, about, now, legend, tables, spoken);
  node.dataset.lmSuppressShortcuts = "true";
  image.node.setAttribute("role", "application");
  image.node.setAttribute("aria-roledescription", "timeline");
  let [lines, known] = [[], null];

  /** Once per frame: the cursor's time, and what each rank does then. */
  function tell() {
    bar.tell();
    Object.assign(node.dataset, { plTime: s.time, plPlaying: s.playing, plFrom: s.window.from,
      plTo: s.window.to, plFollowed: s.followed ? s.followed.microbatch : "" });
    const ended = s.time >= s.whole.to;
    const text = ended && !s.live ? "end" : timeText(s.time);
    if (clock.textContent !== text) clock.textContent = text;
    scrub.value = Math.round(((s.time - s.whole.from) / (s.whole.to - s.whole.from)) * 1000);
    scrub.disabled = s.live;
    scrub.setAttribute("aria-valuetext", text);
    now.classList.toggle("pl-ended", ended && !s.live);
    const state = (rank) => (s.live ? atWork(s.trace, rank, s.ghost) : ended ? null : doing(s.trace, rank, s.time));
    lines.forEach((line, rank) => line(state(rank)));
  }
  /** A trace has come: everything that does not depend on the time. */
  function show() {
    if (s.live && known === s.head) return; // bars grow; nothing around them changes
    known = s.head;
    // no line ends between a number and its unit
    says.textContent = (s.head.sentence ?? "").replace(/(\d) (?=%|s\b|ms\b|µs)/g, "$1\u00a0");
    image.node.setAttribute("aria-label", `${s.head.alt ?? s.head.sentence ?? "Timeline"} ${HELP}`);
    lines = fillNow(s, now, image);
    fillLegend(s, legend, image);
    fillTables(s, tables);
    bar.show();
    describe();
  }
  /** Words on what is chosen and followed. */
  function describe() {
    const words = s.chosen >= 0 ? details(s.trace, s.chosen, s.ghost) : [];
    if (s.followed) {
      const { events, arrows, microbatch } = s.followed;
      const ends = [...events].map((i) => [s.trace.start[i], s.trace.end[i]]);
      const from = Math.min(...ends.map(([start]) => start));
      const to = Math.max(...ends.map(([, end]) => end));
      words.push(`following microbatch ${microbatch}: ${arrows.length} messages between ranks, ` +
        `from ${timeText(from)} to ${timeText(to)}`);
    }
    about.textContent = words.length ? `${words.join("; ")}.` : "";
  }
  /** The instant, for ears; not while it plays, which would be a flood. */
  function announce() {
    if (s.time >= s.whole.to) spoken.textContent = `End of the step, ${timeText(s.trace.span.to)}.`;
    else {
      const all = s.trace.rows.slice(0, 16).map((_, rank) => `rank ${rank} ${doing(s.trace, rank, s.time).words}`);
      spoken.textContent = `At ${timeText(s.time)}: ${all.join("; ")}.`;
    }
  }
  return { node, stage, tip, tell, show, describe, announce };
}

/** Buttons: replay, zoom, and what is shown. */
function makeBar(s, act) {
  const start = button("To the start", () => act.jump(s.whole.from), { icon: "start" });
  const back = button("Back by one action", () => act.stepBy(-1), { icon: "back" });
  const play = button("Play", act.play, { icon: "play", shown: true });
  const forth = button("On by one action", () => act.stepBy(1), { icon: "forth" });
  const speed = element("select", { "aria-label": "Speed of the replay",
    change: () => act.setSpeed(Number(speed.value)) });
  const replay = element("div", { class: "pl-group", role: "group", "aria-label": "Replay" },
    start, back, play, forth, speed);
  const look = element("div", { class: "pl-group", role: "group", "aria-label": "Zoom" },
    button("Zoom out", () => act.zoom(2), { icon: "minus" }),
    button("Zoom in", () => act.zoom(0.5), { icon: "plus" }),
    button("Show the whole step", act.whole, { icon: "whole" }));
  const lane = (name, words) => {
    const toggle = button(words, () => {
      s.lanes[name] = !s.lanes[name];
      if (name === "ghost") s.ghost = s.lanes.ghost && s.ghostFrom ? readTrace(...s.ghostFrom) : null;
      toggle.setAttribute("aria-pressed", s.lanes[name]);
      act.redraw();
    });
    toggle.setAttribute("aria-pressed", s.lanes[name]);
    return toggle;
  };
  const toggles = { messages: lane("messages", "Messages and steps"), memory: lane("memory", "Memory"),
    ghost: lane("ghost", "Prediction") };
  const lanes = element("div", { class: "pl-group", role: "group", "aria-label": "Also show" },
    ...Object.values(toggles));
  let shown = null;
  return {
    node: element("div", { class: "pl-bar" }, replay, look, lanes),
    show() {
      const { from, to } = s.live ? s.whole : s.trace.span;
      const { offered, usual } = speeds(to - from);
      if (!offered.some(([value]) => Number(value) === s.speed && shown)) s.speed = usual;
      speed.replaceChildren(...offered.map(([value, words]) => element("option", { value }, words)));
      speed.value = String(s.speed);
      toggles.memory.hidden = !s.curves;
      toggles.ghost.hidden = !s.ghostFrom;
      toggles.ghost.firstChild.textContent = s.ghostName === "predicted" ? "Prediction" : "Other run";
      if (s.ghostFrom && !s.lanes.ghost) s.ghost = null;
    },
    tell() {
      const state = `${s.playing} ${s.live}`;
      if (state === shown) return;
      shown = state;
      setIcon(play, s.playing ? "pause" : "play");
      play.lastChild.textContent = s.playing ? "Pause" : "Play";
      for (const node of [start, back, play, forth]) node.setAttribute("aria-disabled", s.live);
    },
  };
}

/** A sign of one kind: its colour, hatch and letter, as in the picture. */
function swatch(image, kind) {
  const [fill, ink, edge] = kind.tints[0];
  const letter = svg("text", { x: 12, y: 12.5, fill: ink, stroke: fill, class: "pl-label" });
  letter.textContent = kind.letter;
  return svg("svg", { width: 24, height: 17, "aria-hidden": true, class: "pl-swatch" },
    svg("rect", { x: 0.5, y: 0.5, width: 23, height: 16, rx: 2, fill: image.fill(kind), stroke: edge }), letter);
}

/** One line per rank; returns for each a function that shows what the rank does. */
function fillNow(s, list, image) {
  list.replaceChildren();
  return s.trace.rows.slice(0, 32).map((_, rank) => {
    const sign = element("span", { class: "pl-sign" });
    const text = element("span");
    list.append(element("li", {}, sign, element("b", {}, `rank ${rank}`), " ", text));
    let [before, name] = ["", ""];
    return (state) => {
      const words = state ? state.words : s.head.totals?.[rank] ?? "has finished";
      if (words === before) return;
      text.textContent = before = words;
      const kind = state && state.event >= 0 ? s.trace.head.kinds[s.trace.kind[state.event]] : null;
      if ((kind?.name ?? "") === name) return;
      name = kind?.name ?? "";
      sign.replaceChildren(...(kind ? [swatch(image, kind)] : []));
      list.children[rank].classList.toggle("pl-waits", !kind);
    };
  });
}

// What each shade of idle time stands for: two reasons share one where neither can be cured.
const SHADES = [{ waiting: "waits for another rank" }, { message: "its message is under way" },
  { imbalance: "another rank has more work" }, { done: "nothing left to do", step: "end of the step" },
  { overhead: "between two actions", blocked: "held up in a send" }];

/** What occurs in this trace, with its sign. */
function fillLegend(s, list, image) {
  const there = new Set(s.live && s.ghost ? s.ghost.kind : s.trace.kind); // a live one has more to come
  const items = s.trace.head.kinds.filter((kind, place) => there.has(place) && kind.name !== "WAIT")
    .map((kind) => element("li", {}, swatch(image, kind), kind.words.replace(/^. /, "")));
  const reasons = new Set(s.head.idle?.reason ?? []);
  for (const shade of SHADES) {
    const [reason, ...more] = Object.keys(shade).filter((name) => reasons.has(name));
    if (!reason) continue;
    const words = [reason, ...more].map((name) => shade[name]).join(", or ");
    const sign = svg("svg", { width: 24, height: 17, "aria-hidden": true, class: "pl-swatch" },
      svg("rect", { width: 24, height: 17, class: `pl-why pl-${reason}` }));
    items.push(element("li", {}, sign, `idle: ${words}`));
  }
  if (s.trace.stages.some((stages) => stages.length > 1)) items.push(element("li", {}, "lighter: a later stage of the rank"));
  if (s.budget && s.curves) items.push(element("li", {}, `dashed: memory budget, ${bytesText(s.budget)}`));
  list.replaceChildren(...items);
}

/** The same in tables; the long one is made when somebody opens it. */
function fillTables(s, place) {
  const folded = (words, make, open = false) => {
    const box = element("details", open ? { open: "" } : {}, element("summary", {}, words));
    const fill = () => box.open && box.children.length < 2 && box.append(element("div", { class: "pl-scroll" }, ...make()));
    box.addEventListener("toggle", fill);
    fill();
    return box;
  };
  const boxes = [];
  const { comparison, tables } = s.head;
  if (comparison) boxes.push(folded("The difference in numbers", () => [tableOf(comparison)], true));
  if (tables?.length) boxes.push(folded("The same as tables", () => tables.map(tableOf)));
  if (s.trace.n && !s.live) boxes.push(folded("All actions", () => [tableOf(actions(s))]));
  place.replaceChildren(...boxes);
}

const MOST_ROWS = 3000; // a longer table takes seconds to lay out

/** Every action in order of rank and start. */
function actions({ trace }) {
  const rows = trace.rows.flatMap((row, rank) => [...row.boxes.order, ...row.messages.order]
    .sort((a, b) => trace.start[a] - trace.start[b])
    .map((i) => [`rank ${rank}`, token(trace, i), timeText(trace.start[i]),
      timeText(trace.end[i] - trace.start[i]), trace.bytes[i] > 0 ? bytesText(trace.bytes[i]) : "",
      trace.peer[i] >= 0 ? `rank ${trace.peer[i]}` : ""]));
  const cut = rows.length > MOST_ROWS ? `the first ${MOST_ROWS} of ${rows.length} actions` : `all ${rows.length} actions`;
  return { caption: cut, heads: ["rank", "action", "start", "takes", "bytes", "peer"], rows: rows.slice(0, MOST_ROWS) };
}
