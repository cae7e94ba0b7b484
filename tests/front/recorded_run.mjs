// Which recording is of what the page shows, and the line that makes one.
import assert from "node:assert/strict";
import { USUAL } from "./address.js";
import { commandOf, recordingsOf } from "./recorded_run.js";

const names = ["1f1b-4-8", "1f1b-4-8-unpaced", "1f1b-2-4-unpaced", "interleaved-4-8"];
const shown = (settings = {}, more = {}) =>
  ({ settings: { ...USUAL, ...settings }, address: "#there", isNamed: true, hasStages: false, ...more });
const both = { paced: "1f1b-4-8", unpaced: "1f1b-4-8-unpaced" };

assert.deepEqual(recordingsOf(shown(), names), both);
assert.deepEqual(recordingsOf(shown({ k: "3" }), names), both);
assert.deepEqual(recordingsOf(shown({ v: "4" }), names), both, "the number of stages is fixed there");
assert.deepEqual(recordingsOf(shown({ f: "20" }), names), { unpaced: both.unpaced }, "paced to other times");
assert.deepEqual(recordingsOf(shown({ l: "1" }), names), { unpaced: both.unpaced });
assert.deepEqual(recordingsOf(shown({ p: "2", m: "4" }), names), { unpaced: "1f1b-2-4-unpaced" });
assert.deepEqual(recordingsOf(shown({ m: "9" }), names), {});
assert.deepEqual(recordingsOf(shown({}, { isNamed: false }), names), {}, "the reader's own order");
const looped = { s: "interleaved" };
assert.deepEqual(recordingsOf(shown(looped, { hasStages: true }), names), { paced: "interleaved-4-8" });
assert.deepEqual(recordingsOf(shown({ ...looped, v: "4" }, { hasStages: true }), names), {});

assert.equal(commandOf(shown({ m: "16" })), "pipelab run --schedule 1f1b -p 4 -m 16");
assert.equal(commandOf(shown(looped, { hasStages: true })), "pipelab run --schedule interleaved -p 4 -m 8 -v 2");
assert.equal(commandOf(shown({ w: "5" })), "pipelab run --schedule 1f1b -p 4 -m 8 --forward 10ms --backward-input 10ms --backward-weight 5ms --latency 0ms");
assert.equal(commandOf(shown({ f: "10,20,10,10" })), "pipelab run --schedule '#there'");
assert.equal(commandOf(shown({}, { isNamed: false })), "pipelab run --schedule '#there'");
