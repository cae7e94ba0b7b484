// A control that rests starts something once; one that is released, at once.
import assert from "node:assert/strict";
import { debounce } from "./debounce.js";
import { changes } from "./lab_controls.js";

const clock = {
  due: null,
  setTimeout: (act) => (clock.due = act),
  clearTimeout: () => (clock.due = null),
};
let acted = 0;
const act = debounce(() => acted++, 100, clock);
act.soon();
act.soon();
assert.equal(acted, 0, "it still moves");
clock.due();
assert.equal(acted, 1);
assert.equal(act.flush(), false, "nothing is due");
act.soon();
assert.equal(act.flush(), true);
assert.equal(acted, 2);
assert.equal(clock.due, null, "and not again");
act.soon();
act.cancel();
assert.equal(act.flush(), false);

assert.deepEqual(changes({ a: 1, b: 2 }, { a: 1, b: 3 }), { b: 2 });
