// @ts-check
// Small parts of a page: elements, icons, tables. Words are set as text, never as HTML.
/** @import { Attributes, Pool, Table } from "./types.js" */

// JupyterLab takes keys (arrows, D D, Shift+Enter) from whatever has the focus, unless that very
// element has this mark: a mark on an ancestor is read too late.
const FOCUSABLE = new Set(["button", "input", "select", "summary"]);

/** An HTML element; `attributes` may hold listeners, as functions. @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag @param {Attributes} attributes @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]} */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, /** @type {EventListener} */ (value));
    else node.setAttribute(name, String(value));
  }
  if (FOCUSABLE.has(tag)) node.dataset.lmSuppressShortcuts = "true";
  node.append(...children);
  return node;
}

/** An SVG element. @param {string} tag @param {Attributes} attributes @param {(Node | string)[]} children
 * @returns {SVGElement} */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(node, attributes);
  node.append(...children);
  return node;
}

/** Set attributes, where they differ: an equal value would be laid out again, too. @template {Element} Node
 * @param {Node} node @param {Attributes} attributes */
export function set(node, attributes) {
  for (const name in attributes) {
    const value = String(attributes[name]);
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  return node;
}

// Drawn, since fonts lack many of the usual glyphs.
const ICONS = {
  play: "M4 2.5v11l9-5.5z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  start: "M3 3h2v10H3zM13 3v10L6 8z",
  back: "M10.5 3v10L3.5 8zM11.5 3h2v10h-2z",
  forth: "M5.5 3v10l7-5zM2.5 3h2v10h-2z",
  plus: "M7 3h2v4h4v2H9v4H7V9H3V7h4z",
  minus: "M3 7h10v2H3z",
  whole: "M1.5 3h1.5v10H1.5zM13 3h1.5v10H13zM4 8l3-3v2h2V5l3 3-3 3V9H7v2z",
};

/** Show another icon in a button that has one. @param {Element} node @param {keyof typeof ICONS} name */
export function setIcon(node, name) {
  node.querySelector("path")?.setAttribute("d", ICONS[name]);
}

/** A button; with an icon its words are its accessible name, or `shown` beside it.
 * @param {string} words @param {() => void} onClick
 * @param {{ icon?: keyof typeof ICONS | null, shown?: boolean }} options */
export function button(words, onClick, { icon = null, shown = !icon } = {}) {
  const node = element("button", { type: "button", click: onClick });
  if (icon) {
    const drawing = svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": true });
    drawing.append(svg("path", { d: ICONS[icon] }));
    node.append(drawing);
    node.classList.add("pl-icon");
  }
  if (shown) node.append(element("span", {}, words));
  else set(node, { "aria-label": words, title: words });
  return node;
}

/** A table of text: heads, and rows whose first cell names the row. @param {Table} table */
export function tableOf({ caption = "", heads = [], rows = [] }) {
  const head = heads.map((text) => element("th", { scope: "col" }, text));
  const body = rows.map(([name, ...cells]) =>
    element("tr", {}, element("th", { scope: "row" }, name),
      ...cells.map((text) => element("td", {}, text))));
  return element("table", {}, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}

/** Nodes that are used again at each drawing, so that a frame makes few new ones. Each row has
 * separate ones: where one row gets longer, the nodes of all others stay as they are.
 * @param {Element} parent @param {string} tag @param {Attributes} attributes @returns {Pool} */
export function pool(parent, tag, attributes = {}) {
  /** @type {{ nodes: SVGElement[], used: number }[]} */
  const rows = [];
  return {
    next(place = 0) {
      const row = (rows[place] ??= { nodes: [], used: 0 });
      if (row.used === row.nodes.length) row.nodes.push(parent.appendChild(svg(tag, attributes)));
      return row.nodes[row.used++];
    },
    /** Remove what this drawing did not use. */
    finish() {
      for (const row of rows) {
        for (const node of row?.nodes.splice(row.used) ?? []) node.remove();
        if (row) row.used = 0;
      }
    },
  };
}

/** Show a text, if another one is shown: an equal one would be painted again, too.
 * @param {Element} node @param {string} text */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
