// @ts-check
// What is around the boxes, as flat shapes: idle time, messages, the other trace, memory, arrows.
/** @import { Draw, Frame, Idle, Kind, State, View } from "./types.js" */
import { idleTexts, within } from "./data.js";
import { COLUMN, columns, stepPath } from "./layout.js";
import { set, svg } from "./parts.js";

/** Hatches as lines in a tile of 8 px; a doubled letter is the same, denser. @param {string} hatch */
function hatchPath(hatch) {
  /** @type {Record<string, string>} */
  const lines = { "/": "M-2 2l4-4M0 8l8-8M6 10l4-4", "\\": "M-2 6l4 4M0 0l8 8M6-2l4 4",
    "+": "M4 0v8M0 4h8", ".": "M2 1.6v.8M6 5.6v.8", x: "M0 0l8 8M8 0l-8 8" };
  return lines[hatch[0]] ?? "";
}

/** A fill for a kind in the tint of a stage: its colour, or its colour under its hatch.
 * @param {Pick<View, "fills" | "defs" | "id">} view @param {Kind} kind @param {number} place @param {boolean} hatched */
export function fillOf(view, kind, place, hatched) {
  const tint = kind.tints[Math.min(place, kind.tints.length - 1)];
  if (!hatched || !kind.hatch) return tint[0];
  const key = `${kind.name}-${place}`;
  const known = view.fills.get(key);
  if (known) return known;
  const id = `${view.id}-${key}`;
  const pattern = svg("pattern", { id, width: 8, height: 8, patternUnits: "userSpaceOnUse" });
  pattern.append(svg("rect", { width: 8, height: 8, fill: tint[0] }),
    svg("path", { d: hatchPath(kind.hatch), stroke: tint[2], "stroke-width": kind.hatch[0] === "." ? 2 : 1.2,
      "stroke-linecap": "round", fill: "none", opacity: 0.75 }));
  view.defs.append(pattern);
  const fill = `url(#${id})`;
  view.fills.set(key, fill);
  return fill;
}

/** Flat shapes gathered into one path per colour. @param {Element} parent */
export function flat(parent) {
  /** @type {Map<string, string[]>} */
  const paths = new Map();
  return {
    /** @param {string} key @param {number} x @param {number} y @param {number} width @param {number} height */
    box(key, x, y, width, height) {
      const parts = paths.get(key) ?? [];
      paths.set(key, parts);
      parts.push(`M${x.toFixed(1)} ${y.toFixed(1)}h${width.toFixed(1)}v${height.toFixed(1)}h${(-width).toFixed(1)}z`);
    },
    /** A path that is the same as before is not painted again.
     * @param {(key: string) => Record<string, unknown>} looks the attributes of a path */
    finish(looks) {
      const former = new Map([...parent.children].map((node) => [node.getAttribute("data-key"), node]));
      for (const [key, parts] of paths) {
        const node = former.get(key) ?? parent.appendChild(svg("path", { "data-key": key }));
        former.delete(key);
        set(node, { d: parts.join(""), ...looks(key) });
      }
      for (const node of former.values()) node.remove();
    },
  };
}

/** Boxes [from, to, kind, tint] of one row as flat shapes: as they are, or as columns of shares.
 * @param {ReturnType<typeof flat>} shapes @param {number[][]} boxes
 * @param {{ width: number, asTheyAre: boolean, y: number, height: number }} row */
export function flatBoxes(shapes, boxes, { width, asTheyAre, y, height }) {
  if (asTheyAre) {
    for (const [a, b, kind, tint] of boxes) shapes.box(`${kind} ${tint}`, a, y, Math.max(1, b - a), height);
    return;
  }
  for (const [at, below, above, kind] of columns(boxes, width))
    shapes.box(`${kind} 0`, at, y + height * (1 - above), COLUMN, height * (above - below));
}

const SEAM = 8; // px: what is narrower between two pieces, such as the end of the step, parts no label

/** Pieces of one row in runs that look like one piece, and wait for the same.
 * @param {Idle} idle @param {number[]} pieces in order of time
 * @param {(from: number, to: number) => boolean} isSeam whether nothing is seen between two times */
function alike(idle, pieces, isSeam) {
  /** @type {number[][]} */
  const runs = [];
  const token = (/** @type {number} */ i) => idle.tokens[idle.words[i]];
  for (const i of pieces) {
    const run = runs[runs.length - 1];
    const last = run?.[run.length - 1];
    const isOne = run && idle.reason[last] === idle.reason[i] && token(last) === token(i)
      && isSeam(idle.end[last], idle.start[i]);
    if (isOne) run.push(i);
    else runs.push([i]);
  }
  return runs;
}

/** What can be said of all pieces of a run. @param {Idle} idle @param {number[]} run */
function commonTexts(idle, run) {
  const texts = run.map((i) => idleTexts(idle, i));
  return texts[0].filter((text) => texts.every((others) => others.includes(text)));
}

/** Idle time, shaded by its reason, with the reason in words where there is room.
 * @param {View} view @param {State} s @param {Frame} frame @param {number} left how many labels may be drawn */
