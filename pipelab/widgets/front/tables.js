// @ts-check
// The same as the picture in tables; the long one is made when it is opened.
/** @import { State, Table } from "./types.js" */
import { token } from "./data.js";
import { element, tableOf } from "./parts.js";
import { bytesText, say, timeText } from "./scale.js";

const MOST_ROWS = 3000; // a longer table takes seconds to lay out

/** @param {State} s @param {Element} place */
export function fillTables(s, place) {
  const boxes = [];
  const { comparison, tables } = s.trace.head;
  if (comparison) boxes.push(folded("The difference in numbers", () => [tableOf(comparison)], true));
  if (tables?.length) boxes.push(folded("The same as tables", () => tables.map(tableOf)));
  if (s.trace.n && !s.live) boxes.push(folded("All actions", () => [tableOf(actions(s))]));
  place.replaceChildren(...boxes);
}

/** @param {string} words @param {() => Node[]} make @param {boolean} isOpen */
function folded(words, make, isOpen = false) {
  const box = element("details", isOpen ? { open: "" } : {}, element("summary", {}, words));
  const fill = () => {
    if (box.open && box.children.length < 2) box.append(element("div", { class: "pl-scroll" }, ...make()));
  };
  box.addEventListener("toggle", fill);
  fill();
  return box;
}

/** Every action in order of rank and start. @param {State} s @returns {Table} */
function actions({ trace }) {
  const rows = trace.rows.flatMap((row, rank) => [...row.boxes.order, ...row.messages.order]
    .sort((a, b) => trace.start[a] - trace.start[b])
    .map((i) => [say("rank", { rank }), token(trace, i), timeText(trace.start[i]),
      timeText(trace.end[i] - trace.start[i]), trace.bytes[i] > 0 ? bytesText(trace.bytes[i]) : "",
      trace.peer[i] >= 0 ? say("rank", { rank: trace.peer[i] }) : ""]));
  const count = rows.length;
  const caption = count > MOST_ROWS ? say("first_actions", { shown: MOST_ROWS, count }) : say("all_actions", { count });
  return { caption, heads: ["rank", "action", "start", "takes", "bytes", "peer"], rows: rows.slice(0, MOST_ROWS) };
}
