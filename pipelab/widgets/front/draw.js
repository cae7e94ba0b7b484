// The picture: SVG nodes for what the window shows, and no more.
//
// Boxes are drawn for a window wider than the one shown, so that moving it is one attribute; they
// are drawn anew where that runs out. Hatch and letters only where they can be seen.

const MARGIN = 0.5; // of the window: how much is drawn beyond each of its edges
const LETTERS = 12; // px
const SMALL = 10.5; // px: of a letter above its number, in a box too narrow for both side by side
const MOST_LETTERS = 400;
let patterns = 0;

/** An empty picture; `draw` fills it, `move` and `cursor` are the cheap parts of it. */
export function picture() {
  const defs = svg("defs");
  // Hidden from ears: a screen reader hears the picture's label, and what the arrow keys choose.
  const names = svg("g", { class: "pl-names", "aria-hidden": true });
  const plot = svg("svg", { class: "pl-plot", overflow: "hidden", "aria-hidden": true });
  const moving = svg("g");
  const over = svg("g", { class: "pl-over" });
  const axis = svg("g", { class: "pl-axis", "aria-hidden": true });
  const root = svg("svg", { class: "pl-picture", tabindex: 0 }, defs, names, plot, axis);
  root.dataset.lmSuppressShortcuts = "true";
  plot.append(moving, over);
  const layer = (name) => moving.appendChild(svg("g", { class: name }));
  const grounds = layer("pl-grounds");
  const flats = { idle: layer("pl-idle"), ghost: layer("pl-ghost"), memory: layer("pl-memory"),
    dense: layer("pl-dense"), messages: layer("pl-messages") };
  const nodes = {
    boxes: pool(layer("pl-boxes"), "rect", { class: "pl-box" }),
    labels: pool(layer("pl-labels"), "text", { class: "pl-label" }),
    reasons: pool(layer("pl-reasons"), "text", { class: "pl-reason" }),
    arrows: pool(layer("pl-arrows"), "path", { class: "pl-arrow" }),
    ticks: pool(axis, "text", { class: "pl-tick" }),
    grid: pool(grounds, "path", { class: "pl-grid" }),
    names: pool(names, "text", { class: "pl-name" }),
  };
  const veil = over.appendChild(svg("rect", { class: "pl-veil", y: 0 }));
  const chosen = over.appendChild(svg("rect", { class: "pl-chosen", fill: "none", rx: 3 }));
  const line = over.appendChild(svg("path", { class: "pl-cursor" }));
  const guess = over.appendChild(svg("path", { class: "pl-guess" }));
  const guessText = over.appendChild(svg("text", { class: "pl-guess-text" }));
  const view = { root, defs, flats, nodes, moving, plot, axis, fills: new Map(), id: `pl-h${++patterns}-${Date.now()}` };

  const shown = (s) => view.place.plot / (s.window.to - s.window.from); // px per second
  function move(s) {
    const scale = shown(s);
    const stale = !view.drawn || view.drawn.scale !== scale ||
      s.window.from < view.drawn.from || s.window.to > view.drawn.to;
    if (stale) drawWindow(view, s, scale);
    set(moving, { transform: `translate(${((view.drawn.from - s.window.from) * scale).toFixed(2)})` });
    drawTicks(view, s, scale);
    choose(s);
    cursor(s);
  }
  function choose(s) {
    const { chosen: i, trace } = s;
    chosen.style.display = i < 0 ? "none" : "";
    if (i < 0) return;
    const isMessage = trace.rows[trace.rank[i]].messages.order.includes(i);
    const [y, height] = view.place.rows[trace.rank[i]][isMessage ? "messages" : "box"];
    const x = (trace.start[i] - s.window.from) * shown(s);
    const width = Math.max(2, (trace.end[i] - trace.start[i]) * shown(s));
    set(chosen, { x: x - 1.5, y: y - 1.5, width: width + 3, height: height + 3 });
  }
  function cursor(s) {
    const { plot: width, bottom } = view.place;
    const x = (s.time - s.window.from) * shown(s);
    const over = s.time >= s.whole.to;
    set(line, { d: over || x < 0 || x > width ? "" : `M${x.toFixed(1)} 0V${bottom}M${x - 5} 0h10l-5 7z` });
    const from = clamp(x, 0, width);
    set(veil, { x: from.toFixed(1), width: over ? 0 : (width - from).toFixed(1), height: bottom });
    const at = s.guess ? (s.guess.time - s.window.from) * shown(s) : -1;
    set(guess, { d: at < 0 || at > width ? "" : `M${at.toFixed(1)} 0V${bottom}` });
    const right = at < 150; // no room for the words at its left
    set(guessText, { x: right ? at + 5 : at - 5, y: 13, "text-anchor": right ? "start" : "end" });
    guessText.textContent = at < 0 || at > width ? "" : s.guess.text;
  }
  function draw(s, width) {
    view.place = layout(s, width);
    const { height, left, bottom } = view.place;
    set(root, { width, height, viewBox: `0 0 ${width} ${height}` });
    set(plot, { x: left, y: 0, width: view.place.plot, height: bottom });
    set(axis, { transform: `translate(${left} ${bottom})` });
    drawNames(view, s);
    view.drawn = null;
    move(s);
  }
  const fill = (kind) => fillOf(view, kind, 0, true);
  return { node: root, draw, move, cursor, fill, get place() { return view.place; }, scale: shown };
}

