// @ts-check
// What the learner sees: which trace, when, how close, and what is chosen.
/** @import { Head, State } from "./types.js" */
import { bytesOf, find, follow, isPredictionOf, readTrace } from "./data.js";
import { say, zoomed } from "./scale.js";

/** Before a trace has come: one without ranks. @returns {State} */
export function emptyState() {
  const trace = readTrace({ kinds: [], source: "", ranks: 0 }, null);
  return { trace, ghost: null, ghostFrom: null, ghostName: "", window: trace.span, whole: trace.span, time: 0,
    chosen: -1, followed: null, former: null, last: null,
    lanes: { messages: false, memory: false, ghost: false, former: false }, speed: 0, playing: false,
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

/** All that there is to see: the trace, what is drawn over it, a guess; and a small margin. A run
 * that takes longer than predicted gets room in large parts, since each draws all of it again.
 * @param {State} s @param {number} now */
function wholeOf({ trace, ghost, guess, live }, now) {
  const spans = live ? [] : [trace.span]; // a trace that grows has no end yet
  if (ghost) spans.push(ghost.span);
  const from = spans.length ? Math.min(...spans.map((span) => span.from)) : 0;
  const known = Math.max(guess?.time ?? 0, 1e-6, ...spans.map((span) => span.to));
  const to = now > known ? Math.ceil(now / known * 4) * known / 4 : known;
  return { from, to: to + (to - from) * 0.004 };
}

/** Whether a trace is a later report, or the record, of the run that is displayed live.
 * @param {State} s @param {Head} head @param {boolean} live @param {number} now */
function isSameRun({ live: wasLive, trace, time }, head, live, now) {
  /** @type {(keyof Head)[]} */
  const setting = ["schedule", "ranks", "replicas", "microbatches"];
  return wasLive && (!live || now >= time) && setting.every((name) => head[name] === trace.head[name]);
}

/** What the learner has chosen in one trace, as places in a later one of the same run.
 * @param {State} s @param {State} before */
function keepView(s, before) {
  const { window, whole, chosen, followed } = before;
  const isZoomed = window.from > whole.from || window.to < whole.to;
  if (isZoomed) s.window = zoomed(window, s.whole, 1, window.from);
  if (chosen >= 0) s.chosen = find(s.trace, before.trace, chosen);
  if (followed) s.followed = follow(s.trace, followed.microbatch, followed.replica);
}

/** What is drawn over the trace: the other one that came with it, or the trace before, or nothing.
 * @param {State} s */
export function chooseGhost(s) {
  const { former, ghost } = s.lanes;
  const from = former ? s.former : ghost ? s.ghostFrom : null;
  s.ghost = from ? readTrace(...from) : null;
  s.ghostName = !from ? "" : say(former ? "ghost_former" : isPredictionOf(from[0], s.trace.head) ? "ghost_predicted" : "ghost_recorded");
}

/** Remember the trace before this one. @param {State} s @param {Head} head @param {unknown} bytes */
function keepFormer(s, head, bytes) {
  const [before, after] = [bytesOf(s.last?.[1]), bytesOf(bytes)];
  if (before && String(before) === String(after)) return; // the same one, sent again
  if (before) s.former = s.last;
  s.last = [head, bytes];
}

/** Take a trace. `live`: it is still growing, and `now` is how far it is. Reports of one run come
 * several times a second: zoom and choice stay as they are from its first one to its record.
 * @param {State} s @param {Head} head @param {unknown} bytes
 * @param {{ ghostHead?: Head | null, ghostBytes?: unknown, live?: boolean, now?: number }} more */
export function takeTrace(s, head, bytes, { ghostHead = null, ghostBytes = null, live = false, now = 0 }) {
  const before = isSameRun(s, head, live, now) ? { ...s } : null;
  if (!live) s.playing = false;
  if (!live) keepFormer(s, head, bytes);
  s.trace = readTrace(head, bytes);
  s.ghostFrom = ghostHead ? [ghostHead, ghostBytes] : null;
  s.ghost = ghostHead ? readTrace(ghostHead, ghostBytes) : null; // it counts for the whole, shown or not
  Object.assign(s, { live, chosen: -1, followed: null, guess: head.guess ?? null }, memoryOf(head));
  s.whole = wholeOf(s, now);
  s.window = s.whole;
  s.time = live ? now : s.whole.to;
  chooseGhost(s);
  if (before) keepView(s, before);
}
