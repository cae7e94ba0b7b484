// @ts-check
// The picture: SVG nodes for what the window shows, and no more.
//
// Boxes are drawn for a window wider than the one shown, so that moving it is one attribute; they
// are drawn again where that ends. Hatch and letters only where they can be seen.
/** @import { Kind, Place, State, View, Words } from "./types.js" */
import { drawBoxes } from "./boxes.js";
import { partOf } from "./data.js";
import { drawArrows, drawGhost, drawIdle, drawMemory, drawMessages, fillOf } from "./lanes.js";
import { fitting, layout } from "./layout.js";
import { pool, set, svg, write } from "./parts.js";
import { bytesText, clamp, say, ticks } from "./scale.js";
import { drawSteps } from "./steps.js";

const MARGIN = 0.5; // of the window: how much is drawn beyond each of its edges
let patterns = 0;

/** @returns {View} */
function emptyView() {
  const defs = svg("defs");
  // Hidden from screen readers, which read the picture's label and what the arrow keys choose.
  const names = svg("g", { class: "pl-names", "aria-hidden": true });
  const plot = svg("svg", { class: "pl-plot", overflow: "hidden", "aria-hidden": true });
  const moving = svg("g");
  const above = svg("g", { class: "pl-over" });
  const axis = svg("g", { class: "pl-axis", "aria-hidden": true });
  const root = svg("svg", { class: "pl-picture", tabindex: 0 }, defs, names, plot, axis);
  root.dataset.lmSuppressShortcuts = "true";
  plot.append(moving, above);
  const layer = (/** @type {string} */ name) => moving.appendChild(svg("g", { class: name }));
  const grounds = layer("pl-grounds");
  const flats = { idle: layer("pl-idle"), ghost: layer("pl-ghost"), memory: layer("pl-memory"),
    dense: layer("pl-dense"), messages: layer("pl-messages") };
  const nodes = {
    boxes: pool(layer("pl-boxes"), "rect", { class: "pl-box" }),
    guess: pool(layer("pl-guesses"), "path", { class: "pl-guess" }), // below labels, or it strikes them out
    labels: pool(layer("pl-labels"), "text", { class: "pl-label" }),
    reasons: pool(layer("pl-reasons"), "text", { class: "pl-reason" }),
    arrows: pool(layer("pl-arrows"), "path", { class: "pl-arrow" }),
    ticks: pool(axis, "text", { class: "pl-tick" }),
    grid: pool(grounds, "path", { class: "pl-grid" }),
    steps: pool(layer("pl-bounds"), "path", { class: "pl-bound" }),
    names: pool(names, "text", { class: "pl-name" }),
  };
  const over = {
    veil: above.appendChild(svg("rect", { class: "pl-veil", y: 0 })),
    chosen: above.appendChild(svg("rect", { class: "pl-chosen", fill: "none", rx: 3 })),
    line: above.appendChild(svg("path", { class: "pl-cursor" })),
    guessText: above.appendChild(svg("text", { class: "pl-guess-text" })),
  };
  const place = { width: 0, left: 0, right: 0, plot: 0, rows: [], bottom: 0, height: 0 };
  return { root, defs, flats, nodes, over, moving, plot, axis, fills: new Map(), place, drawn: null,
    id: `pl-h${++patterns}-${Date.now()}` };
}

/** An empty picture; `draw` fills it, `move` and `cursor` are the cheap parts of it. */
export function picture() {
  const view = emptyView();
  return {
    node: view.root,
    /** The state at another width, or another state. @param {State} s @param {number} width */
    draw(s, width) {
      view.place = layout(s, width);
      const { height, left, bottom } = view.place;
      set(view.root, { width, height, viewBox: `0 0 ${width} ${height}` });
      set(view.plot, { x: left, y: 0, width: view.place.plot, height: bottom });
      set(view.axis, { transform: `translate(${left} ${bottom})` });
      drawNames(view, s);
      view.drawn = null;
      moveTo(view, s);
    },
    /** Another window or choice. @param {State} s */
    move: (s) => moveTo(view, s),
    /** Another time. @param {State} s */
    cursor: (s) => drawCursor(view, s),
    /** The fill of a kind, as in the picture. @param {Kind} kind */
    fill: (kind) => fillOf(view, kind, 0, true),
    /** @returns {Place} */
    get place() { return view.place; },
    /** px per second. @param {State} s */
    scale: (s) => scaleOf(view, s),
  };
}

