// The timeline: a picture that plays, with everything that can be done to it.
//
// All of it happens here, from a trace that came once: it works while the kernel is busy, and in a
// file without a kernel. `show` takes a trace, `end` takes it off the page.

const HELP = "Arrow keys go from action to action, Enter follows its microbatch, Escape lets go, " +
  "Space plays, plus and minus zoom, Shift with arrow keys moves, 0 shows all. " +
  "Ctrl with the wheel zooms, dragging moves.";
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Where the learner is: what is shown, when, how close, and what is chosen. */
function freshState() {
  return { trace: null, ghost: null, head: null, window: null, whole: null, time: 0, chosen: -1,
    followed: null, lanes: { messages: true, memory: true, ghost: true }, speed: 1, playing: false,
    live: false, curves: null, peaks: [], budget: null, guess: null };
}

/** What a head says about memory, or nothing where nothing was measured. */
function memoryOf(head) {
  const curves = head.memory?.curves ?? [];
  const peaks = curves.map(([, values]) => values.reduce((a, b) => Math.max(a, b), 0));
  const there = peaks.some((peak) => peak > 0);
  return { curves: there ? curves : null, peaks, memoryUnit: head.memory?.unit, budget: head.budget || null };
}

/** All that there is to see: the trace, what lies over it, a guess; and a little air. */
function wholeOf({ trace, ghost, guess, live }, now) {
  const spans = live ? [] : [trace.span]; // a trace that grows has no end yet
  if (ghost) spans.push(ghost.span);
  const from = spans.length ? Math.min(...spans.map((span) => span.from)) : 0;
  const to = Math.max(now, guess?.time ?? 0, 1e-6, ...spans.map((span) => span.to));
  return { from, to: to + (to - from) * 0.004 };
}

