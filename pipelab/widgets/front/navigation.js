// @ts-check
// Zoom and pan; choosing an action, and following its microbatch.
/** @import { State } from "./types.js" */
import { follow, replicaOf } from "./data.js";
import { clamp, first, panned, zoomed } from "./scale.js";

/** What changes the window and the choice; `ask` draws, `describe` says what is chosen.
 * @param {State} s @param {(what: string) => void} ask @param {() => void} describe */
export function makeNavigation(s, ask, describe) {
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
  return {
    choose,
    /** @param {number} factor @param {number} at */
    zoom(factor, at = (s.window.from + s.window.to) / 2) {
      s.window = zoomed(s.window, s.whole, factor, at);
      ask("move");
    },
    whole() {
      s.window = s.whole;
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
