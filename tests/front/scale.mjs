// Numbers to words, times to places.
import assert from "node:assert/strict";
import { bytesText, clamp, first, panned, speeds, ticks, timeText, zoomed } from "./scale.js";

assert.equal(clamp(5, 0, 3), 3);
for (const n of [0, 1, 7]) for (let k = 0; k <= n; k++) assert.equal(first(n, (i) => i >= k), k);

assert.deepEqual([0.0123, 33, 2e-6, 0, 0.9996].map(timeText), ["12.3 ms", "33 s", "2 µs", "0 s", "1000 ms"]);
assert.equal(timeText(-0.002), "−2 ms");
assert.deepEqual([999, 1_500_000, 999_960].map(bytesText), ["999 B", "1.5 MB", "1.0 MB"]);

for (const [from, to] of [[0, 0.344], [0.1, 0.1003], [0, 33], [5, 5.5]]) {
  const found = ticks(from, to, 8);
  assert.ok(found.length >= 2 && found.length <= 9, `${found.length} ticks in ${from} … ${to}`);
  assert.ok(found.every(({ time }) => time >= from - 1e-9 && time <= to + 1e-9));
  assert.equal(new Set(found.map(({ text }) => text)).size, found.length, "labels differ");
}
assert.equal(ticks(0, 0.344, 12)[1].text, "50 ms");

const whole = { from: 0, to: 10 };
let window = zoomed(whole, whole, 0.5, 8);
assert.ok(Math.abs(window.from - 4) < 1e-9 && Math.abs(window.to - 9) < 1e-9, "8 stays where it is");
assert.deepEqual(zoomed(window, whole, 100, 8), whole, "no further than the whole");
assert.deepEqual(panned(window, whole, 50), { from: 5, to: 10 });
assert.deepEqual(panned(window, whole, -50), { from: 0, to: 5 });

for (const duration of [1e-4, 0.33, 33, 5000]) {
  const { offered, usual } = speeds(duration);
  assert.ok(offered.some(([value]) => Number(value) === usual));
}
assert.equal(speeds(0.33).usual, 0.05);
