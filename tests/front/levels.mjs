// What a browser remembers of the levels, their addresses, and a token that moves.
import assert from "node:assert/strict";
import { levelAddress, levelOf } from "./address.js";
import { keep, kept, leaveRows, mostStars, rowsLeft } from "./progress.js";
import { moveBy } from "./token_grid.js";

// without storage: nothing is remembered, and nothing fails
assert.deepEqual(kept(), { stars: {}, rows: {}, coached: {} });
keep({ stars: { a: 1 }, rows: {}, coached: {} });
assert.equal(rowsLeft("a"), null);

const stored = new Map();
globalThis.localStorage = { getItem: (name) => stored.get(name) ?? null, setItem: (name, text) => void stored.set(name, text) };
keep({ stars: { a: 2 }, rows: {} });
leaveRows("a", [["0F0", "0B0"], ["1F0", "what?"]], true);
assert.deepEqual(kept().stars, { a: 2 });
assert.deepEqual(kept().coached, { a: true });
assert.deepEqual(rowsLeft("a"), [["0F0", "0B0"], ["1F0", "what?"]]);
assert.deepEqual(mostStars({ a: 2, b: 1 }, { a: 1, b: 3, c: 0 }), { a: 2, b: 3, c: 0 });
stored.set("pipelab.levels", "no JSON");
assert.deepEqual(kept(), { stars: {}, rows: {}, coached: {} }, "another's text");

const start = [["0F0", "0B0", "0F1", "0B1"], ["1F0", "1B0", "1F1", "1B1"]];
const other = [["0F0", "0F1", "0B0", "0B1"], start[1]];
assert.equal(levelAddress("first-steps", start, start), "#level=first-steps");
assert.deepEqual(levelOf(levelAddress("first-steps", start, start)), { level: "first-steps", rows: null });
assert.deepEqual(levelOf(levelAddress("the-v", other, start)), { level: "the-v", rows: other });
assert.deepEqual(levelOf("#t=%21%25"), { level: null, rows: null });

const state = { rows: start, spot: [0, 2] };
const edits = [];
const edit = (rows, spot) => edits.push([rows, spot]);
moveBy(state, edit, [0, -1]);
assert.deepEqual(edits.pop(), [[["0F0", "0F1", "0B0", "0B1"], start[1]], [0, 1]]);
moveBy(state, edit, [1, 0]);
assert.deepEqual(edits.pop(), [[["0F0", "0B0", "0B1"], ["1F0", "1B0", "0F1", "1F1", "1B1"]], [1, 2]]);
for (const [spot, step] of [[[0, 0], [0, -1]], [[0, 3], [0, 1]], [[0, 2], [-1, 0]], [[1, 9], [0, 1]]])
  moveBy({ rows: start, spot }, edit, step);
assert.equal(edits.length, 0, "at an edge nothing moves");
