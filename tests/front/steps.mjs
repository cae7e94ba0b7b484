import assert from "node:assert/strict";
import { numberOf, stepOf } from "./data.js";

const head = { ranks: 2, microbatches: 4, steps: { starts: [[0, 10, 20], [1, 12, 22]], spans: [[0, 12], [10, 22], [20, 33]] } };
assert.equal(numberOf({ head }, 9), "1", "microbatch 9 of steps of 4 is the third step's microbatch 1");
assert.equal(numberOf({ head: { ...head, steps: undefined } }, 9), "9");
assert.equal(numberOf({ head: { ...head, slices: 2 } }, 11), "1.1", "of 4 microbatches in 2 slices: 8 numbers a step");
assert.equal(numberOf({ head }, -1), "");
assert.deepEqual([0, 9.9, 10, 25].map((time) => stepOf(head, 0, time)), [0, 0, 1, 2]);
assert.equal(stepOf(head, 1, 11), 0, "each rank begins a step at its own time");
assert.equal(stepOf({ ranks: 1 }, 0, 5), 0);
