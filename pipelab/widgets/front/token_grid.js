// @ts-check
// The grid of tokens: rows of buttons to drag, or to move with the keyboard.
import { element } from "./parts.js";
import { clamp } from "./scale.js";
import { touchDrag } from "./touch_drag.js";

/** @typedef {number[]} Spot a rank, and a position in its row */
/** @typedef {{ rows: string[][], spot: Spot, dragged: Spot | null, marks: () => string[],
 *   moved: () => void }} Tokens */
/** @typedef {(rows: string[][], focus: Spot) => void} Edit */

const MOVES = "Arrow keys move from token to token; with Shift they move the token, along its rank or to " +
  "another one. Delete removes it. Dragging moves it, too.";
const STEPS = new Map([["ArrowLeft", [0, -1]], ["ArrowRight", [0, 1]], ["ArrowUp", [-1, 0]], ["ArrowDown", [1, 0]]]);

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
  const focusSpot = () => {
    const found = node.children[state.spot[0]]?.querySelectorAll(".pl-token")[state.spot[1]];
    if (found instanceof HTMLElement) found.focus();
  };
  return {
    node,
    /** @param {boolean} focus whether the chosen token takes the focus */
    draw(focus) {
      node.replaceChildren(...state.rows.map((_, rank) => rowNode(state, edit, rank, focusSpot)));
      if (!node.querySelector('[tabindex="0"]')) tokens()[0]?.setAttribute("tabindex", "0");
      if (focus) focusSpot();
    },
    /** Mark the tokens that the message is about. */
    mark() {
      for (const each of tokens()) markToken(each, state.marks().includes(each.textContent ?? ""));
    },
  };
}

/** @param {HTMLElement} node @param {boolean} isMarked */
function markToken(node, isMarked) {
  node.classList.toggle("pl-marked", isMarked);
  if (isMarked) node.setAttribute("aria-invalid", "true");
  else node.removeAttribute("aria-invalid");
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
  node.tabIndex = rank === state.spot[0] && i === state.spot[1] ? 0 : -1;
  markToken(node, state.marks().includes(text));
  node.setAttribute("aria-label", `${text}, rank ${rank}, place ${i + 1}`);
  node.addEventListener("focus", () => {
    state.spot = spot;
    state.moved();
    const all = node.closest(".pl-tokens")?.querySelectorAll(".pl-token") ?? [];
    for (const other of all) other.setAttribute("tabindex", other === node ? "0" : "-1");
  });
  node.addEventListener("keydown", (event) => {
    if (!pressKey(state, edit, event, spot, focusSpot)) return;
    event.preventDefault();
    event.stopPropagation();
  });
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
  const row = clamp(rank + step[0], 0, rows.length - 1);
  const most = rows[row].length - (event.shiftKey && row !== rank ? 0 : 1);
  const to = [row, clamp(i + step[1], 0, Math.max(0, most))];
  if (event.shiftKey) edit(moved(rows, [rank, i], to), to);
  else {
    state.spot = to;
    focusSpot();
  }
  return true;
}
