// The questions that the picture asks of a trace.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { atWork } from "./at_work.js";
import {
  at, bytesOf, details, doing, find, follow, idleTexts, isBox, partOf, readTrace, stops, token, within,
} from "./data.js";

const read = (name) => {
  const { head, data } = JSON.parse(readFileSync(name));
  const odd = Uint8Array.from([0, ...data]); // as it comes from a socket: at any offset
  return readTrace(head, new DataView(odd.buffer, 1));
};

assert.equal(bytesOf(null), null);
assert.equal(bytesOf(new DataView(new ArrayBuffer(0))), null);

const trace = read("1f1b.json");
assert.equal(trace.rows.length, 4);
const tokens = [...trace.rows[3].boxes.order].map((i) => token(trace, i));
assert.deepEqual(tokens.slice(0, 4), ["3F0", "3B0", "3F1", "3B1"]);

const sliced = read("slices.json");
const names = [...sliced.rows[1].boxes.order].map((i) => token(sliced, i));
assert.deepEqual(names.slice(0, 4), ["1F0.0", "1F0.1", "1B0.1", "1F1.0"]);
assert.ok(details(sliced, sliced.rows[0].boxes.order[3])[0].includes("of microbatch 0.1"));

// What a window shows is what meets it, no more and no less.
for (const [from, to] of [[0, 40], [3, 9], [7.05, 7.06], [50, 60]]) {
  for (const { boxes, idle } of trace.rows) {
    for (const [lane, starts, ends] of [[boxes, trace.start, trace.end], [idle, trace.head.idle.start, trace.head.idle.end]]) {
      const [low, high] = within(lane, from, to);
      const shown = [...lane.order.slice(low, high)];
      const meant = [...lane.order].filter((i) => ends[i] > from && starts[i] < to);
      assert.deepEqual(shown, meant);
    }
  }
}

// At any time each rank does one thing, or is idle for one reason.
for (let time = 0.05; time < trace.span.to; time += 0.73) {
  trace.rows.forEach((row, rank) => {
    const { event, idle, words } = doing(trace, rank, time);
    assert.ok(event >= 0 || idle >= 0 || words === "has finished" || words === "has not begun", `${rank} ${time} ${words}`);
    if (event >= 0) assert.ok(trace.start[event] <= time && time < trace.end[event]);
  });
}
assert.match(doing(trace, 2, 0.5).words, /^waits for 1F0 of rank 1/);
assert.equal(doing(trace, 0, 0.5).words, "0F0: forward, microbatch 0");
assert.equal(doing(trace, 0, 1e6).words, "has finished");

// A piece of idle time, shorter and shorter: what fits into its box is written there.
const { idle } = trace.head;
const [late] = trace.rows[2].idle.order;
const [whole, ...shorter] = idleTexts(idle, late);
assert.match(whole, /^waits for 1F0 of rank 1/);
assert.deepEqual(shorter, ["waits for 1F0", "waits for a result", "waits"]);
const moving = idle.reason.indexOf("message");
assert.equal(idleTexts(idle, moving)[1], `${idle.tokens[idle.words[moving]]} in transit`);
assert.deepEqual(idleTexts(idle, idle.reason.indexOf("done")), ["nothing left to compute", "nothing left"]);

// One microbatch through all stages: 8 actions, and 3 messages each way.
const { arrows, events } = follow(trace, 5, 0);
const path = [...events].map((i) => token(trace, i));
for (const stage of [0, 1, 2, 3]) assert.ok(path.includes(`${stage}F5`) && path.includes(`${stage}B5`));
assert.equal(arrows.length, 6);
for (const { from, to, left, arrival } of arrows) {
  assert.equal(Math.abs(trace.rank[from] - trace.rank[to]), 1);
  assert.ok(left <= arrival && arrival <= trace.start[to] + 1e-6);
  assert.ok(arrival - left > 0.0999, "a message takes its latency");
}

