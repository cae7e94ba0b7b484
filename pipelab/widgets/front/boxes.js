// @ts-check
// The actions of the picture: wide ones as boxes with letters, narrow ones as flat shapes.
/** @import { Frame, State, View } from "./types.js" */
import { kindOf, numberOf, partOf, token, within } from "./data.js";
import { fillOf, flat, flatBoxes } from "./lanes.js";
import { fitting, HATCHED, nodeWidth } from "./layout.js";
import { set } from "./parts.js";

const LETTERS = 12; // px
const SMALL = 10.5; // px: of a letter above its number, in a box too narrow for both side by side
const MOST_LETTERS = 400;

/** @param {State} s @param {number} i */
const tintOf = ({ trace }, i) => Math.max(0, trace.stages[trace.rank[i]].indexOf(trace.stage[i]));

/** Actions: wide ones as nodes with letters, narrow ones flat. Returns how many labels are left.
 * @param {View} view @param {State} s @param {Frame} frame */
export function drawBoxes(view, s, { from, to, x, width }) {
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
  const areMany = seen.length > MOST_LETTERS; // then letters alone would use up what numbers need
  seen.forEach(([i, rank], n) => {
    const [a, b] = placed[n];
    if (b - a < least) narrow[rank].push([a, b, trace.kind[i], tintOf(s, i)]);
    else labels -= drawBox(view, s, i, a, b - a, labels > 0 && (!areMany || b - a > 22));
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

/** One action as a node; returns how many labels it got.
 * @param {View} view @param {State} s @param {number} i @param {number} x @param {number} width @param {boolean} mayLabel */
function drawBox(view, s, i, x, width, mayLabel) {
  const { trace, followed } = s;
  const kind = kindOf(trace, i);
  const place = tintOf(s, i);
  const [y, height] = partOf(trace, i, view.place.rows[trace.rank[i]].box);
  const tint = kind.tints[Math.min(place, kind.tints.length - 1)];
  const bare = followed && !followed.events.has(i) ? " pl-off" : "";
  set(view.nodes.boxes.next(), {
    x: x.toFixed(1), y, width: Math.max(0.5, width - 0.6).toFixed(1), height, class: `pl-box${bare}`,
    fill: fillOf(view, kind, place, width >= HATCHED && height >= HATCHED), stroke: tint[2], "data-i": i,
  });
  if (!mayLabel || height < LETTERS || width < 10) return 0;
  const digits = numberOf(trace, trace.microbatch[i]);
  const many = trace.stages[trace.rank[i]].length > 1;
  const inLine = fitting([...(many ? [token(trace, i)] : []), kind.letter + digits], width, LETTERS);
  const stacked = !inLine && height >= 2.2 * LETTERS && fitting([digits], width, SMALL);
  const middle = y + height / 2 + 4.3;
  const stroke = kind.hatch ? tint[0] : "none"; // keeps the hatch from crossing the letters
  const write = (/** @type {string} */ text, /** @type {number} */ at, looks = "") => {
    const node = view.nodes.labels.next();
    node.textContent = text;
    set(node, { x: (x + width / 2).toFixed(1), y: at, fill: tint[1], stroke, class: `pl-label${looks}${bare}` });
  };
  if (!stacked) write(inLine || kind.letter, middle);
  else [kind.letter, digits].forEach((text, line) => write(text, middle - 6 + line * 11, " pl-stacked"));
  return stacked ? 2 : 1;
}
