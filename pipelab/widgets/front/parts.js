// Small parts of a page: elements, icons, labelled controls. Words are set as text, never as HTML.

let count = 0;
// Each widget loads its own copy of this file, so a count alone would repeat ids on a page.
const prefix = `pl-${Math.random().toString(36).slice(2)}`;
const newId = () => `${prefix}-${++count}`;

// JupyterLab takes keys (arrows, D D, Shift+Enter) from whatever has the focus, unless that very
// element says no: an ancestor that says so is asked too late.
const FOCUSABLE = new Set(["button", "input", "select", "summary"]);

/** An HTML element; `attributes` may hold listeners, as functions. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value);
  }
  if (FOCUSABLE.has(tag)) node.dataset.lmSuppressShortcuts = "true";
  node.append(...children);
  return node;
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(node, attributes);
  node.append(...children);
  return node;
}

/** Set attributes, where they differ: an equal value would be laid out again, too. */
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
  left: "M10 3v10L4 8z",
  right: "M6 3v10l6-5z",
};

/** Show another icon in a button that has one. */
export function setIcon(node, name) {
  node.querySelector("path").setAttribute("d", ICONS[name]);
}

/** A button; with an icon its words are its name, or stand beside it where `words` is shown. */
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

/** A table of text: heads, and rows whose first cell names the row. */
export function tableOf({ caption = "", heads = [], rows = [] }) {
  const head = heads.map((text) => element("th", { scope: "col" }, text));
  const body = rows.map(([name, ...cells]) =>
    element("tr", {}, element("th", { scope: "row" }, name),
      ...cells.map((text) => element("td", {}, text))));
  return element("table", {}, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}

/** Nodes that are used again at each drawing, so that a frame makes few new ones. */
export function pool(parent, tag, attributes = {}) {
  const nodes = [];
  let used = 0;
  return {
    next() {
      if (used === nodes.length) {
        nodes.push(svg(tag, attributes));
        parent.append(nodes[used]);
      }
      return nodes[used++];
    },
    /** Take away what this drawing did not use. */
    finish() {
      for (const node of nodes.splice(used)) node.remove();
      used = 0;
    },
  };
}
