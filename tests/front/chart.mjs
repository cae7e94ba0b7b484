// The chart of a session: runs, theory, and what was predicted before them.
import assert from "node:assert/strict";
import { chartOf } from "./chart.js";

const run = { p: 4, m: 8, bubble: 0.31 };
const guesses = [{ p: 4, m: 8, bubble: 0.27 }, { p: 4, m: 32, bubble: 0.9 }];
const curve = { m: [[8, 0.2727]], p: [] };

const plain = chartOf([run], curve, "m");
assert.deepEqual(plain.crosses, []);
assert.equal(plain.top, 0.4);
assert.equal(plain.last, 16);

// A prediction stands where its run will: at the same m, higher if it is a larger bubble.
const { marks, crosses, top, last } = chartOf([run], curve, "m", guesses);
assert.equal(crosses[0].x, marks[0].x);
assert.ok(crosses[0].y > marks[0].y, "y goes down");
assert.ok(crosses[1].y < marks[0].y);
assert.deepEqual([top, last], [1, 32], "the chart has room for what was predicted");

// Lines of the grid are at round shares.
const stepsOf = (bubble) => {
  const { step, top } = chartOf([{ ...run, bubble }], null, "m");
  return [step, top];
};
for (const [bubble, step, top] of [[0.9, 0.25, 1], [0.57, 0.25, 0.75], [0.31, 0.1, 0.4], [0.11, 0.05, 0.15], [0.03, 0.05, 0.1]]) {
  const found = stepsOf(bubble);
  assert.ok(Math.abs(found[0] - step) < 1e-9 && Math.abs(found[1] - top) < 1e-9, `${bubble}: ${found}`);
}

// Schedules with the same bubble stand side by side, around their place; the same ones on it.
const at = (schedule, bubble = 0.27) => ({ p: 4, m: 8, bubble, schedule });
const placesOf = (runs) => chartOf(runs, curve, "m").marks.map(({ x }) => x);
const [alone] = placesOf([at("gpipe")]);
const [first, second, again] = placesOf([at("gpipe"), at("1f1b"), at("gpipe")]);
assert.equal(first, again);
assert.ok(second - first >= 10);
assert.equal((first + second) / 2, alone);
assert.deepEqual(placesOf([at("gpipe", 0.1), at("1f1b", 0.4)]), [alone, alone]);
