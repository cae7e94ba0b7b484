// @ts-check
// How far Python is loaded, on a page that runs it.
import { element, write } from "./parts.js";

/** How far Python is loaded. @param {number} total bytes */
export function loadingBar(total) {
  const words = element("span", { role: "status" });
  const bar = element("progress", { max: total, value: 0, "aria-label": "Python is being loaded" });
  const node = element("p", { class: "pl-loading" }, bar, words);
  node.hidden = true;
  return {
    node,
    /** @param {number} bytes */
    show(bytes) {
      node.hidden = false;
      bar.value = bytes;
      const part = `${(bytes / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
      write(words, bytes < total ? `Loading Python: ${part}` : "Starting Python");
    },
    /** @param {string} text */
    fail(text) {
      node.hidden = false;
      bar.hidden = true;
      write(words, text);
    },
    hide: () => void (node.hidden = true),
  };
}
