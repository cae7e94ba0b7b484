// @ts-check
// What is around the picture: a sentence, buttons, what each rank does now, legend, tables.
/** @import { Act, Doing, Head, Image, Kind, Reason, State, Table, Trace } from "./types.js" */
import { makeBar } from "./bar.js";
import { details, doing, isBox, isInLane, numberOf, token } from "./data.js";
import { element, set, svg, tableOf, write } from "./parts.js";
import { bytesText, say, timeText } from "./scale.js";
import { WORDS } from "./words.js";

/** @typedef {(trace: import("./types.js").Trace, rank: number, plan: import("./types.js").Trace | null) => Doing} AtWork */

/** The elements around the picture, empty.
 * @param {Image} image @param {HTMLElement} bar @param {HTMLElement} scrub @param {HTMLElement} help */
function makeNodes(image, bar, scrub, help) {
  const stage = element("div", { class: "pl-stage" }, image.node, help);
  const disturbed = element("p", { class: "pl-disturbed", role: "status" });
  const tip = element("div", { class: "pl-tip", "aria-hidden": "true", hidden: "" });
  stage.append(tip);
  const sentence = element("p", { class: "pl-sentence" });
  const about = element("p", { class: "pl-about", role: "status", "data-hint": say("help_choose") });
  const spoken = element("p", { class: "pl-spoken", role: "status", "aria-live": "polite" });
  const legend = element("ul", { class: "pl-legend", "aria-label": "Legend" });
  const now = element("ul", { class: "pl-now", "aria-label": "What each rank does at this time" });
  const clock = element("output", { class: "pl-clock" });
  const tables = element("div", { class: "pl-tables" });
  const figure = element("figure", {}, stage, element("div", { class: "pl-time" }, scrub, clock));
  const node = element("section", { class: "pl-timeline", "aria-label": "Timeline" },
    disturbed, sentence, bar, figure, about, now, legend, tables, spoken);
  node.dataset.lmSuppressShortcuts = "true";
  set(image.node, { role: "application", "aria-roledescription": "timeline" });
  return { node, stage, tip, disturbed, sentence, about, spoken, legend, now, clock, tables };
}

/** The parts of a timeline, and how they show what changed; `act` holds what its buttons do.
 * @param {State} s @param {Image} image @param {Act} act @param {Node[]} extra more buttons
 * @param {AtWork} atWork what a rank of a run in progress does */