/** @param {View} view @param {State} s */
const scaleOf = (view, s) => view.place.plot / (s.window.to - s.window.from);

/** @param {View} view @param {State} s */
function moveTo(view, s) {
  const scale = scaleOf(view, s);
  const { drawn } = view;
  const covers = drawn && drawn.scale === scale && s.window.from >= drawn.from && s.window.to <= drawn.to;
  const { from, words } = covers ? drawn : drawWindow(view, s, scale);
  const left = (s.window.from - from) * scale;
  set(view.moving, { transform: `translate(${(-left).toFixed(2)})` });
  centre(words, left, left + view.place.plot, s.guess ? (s.guess.time - from) * scale : -1);
  drawTicks(view, s, scale);
  drawChosen(view, s, scale);
  drawCursor(view, s);
}

/** Labels in the middle of what the window shows of their boxes, or its edge would cut them.
 * @param {Words[]} words @param {number} left of the window, in px of the drawn part @param {number} right
 * @param {number} line of a guess */
function centre(words, left, right, line) {
  for (const { node, a, b, texts, size, yields } of words) {
    const isOutside = b <= left || a >= right; // as it was: it need not be laid out again
    let [low, high] = isOutside ? [a, b] : [Math.max(a, left), Math.min(b, right)];
    if (yields && low < line && line < high) [low, high] = line - low > high - line ? [low, line] : [line, high];
    write(node, fitting(texts, high - low, size));
    set(node, { x: ((low + high) / 2).toFixed(1) });
  }
}

/** The frame around the chosen event. @param {View} view @param {State} s @param {number} scale */
function drawChosen(view, s, scale) {
  const { chosen: i, trace } = s;
  view.over.chosen.style.display = i < 0 ? "none" : "";
  if (i < 0) return;
  const isMessage = trace.rows[trace.rank[i]].messages.order.includes(i);
  const [y, height] = partOf(trace, i, view.place.rows[trace.rank[i]][isMessage ? "messages" : "box"]);
  const x = (trace.start[i] - s.window.from) * scale;
  const width = Math.max(2, (trace.end[i] - trace.start[i]) * scale);
  set(view.over.chosen, { x: x - 1.5, y: y - 1.5, width: width + 3, height: height + 3 });
}

/** The time of the replay, and the words at a guessed end. @param {View} view @param {State} s */
function drawCursor(view, s) {
  const { plot: width, bottom } = view.place;
  const { line, veil, guessText } = view.over;
  const scale = scaleOf(view, s);
  const x = (s.time - s.window.from) * scale;
  const hasEnded = s.time >= s.whole.to;
  set(line, { d: hasEnded || x < 0 || x > width ? "" : `M${x.toFixed(1)} 0V${bottom}M${x - 5} 0h10l-5 7z` });
  const from = clamp(x, 0, width);
  set(veil, { x: from.toFixed(1), width: hasEnded || s.live ? 0 : (width - from).toFixed(1), height: bottom });
  const end = s.guess ? (s.guess.time - s.window.from) * scale : -1;
  const isShown = end >= 0 && end <= width;
  const needed = 7.5 * (s.guess?.text.length ?? 0) + 5; // px: beside the line, or where there is room for it
  const [x0, anchor] = end >= needed ? [end - 5, "end"] : width - end >= needed ? [end + 5, "start"] : [width, "end"];
  set(guessText, { x: x0, y: 13, "text-anchor": anchor });
  write(guessText, isShown && s.guess ? s.guess.text : "");
}

