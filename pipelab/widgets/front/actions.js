// @ts-check
// What can be done to a timeline: play and step, zoom and pan, choose an action, follow its microbatch.
/** @import { State } from "./types.js" */
import { follow, replicaOf, stops } from "./data.js";
import { clamp, first, panned, zoomed } from "./scale.js";
import { isEmpty } from "./state.js";

const wantsNoMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** The times at which actions begin. @param {State} s */
const stopsOf = (s) => (s.trace.stops ??= stops(s.trace));

/** What plays and moves the time; `ask` draws, `announce` is for screen readers.
 * @param {State} s @param {(what: string) => void} ask @param {() => void} announce */
function makeReplay(s, ask, announce) {
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

/** What changes the window and the choice; `ask` draws, `describe` says what is chosen.
 * @param {State} s @param {(what: string) => void} ask @param {() => void} describe */
function makeNavigation(s, ask, describe) {
  /** @param {number} i an event, or -1 for none */
  function choose(i) {
    s.chosen = i;
    if (i >= 0) {
      const { start, end } = s.trace;
      const width = s.window.to - s.window.from;
      if (start[i] < s.window.from || end[i] > s.window.to)
        s.window = panned(s.window, s.whole, (start[i] + end[i]) / 2 - width / 2 - s.window.from);
    }
    describe();
    ask("move");
  }
  /** The time that the learner looks at. */
  function focus() {
    const { trace, chosen, time, whole, window } = s;
    if (chosen >= 0) return (trace.start[chosen] + trace.end[chosen]) / 2;
    return time < whole.to && !s.live ? time : (window.from + window.to) / 2;
  }
  return {
    choose,
    /** Around a time, which keeps its place; without one, the chosen action or the time of the
     * replay comes to the middle. @param {number} factor @param {number} [at] */
    zoom(factor, at) {
      const middle = (s.window.from + s.window.to) / 2;
      s.window = zoomed(s.window, s.whole, factor, at ?? middle);
      if (at === undefined) s.window = panned(s.window, s.whole, focus() - (s.window.from + s.window.to) / 2);
      ask("move");
    },
    whole() {
      s.window = s.whole;
      ask("move");
    },
    /** @param {number} from @param {number} to */
    look(from, to) {
      s.window = { from, to };
      ask("move");
    },
    /** @param {number} seconds */
    pan(seconds) {
      s.window = panned(s.window, s.whole, seconds);
      ask("move");
    },
    /** Follow the microbatch of an event, or stop if it is followed already. @param {number} i */
    followFrom(i) {
      const microbatch = i < 0 ? -1 : s.trace.microbatch[i];
      const replica = i < 0 ? 0 : replicaOf(s.trace.head, s.trace.rank[i]);
      const isSame = s.followed && s.followed.microbatch === microbatch && s.followed.replica === replica;
      s.followed = microbatch < 0 || isSame ? null : follow(s.trace, microbatch, replica);
      choose(i);
      ask("draw");
    },
    /** To the next or previous action of a rank, or to the one at the same time on another rank.
     * @param {number} sideways @param {number} down */
    walk(sideways, down) {
      const { trace } = s;
      const rank = s.chosen < 0 ? 0 : clamp(trace.rank[s.chosen] + down, 0, trace.rows.length - 1);
      const { order, starts } = trace.rows[rank].boxes;
      if (!order.length) return;
      let place = s.chosen < 0 ? 0 : order.indexOf(s.chosen) + sideways;
      if (s.chosen < 0) place = Math.min(order.length - 1, first(order.length, (i) => starts[i] >= s.window.from));
      else if (down) place = first(order.length, (i) => starts[i] > trace.start[s.chosen]) - 1;
      choose(order[clamp(place, 0, order.length - 1)]);
    },
  };
}

/** All of it; `ask` draws, `announce` and `describe` put the time and the choice in words.
 * @param {State} s @param {(what: string) => void} ask
 * @param {{ announce: () => void, describe: () => void }} words */
export function makeActions(s, ask, { announce, describe }) {
  return { ...makeReplay(s, ask, announce), ...makeNavigation(s, ask, describe), redraw: () => ask("draw") };
}
