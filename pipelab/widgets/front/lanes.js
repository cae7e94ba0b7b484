// What lies around the boxes, as flat shapes: idle time, messages, the other trace, memory, arrows.

/** Hatches as lines in a tile of 8 px; a doubled letter is the same, denser. */
function hatchPath(hatch) {
  const lines = { "/": "M-2 2l4-4M0 8l8-8M6 10l4-4", "\\": "M-2 6l4 4M0 0l8 8M6-2l4 4",
    "+": "M4 0v8M0 4h8", ".": "M2 1.6v.8M6 5.6v.8", x: "M0 0l8 8M8 0l-8 8" };
  return lines[hatch[0]] ?? "";
}

/** A fill for a kind in the tint of a stage: its colour, or its colour under its hatch. */
function fillOf(view, kind, place, hatched) {
  const tint = kind.tints[Math.min(place, kind.tints.length - 1)];
  if (!hatched || !kind.hatch) return tint[0];
  const key = `${kind.name}-${place}`;
  if (!view.fills.has(key)) {
    const id = `${view.id}-${key}`;
    const pattern = svg("pattern", { id, width: 8, height: 8, patternUnits: "userSpaceOnUse" });
    pattern.append(svg("rect", { width: 8, height: 8, fill: tint[0] }),
      svg("path", { d: hatchPath(kind.hatch), stroke: tint[2], "stroke-width": kind.hatch[0] === "." ? 2 : 1.2,
        "stroke-linecap": "round", fill: "none", opacity: 0.75 }));
    view.defs.append(pattern);
    view.fills.set(key, `url(#${id})`);
  }
  return view.fills.get(key);
}

/** Flat shapes gathered into one path per colour. */
function flat(parent) {
  const paths = new Map();
  return {
    box(key, x, y, width, height) {
      if (!paths.has(key)) paths.set(key, []);
      paths.get(key).push(`M${x.toFixed(1)} ${y.toFixed(1)}h${width.toFixed(1)}v${height.toFixed(1)}h${(-width).toFixed(1)}z`);
    },
    /** `looks(key)` gives the attributes of a path. */
    finish(looks) {
      parent.replaceChildren(...[...paths].map(([key, parts]) => svg("path", { d: parts.join(""), ...looks(key) })));
    },
  };
}

/** Boxes [from, to, kind, tint] of one row as flat shapes: as they are, or as columns of shares. */
function crowd(shapes, boxes, width, asTheyAre, y, height) {
  if (asTheyAre) for (const [a, b, kind, tint] of boxes) shapes.box(`${kind} ${tint}`, a, y, Math.max(1, b - a), height);
  else for (const [at, below, above, kind] of columns(boxes, width))
    shapes.box(`${kind} 0`, at, y + height * (1 - above), COLUMN, height * (above - below));
}

/** Idle time, in three shades by its reason, with the reason in words where there is room. */
function drawIdle(view, s, { from, to, x }, left) {
  const { trace } = s;
  const { idle } = trace.head;
  const shapes = flat(view.flats.idle);
  trace.rows.forEach((row, rank) => {
    const [y, height] = view.place.rows[rank].box;
    if (s.live) shapes.box("waiting", x(0), y, x(s.time) - x(0), height); // the bars lie over it
    const [low, high] = within(row.idle, from, to);
    for (let k = low; k < high; k++) {
      const i = row.idle.order[k];
      const a = x(idle.start[i]);
      const width = x(idle.end[i]) - a;
      if (width < 0.3) continue;
      shapes.box(idle.reason[i], a, y, width, height);
      if (height < 14 || width < 56 || left-- <= 0) continue;
      const words = idle.texts[idle.words[i]];
      const short = words.replace(/ (of|from) rank.*/, "");
      const text = fitting([words, short, short.replace("waits for ", "waits: "), idle.phase[i]], width - 4, 10.5);
      if (!text) continue;
      const node = view.nodes.reasons.next();
      node.textContent = text;
      set(node, { x: (a + width / 2).toFixed(1), y: y + height / 2 + 4 });
    }
  });
  shapes.finish((reason) => ({ class: `pl-why pl-${reason}`, "data-reason": reason }));
  view.nodes.reasons.finish();
}

