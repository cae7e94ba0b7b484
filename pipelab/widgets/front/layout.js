// @ts-check
// Where things are in the picture, in pixels: names at the left, the plot, percentages at the right.
/** @import { Place, Placed, State } from "./types.js" */
import { clamp, first } from "./scale.js";

export const LEAST = 3; // px: narrower boxes become flat shapes without outline, hatch and letter
export const HATCHED = 8; // px: a hatch below this width cannot be seen, but costs most of a frame
const MOST_NODES = 1000; // boxes that are separate nodes: a frame of more takes too long
export const COLUMN = 4; // px: where many narrow boxes meet, each column shows how its time was spent

const ROOM = 172; // px for the boxes of 4 to 8 ranks: a screen holds more than the picture
const LARGE = 43; // px from one rank to the next, at most
const SMALL_ROW = 21.5; // and at least, as long as all of them together are not taller than TALL
const TALL = 440;
const EXTRA = { ghost: 0.36, messages: 0.3, memory: 0.6 }; // heights of a row's other parts, in boxes

/** Rows of the picture from top to bottom; each part is [y, height].
 * @param {Pick<State, "trace" | "ghost" | "lanes" | "curves" | "guess" | "live">} state
 * @param {number} width @returns {Place} */
export function layout({ trace, ghost, lanes, curves, guess, live }, width) {
  const { ranks } = trace.head;
  const left = 68;
  // A run in progress has no curve yet; the record that follows has, and shall not move anything.
  const has = { ghost: Boolean(ghost), messages: lanes.messages, memory: lanes.memory && Boolean(curves || live) };
  const right = width >= 620 ? 82 : has.memory ? 68 : 48; // for "27 % idle", "289.3 kB", "27 %"
  const parts = /** @type {(keyof typeof EXTRA)[]} */ (["ghost", "messages", "memory"]).filter((name) => has[name]);
  const extra = parts.reduce((sum, name) => sum + EXTRA[name], 0);
  const taller = 1 + 0.5 * extra; // half of what the other parts need is taken from the boxes
  const others = ghost?.rows?.length ?? 0;
  const pitch = taller * clamp(ROOM / Math.max(ranks, others), Math.min(SMALL_ROW, TALL / Math.max(ranks, others)), LARGE);
  const gap = pitch > 20 ? 7 : 1;
  const box = Math.max(3, Math.floor((pitch - gap - 2 * parts.length) / (1 + extra)));
  const part = (/** @type {keyof typeof EXTRA} */ name) => (has[name] ? Math.max(LEAST, Math.round(box * EXTRA[name])) : 0);
  const height = { ghost: part("ghost"), messages: part("messages"), memory: part("memory") };
  /** @type {Placed[]} */
  const rows = [];
  const needed = height.ghost + box + height.messages + height.memory + 5; // with the gaps between them
  const stride = Math.max(pitch, extra ? needed : box + 1);
  const top = guess ? 22 : 6; // its text is above the first row
  for (let rank = 0; rank < ranks; rank++) {
    const y = top + Math.round(rank * stride);
    const boxAt = y + height.ghost;
    const messagesAt = boxAt + box + (height.messages ? 2 : 0);
    const memoryAt = messagesAt + height.messages + (height.memory ? 3 : 0);
    const bottom = memoryAt + height.memory;
    rows.push({ top: y, ghost: [y, height.ghost], box: [boxAt, box], messages: [messagesAt, height.messages],
      memory: [memoryAt, height.memory], bottom });
  }
  let bottom = top + Math.round(ranks * stride);
  for (let rank = ranks; rank < others; rank++) { // ranks that only the other trace has
    const only = Math.max(height.ghost, Math.round(box * 0.6));
    const end = bottom + only;
    rows.push({ top: bottom, ghost: [bottom, only], box: [end, 0], messages: [end, 0], memory: [end, 0], bottom: end });
    bottom = end + gap;
  }
  return { width, left, right, plot: Math.max(120, width - left - right), rows, bottom, height: bottom + 26 };
}

/** The rank at a height, or -1. @param {Pick<Place, "rows">} place @param {number} y */
export function rankAt({ rows }, y) {
  const rank = first(rows.length, (i) => (rows[i + 1]?.top ?? rows[i].bottom + 4) > y);
  return rank < rows.length && y >= rows[rank].top - 5 ? rank : -1;
}