export function makeParts(s, image, act, extra, atWork) {
  const { help, ...bar } = makeBar(s, image, act, extra);
  const scrub = element("input", { type: "range", min: 0, max: 1000, step: 1, class: "pl-scrub",
    "aria-label": "Time of the replay",
    input: () => act.jump(s.whole.from + (Number(scrub.value) / 1000) * (s.whole.to - s.whole.from)) });
  const nodes = makeNodes(image, bar.node, scrub, help);
  /** @type {((state: Doing | null) => void)[]} */
  let lines = [];
  /** @type {Head | null} */
  let known = null;
  /** @type {Trace | null} */
  let named = null; // what is over the trace as the legend names it
  const describe = () => write(nodes.about, description(s));

  return {
    node: nodes.node, stage: nodes.stage, tip: nodes.tip, disturbed: nodes.disturbed, describe,
    /** Once per frame: the cursor's time, and what each rank does then. */
    update() {
      bar.update();
      Object.assign(nodes.node.dataset, { plTime: s.time, plPlaying: s.playing, plFrom: s.window.from,
        plTo: s.window.to, plFollowed: s.followed ? s.followed.microbatch : "" });
      const hasEnded = s.time >= s.whole.to && !s.live;
      const text = hasEnded ? "end" : timeText(s.time);
      write(nodes.clock, text);
      scrub.value = String(Math.round(((s.time - s.whole.from) / (s.whole.to - s.whole.from)) * 1000));
      scrub.disabled = s.live;
      set(scrub, { "aria-valuetext": text });
      nodes.now.classList.toggle("pl-ended", hasEnded);
      nodes.node.classList.toggle("pl-no-lane", !s.lanes.messages);
      nodes.node.classList.toggle("pl-no-ghost", Boolean(s.ghostFrom) && !s.lanes.ghost);
      const stateOf = (/** @type {number} */ rank) =>
        s.live ? atWork(s.trace, rank, s.ghost) : hasEnded ? null : doing(s.trace, rank, s.time);
      lines.forEach((line, rank) => line(stateOf(rank)));
      if (s.ghost !== named && !s.live) fillLegend(s, nodes.legend, image); // a button shows it, or not
      named = s.ghost;
    },
    /** A trace has come: everything that does not depend on the time. */
    show() {
      const { head } = s.trace;
      describe();
      if (s.live && known === head) return; // bars grow; nothing else around them changes
      known = head;
      write(nodes.disturbed, head.disturbed ?? "");
      write(nodes.sentence, head.sentence ?? "");
      set(image.node, { "aria-label": `${head.alt ?? head.sentence ?? "Timeline"} ${say("help_keys")}` });
      lines = fillNow(s, nodes.now, image);
      bar.show();
      if (s.live && nodes.legend.firstChild) return; // the record that follows has more, at the same place
      fillLegend(s, nodes.legend, image);
      fillTables(s, nodes.tables);
    },
    /** The time for screen readers; not while it plays, which would be too much. */
    announce() {
      if (s.time >= s.whole.to) nodes.spoken.textContent = say("end", { time: timeText(s.trace.span.to) });
      else {
        const all = s.trace.rows.slice(0, 16).map((_, rank) =>
          say("rank_does", { rank, does: doing(s.trace, rank, s.time).words }));
        nodes.spoken.textContent = say("at", { time: timeText(s.time), ranks: all.join("; ") });
      }
    },
  };
}

/** Words on what is chosen and followed. @param {State} s */
function description(s) {
  const words = s.chosen >= 0 ? details(s.trace, s.chosen, s.ghost) : [];
  if (s.followed) {
    const { events, arrows, microbatch } = s.followed;
    const boxes = [...events].filter((i) => isBox(s.trace, i));
    const starts = boxes.map((i) => s.trace.start[i]);
    const ends = boxes.map((i) => s.trace.end[i]);
    words.push(say("following", { microbatch: numberOf(s.trace, microbatch), count: arrows.length, start: timeText(Math.min(...starts)),
      end: timeText(Math.max(...ends)) }));
  }
  return words.length ? `${words.join("; ")}.` : "";
}

/** One line per rank; returns for each a function that shows what the rank does.
 * @param {State} s @param {Element} list @param {Image} image */
function fillNow(s, list, image) {
  list.replaceChildren();
  return s.trace.rows.slice(0, 32).map((_, rank) => {
    const sign = element("span", { class: "pl-sign" });
    const text = element("span");
    list.append(element("li", {}, sign, element("b", {}, say("rank", { rank })), " ", text));
    let [before, name] = ["", ""];
    return (/** @type {Doing | null} */ state) => {
      const words = state ? state.words : s.trace.head.totals?.[rank] ?? say("finished");
      if (words === before) return;
      before = words;
      text.textContent = text.title = words;
      const kind = state && state.event >= 0 ? s.trace.head.kinds[s.trace.kind[state.event]] : null;
      if ((kind?.name ?? "") === name) return;
      name = kind?.name ?? "";
      sign.replaceChildren(...(kind ? [swatch(image, kind)] : []));
      list.children[rank].classList.toggle("pl-waits", !kind);
    };
  });
}

// Reasons for idle time that have one shade in common, see timeline.css.
/** @type {Reason[][]} */
const SHADES = [["waiting"], ["message"], ["imbalance"], ["done", "step"], ["overhead", "blocked"]];