export function timeline() {
  const s = freshState();
  const image = picture();
  const parts = makeParts(s, image, { play, jump, stepBy, zoom, whole, redraw, setSpeed });
  let [frame, asked, last, clock] = [0, "", 0, 0];

  // ---------------------------------------------------------------- drawing, once per frame

  function ask(what) {
    const order = ["", "cursor", "move", "draw"];
    if (order.indexOf(what) > order.indexOf(asked)) asked = what;
    frame ||= requestAnimationFrame(paint);
  }
  function paint() {
    const what = asked;
    [frame, asked] = [0, ""];
    const width = parts.stage.clientWidth;
    if (!s.trace || !width) return; // not on the page yet; the observer asks again
    if (what === "draw" || !image.place || image.place.width !== width) image.draw(s, width);
    else if (what === "move") image.move(s);
    else image.cursor(s);
    parts.tell(s);
  }
  function redraw() { ask("draw"); }
  const watcher = new ResizeObserver(() => ask("draw"));
  watcher.observe(parts.stage);

  // -------------------------------------------------------------------------------- replay

  function play() {
    if (!s.trace || s.live) return;
    s.playing = !s.playing;
    if (s.playing && s.time >= s.trace.span.to) s.time = s.trace.span.from;
    [last, clock] = [performance.now(), s.time];
    if (s.playing) requestAnimationFrame(tick);
    else parts.announce(s);
    ask("cursor");
  }
  function tick(now) {
    if (!s.playing) return;
    clock += ((now - last) / 1000) * s.speed;
    last = now;
    s.time = calm() ? stopBefore(clock) : clock;
    if (clock >= s.trace.span.to) {
      [s.time, s.playing] = [s.whole.to, false];
      parts.announce(s);
    } else requestAnimationFrame(tick);
    keepInView();
    ask("cursor");
  }
  /** For who wants no motion: the replay goes from action to action. */
  function stopBefore(time) {
    const all = (s.trace.stops ??= stops(s.trace));
    return all[Math.max(0, first(all.length, (i) => all[i] > time) - 1)];
  }
  function jump(time) {
    if (s.live) return;
    s.playing = false;
    s.time = clamp(time, s.whole.from, s.whole.to);
    if (s.time >= s.trace.span.to) s.time = s.whole.to;
    keepInView();
    ask("cursor");
    parts.announce(s);
  }
  function stepBy(direction) {
    const all = (s.trace.stops ??= stops(s.trace));
    const near = (s.trace.span.to - s.trace.span.from) * 1e-6;
    const place = direction > 0 ? first(all.length, (i) => all[i] > s.time + near)
      : first(all.length, (i) => all[i] >= s.time - near) - 1;
    jump(all[clamp(place, 0, all.length - 1)]);
  }
  function keepInView() {
    const width = s.window.to - s.window.from;
    if (s.time >= s.window.from && s.time <= s.window.to) return;
    s.window = panned(s.window, s.whole, s.time - s.window.from - width * 0.1);
    ask("move");
  }
  function setSpeed(speed) { s.speed = speed; }

  // ---------------------------------------------------------------------------- zoom and pan

  function zoom(factor, at = (s.window.from + s.window.to) / 2) {
    s.window = zoomed(s.window, s.whole, factor, at);
    ask("move");
  }
  function whole() {
    s.window = s.whole;
    ask("move");
  }
  function pan(seconds) {
    s.window = panned(s.window, s.whole, seconds);
    ask("move");
  }

  // ------------------------------------------------------------------------ choose and follow

  function choose(i) {
    s.chosen = i;
    if (i >= 0) {
      const { start, end } = s.trace;
      const width = s.window.to - s.window.from;
      if (start[i] < s.window.from || end[i] > s.window.to)
        s.window = panned(s.window, s.whole, (start[i] + end[i]) / 2 - width / 2 - s.window.from);
    }
    parts.describe(s);
    ask("move");
  }
  function followFrom(i) {
    const microbatch = i < 0 ? -1 : s.trace.microbatch[i];
    const replica = i < 0 ? 0 : replicaOf(s.trace.head, s.trace.rank[i]);
    const same = s.followed && s.followed.microbatch === microbatch && s.followed.replica === replica;
    s.followed = microbatch < 0 || same ? null : follow(s.trace, microbatch, replica);
    choose(i);
    ask("draw");
  }
  /** To the next or previous action of a rank, or to the one at the same time on another rank. */
  function walk(sideways, down) {
    const { trace } = s;
    const rank = s.chosen < 0 ? 0 : clamp(trace.rank[s.chosen] + down, 0, trace.rows.length - 1);
    const { order, starts } = trace.rows[rank].boxes;
    if (!order.length) return;
    let place = s.chosen < 0 ? 0 : order.indexOf(s.chosen) + sideways;
    if (s.chosen < 0) place = Math.min(order.length - 1, first(order.length, (i) => starts[i] >= s.window.from));
    else if (down) place = first(order.length, (i) => starts[i] > trace.start[s.chosen]) - 1;
    choose(order[clamp(place, 0, order.length - 1)]);
  }

  // ----------------------------------------------------------------------- pointer and keys

  const pointer = listen(s, image, parts, { zoom, pan, jump, followFrom, play, whole, walk, choose });

  return {
    node: parts.node,
    state: s,
    /** Show a trace. `live`: it is still growing, and `now` is how far it is. */
    show(head, bytes, { ghostHead = null, ghostBytes = null, live = false, now = 0 } = {}) {
      if (!live) s.playing = false;
      s.trace = readTrace(head, bytes);
      s.ghostFrom = ghostHead ? [ghostHead, ghostBytes] : null;
      s.ghostName = ghostHead ? (ghostHead.source === "predicted" ? "predicted" : "other") : "";
      s.ghost = s.ghostFrom && readTrace(...s.ghostFrom);
      Object.assign(s, { head, live, chosen: -1, followed: null, guess: head.guess ?? null });
      Object.assign(s, memoryOf(head));
      s.whole = wholeOf(s, now);
      s.window = s.whole;
      s.time = live ? now : s.whole.to;
      parts.show(s);
      ask("draw");
    },
    redraw,
    end() {
      s.playing = false;
      cancelAnimationFrame(frame);
      watcher.disconnect();
      pointer.end();
    },
  };
}
