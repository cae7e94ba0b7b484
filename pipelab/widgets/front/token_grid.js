// @ts-check
// The grid of tokens: rows of buttons to drag, or to move with the keyboard.
import { element } from "./parts.js";
import { clamp } from "./scale.js";
import { touchDrag } from "./touch_drag.js";

/** @typedef {number[]} Spot a rank, and a position in its row */
/** @typedef {{ rows: string[][], spot: Spot, dragged: Spot | null, marks: () => string[],
 *   pointed: () => string[], moved: () => void }} Tokens */
/** @typedef {(rows: string[][], focus: Spot) => void} Edit */

const MOVES = "Arrow keys move from token to token; with Shift they move the token, along its rank or to " +
  "another one. Delete removes it. Dragging moves it, too.";
export const STEPS = new Map([["ArrowLeft", [0, -1]], ["ArrowRight", [0, 1]], ["ArrowUp", [-1, 0]], ["ArrowDown", [1, 0]]]);

/** Rows with the token at `from` moved so that it is at `to`.
 * @param {string[][]} rows @param {Spot} from @param {Spot} to */
export function moved(rows, from, to) {
  const next = rows.map((row) => [...row]);
  const [token] = next[from[0]].splice(from[1], 1);
  next[to[0]].splice(clamp(to[1], 0, next[to[0]].length), 0, token);
  return next;
}

/** The grid; `state` holds the rows, `edit` takes changed ones. @param {Tokens} state @param {Edit} edit */
export function makeGrid(state, edit) {
  const node = element("div", { class: "pl-tokens", role: "group", "aria-label": `Schedule. ${MOVES}` });
  touchDrag(node, (from, rank, place) => dropToken(state, edit, from, rank, place));
  const tokens = () => [...node.querySelectorAll(".pl-token")].filter((each) => each instanceof HTMLElement);
  /** @type {string[]} */
  let drawn = []; // each row's tokens: a row that is as before stays, since browsers lay out new ones
  const chosen = () => {
    const found = node.children[state.spot[0]]?.querySelectorAll(".pl-token")[state.spot[1]];
    return found instanceof HTMLElement ? found : undefined;
  };
  const focusSpot = () => chosen()?.focus();
  const mark = () => {
    const [marks, pointed] = [new Set(state.marks()), new Set(state.pointed())];
    for (const each of tokens()) showMarks(each, marks.has(each.textContent ?? ""), pointed.has(each.textContent ?? ""));
  };
  return {
    node,
    /** @param {boolean} focus whether the chosen token takes the focus */
    draw(focus) {
      const rows = state.rows.map((row) => row.join(" "));
      for (const [rank, row] of rows.entries()) {
        if (row === drawn[rank]) continue;
        const fresh = rowNode(state, edit, rank, focusSpot);
        if (rank < drawn.length) node.children[rank].replaceWith(fresh);
        else node.append(fresh);
      }
      while (node.children.length > rows.length) node.lastChild?.remove();
      drawn = rows;
      chooseToken(node, chosen() ?? tokens()[0]);
      mark();
      if (focus) focusSpot();
    },
    /** Mark the tokens that the message is about, and those that an advice points at. */
    mark,
  };
}

/** The one token that Tab comes to. @param {Element} grid @param {Element | undefined} node */
function chooseToken(grid, node) {
  for (const other of grid.querySelectorAll('[tabindex="0"]')) if (other !== node) other.setAttribute("tabindex", "-1");
  node?.setAttribute("tabindex", "0");
}

/** @param {HTMLElement} node @param {boolean} isMarked @param {boolean} isPointed */
function showMarks(node, isMarked, isPointed) {
  if (node.classList.contains("pl-marked") !== isMarked) {
    node.classList.toggle("pl-marked", isMarked);
    if (isMarked) node.setAttribute("aria-invalid", "true");
    else node.removeAttribute("aria-invalid");
  }
  if (node.classList.contains("pl-pointed") !== isPointed) node.classList.toggle("pl-pointed", isPointed);
}

/** Where in its row a dragged token would be dropped: before the first token whose middle is at the
 * right of the pointer. @param {HTMLElement[]} nodes @param {DragEvent} event */
function placeOf(nodes, event) {
  const found = nodes.findIndex((each) => event.clientX < each.getBoundingClientRect().x + each.offsetWidth / 2);
  return found < 0 ? nodes.length : found;
}

