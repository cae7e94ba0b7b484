// @ts-check
// A kernel that does not answer: the view says so, in place of waiting in silence.
import { element } from "./parts.js";

const PATIENCE = 3000; // ms without an answer before the view says so
const NO_ANSWER =
  "No answer from the kernel: it is busy, or not running. " +
  "If this stays, run this cell again (Shift+Enter).";

/** A note that appears when the kernel does not answer. @param {string} silence what it says then */
export function patience(silence = NO_ANSWER) {
  const node = element("p", { class: "pl-note", role: "status" });
  let timer = 0;
  const end = () => clearTimeout(timer);
  return {
    node, end,
    sent() {
      end();
      timer = window.setTimeout(() => (node.textContent = silence), PATIENCE);
    },
    answered() {
      end();
      node.textContent = "";
    },
  };
}
