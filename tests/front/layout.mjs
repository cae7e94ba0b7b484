// Where things stand, and what crowds.
import assert from "node:assert/strict";
import { columns, fitting, layout, nodeWidth, rankAt, stepPath } from "./layout.js";

for (const ranks of [1, 4, 32, 200]) {
  const lanes = { messages: true, memory: true, ghost: true };
  const place = layout({ trace: { head: { ranks } }, ghost: {}, lanes, curves: [] }, 900);
  let last = 0;
  for (const { ghost, box, messages, memory, bottom } of place.rows) {
    for (const [y, height] of [ghost, box, messages, memory]) {
      assert.ok(y >= last, "parts of a row do not overlap");
      last = y + height;
    }
    assert.equal(last, bottom);
  }
  place.rows.forEach(({ box }, rank) => assert.equal(rankAt(place, box[0] + box[1] / 2), rank));
  assert.equal(rankAt(place, place.height + 99), -1);
}

for (const [ranks, others] of [[2, 4], [4, 2], [1, 64]]) {
  const lanes = { messages: true, memory: true, ghost: true };
  const ghost = { rows: Array.from({ length: others }, () => ({})) };
  const { rows, bottom } = layout({ trace: { head: { ranks } }, ghost, lanes, curves: [] }, 900);
  assert.equal(rows.length, Math.max(ranks, others), "each rank of either trace has a row");
  rows.forEach((row, rank) => {
    assert.equal(row.box[1] > 0, rank < ranks);
    if (rank < others) assert.ok(row.ghost[1] >= 3, "the other trace's boxes are seen");
    assert.ok(row.bottom <= bottom && row.top >= (rank ? rows[rank - 1].bottom : 0));
  });
}

const guessed = layout({ trace: { head: { ranks: 2 } }, lanes: {}, guess: { time: 1, text: "mine" } }, 900);
assert.ok(guessed.rows[0].top >= 20, "a guess has room for its words above the first row");

assert.equal(nodeWidth([1, 2, 50, 60]), 3);
const many = Array.from({ length: 5000 }, (_, i) => 3 + i / 100);
assert.ok(many.filter((width) => width >= nodeWidth(many)).length <= 1000);

assert.equal(fitting(["2F13", "F13", "F"], 27, 12), "F13");
assert.equal(fitting(["F13"], 5, 12), "");

// Columns keep all time: what goes in comes out, and no column holds more than itself.
const boxes = Array.from({ length: 300 }, (_, i) => [i * 2, i * 2 + 1, i % 3]);
const found = columns(boxes, 700);
const area = found.reduce((sum, [, below, above]) => sum + (above - below) * 4, 0);
assert.ok(Math.abs(area - 300) < 1, `${area}`);
assert.ok(found.every(([, below, above]) => below < above && above <= 1));

const d = stepPath([0, 1, 2], [1, 5, 2], { x: (t) => t * 10, y: (v) => 100 - v, from: 0, to: 3, base: 100 });
assert.equal(d, "M0.0 100V99.0H10.0V95.0H20.0V98.0H30.0V100Z");
const spike = stepPath([0, 1, 1.01, 1.02], [1, 9, 3, 4], { x: (t) => t * 10, y: (v) => 100 - v, from: 0, to: 2, base: 100 });
assert.equal(spike, "M0.0 100V99.0H10.0V91.0V96.0H20.0V100Z", "a peak narrower than a pixel is seen");
