// @ts-check
// The replay: the time of the cursor, by itself or step by step.
/** @import { State } from "./types.js" */
import { stops } from "./data.js";
import { clamp, first, panned } from "./scale.js";
import { isEmpty } from "./state.js";

const wantsNoMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** The times at which actions begin. @param {State} s */
const stopsOf = (s) => (s.trace.stops ??= stops(s.trace));

/** What plays and moves the time; `ask` draws, `announce` is for screen readers.
 * @param {State} s @param {(what: string) => void} ask @param {() => void} announce */
export function makeReplay(s, ask, announce) {
  let [last, clock] = [0, 0];

  /** @param {number} now */
  function tick(now) {
    if (!s.playing) return;
    clock += ((now - last) / 1000) * s.speed;
    last = now;
    s.time = wantsNoMotion() ? stopBefore(clock) : clock;
    if (clock >= s.trace.span.to) {
      [s.time, s.playing] = [s.whole.to, false];
      announce();
    } else requestAnimationFrame(tick);
    keepInView();
    ask("cursor");
  }
  /** Without motion, the replay jumps from action to action. @param {number} time */
  function stopBefore(time) {
    const all = stopsOf(s);
    return all[Math.max(0, first(all.length, (i) => all[i] > time) - 1)];
  }
  function keepInView() {
    const width = s.window.to - s.window.from;
    if (s.time >= s.window.from && s.time <= s.window.to) return;
    s.window = panned(s.window, s.whole, s.time - s.window.from - width * 0.1);
    ask("move");
  }
  /** @param {number} time */
  function jump(time) {
    if (s.live) return;
    s.playing = false;
    s.time = clamp(time, s.whole.from, s.whole.to);
    if (s.time >= s.trace.span.to) s.time = s.whole.to;
    keepInView();
    ask("cursor");
    announce();
  }
  return {
    play() {
      if (isEmpty(s) || s.live) return;
      s.playing = !s.playing;
      if (s.playing && s.time >= s.trace.span.to) s.time = s.trace.span.from;
      [last, clock] = [performance.now(), s.time];
      if (s.playing) requestAnimationFrame(tick);
      else announce();
      ask("cursor");
    },
    jump,
    /** To the next or the previous start of an action. @param {number} direction */
    stepBy(direction) {
      const all = stopsOf(s);
      const near = (s.trace.span.to - s.trace.span.from) * 1e-6;
      const place = direction > 0 ? first(all.length, (i) => all[i] > s.time + near)
        : first(all.length, (i) => all[i] >= s.time - near) - 1;
      jump(all[clamp(place, 0, all.length - 1)]);
    },
    /** @param {number} speed */
    setSpeed(speed) { s.speed = speed; },
  };
}