const first = trace.rows[2].boxes.order[0];
const lines = details(trace, first);
assert.equal(lines[0], "2F0 on rank 2: forward of microbatch 0, stage 2");
assert.ok(lines.some((line) => /^idle for .* before it: waits for the message with 1F0 from rank 1$/.test(line)), lines.join());
assert.equal(find(trace, trace, first), first);

const times = stops(trace);
assert.ok(times.every((time, i) => i === 0 || time > times[i - 1]));
assert.equal(times[0], 0);
assert.equal(times.at(-1), trace.span.to);

// V: the turn from stage 1 to stage 2 stays on its rank, so it has no arrow.
const v = read("v.json");
assert.deepEqual(v.stages, [[0, 3], [1, 2]]);
assert.equal(follow(v, 0, 0).arrows.length, 4);
assert.equal(at(v.rows[0].boxes, v.end, -1), -1);

// Nothing at all is a trace, too.
const empty = readTrace({ ...trace.head, idle: undefined }, null);
assert.equal(empty.n, 0);
assert.equal(doing(empty, 0, 0).words, "has not begun");

// While it runs: the last bars are under way, and a rank without one waits for whoever has not come.
const cut = (now) => {
  const live = [...Array(trace.n).keys()].filter((i) => ["F", "B"].includes(trace.head.kinds[trace.kind[i]].name) && trace.start[i] < now);
  const buffer = new ArrayBuffer(32 * live.length);
  const columns = ["rank", "kind", "stage", "microbatch", "peer", "start", "end", "bytes"];
  columns.forEach((name, k) => {
    const place = new (k < 5 ? Int32Array : Float32Array)(buffer, 4 * live.length * k, live.length);
    live.forEach((i, n) => (place[n] = name === "end" ? Math.min(now, trace.end[i]) : trace[name][i]));
  });
  return readTrace({ ...trace.head, idle: undefined }, new DataView(buffer));
};
assert.equal(atWork(cut(0.5), 0, trace).words, "0F0: forward, microbatch 0");
assert.equal(atWork(cut(0.5), 2, trace).words, "waits for 1F0 of rank 1");
assert.equal(atWork(cut(6), 0, trace).words, "waits for 1B0 of rank 1");
assert.equal(atWork(cut(0.5), 2, null).words, "waits");
// Of a run that was stopped, nobody knows what a rank would have done after its last bar.
assert.equal(doing(cut(6), 0, 5.5).words, "waits");
assert.equal(atWork(cut(34), 3, trace).words, "has computed all its actions");

// An F and a B that overlap share their row: the F has the upper half, the B the lower one.
// An average over replicas is what a rank does that computes nothing meanwhile; else it is a message.
const averaged = read("averaged.json");
const [inRows, beside] = [true, false].map((wanted) => Array.from({ length: averaged.n }, (_, i) => i)
  .filter((i) => token(averaged, i).endsWith("REDUCE_GRAD") && isBox(averaged, i) === wanted)
  .map((i) => token(averaged, i)));
assert.deepEqual([inRows, beside], [["0REDUCE_GRAD", "1REDUCE_GRAD"], ["2REDUCE_GRAD", "3REDUCE_GRAD"]]);
assert.equal(doing(averaged, 0, averaged.span.to - 0.1).words, "0REDUCE_GRAD: gradient all-reduce");
assert.equal(doing(averaged, 1, averaged.span.to - 0.1).words, "has nothing left to compute");

const pairs = read("pairs.json");
const [upper, lower] = ["0F3", "3B1"].map((wanted) => Array.from({ length: pairs.n }, (_, i) => i)
  .find((i) => token(pairs, i) === wanted));
assert.deepEqual(partOf(pairs, upper, [10, 30]), [10, 15]);
assert.deepEqual(partOf(pairs, lower, [10, 30]), [25, 15]);
assert.deepEqual(partOf(pairs, pairs.rows[0].boxes.order[0], [10, 30]), [10, 30]);
assert.deepEqual(partOf(trace, 0, [10, 30]), [10, 30]);
