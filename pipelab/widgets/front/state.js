// @ts-check
// What the learner sees: which trace, when, how close, and what is chosen.
/** @import { Head, State } from "./types.js" */
import { readTrace } from "./data.js";
import { say } from "./scale.js";

/** Before a trace has come: one without ranks. @returns {State} */
export function emptyState() {
  const trace = readTrace({ kinds: [], source: "", ranks: 0 }, null);
  return { trace, ghost: null, ghostFrom: null, ghostName: "", window: trace.span, whole: trace.span, time: 0,
    chosen: -1, followed: null, lanes: { messages: true, memory: true, ghost: true }, speed: 0, playing: false,
    live: false, curves: null, peaks: [], memoryUnit: "bytes", budget: 0, guess: null };
}

/** Whether no trace has come yet. @param {State} s */
export const isEmpty = (s) => s.trace.head.ranks === 0;

/** What a head says about memory, or nothing where nothing was measured. @param {Head} head */
function memoryOf({ memory, budget }) {
  const curves = memory?.curves ?? [];
  const peaks = curves.map(([, values]) => values.reduce((a, b) => Math.max(a, b), 0));
  const isKnown = peaks.some((peak) => peak > 0);
  return { curves: isKnown ? curves : null, peaks, memoryUnit: memory?.unit ?? "bytes", budget: budget ?? 0 };
}

/** All that there is to see: the trace, what is drawn over it, a guess; and a small margin.
 * @param {State} s @param {number} now */
function wholeOf({ trace, ghost, guess, live }, now) {
  const spans = live ? [] : [trace.span]; // a trace that grows has no end yet
  if (ghost) spans.push(ghost.span);
  const from = spans.length ? Math.min(...spans.map((span) => span.from)) : 0;
  const to = Math.max(now, guess?.time ?? 0, 1e-6, ...spans.map((span) => span.to));
  return { from, to: to + (to - from) * 0.004 };
}

/** Take a trace. `live`: it is still growing, and `now` is how far it is.
 * @param {State} s @param {Head} head @param {unknown} bytes
 * @param {{ ghostHead?: Head | null, ghostBytes?: unknown, live?: boolean, now?: number }} more */
export function takeTrace(s, head, bytes, { ghostHead = null, ghostBytes = null, live = false, now = 0 }) {
  if (!live) s.playing = false;
  s.trace = readTrace(head, bytes);
  s.ghostFrom = ghostHead ? [ghostHead, ghostBytes] : null;
  s.ghostName = ghostHead ? say(ghostHead.source === "predicted" ? "ghost_predicted" : "ghost_recorded") : "";
  s.ghost = ghostHead ? readTrace(ghostHead, ghostBytes) : null;
  Object.assign(s, { live, chosen: -1, followed: null, guess: head.guess ?? null }, memoryOf(head));
  s.whole = wholeOf(s, now);
  s.window = s.whole;
  s.time = live ? now : s.whole.to;
}