export function drawIdle(view, s, { from, to, x, words }, left) {
  const { trace } = s;
  const { idle } = trace.head;
  const shapes = flat(view.flats.idle);
  trace.rows.forEach((row, rank) => {
    const [y, height] = view.place.rows[rank].box;
    if (s.live) shapes.box("waiting", x(0), y, x(to) - x(0), height); // as far as it will go: it need not grow
    if (!idle) return;
    const [low, high] = within(row.idle, from, to);
    const room = (/** @type {number} */ i) => x(idle.end[i]) - x(idle.start[i]);
    const seen = [...row.idle.order.subarray(low, high)].filter((i) => room(i) >= 0.3);
    for (const i of seen) shapes.box(idle.reason[i], x(idle.start[i]), y, room(i), height);
    const isSeam = (/** @type {number} */ a, /** @type {number} */ b) => {
      const [low, high] = within(row.boxes, a, b);
      return x(b) - x(a) < SEAM && low === high;
    };
    const wide = seen.filter((i) => room(i) >= SEAM);
    for (const pieces of height < 14 ? [] : alike(idle, wide, isSeam)) {
      const [a, b] = [x(idle.start[pieces[0]]), x(idle.end[pieces[pieces.length - 1]])];
      if (b - a < 56 || left-- <= 0) continue;
      const node = set(view.nodes.reasons.next(rank), { y: y + height / 2 + 4 });
      const texts = commonTexts(idle, pieces);
      words.push({ node, a: a + 2, b: b - 2, texts, size: 10.5, yields: true });
    }
  });
  shapes.finish((reason) => ({ class: `pl-why pl-${reason}`, "data-reason": reason }));
  view.nodes.reasons.finish();
}

/** The lane below the boxes: messages in transit, all-reduces, optimizer steps. @type {Draw} */
export function drawMessages(view, s, { from, to, x }) {
  const { trace } = s;
  const shapes = flat(view.flats.messages);
  trace.rows.forEach((row, rank) => {
    const [y, height] = view.place.rows[rank].messages;
    if (!height) return;
    const [low, high] = within(row.messages, from, to);
    /** @type {Record<number, number>} */
    const last = {}; // the pixel drawn last, by kind: more in the same pixel would not be seen
    for (let k = low; k < high; k++) {
      const i = row.messages.order[k];
      const a = x(trace.start[i]);
      const b = Math.max(a + 1.6, x(trace.end[i]));
      if (last[trace.kind[i]] >= b - 0.8) continue;
      last[trace.kind[i]] = b;
      shapes.box(String(trace.kind[i]), a, y, b - a, height);
    }
  });
  shapes.finish((kind) => {
    const own = trace.head.kinds[Number(kind)];
    return { fill: fillOf(view, own, 0, true), stroke: own.tints[0][2], "data-kind": own.name };
  });
}

/** The other trace, as a slim row of outlined bars above each rank's own. @type {Draw} */
export function drawGhost(view, s, { from, to, x }) {
  const { ghost } = s;
  const shapes = flat(view.flats.ghost);
  ghost?.rows.slice(0, view.place.rows.length).forEach((row, rank) => {
    const [y, height] = view.place.rows[rank].ghost;
    const [low, high] = within(row.boxes, from, to);
    const boxes = [];
    for (let k = low; k < high; k++) {
      const i = row.boxes.order[k];
      boxes.push([x(ghost.start[i]), x(ghost.end[i]) - 0.6, ghost.kind[i], 0]);
    }
    const asTheyAre = boxes.length * COLUMN <= view.place.plot * 2;
    flatBoxes(shapes, boxes, { width: x(to), asTheyAre, y, height: height - 2 });
  });
  shapes.finish((key) => {
    const { tints, name } = s.trace.head.kinds[parseInt(key)];
    return { fill: tints[0][0], "data-kind": name }; // its outline is as light or dark as the text
  });
}

/** What each rank holds, all at one scale, and the budget as a line. @type {Draw} */
export function drawMemory(view, s, { from, to, x }) {
  /** @type {string[]} */
  const paths = [];
  /** @type {string[]} */
  const lines = [];
  if (s.curves && view.place.rows[0].memory[1]) {
    const top = Math.max(1, s.budget, ...s.peaks);
    s.curves.forEach(([times, values], rank) => {
      const [at, height] = view.place.rows[rank].memory;
      const base = at + height;
      const y = (/** @type {number} */ value) => base - (value / top) * (height - 1);
      paths.push(stepPath(times, values, { x, y, from, to, base }));
      if (s.budget) lines.push(`M${x(from)} ${y(s.budget).toFixed(1)}H${x(to).toFixed(1)}`);
    });
  }
  const { children } = view.flats.memory;
  if (!children.length) view.flats.memory.append(svg("path", { class: "pl-curve" }), svg("path", { class: "pl-budget" }));
  set(children[0], { d: paths.join("") });
  set(children[1], { d: lines.join("") });
}

/** The followed microbatch's messages: the transit, then the time until the result is used. @type {Draw} */
export function drawArrows(view, s, { x }) {
  for (const { from, to, left, arrival, name } of s.followed?.arrows ?? []) {
    const [down, up] = [s.trace.rank[from], s.trace.rank[to]].map((rank) => view.place.rows[rank].box);
    const falls = up[0] > down[0];
    const [y0, y1] = falls ? [down[0] + down[1], up[0]] : [down[0], up[0] + up[1]];
    const [x0, x1, x2] = [x(left), x(arrival), x(s.trace.start[to])];
    const tip = falls ? -6 : 6;
    const wait = x2 - x1 > 3 ? `M${x1.toFixed(1)} ${y1 + tip / 2}H${x2.toFixed(1)}` : "";
    const d = `M${x0.toFixed(1)} ${y0}L${x1.toFixed(1)} ${y1}m-3.5 ${tip}l3.5 ${-tip}l3.5 ${tip}${wait}`;
    set(view.nodes.arrows.next(), { d, "data-from": from, "data-to": to, class: `pl-arrow pl-arrow-${name}` });
  }
  view.nodes.arrows.finish();
}