/** One rank; tokens can be dropped on it.
 * @param {Tokens} state @param {Edit} edit @param {number} rank @param {() => void} focusSpot */
function rowNode(state, edit, rank, focusSpot) {
  const nodes = state.rows[rank].map((text, i) => tokenNode(state, edit, text, [rank, i], focusSpot));
  const node = element("div", { class: "pl-row", role: "group", "aria-label": `rank ${rank}` },
    element("b", {}, `rank ${rank}`), ...nodes);
  const mark = element("span", { class: "pl-drop", "aria-hidden": "true" });
  node.addEventListener("dragover", (event) => {
    if (!state.dragged) return;
    event.preventDefault();
    node.insertBefore(mark, nodes[placeOf(nodes, event)] ?? null);
  });
  node.addEventListener("dragleave", (event) => {
    if (!(event.relatedTarget instanceof Node) || !node.contains(event.relatedTarget)) mark.remove();
  });
  node.addEventListener("dragend", () => node.closest(".pl-tokens")?.querySelector(".pl-drop")?.remove());
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    mark.remove();
    if (!state.dragged) return;
    const from = state.dragged;
    state.dragged = null;
    dropToken(state, edit, from, rank, placeOf(nodes, event));
  });
  return node;
}

/** Move a token in front of the one at a place. @param {Tokens} state @param {Edit} edit @param {Spot} from
 * @param {number} rank @param {number} place */
function dropToken(state, edit, from, rank, place) {
  const to = [rank, from[0] === rank && from[1] < place ? place - 1 : place];
  edit(moved(state.rows, from, to), to);
}

/** One token. @param {Tokens} state @param {Edit} edit @param {string} text @param {Spot} spot @param {() => void} focusSpot */
function tokenNode(state, edit, text, spot, focusSpot) {
  const [rank, i] = spot;
  const node = element("button", { type: "button", draggable: "true", class: `pl-token pl-kind-${text.replace(/[\d.]/g, "")}` }, text);
  node.tabIndex = -1;
  node.setAttribute("aria-label", `${text}, rank ${rank}, place ${i + 1}`);
  node.addEventListener("focus", () => {
    state.spot = spot;
    state.moved();
    const grid = node.closest(".pl-tokens");
    if (grid) chooseToken(grid, node);
  });
  node.addEventListener("keydown", (event) => {
    if (!pressKey(state, edit, event, spot, focusSpot)) return;
    event.preventDefault();
    event.stopPropagation();
  });
  node.addEventListener("click", () => node.focus()); // where a tap does not
  node.addEventListener("dragstart", (event) => {
    state.dragged = spot;
    event.dataTransfer?.setData("text/plain", text);
  });
  return node;
}

/** Whether a key did something to the token at a spot.
 * @param {Tokens} state @param {Edit} edit @param {KeyboardEvent} event @param {Spot} spot @param {() => void} focusSpot */
function pressKey(state, edit, event, [rank, i], focusSpot) {
  const { rows } = state;
  if (event.key === "Delete") {
    const rest = rows.map((row, r) => (r === rank ? row.filter((_, k) => k !== i) : row));
    edit(rest, [rank, Math.max(0, i - 1)]);
    return true;
  }
  const step = STEPS.get(event.key);
  if (!step) return false;
  if (event.shiftKey) moveBy(state, edit, step);
  else {
    state.spot = placeAt(rows, [rank, i], step, 1);
    focusSpot();
  }
  return true;
}

/** The place a step away, no further than the last token of its row, or one place behind that.
 * @param {string[][]} rows @param {Spot} from @param {Spot} step @param {number} last 1, or 0 for behind */
function placeAt(rows, [rank, i], step, last) {
  const row = clamp(rank + step[0], 0, rows.length - 1);
  return [row, clamp(i + step[1], 0, Math.max(0, rows[row].length - last))];
}

/** Move the chosen token a step. @param {Tokens} state @param {Edit} edit @param {Spot} step */
export function moveBy(state, edit, step) {
  const { rows, spot } = state;
  if (!rows[spot[0]]?.[spot[1]]) return;
  const to = placeAt(rows, spot, step, step[0] && rows[spot[0] + step[0]] ? 0 : 1);
  if (String(to) !== String(spot)) edit(moved(rows, spot, to), to);
}