/** Names at the left, idle per cents and peaks at the right; of many ranks only some. */
function drawNames(view, s) {
  const { place, nodes } = view;
  const pitch = place.rows.length > 1 ? place.rows[1].top - place.rows[0].top : 99;
  const every = Math.ceil(14 / pitch);
  const write = (text, x, y, kind) => {
    const node = nodes.names.next();
    node.textContent = text;
    set(node, { x, y, class: `pl-name ${kind}` });
  };
  for (let rank = 0; rank < place.rows.length; rank += every) {
    const { box, memory, ghost } = place.rows[rank];
    const middle = box[0] + box[1] / 2 + 4;
    write(`rank ${rank}`, place.left - 8, middle, "pl-end");
    const share = s.head.shares?.[rank];
    const x = place.left + place.plot + 8;
    if (share) write(place.right > 60 ? `${share} idle` : share, x, middle, "");
    if (ghost[1] >= 10) write(s.ghostName, place.left - 8, ghost[0] + ghost[1] / 2 + 3, "pl-end pl-quiet");
    if (memory[1] >= 12 && s.curves) {
      write("memory", place.left - 8, memory[0] + memory[1] / 2 + 4, "pl-end pl-quiet");
      const peak = s.peaks[rank];
      write(s.memoryUnit === "bytes" ? bytesText(peak) : `${peak} kept`, x, memory[0] + memory[1] / 2 + 4, "pl-quiet");
    }
  }
  nodes.names.finish();
}

/** The time axis: round times, and a faint line through all rows at each. */
function drawTicks(view, s, scale) {
  const { place, nodes } = view;
  for (const { time, text } of ticks(s.window.from, s.window.to, place.plot / 80)) {
    const x = (time - s.window.from) * scale;
    if (x < -1 || x > place.plot + 1) continue;
    const node = nodes.ticks.next();
    node.textContent = text;
    set(node, { x: x.toFixed(1), y: 18, "text-anchor": x < 16 ? "start" : x > place.plot - 20 ? "end" : "middle" });
  }
  nodes.ticks.finish();
}

/** Everything that moves with time, for the window and a margin around it. */
function drawWindow(view, s, scale) {
  const margin = (s.window.to - s.window.from) * MARGIN;
  const from = Math.max(s.whole.from, s.window.from - margin);
  const to = Math.min(s.whole.to, s.window.to + margin);
  view.drawn = { from, to, scale };
  const x = (time) => (Math.min(to, Math.max(from, time)) - from) * scale; // no clip: hover needs centres
  const frame = { from, to, x, width: (to - from) * scale };
  for (const { time } of ticks(s.window.from - margin, s.window.to + margin, (view.place.plot / 80) * 2)) {
    if (time >= from && time <= to) set(view.nodes.grid.next(), { d: `M${x(time).toFixed(1)} 0V${view.place.bottom}` });
  }
  view.nodes.grid.finish();
  const left = drawBoxes(view, s, frame);
  drawIdle(view, s, frame, left);
  drawMessages(view, s, frame);
  drawGhost(view, s, frame);
  drawMemory(view, s, frame);
  drawArrows(view, s, frame);
}