/** A sign of one kind: its colour, hatch and letter, as in the picture. @param {Image} image @param {Kind} kind */
function swatch(image, kind) {
  const [fill, ink, edge] = kind.tints[0];
  const letter = svg("text", { x: 12, y: 12.5, fill: ink, stroke: fill, class: "pl-label", "font-size": 12 });
  letter.textContent = kind.letter;
  return svg("svg", { width: 24, height: 17, "aria-hidden": true, class: "pl-swatch" },
    svg("rect", { x: 0.5, y: 0.5, width: 23, height: 16, rx: 2, fill: image.fill(kind), stroke: edge }), letter);
}

/** @param {State} s @param {Element} list @param {Image} image */
function fillLegend(s, list, image) {
  const { head } = s.trace;
  const traces = s.ghost ? [s.trace, s.ghost] : [s.trace]; // a live trace is not complete
  const present = new Set(traces.flatMap((trace) => [...trace.kind]));
  const inRows = new Set(traces.flatMap((trace) => [...trace.kind].filter((_, i) => !isInLane(trace, i))));
  const items = head.kinds.flatMap((kind, place) => present.has(place) && kind.name !== "WAIT"
    ? [element("li", inRows.has(place) ? {} : { class: "pl-in-lane" }, swatch(image, kind), kind.words)] : []);
  const reasons = new Set(head.idle?.seen ?? head.idle?.reason ?? []); // older pictures name all
  for (const shade of SHADES) {
    const [one, other] = shade.filter((reason) => reasons.has(reason));
    if (!one) continue;
    const [words] = WORDS.reasons[one];
    const reason = other ? say("or", { one: words, other: WORDS.reasons[other][0] }) : words;
    const sign = svg("svg", { width: 24, height: 17, "aria-hidden": true, class: "pl-swatch" },
      svg("rect", { width: 24, height: 17, class: `pl-why pl-${one}` }));
    items.push(element("li", {}, sign, say("idle_because", { reason })));
  }
  if (s.trace.stages.some((stages) => stages.length > 1)) items.push(element("li", {}, say("lighter")));
  if (s.budget && s.curves) items.push(element("li", {}, say("dashed", { bytes: s.memoryUnit === "bytes" ? bytesText(s.budget) : say("activations", { count: s.budget }) })));
  list.replaceChildren(...items);
}

const MOST_ROWS = 3000; // a longer table takes seconds to lay out

/** @param {State} s @param {Element} place */
function fillTables(s, place) {
  const boxes = [];
  const { comparison, tables } = s.trace.head;
  if (comparison) {
    boxes.push(folded("The difference in numbers", () => [tableOf(comparison)], true));
    boxes[0].classList.add("pl-difference");
  }
  if (tables?.length) boxes.push(folded("The same as tables", () => tables.map(tableOf)));
  if (s.trace.n && !s.live) boxes.push(folded("All actions", () => [tableOf(actions(s))]));
  place.replaceChildren(...boxes);
}

/** @param {string} words @param {() => Node[]} make @param {boolean} isOpen */
function folded(words, make, isOpen = false) {
  const box = element("details", isOpen ? { open: "" } : {}, element("summary", {}, words));
  const fill = () => {
    if (box.open && box.children.length < 2) box.append(element("div", { class: "pl-scroll" }, ...make()));
  };
  box.addEventListener("toggle", fill);
  fill();
  return box;
}

/** Every action in order of rank and start. @param {State} s @returns {Table} */
function actions({ trace }) {
  const rows = trace.rows.flatMap((row, rank) => [...row.boxes.order, ...row.messages.order]
    .sort((a, b) => trace.start[a] - trace.start[b])
    .map((i) => [say("rank", { rank }), token(trace, i), timeText(trace.start[i]),
      timeText(trace.end[i] - trace.start[i]), trace.bytes[i] > 0 ? bytesText(trace.bytes[i]) : "",
      trace.peer[i] >= 0 ? say("rank", { rank: trace.peer[i] }) : ""]));
  const count = rows.length;
  const caption = count > MOST_ROWS ? say("first_actions", { shown: MOST_ROWS, count }) : say("all_actions", { count });
  return { caption, heads: ["rank", "action", "start", "takes", "bytes", "peer"], rows: rows.slice(0, MOST_ROWS) };
}
