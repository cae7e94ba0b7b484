// Mouse, touch and keys on the picture: look closer, move, choose, follow.

const DRAG = 4; // px: a press that moves less is a click

/** What lies under a point of the picture: a rank, a time, and an event or a piece of idle time. */
export function under(s, image, x, y) {
  const { place } = image;
  const rank = rankAt(place, y);
  const time = s.window.from + (x - place.left) / image.scale(s);
  if (rank < 0 || x < place.left || x > place.left + place.plot || y > place.bottom) return { rank: -1, time, event: -1, idle: -1 };
  const row = s.trace.rows[rank];
  const near = 2 / image.scale(s); // seconds: a message is but a tick
  const lane = place.rows[rank];
  if (lane.messages[1] && y >= lane.messages[0] - 1 && y <= lane.messages[0] + lane.messages[1] + 2) {
    const [low, high] = within(row.messages, time - near, time + near);
    return { rank, time, event: high > low ? row.messages.order[high - 1] : -1, idle: -1 };
  }
  if (lane.memory[1] && y >= lane.memory[0]) return { rank, time, event: -1, idle: -1, memory: true };
  const event = at(row.boxes, s.trace.end, time);
  const { idle } = s.trace.head;
  return { rank, time, event, idle: event < 0 && idle?.rank.length ? at(row.idle, idle.end, time) : -1 };
}

/** Words for what lies there. */
function tipOf(s, spot) {
  if (spot.rank < 0) return [];
  if (spot.event >= 0) return details(s.trace, spot.event, s.ghost);
  if (spot.memory && s.curves) {
    const [times, values] = s.curves[spot.rank];
    const place = first(times.length, (i) => times[i] > spot.time) - 1;
    const held = place < 0 ? 0 : values[place];
    const size = (value) => (s.memoryUnit === "bytes" ? bytesText(value) : `${value} activations`);
    const line = `rank ${spot.rank} holds ${size(held)} at ${timeText(spot.time)}, at most ${size(s.peaks[spot.rank])}`;
    return s.budget ? [line, `budget: ${bytesText(s.budget)}`] : [line];
  }
  if (spot.idle < 0) return [];
  const { idle } = s.trace.head;
  const seconds = idle.end[spot.idle] - idle.start[spot.idle];
  const share = ((100 * seconds) / (s.trace.span.to - s.trace.span.from)).toFixed(1);
  return [`rank ${spot.rank} is idle for ${timeText(seconds)}, ${share} % of the step (${idle.phase[spot.idle]})`,
    `it ${idle.texts[idle.words[spot.idle]]}`];
}

/** Hear the picture; `act` holds what can be done. */
function listen(s, image, parts, act) {
  const { node } = image;
  let [pressed, moved] = [null, false];
  const place = (event) => {
    const box = node.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  function showTip(event) {
    const [x, y] = place(event);
    const spot = under(s, image, x, y);
    const lines = tipOf(s, spot);
    parts.tip.hidden = !lines.length;
    node.classList.toggle("pl-hit", spot.event >= 0);
    if (!lines.length) return;
    parts.tip.replaceChildren(...lines.map((line) => element("div", {}, line)));
    const room = parts.stage.clientWidth;
    const width = Math.min(parts.tip.offsetWidth, room);
    parts.tip.style.left = `${clamp(x + 14 + width > room ? x - width - 10 : x + 14, 0, Math.max(0, room - width))}px`;
    parts.tip.style.top = `${y + 18}px`;
  }
  const hears = {
    pointerdown(event) {
      if (event.button) return;
      [pressed, moved] = [place(event), false];
      node.setPointerCapture(event.pointerId);
    },
    pointermove(event) {
      if (!s.trace || !image.place) return;
      if (!pressed) return showTip(event);
      const [x] = place(event);
      if (!moved && Math.abs(x - pressed[0]) < DRAG) return;
      moved = true;
      parts.tip.hidden = true;
      act.pan((pressed[0] - x) / image.scale(s));
      pressed = [x, pressed[1]];
    },
    pointerup(event) {
      if (!pressed || !s.trace) return;
      if (!moved) click(...place(event));
      pressed = null;
    },
    pointercancel() { pressed = null; },
    pointerleave() { parts.tip.hidden = true; },
    wheel(event) {
      if (!s.trace) return;
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (event.ctrlKey || event.metaKey) {
        const time = s.window.from + (place(event)[0] - image.place.left) / image.scale(s);
        act.zoom(Math.exp(clamp(event.deltaY, -200, 200) / 300), time);
      } else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
        act.pan(sideways / image.scale(s));
      } else return; // the page scrolls
      event.preventDefault();
    },
    keydown(event) {
      if (!s.trace || event.ctrlKey || event.metaKey || event.altKey) return;
      const width = s.window.to - s.window.from;
      const keys = {
        ArrowLeft: () => (event.shiftKey ? act.pan(-width / 5) : act.walk(-1, 0)),
        ArrowRight: () => (event.shiftKey ? act.pan(width / 5) : act.walk(1, 0)),
        ArrowUp: () => act.walk(0, -1),
        ArrowDown: () => act.walk(0, 1),
        Home: () => act.walk(-1e9, 0),
        End: () => act.walk(1e9, 0),
        Enter: () => s.chosen >= 0 && act.followFrom(s.chosen),
        Escape: () => act.followFrom(-1),
        " ": act.play,
        "+": () => act.zoom(0.5),
        "=": () => act.zoom(0.5),
        "-": () => act.zoom(2),
        0: act.whole,
      };
      if (!keys[event.key]) return;
      event.preventDefault();
      event.stopPropagation();
      keys[event.key]();
    },
  };
  function click(x, y) {
    const spot = under(s, image, x, y);
    if (spot.event >= 0 && s.trace.microbatch[spot.event] >= 0) act.followFrom(spot.event);
    else if (spot.event >= 0) act.choose(spot.event);
    else if (x >= image.place.left && x <= image.place.left + image.place.plot) act.jump(spot.time);
  }
  for (const [name, hear] of Object.entries(hears)) node.addEventListener(name, hear, { passive: false });
  return { end() { for (const [name, hear] of Object.entries(hears)) node.removeEventListener(name, hear); } };
}
