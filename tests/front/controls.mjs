// A control that rests starts something once; one that is released, at once.
import assert from "node:assert/strict";
import { debounce } from "./debounce.js";
import { changes, onMoves } from "./lab_controls.js";

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

const slider = new EventTarget();
let runs = 0;
onMoves(slider, debounce(() => runs++, 50, clock));
const fire = (...names) => names.forEach((name) => slider.dispatchEvent(new Event(name)));
const keyDown = (repeat) => slider.dispatchEvent(Object.assign(new Event("keydown"), { repeat }));
fire("input", "input");
assert.equal(runs, 0, "it is dragged");
fire("input", "change");
assert.equal(runs, 1, "it was released");
keyDown(false);
fire("input", "change");
assert.equal(runs, 2, "a key has moved it");
keyDown(true);
fire("input", "change");
keyDown(true);
fire("input", "change");
assert.equal(runs, 2, "the key is held");
fire("keyup");
assert.equal(runs, 3);
fire("input", "change");
assert.equal(runs, 4, "and no key is held any more");
