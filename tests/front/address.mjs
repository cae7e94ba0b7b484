// The playground's address keeps what is on the page, exactly, and stays short.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { USUAL, addressOf, millisecondsOf, packRows, stateOf, unpackRows } from "./address.js";

const rows = [["0F0", "0F1", "0B0", "0B1"], ["1F0", "1B0", "1F1", "1B1"]];
assert.equal(packRows(rows), "FFBB-FBFB");
const cases = [
  rows,
  [["0F1", "0F0", "0B0", "0B1"], []],
  [[]],
  [[], ["0F0", "3I12", "3W12", "0W0"]],
  [["0F0", "(0F1;1B0)OVERLAP_F_B", "0F0.1"], ["what!", "-", "1F00", "é %21!", ".", ""]],
  [["3F0", "0F0", "0F7", "0F8", "3F1", "0F99"], ["1B0", "1B0"]],
];
for (const each of cases) {
  assert.deepEqual(unpackRows(packRows(each)), each);
  const settings = { ...USUAL, s: "gpipe", m: "16", f: "10,20.5" };
  assert.deepEqual(stateOf(addressOf(settings, each)), { settings, rows: each });
}
assert.equal(addressOf(USUAL, null), "#");
assert.deepEqual(stateOf(""), { settings: USUAL, rows: null });
assert.equal(addressOf({ ...USUAL, s: "zero_bubble_v", f: "10,20" }, null), "#s=zero_bubble_v&f=10,20");
assert.deepEqual(stateOf("#s=gpipe&unknown=1").settings, { ...USUAL, s: "gpipe" });
for (const wrong of ["#t=what", "#t=!%25!", "#t=F!F"]) assert.equal(stateOf(wrong).rows, null);

// 8 ranks, 32 microbatches, one token moved: short enough for a chat
const large = Array.from({ length: 8 }, (_, rank) => ["F", "B"].flatMap((kind) =>
  Array.from({ length: 32 }, (__, i) => `${rank}${kind}${i}`)));
[large[3][5], large[3][40]] = [large[3][40], large[3][5]];
assert.ok(addressOf(USUAL, large).length < 600);
assert.deepEqual(stateOf(addressOf(USUAL, large)).rows, large);

assert.equal(millisecondsOf("10"), 10);
assert.deepEqual(millisecondsOf("10, .5,3."), [10, 0.5, 3]);
for (const wrong of ["", "a", "1,,2", "-1", "1e3", "Infinity"]) assert.equal(millisecondsOf(wrong), null);

// what Python reads, too: tests/widgets/test_playground_link.py
for (const { address, rows: said } of JSON.parse(readFileSync("addresses.json", "utf-8"))) {
  const { settings, rows: read } = stateOf(address);
  assert.deepEqual(read, said);
  assert.equal(addressOf(settings, read), address);
}