const tintOf = (trace, i) => Math.max(0, trace.stages[trace.rank[i]].indexOf(trace.stage[i]));

/** Actions: wide ones as nodes with letters, narrow ones flat. Returns how many nodes are left. */
function drawBoxes(view, s, { from, to, x, width }) {
  const { trace, followed } = s;
  const seen = [];
  trace.rows.forEach((row, rank) => {
    const [low, high] = within(row.boxes, from, to);
    for (let k = low; k < high; k++) seen.push([row.boxes.order[k], rank]);
  });
  const placed = seen.map(([i]) => [x(trace.start[i]), x(trace.end[i])]);
  const inWindow = ([i]) => trace.end[i] > s.window.from && trace.start[i] < s.window.to;
  const least = nodeWidth(placed.filter((_, n) => inWindow(seen[n])).map(([a, b]) => b - a));
  const dense = flat(view.flats.dense);
  const narrow = trace.rows.map(() => []);
  let labels = MOST_LETTERS;
  const crowded = seen.length > MOST_LETTERS; // then letters alone would use up what numbers need
  seen.forEach(([i, rank], n) => {
    const [a, b] = placed[n];
    if (b - a < least) narrow[rank].push([a, b, trace.kind[i], tintOf(trace, i)]);
    else labels -= drawBox(view, s, i, a, b - a, labels > 0 && (!crowded || b - a > 22));
  });
  narrow.forEach((boxes, rank) => {
    const [y, height] = view.place.rows[rank].box;
    crowd(dense, boxes, width, boxes.length < width / 8, y, height);
  });
  dense.finish((key) => {
    const [kind, tint] = key.split(" ");
    return { fill: fillOf(view, trace.head.kinds[kind], tint, false), "data-kind": trace.head.kinds[kind].name };
  });
  view.root.classList.toggle("pl-following", Boolean(followed));
  view.root.classList.toggle("pl-many", seen.length > 400); // round corners take a third of a frame
  view.nodes.boxes.finish();
  view.nodes.labels.finish();
  return labels;
}

/** One action as a node; returns how many labels it got. */
function drawBox(view, s, i, x, width, mayLabel) {
  const { trace, followed } = s;
  const kind = trace.head.kinds[trace.kind[i]];
  const place = tintOf(trace, i);
  const [y, height] = view.place.rows[trace.rank[i]].box;
  const tint = kind.tints[Math.min(place, kind.tints.length - 1)];
  const bare = followed && !followed.events.has(i) ? " pl-off" : "";
  set(view.nodes.boxes.next(), {
    x: x.toFixed(1), y, width: Math.max(0.5, width - 0.6).toFixed(1), height, class: `pl-box${bare}`,
    fill: fillOf(view, kind, place, width >= HATCHED && height >= HATCHED), stroke: tint[2], "data-i": i,
  });
  if (!mayLabel || height < LETTERS || width < 10) return 0;
  const digits = trace.microbatch[i] < 0 ? "" : String(trace.microbatch[i]);
  const many = trace.stages[trace.rank[i]].length > 1;
  const inLine = fitting([...(many ? [token(trace, i)] : []), kind.letter + digits], width, LETTERS);
  const stacked = !inLine && height >= 2.2 * LETTERS && fitting([digits], width, SMALL);
  const middle = y + height / 2 + 4.3;
  const stroke = kind.hatch ? tint[0] : "none"; // keeps the hatch from crossing the letters
  const write = (text, at, looks) => {
    const node = view.nodes.labels.next();
    node.textContent = text;
    set(node, { x: (x + width / 2).toFixed(1), y: at, fill: tint[1], stroke, class: `pl-label${looks}${bare}` });
  };
  if (!stacked) write(inLine || kind.letter, middle, "");
  else [kind.letter, digits].forEach((text, line) => write(text, middle - 6 + line * 11, " pl-stacked"));
  return stacked ? 2 : 1;
}