/** Names at the left, idle shares and peaks at the right; of many ranks only some.
 * @param {View} view @param {State} s */
function drawNames(view, s) {
  const { place, nodes } = view;
  const pitch = place.rows.length > 1 ? place.rows[1].top - place.rows[0].top : 99;
  const every = Math.ceil(14 / pitch);
  const name = (/** @type {string} */ text, /** @type {number} */ x, /** @type {number} */ y, kind = "") => {
    const node = nodes.names.next();
    write(node, text);
    set(node, { x, y, class: `pl-name ${kind}` });
  };
  for (let rank = 0; rank < place.rows.length; rank += every) {
    const { box, memory, ghost } = place.rows[rank];
    const middle = (box[1] ? box[0] + box[1] / 2 : ghost[0] + ghost[1] / 2) + 4;
    name(say("rank", { rank }), place.left - 8, middle, "pl-end");
    const share = s.trace.head.shares?.[rank];
    const x = place.left + place.plot + 8;
    if (share) name(place.right > 70 ? say("idle_share", { share }) : share, x, middle);
    if (ghost[1] >= 10 && box[1] && rank < (s.ghost?.rows.length ?? 0)) name(s.ghostName, place.left - 8, ghost[0] + ghost[1] / 2 + 3, "pl-end pl-quiet");
    if (memory[1] >= 12 && s.curves) {
      const peak = s.peaks[rank];
      name(say("memory"), place.left - 8, memory[0] + memory[1] / 2 + 4, "pl-end pl-quiet");
      const text = s.memoryUnit === "bytes" ? bytesText(peak) : say("kept", { count: peak });
      name(text, x, memory[0] + memory[1] / 2 + 4, "pl-quiet");
    }
  }
  nodes.names.finish();
}

/** The time axis: round times. @param {View} view @param {State} s @param {number} scale */
function drawTicks(view, s, scale) {
  const { place, nodes } = view;
  for (const { time, text } of ticks(s.window.from, s.window.to, place.plot / 80)) {
    const x = (time - s.window.from) * scale;
    if (x < -1 || x > place.plot + 1) continue;
    const node = nodes.ticks.next();
    write(node, text);
    set(node, { x: x.toFixed(1), y: 18, "text-anchor": x < 16 ? "start" : x > place.plot - 20 ? "end" : "middle" });
  }
  nodes.ticks.finish();
}

/** Everything that moves with time, for the window and a margin around it.
 * @param {View} view @param {State} s @param {number} scale */
function drawWindow(view, s, scale) {
  const margin = (s.window.to - s.window.from) * MARGIN;
  const from = Math.max(s.whole.from, s.window.from - margin);
  const to = Math.min(s.whole.to, s.window.to + margin);
  /** @type {Words[]} */
  const words = [];
  const drawn = { from, to, scale, words };
  view.drawn = drawn;
  const x = (/** @type {number} */ time) => (clamp(time, from, to) - from) * scale; // no clip: hover needs centres
  const frame = { from, to, x, width: (to - from) * scale, words };
  for (const { time } of ticks(s.window.from - margin, s.window.to + margin, (view.place.plot / 80) * 2)) {
    if (time >= from && time <= to) set(view.nodes.grid.next(), { d: `M${x(time).toFixed(1)} 0V${view.place.bottom}` });
  }
  view.nodes.grid.finish();
  if (s.guess && s.guess.time >= from && s.guess.time <= to) {
    set(view.nodes.guess.next(), { d: `M${x(s.guess.time).toFixed(1)} 0V${view.place.bottom}` });
  }
  view.nodes.guess.finish();
  const left = drawBoxes(view, s, frame);
  drawIdle(view, s, frame, left);
  drawMessages(view, s, frame);
  drawGhost(view, s, frame);
  drawMemory(view, s, frame);
  drawArrows(view, s, frame);
  drawSteps(view, s, frame);
  return drawn;
}
