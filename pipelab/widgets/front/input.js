// @ts-check
// Mouse, touch and keys on the picture: what is at a point, look closer, move, choose, follow.
/** @import { Act, Image, State } from "./types.js" */
import { at, details, within } from "./data.js";
import { rankAt } from "./layout.js";
import { element } from "./parts.js";
import { bytesText, clamp, first, say, timeText } from "./scale.js";
import { isEmpty } from "./state.js";

const DRAG = 4; // px: a press that moves less is a click

/** @typedef {{ stage: HTMLElement, tip: HTMLElement }} Stage */

/** Listen to the picture; `act` holds what can be done.
 * @param {State} s @param {Image} image @param {Stage} parts @param {Act} act */
export function listen(s, image, parts, act) {
  const listeners = { ...pointerListeners(s, image, parts, act), keydown: keyListener(s, act) };
  for (const [name, listener] of Object.entries(listeners))
    image.node.addEventListener(name, /** @type {EventListener} */ (listener), { passive: false });
}

/** @param {State} s @param {Image} image @param {Stage} parts @param {Act} act */
function pointerListeners(s, image, parts, act) {
  const { node } = image;
  /** @type {number[] | null} */
  let pressed = null;
  let hasMoved = false;
  const place = (/** @type {MouseEvent} */ event) => {
    const box = node.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  return {
    /** @param {PointerEvent} event */
    pointerdown(event) {
      if (event.button) return;
      pressed = place(event);
      hasMoved = false;
      node.setPointerCapture(event.pointerId);
    },
    /** @param {PointerEvent} event */
    pointermove(event) {
      if (isEmpty(s) || !image.place.width) return;
      const [x, y] = place(event);
      if (!pressed) {
        showTip(s, image, parts, x, y);
        return;
      }
      if (!hasMoved && Math.abs(x - pressed[0]) < DRAG) return;
      hasMoved = true;
      parts.tip.hidden = true;
      act.pan((pressed[0] - x) / image.scale(s));
      pressed = [x, pressed[1]];
    },
    /** @param {PointerEvent} event */
    pointerup(event) {
      if (!pressed || isEmpty(s)) return;
      const [x, y] = place(event);
      if (!hasMoved) click(s, image, act, x, y);
      pressed = null;
    },
    pointercancel() { pressed = null; },
    pointerleave() { parts.tip.hidden = true; },
    /** @param {WheelEvent} event */
    wheel(event) {
      if (isEmpty(s)) return;
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (event.ctrlKey || event.metaKey) {
        const time = s.window.from + (place(event)[0] - image.place.left) / image.scale(s);
        act.zoom(Math.exp(clamp(event.deltaY, -200, 200) / 300), time);
      } else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
        act.pan(sideways / image.scale(s));
      } else return; // the page scrolls
      event.preventDefault();
    },
  };
}

/** @param {State} s @param {Image} image @param {Stage} parts @param {number} x @param {number} y */
function showTip(s, image, { tip, stage }, x, y) {
  const spot = under(s, image, x, y);
  const lines = tipOf(s, spot);
  tip.hidden = !lines.length;
  image.node.classList.toggle("pl-hit", spot.event >= 0);
  if (!lines.length) return;
  tip.replaceChildren(...lines.map((line) => element("div", {}, line)));
  const room = stage.clientWidth;
  const width = Math.min(tip.offsetWidth, room);
  const left = x + 14 + width > room ? x - width - 10 : x + 14;
  tip.style.left = `${clamp(left, 0, Math.max(0, room - width))}px`;
  tip.style.top = `${y + 18}px`;
}

/** @param {State} s @param {Image} image @param {Act} act @param {number} x @param {number} y */
function click(s, image, act, x, y) {
  const spot = under(s, image, x, y);
  if (spot.event >= 0 && s.trace.microbatch[spot.event] >= 0) act.followFrom(spot.event);
  else if (spot.event >= 0) act.choose(spot.event);
  else if (x >= image.place.left && x <= image.place.left + image.place.plot) act.jump(spot.time);
}

/** @param {State} s @param {Act} act */
function keyListener(s, act) {
  const width = () => s.window.to - s.window.from;
  /** @type {Record<string, (isShift: boolean) => void>} */
  const keys = {
    ArrowLeft: (isShift) => (isShift ? act.pan(-width() / 5) : act.walk(-1, 0)),
    ArrowRight: (isShift) => (isShift ? act.pan(width() / 5) : act.walk(1, 0)),
    ArrowUp: () => act.walk(0, -1),
    ArrowDown: () => act.walk(0, 1),
    Home: () => act.walk(-1e9, 0),
    End: () => act.walk(1e9, 0),
    Enter: () => s.chosen >= 0 && act.followFrom(s.chosen),
    Escape: () => act.followFrom(-1),
    " ": act.play,
    "+": () => act.zoom(0.5),
    "=": () => act.zoom(0.5),
    "-": () => act.zoom(2),
    0: act.whole,
  };
  return (/** @type {KeyboardEvent} */ event) => {
    const press = keys[event.key];
    if (isEmpty(s) || !press || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    press(event.shiftKey);
  };
}

/** A rank, a time, and an event or a piece of idle time (-1: none).
 * @param {State} s @param {Image} image @param {number} x @param {number} y */
function under(s, image, x, y) {
  const { place } = image;
  const rank = rankAt(place, y);
  const time = s.window.from + (x - place.left) / image.scale(s);
  const nothing = { rank, time, event: -1, idle: -1, memory: false };
  if (rank < 0 || rank >= s.trace.rows.length || x < place.left || x > place.left + place.plot || y > place.bottom) return { ...nothing, rank: -1 };
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
function tipOf(s, spot) {
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
  return s.budget ? [line, say("budget", { bytes: size(s.budget) })] : [line];
}
