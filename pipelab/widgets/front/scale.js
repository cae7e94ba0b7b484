// @ts-check
// Numbers to text and times to places: no page needed.
/** @import { Phrase, Span } from "./types.js" */
import { WORDS } from "./words.js";

/** A text with its slots filled. @param {string} text @param {Record<string, string | number>} values */
export const filled = (text, values) => text.replace(/\{(\w+)\}/g, (_, slot) => String(values[slot]));

/** A phrase with its slots filled. @param {Phrase} name @param {Record<string, string | number>} values */
export const say = (name, values = {}) => filled(WORDS.phrases[name], values);

/** x, but no less than low and no more than high. @param {number} x @param {number} low @param {number} high */
export const clamp = (x, low, high) => Math.max(low, Math.min(x, high));

/** The first of 0 … n-1 for which `test` holds (it holds for all after), or n.
 * @param {number} n @param {(i: number) => boolean} test */
export function first(n, test) {
  let low = 0;
  let high = n;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (test(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The unit for times up to so many seconds, and how many of it are one second.
 * @param {number} seconds @returns {[number, string]} */
export function unitOf(seconds) {
  const units = /** @type {[number, string][]} */ (WORDS.timeUnits);
  const found = seconds === 0 ? units[0] : units.find(([size]) => Math.abs(seconds) >= size);
  const [size, unit] = found ?? units[units.length - 1];
  return [1 / size, unit];
}

const ROUNDING = 5e-10; // seconds; what is less is rounding, not time

/** Seconds in the unit that suits them, three digits. @param {number} seconds */
export function timeText(seconds) {
  if (Math.abs(seconds) < ROUNDING) seconds = 0;
  const [factor, unit] = unitOf(seconds);
  const value = seconds * factor;
  const text = Math.abs(value) < 999.5 ? Number(value.toPrecision(3)) : Math.round(value);
  return `${String(text).replace("-", "−")} ${unit}`;
}

/** Bytes in units of 1000: 1 kB = 1000 B. @param {number} count */
export function bytesText(count) {
  const units = /** @type {[number, string][]} */ (WORDS.byteUnits);
  const [size, unit] = units.find(([least]) => count >= 0.99995 * least) ?? units[units.length - 1];
  return `${size === 1 ? Math.round(count) : (count / size).toFixed(1)} ${unit}`;
}

/** Round times from `from` to `to`, at most so many, with their labels.
 * @param {number} from @param {number} to @param {number} most */
export function ticks(from, to, most) {
  const [factor, unit] = unitOf(Math.max(Math.abs(from), Math.abs(to)));
  const rough = ((to - from) * factor) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((n) => power * n >= rough * 0.999) ?? 10);
  const found = [];
  for (let k = Math.ceil((from * factor) / step - 1e-6); (k * step) / factor <= to * (1 + 1e-9); k++) {
    found.push({ time: (k * step) / factor, text: `${Number((k * step).toPrecision(9))} ${unit}` });
    if (found.length > 1000) break; // a window without width would never end
  }
  return found;
}

/** A window zoomed by `factor` (< 1: closer) around a time that keeps its place.
 * @param {Span} window @param {Span} whole @param {number} factor @param {number} at */
export function zoomed({ from, to }, whole, factor, at) {
  const room = whole.to - whole.from;
  const width = clamp((to - from) * factor, room * 1e-5, room);
  const share = clamp((at - from) / (to - from), 0, 1);
  const start = clamp(at - share * width, whole.from, whole.to - width);
  return { from: start, to: start + width };
}

/** A window moved by some seconds, no further than the whole.
 * @param {Span} window @param {Span} whole @param {number} seconds */
export function panned({ from, to }, whole, seconds) {
  const start = clamp(from + seconds, whole.from, whole.to - (to - from));
  return { from: start, to: start + (to - from) };
}

/** Speeds to choose from, real seconds per second of replay, and the one that takes about 8 s.
 * @param {number} duration */
export function speeds(duration) {
  const all = [2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 1e-4, 1e-5];
  const fits = all.filter((speed) => duration / speed > 0.5 && duration / speed < 200);
  const offered = fits.length ? fits : [1];
  const usual = offered.reduce((a, b) =>
    Math.abs(Math.log(duration / b / 8)) < Math.abs(Math.log(duration / a / 8)) ? b : a);
  return { offered: offered.map((speed) => [String(speed), speedText(speed)]), usual };
}

/** @param {number} speed */
function speedText(speed) {
  if (speed === 1) return say("real_time");
  return speed > 1 ? say("faster", { factor: speed }) : say("slower", { factor: Math.round(1 / speed) });
}
