// @ts-check
// The actions of the picture: wide ones as boxes with letters, narrow ones as flat shapes.
/** @import { Frame, State, View, Words } from "./types.js" */
import { kindOf, numberOf, partOf, token, within } from "./data.js";
import { fillOf, flat, flatBoxes } from "./lanes.js";
import { HATCHED, labelLook, nodeWidth } from "./layout.js";
import { set } from "./parts.js";

/** @import { Look } from "./layout.js" */
const MOST_LETTERS = 400;

/** @param {State} s @param {number} i */
const tintOf = ({ trace }, i) => Math.max(0, trace.stages[trace.rank[i]].indexOf(trace.stage[i]));

/** Actions: wide ones as nodes with letters, narrow ones flat. Returns how many labels are left.
 * @param {View} view @param {State} s @param {Frame} frame */
export function drawBoxes(view, s, { from, to, x, width, words }) {
  const { trace } = s;
  /** @type {[number, number][]} */
  const seen = [];
  trace.rows.forEach((row, rank) => {
    const [low, high] = within(row.boxes, from, to);
    for (let k = low; k < high; k++) seen.push([row.boxes.order[k], rank]);
  });
  const placed = seen.map(([i]) => [x(trace.start[i]), x(trace.end[i])]);
  const inWindow = (/** @type {number} */ i) => trace.end[i] > s.window.from && trace.start[i] < s.window.to;
  const least = nodeWidth(placed.filter((_, n) => inWindow(seen[n][0])).map(([a, b]) => b - a));
  /** @type {number[][][]} */
  const narrow = trace.rows.map(() => []);
  let labels = MOST_LETTERS;
  const areMany = seen.length > MOST_LETTERS;
  const look = lookOf(view, s, seen.map(([i]) => i), placed.map(([a, b]) => b - a));
  seen.forEach(([i, rank], n) => {
    const [a, b] = placed[n];
    if (b - a < least) narrow[rank].push([a, b, trace.kind[i], tintOf(s, i)]);
    else {
      const lines = drawBox(view, s, i, a, b - a, labels > 0 && look && b - a >= look.needs ? look : null);
      words.push(...lines);
      labels -= lines.length;
    }
  });
  drawNarrow(view, s, narrow, width);
  view.root.classList.toggle("pl-following", Boolean(s.followed));
  view.root.classList.toggle("pl-many", areMany); // round corners take a third of a frame
  view.nodes.boxes.finish();
  view.nodes.labels.finish();
  return labels;
}

/** Boxes too narrow to be nodes, row by row. @param {View} view @param {State} s @param {number[][][]} rows @param {number} width */
function drawNarrow(view, s, rows, width) {
  const shapes = flat(view.flats.dense);
  rows.forEach((boxes, rank) => {
    const [y, height] = view.place.rows[rank].box;
    flatBoxes(shapes, boxes, { width, asTheyAre: boxes.length < width / 8, y, height });
  });
  shapes.finish((key) => {
    const [kind, tint] = key.split(" ").map((text) => Number(text));
    const own = s.trace.head.kinds[kind];
    return { fill: fillOf(view, own, tint, false), "data-kind": own.name };
  });
}

/** The look of the labels of these events; null: no room.
 * @param {View} view @param {State} s @param {number[]} events @param {number[]} widths */
function lookOf(view, s, events, widths) {
  const { trace } = s;
  const most = (/** @type {ArrayLike<number>} */ column) => String(events.reduce((a, i) => Math.max(a, column[i]), 0)).length;
  const hasStages = trace.stages.some((stages) => stages.length > 1);
  const isWide = events.some((i) => kindOf(trace, i).letter === "W");
  const digits = numberOf(trace, events.reduce((a, i) => Math.max(a, trace.microbatch[i]), 0)).length;
  const { box } = view.place.rows[0] ?? { box: [0, 0] };
  return labelLook(widths, box[1], { digits, stages: hasStages ? most(trace.stage) : 0, isWide });
}

/** One action as a node; returns its labels.
 * @param {View} view @param {State} s @param {number} i @param {number} x @param {number} width @param {Look | null} look
 * @returns {Words[]} */
function drawBox(view, s, i, x, width, look) {
  const { trace, followed } = s;
  const kind = kindOf(trace, i);
  const place = tintOf(s, i);
  const rank = trace.rank[i];
  const [y, height] = partOf(trace, i, view.place.rows[rank].box);
  const tint = kind.tints[Math.min(place, kind.tints.length - 1)];
  const bare = followed && !followed.events.has(i) ? " pl-off" : "";
  set(view.nodes.boxes.next(rank), {
    x: x.toFixed(1), y, width: Math.max(0.5, width - 0.6).toFixed(1), height, class: `pl-box${bare}`,
    fill: fillOf(view, kind, place, width >= HATCHED && height >= HATCHED), stroke: tint[2], "data-i": i,
  });
  if (!look || height < look.size) return [];
  /** @type {Look["lines"]} */
  const lines = trace.microbatch[i] < 0 ? ["letter"]
    : height < look.tall ? look.lines.slice(-1) : look.lines; // half a row, of two that overlap
  const digits = numberOf(trace, trace.microbatch[i]);
  const texts = { token: token(trace, i), both: kind.letter + digits, letter: kind.letter, digits };
  const middle = y + height / 2 + look.size * 0.36;
  const stroke = kind.hatch ? tint[0] : "none"; // keeps the hatch from crossing the letters
  return lines.map((line, n) => {
    const node = view.nodes.labels.next(rank);
    set(node, { y: (middle + (n - (lines.length - 1) / 2) * (look.size + 0.5)).toFixed(1),
      fill: tint[1], stroke, "font-size": look.size, class: `pl-label${bare}`, "data-line": line });
    return { node, a: x, b: x + width, texts: [texts[line]], size: look.size };
  });
}