/** The lane below the boxes: messages under way, reductions, optimizer steps. */
function drawMessages(view, s, { from, to, x }) {
  const { trace } = s;
  const shapes = flat(view.flats.messages);
  trace.rows.forEach((row, rank) => {
    const [y, height] = view.place.rows[rank].messages;
    if (!height) return;
    const [low, high] = within(row.messages, from, to);
    const last = {}; // the pixel drawn last, by kind: more in the same pixel would not be seen
    for (let k = low; k < high; k++) {
      const i = row.messages.order[k];
      const a = x(trace.start[i]);
      const b = Math.max(a + 1.6, x(trace.end[i]));
      if (last[trace.kind[i]] >= b - 0.8) continue;
      last[trace.kind[i]] = b;
      shapes.box(trace.kind[i], a, y, b - a, height);
    }
  });
  shapes.finish((kind) => {
    const { tints, name } = trace.head.kinds[kind];
    return { fill: fillOf(view, trace.head.kinds[kind], 0, true), stroke: tints[0][2], "data-kind": name };
  });
}

/** The other trace, as a slim row of outlined bars above each rank's own. */
function drawGhost(view, s, { from, to, x }) {
  const { ghost } = s;
  const shapes = flat(view.flats.ghost);
  ghost?.rows.slice(0, view.place.rows.length).forEach((row, rank) => {
    const [y, height] = view.place.rows[rank].ghost;
    const [low, high] = within(row.boxes, from, to);
    const boxes = [];
    for (let k = low; k < high; k++) {
      const i = row.boxes.order[k];
      boxes.push([x(ghost.start[i]), x(ghost.end[i]) - 0.6, ghost.kind[i], 0]);
    }
    crowd(shapes, boxes, x(to), boxes.length * COLUMN <= view.place.plot * 2, y, height - 2);
  });
  shapes.finish((key) => {
    const { tints, name } = ghost.head.kinds[parseInt(key)];
    return { fill: tints[0][0], stroke: tints[0][2], "data-kind": name };
  });
}

/** What each rank holds, all at one scale, and the budget as a line. */
function drawMemory(view, s, { from, to, x }) {
  const paths = [];
  const lines = [];
  if (s.curves && view.place.rows[0].memory[1]) {
    const top = Math.max(1, s.budget ?? 0, ...s.peaks);
    s.curves.forEach(([times, values], rank) => {
      const [at, height] = view.place.rows[rank].memory;
      const base = at + height;
      const y = (value) => base - (value / top) * (height - 1);
      paths.push(stepPath(times, values, { x, y, from, to, base }));
      if (s.budget) lines.push(`M${x(from)} ${y(s.budget).toFixed(1)}H${x(to).toFixed(1)}`);
    });
  }
  view.flats.memory.replaceChildren(svg("path", { d: paths.join(""), class: "pl-curve" }),
    svg("path", { d: lines.join(""), class: "pl-budget" }));
}

/** The followed microbatch's messages: the flight, then the time that the result lies waiting. */
function drawArrows(view, s, { x }) {
  for (const { from, to, left, arrival, name } of s.followed?.arrows ?? []) {
    const [down, up] = [s.trace.rank[from], s.trace.rank[to]].map((rank) => view.place.rows[rank].box);
    const falls = up[0] > down[0];
    const [y0, y1] = falls ? [down[0] + down[1], up[0]] : [down[0], up[0] + up[1]];
    const [x0, x1, x2] = [x(left), x(arrival), x(s.trace.start[to])];
    const tip = falls ? -6 : 6;
    const wait = x2 - x1 > 3 ? `M${x1.toFixed(1)} ${y1 + tip / 2}H${x2.toFixed(1)}` : "";
    const d = `M${x0.toFixed(1)} ${y0}L${x1.toFixed(1)} ${y1}m-3.5 ${tip}l3.5 ${-tip}l3.5 ${tip}${wait}`;
    set(view.nodes.arrows.next(), { d, "data-from": from, "data-to": to, class: `pl-arrow pl-arrow-${name}` });
  }
  view.nodes.arrows.finish();
}
