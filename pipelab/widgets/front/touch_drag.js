// @ts-check
// Tokens dragged with a finger: a long press lifts one. A finger that moves before that scrolls, as everywhere.
import { element } from "./parts.js";

const HOLD = 300; // ms
const SLACK = 8; // pixels that a finger may move while it presses

/** The row under a finger, and before which of its tokens. @param {Element} grid @param {PointerEvent} event */
function placeUnder(grid, { clientX, clientY }) {
  const row = document.elementFromPoint(clientX, clientY)?.closest(".pl-row");
  if (!row || !grid.contains(row)) return null;
  const tokens = [...row.querySelectorAll(".pl-token")];
  const found = tokens.findIndex((each) => {
    const { x, width } = each.getBoundingClientRect();
    return clientX < x + width / 2;
  });
  return { row, before: tokens[found] ?? null, rank: [...grid.children].indexOf(row), place: found < 0 ? tokens.length : found };
}

/** Let fingers drag the tokens of a grid. @param {HTMLElement} grid its children are the rows
 * @param {(from: number[], rank: number, place: number) => void} drop */
export function touchDrag(grid, drop) {
  const mark = element("span", { class: "pl-drop", "aria-hidden": "true" });
  let [timer, x, y] = [0, 0, 0];
  /** @type {Element | null} */
  let lifted = null;
  const end = () => {
    clearTimeout(timer);
    lifted?.classList.remove("pl-lifted");
    mark.remove();
    [timer, lifted] = [0, null];
  };
  grid.addEventListener("pointerdown", (event) => {
    end();
    const token = event.pointerType === "touch" && event.target instanceof Element ? event.target.closest(".pl-token") : null;
    if (!token) return;
    [x, y] = [event.clientX, event.clientY];
    timer = window.setTimeout(() => {
      lifted = token;
      token.classList.add("pl-lifted");
    }, HOLD);
  });
  grid.addEventListener("pointermove", (event) => {
    if (!lifted) return void (Math.hypot(event.clientX - x, event.clientY - y) > SLACK && end());
    const found = placeUnder(grid, event);
    if (found) found.row.insertBefore(mark, found.before);
  });
  grid.addEventListener("pointerup", (event) => {
    const found = lifted && placeUnder(grid, event);
    const row = lifted?.closest(".pl-row");
    const from = row && lifted ? [[...grid.children].indexOf(row), [...row.querySelectorAll(".pl-token")].indexOf(lifted)] : null;
    end();
    if (found && from) drop(from, found.rank, found.place);
  });
  grid.addEventListener("pointercancel", end);
  grid.addEventListener("touchmove", (event) => void (lifted && event.preventDefault()), { passive: false });
  for (const name of ["contextmenu", "dragstart"]) // the browser's own answers to a long press
    grid.addEventListener(name, (event) => void ((timer || lifted) && event.preventDefault()), { capture: true });
}
