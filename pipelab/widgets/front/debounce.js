// @ts-check
// A delay, for controls that move on and on.
/** @import { Debounced } from "./types.js" */

/** Calls `act` once `soon` was not called for `ms`; `flush` does it now, if it is due.
 * @param {() => void} act @param {number} ms
 * @param {{ setTimeout: (act: () => void, ms: number) => any, clearTimeout: (timer: any) => void }} clock
 * @returns {Debounced} */
export function debounce(act, ms, clock = globalThis) {
  /** @type {any} */
  let timer = null;
  const fire = () => {
    timer = null;
    act();
  };
  return {
    soon() {
      clock.clearTimeout(timer);
      timer = clock.setTimeout(fire, ms);
    },
    flush() {
      if (timer === null) return false;
      clock.clearTimeout(timer);
      fire();
      return true;
    },
    cancel() {
      clock.clearTimeout(timer);
      timer = null;
    },
  };
}
