// What the learner sees stays while a run reports its bars, ten times a second, and when its record comes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { token } from "./data.js";
import { zoomed } from "./scale.js";
import { emptyState, takeTrace } from "./state.js";

const { head, data } = JSON.parse(readFileSync("1f1b.json"));
const { sentence: _, idle: __, ...frame } = head; // what a live report says of the same run

/** The first `count` events of each column. */
function packed(count) {
  const all = new Int32Array(Uint8Array.from(data).buffer);
  const n = all.length / 8;
  const part = new Int32Array(8 * count);
  for (let k = 0; k < 8; k++) part.set(all.subarray(n * k, n * k + count), count * k);
  return part.buffer;
}
const n = data.length / 32;
const plan = { ghostHead: head, ghostBytes: Uint8Array.from(data).buffer };
const report = (s, count, now, more = {}) => takeTrace(s, { ...frame, ...more }, packed(count), { ...plan, live: true, now });
const chosen = (s) => s.chosen >= 0 && `${s.trace.rank[s.chosen]} ${token(s.trace, s.chosen)}`;
const microbatches = (s) => s.followed && [...s.followed.events].map((i) => s.trace.microbatch[i]);

/** A run in progress, in which the learner has zoomed, chosen an action and followed its microbatch. */
function looking() {
  const s = emptyState();
  report(s, 9, 5);
  s.window = zoomed(s.whole, s.whole, 0.25, 2);
  s.chosen = 4;
  s.followed = { microbatch: s.trace.microbatch[4], replica: 0, events: new Set([4]), arrows: [] };
  return s;
}

// Later reports: more bars, the same window and choice, the playhead at the present.
const s = looking();
const [window, choice, { microbatch }] = [s.window, chosen(s), s.followed];
for (const [count, now] of [[12, 6], [20, 7], [n, 40]]) {
  report(s, count, now);
  assert.deepEqual([s.window, chosen(s), s.time], [window, choice, now]);
  assert.ok(microbatches(s).every((number) => number === microbatch));
}
assert.ok(s.followed.events.size > 1, "what has come since is followed too");

// The record takes the place of the bars: the learner still looks at the same place.
takeTrace(s, head, packed(n), { ...plan });
assert.deepEqual([s.window, chosen(s), s.live, s.time], [window, choice, false, s.whole.to]);

// Another trace starts from the beginning: one that is displayed later, and another run that began meanwhile.
takeTrace(s, head, packed(n), {});
assert.deepEqual([s.window, s.chosen, s.followed], [s.whole, -1, null]);
for (const [now, more] of [[1, {}], [6, { schedule: "gpipe" }], [6, { ranks: 5 }], [6, { microbatches: 2 }]]) {
  const other = looking();
  report(other, 9, now, more);
  assert.deepEqual([other.window, other.chosen, other.followed], [other.whole, -1, null]);
}

// Without zoom, the window grows with a run that takes longer than predicted.
const late = emptyState();
report(late, 9, 5);
report(late, n, 100);
assert.deepEqual(late.window, late.whole);
assert.ok(late.window.to >= 100);

// A record that is shorter than what was in view, and one without what was chosen.
late.window = zoomed(late.whole, late.whole, 0.99, 0);
late.chosen = n - 1;
takeTrace(late, head, packed(9), {});
assert.deepEqual([late.window, late.chosen], [late.whole, -1]);

// The prediction stays out of the picture once it was switched off, and still gives the run its length.
const plain = looking();
[plain.lanes.ghost, plain.ghost] = [false, null];
report(plain, 9, 6);
assert.equal(plain.ghost, null);
assert.ok(plain.whole.to >= 33);