/** How wide a box must be to be a separate node, so that not too many are. @param {number[]} widths */
export function nodeWidth(widths) {
  const wide = widths.filter((width) => width >= LEAST);
  if (wide.length <= MOST_NODES) return LEAST;
  return Float32Array.from(wide).sort()[wide.length - MOST_NODES] + 1e-3;
}

/** The longest of some labels that fits into a width, at a size of its letters.
 * @param {string[]} labels @param {number} width @param {number} size */
export function fitting(labels, width, size) {
  return labels.find((label) => label.length * size * 0.66 + 3 <= width) ?? "";
}

/** One look of all labels of a picture: how large, and what of an action is written.
 * @typedef {{ size: number, needs: number, tall: number, lines: ("token" | "letter" | "digits" | "both")[] }} Look */

/** The look that most boxes have room for: letter and number in a line, one above the other, or the
 * number alone; where most have none, the one that needs least, for those that have. It is the same
 * for all, so that boxes of equal size look equal.
 * @param {number[]} widths of the boxes @param {number} height of them
 * @param {{ digits: number, stages: number, isWide: boolean }} most digits of a microbatch and of a
 * stage (0: not named), and whether a letter is as wide as W @returns {Look | null} */
export function labelLook(widths, height, { digits, stages, isWide }) {
  const [letter, digit] = [isWide ? 1.15 : 0.78, 0.72]; // em: bold, in the widest of the usual fonts
  /** @param {number} size @param {number} ems @param {number} rows @param {Look["lines"]} lines @returns {Look} */
  const look = (size, ems, rows, lines) => ({ size, needs: ems * size + 3, tall: rows * (size - 0.5) + 3, lines });
  const looks = [look(12, letter + digits * digit, 1, ["both"]), look(10.5, letter + digits * digit, 1, ["both"]),
    look(10.5, Math.max(letter, digits * digit), 2, ["letter", "digits"]), look(9, digits * digit, 1, ["digits"])];
  if (stages) looks.unshift(look(12, letter + (digits + stages) * digit, 1, ["token"]));
  const sorted = Float32Array.from(widths).sort();
  const typical = sorted[Math.floor(sorted.length / 5)] ?? 0; // some may be short, as in a disturbed run
  const low = looks.filter(({ tall }) => tall <= height);
  return low.find(({ needs }) => needs <= typical) ?? low[low.length - 1] ?? null;
}

/** Boxes too narrow to be seen one by one, as columns: how much of each column's time went to what.
 * @template {number[]} Box @param {Box[]} boxes [from, to, kind] in pixels @param {number} width
 * @returns {number[][]} [x, share below, share above, kind] */
export function columns(boxes, width) {
  const count = Math.ceil(width / COLUMN) + 1;
  const share = new Map();
  for (const [from, to, kind] of boxes) {
    if (!share.has(kind)) share.set(kind, new Float32Array(count));
    const own = share.get(kind);
    for (let c = Math.max(0, Math.floor(from / COLUMN)); c < count && c * COLUMN < to; c++) {
      own[c] += Math.max(0, Math.min(to, (c + 1) * COLUMN) - Math.max(from, c * COLUMN)) / COLUMN;
    }
  }
  const found = [];
  for (let c = 0; c < count; c++) {
    let below = 0;
    for (const [kind, own] of share) {
      if (own[c] < 0.02) continue;
      const above = Math.min(1, below + own[c]);
      found.push([c * COLUMN, below, above, kind]);
      below = above;
    }
  }
  return found;
}

/** A curve in steps as a path: of several changes within a pixel the highest shows, too.
 * @param {number[]} times @param {number[]} values
 * @param {{ x: (time: number) => number, y: (value: number) => number, from: number, to: number, base: number }} frame */
export function stepPath(times, values, { x, y, from, to, base }) {
  let i = Math.max(0, first(times.length, (k) => times[k] > from) - 1);
  let value = times.length && times[i] <= from ? values[i++] : 0;
  let [last, peak] = [x(from), value];
  let d = `M${last.toFixed(1)} ${base}`;
  const rise = () => `V${y(peak).toFixed(1)}${peak > value ? `V${y(value).toFixed(1)}` : ""}`;
  for (; i < times.length && times[i] <= to; i++) {
    const here = x(times[i]);
    if (here - last >= 1) {
      d += `${rise()}H${here.toFixed(1)}`;
      [last, peak] = [here, 0];
    }
    value = values[i];
    peak = Math.max(peak, value);
  }
  return `${d}${rise()}H${x(to).toFixed(1)}V${base}Z`;
}
