// @ts-check
// What is at a point of the picture, and the words for it.
/** @import { State } from "./types.js" */
/** @typedef {ReturnType<typeof import("./draw.js").picture>} Image */
import { at, details, within } from "./data.js";
import { rankAt } from "./layout.js";
import { bytesText, first, say, timeText } from "./scale.js";

/** A rank, a time, and an event or a piece of idle time (-1: none).
 * @param {State} s @param {Image} image @param {number} x @param {number} y */
export function under(s, image, x, y) {
  const { place } = image;
  const rank = rankAt(place, y);
  const time = s.window.from + (x - place.left) / image.scale(s);
  const nothing = { rank, time, event: -1, idle: -1, memory: false };
  if (rank < 0 || x < place.left || x > place.left + place.plot || y > place.bottom) return { ...nothing, rank: -1 };
  const row = s.trace.rows[rank];
  const near = 2 / image.scale(s); // seconds: a message is narrow
  const lane = place.rows[rank];
  if (lane.messages[1] && y >= lane.messages[0] - 1 && y <= lane.messages[0] + lane.messages[1] + 2) {
    const [low, high] = within(row.messages, time - near, time + near);
    return { ...nothing, event: high > low ? row.messages.order[high - 1] : -1 };
  }
  if (lane.memory[1] && y >= lane.memory[0]) return { ...nothing, memory: true };
  const event = at(row.boxes, s.trace.end, time);
  const { idle } = s.trace.head;
  return { ...nothing, event, idle: event < 0 && idle?.rank.length ? at(row.idle, idle.end, time) : -1 };
}

/** Words for what is there, line by line.
 * @param {State} s @param {ReturnType<typeof under>} spot @returns {string[]} */
export function tipOf(s, spot) {
  if (spot.rank < 0) return [];
  if (spot.event >= 0) return details(s.trace, spot.event, s.ghost);
  if (spot.memory && s.curves) return memoryTip(s, spot.rank, spot.time);
  const { idle } = s.trace.head;
  if (spot.idle < 0 || !idle) return [];
  const seconds = idle.end[spot.idle] - idle.start[spot.idle];
  const percent = ((100 * seconds) / (s.trace.span.to - s.trace.span.from)).toFixed(1);
  const slots = { rank: spot.rank, duration: timeText(seconds), percent, phase: idle.phase[spot.idle] };
  return [say("idle", slots), say("idle_why", { idle: idle.texts[idle.words[spot.idle]] })];
}

/** @param {State} s @param {number} rank @param {number} time */
function memoryTip(s, rank, time) {
  const [times, values] = s.curves?.[rank] ?? [[], []];
  const place = first(times.length, (i) => times[i] > time) - 1;
  const size = (/** @type {number} */ value) =>
    s.memoryUnit === "bytes" ? bytesText(value) : say("activations", { count: value });
  const held = size(place < 0 ? 0 : values[place]);
  const line = say("holds", { rank, held, time: timeText(time), peak: size(s.peaks[rank]) });
  return s.budget ? [line, say("budget", { bytes: bytesText(s.budget) })] : [line];
}
