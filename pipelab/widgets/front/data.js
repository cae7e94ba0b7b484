// A trace in the browser: columns of numbers and the questions that the picture asks of them.

const MESSAGES = new Set(["SEND_F", "RECV_F", "SEND_B", "RECV_B", "REDUCE_GRAD", "STEP"]);

/** Bytes, whether they came live (DataView), from a saved notebook or from an exported page. */
export function bytesOf(value) {
  if (!value) return null;
  const view = value.buffer ? value : new DataView(value);
  return view.byteLength ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : null;
}

/** Events in order of start, and for each the latest end so far: what a window shows is a range. */
function lane(indices, start, end) {
  const order = Int32Array.from(indices).sort((a, b) => start[a] - start[b] || end[a] - end[b]);
  const reach = new Float32Array(order.length);
  let latest = -Infinity;
  order.forEach((index, i) => (reach[i] = latest = Math.max(latest, end[index])));
  return { order, reach, starts: Float32Array.from(order, (index) => start[index]) };
}

/** The columns (see data.py), and per rank its lanes of boxes, of messages and of idle pieces. */
export function readTrace(head, value) {
  const packed = bytesOf(value);
  const buffer = packed ? packed.slice().buffer : new ArrayBuffer(0); // columns want whole words
  const n = buffer.byteLength / 32;
  const ints = (k) => new Int32Array(buffer, 4 * n * k, n);
  const reals = (k) => new Float32Array(buffer, 4 * n * k, n);
  const trace = {
    head, n, rank: ints(0), kind: ints(1), stage: ints(2), microbatch: ints(3), peer: ints(4),
    start: reals(5), end: reals(6), bytes: reals(7),
  };
  const rows = Array.from({ length: head.ranks }, () => ({ boxes: [], messages: [], idle: [] }));
  const stages = rows.map(() => new Set());
  let [from, to] = [Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    const { name } = head.kinds[trace.kind[i]];
    const row = rows[trace.rank[i]];
    [from, to] = [Math.min(from, trace.start[i]), Math.max(to, trace.end[i])];
    stages[trace.rank[i]].add(trace.stage[i]);
    if (MESSAGES.has(name)) row.messages.push(i);
    else if (name !== "WAIT") row.boxes.push(i);
  }
  const idle = head.idle ?? { rank: [] };
  idle.rank.forEach((rank, i) => rows[rank].idle.push(i));
  trace.rows = rows.map((row) => ({
    boxes: lane(row.boxes, trace.start, trace.end),
    messages: lane(row.messages, trace.start, trace.end),
    idle: lane(row.idle, idle.start ?? [], idle.end ?? []),
  }));
  trace.stages = stages.map((found) => [...found].sort((a, b) => a - b));
  trace.span = n && to > from ? { from, to } : { from: 0, to: 1e-6 };
  return trace;
}

/** The range [low, high) of a lane whose members meet a window. */
export function within({ starts, reach }, from, to) {
  const low = first(reach.length, (i) => reach[i] > from);
  return [low, Math.max(low, first(starts.length, (i) => starts[i] >= to))];
}

/** The member of a lane under way at a time: the one that started last; -1 if there is none. */
export function at({ order, starts }, end, time) {
  const place = first(starts.length, (i) => starts[i] > time) - 1;
  return place >= 0 && end[order[place]] > time ? order[place] : -1;
}

/** The text form of an event's action, such as 2F0. */
export function token(trace, i) {
  const microbatch = trace.microbatch[i];
  return `${trace.stage[i]}${trace.head.kinds[trace.kind[i]].name}${microbatch < 0 ? "" : microbatch}`;
}

/** The copy of the pipeline that a rank belongs to: microbatches of different copies share names. */
export const replicaOf = ({ ranks, replicas }, rank) => Math.floor((rank * (replicas || 1)) / ranks);

/** What a rank does at a time: an event, or a piece of idle time, and words for either. */
export function doing(trace, rank, time) {
  const row = trace.rows[rank];
  const event = at(row.boxes, trace.end, time);
  if (event >= 0) {
    const { does } = trace.head.kinds[trace.kind[event]];
    const microbatch = trace.microbatch[event];
    const of = microbatch < 0 ? "" : `, microbatch ${microbatch}`;
    return { event, idle: -1, words: `${token(trace, event)}: ${does}${of}` };
  }
  const step = at(row.messages, trace.end, time);
  if (step >= 0 && trace.microbatch[step] < 0) {
    const { does } = trace.head.kinds[trace.kind[step]];
    return { event: step, idle: -1, words: `${token(trace, step)}: ${does}` };
  }
  const { idle } = trace.head;
  const piece = idle?.rank.length ? at(row.idle, idle.end, time) : -1;
  if (piece >= 0) return { event: -1, idle: piece, words: idle.texts[idle.words[piece]] };
  const { starts, reach } = row.boxes;
  const over = reach.length && time >= reach[reach.length - 1];
  const begun = starts.length && time >= starts[0];
  return { event: -1, idle: -1, words: over ? "has finished" : begun ? "waits" : "has not begun" };
}

/** What a rank does in a run that goes on; `plan`, its prediction, tells what it must do next. */
export function atWork(trace, rank, plan) {
  const { order, reach } = trace.rows[rank].boxes;
  const latest = Math.max(0, ...trace.rows.map((row) => row.boxes.reach.at(-1) ?? 0));
  if (order.length && reach.at(-1) >= latest) return doing(trace, rank, latest * (1 - 1e-6));
  const next = plan?.rows[rank]?.boxes.order[order.length];
  const words = !plan ? "waits" : next === undefined ? "has computed all it had to" : waitFor(plan, next);
  return { event: -1, idle: -1, words };
}

/** Whom an action must wait for: the one that makes what it needs. */
function waitFor(plan, i) {
  const forward = plan.head.kinds[plan.kind[i]].name === "F";
  const stage = plan.stage[i] + (forward ? -1 : 1);
  for (let k = 0; k < plan.n; k++) {
    const { name } = plan.head.kinds[plan.kind[k]];
    if (plan.stage[k] === stage && plan.microbatch[k] === plan.microbatch[i] && (forward ? name === "F" : name === "B" || name === "I")
      && replicaOf(plan.head, plan.rank[k]) === replicaOf(plan.head, plan.rank[i]) && plan.rank[k] !== plan.rank[i])
      return `waits for ${token(plan, k)} of rank ${plan.rank[k]}`;
  }
  return `is about to start ${token(plan, i)}`;
}

/** Details of an event, line by line. `ghost` (a trace over which this one lies) adds how it moved. */
export function details(trace, i, ghost = null) {
  const kind = trace.head.kinds[trace.kind[i]];
  const [start, end] = [trace.start[i], trace.end[i]];
  const microbatch = trace.microbatch[i];
  const what = microbatch < 0 ? "" : ` of microbatch ${microbatch}`;
  const lines = [`${token(trace, i)} on rank ${trace.rank[i]}: ${kind.does}${what}, stage ${trace.stage[i]}`];
  lines.push(`${timeText(end - start)}, from ${timeText(start)} to ${timeText(end)}`);
  if (trace.bytes[i] > 0) lines.push(`${bytesText(trace.bytes[i])} ${kind.bytes}`);
  if (trace.peer[i] >= 0) lines.push(`${kind.name.startsWith("SEND") ? "to" : "from"} rank ${trace.peer[i]}`);
  const piece = waitBefore(trace, i);
  if (piece >= 0) {
    const { idle } = trace.head;
    const words = idle.texts[idle.words[piece]].replace(/^waits/, "waited");
    lines.push(`before it, for ${timeText(idle.end[piece] - idle.start[piece])}, the rank ${words}`);
  }
  const twin = ghost ? find(ghost, trace, i) : -1;
  if (twin >= 0) {
    const late = start - ghost.start[twin];
    const longer = end - start - (ghost.end[twin] - ghost.start[twin]);
    const than = `than ${ghost.head.source === "predicted" ? "predicted" : "in the other run"}`;
    lines.push(`starts ${timeText(Math.abs(late))} ${late < 0 ? "earlier" : "later"} and takes ` +
      `${timeText(Math.abs(longer))} ${longer < 0 ? "less" : "more"} ${than}`);
  }
  return lines;
}

/** The piece of idle time right before an event on its rank; -1 if it came at once. */
function waitBefore(trace, i) {
  const { idle } = trace.head;
  if (!idle?.rank.length) return -1;
  const near = trace.start[i] - 1e-4 * (trace.end[i] - trace.start[i]);
  return at(trace.rows[trace.rank[i]].idle, idle.end, near);
}

/** The event of another trace that is the same action on the same rank; -1 if it has none. */
export function find(other, trace, i) {
  other.places ??= new Map(Array.from({ length: other.n }, (_, k) => [`${other.rank[k]} ${token(other, k)}`, k]));
  return other.places.get(`${trace.rank[i]} ${token(trace, i)}`) ?? -1;
}

/** One microbatch through all stages: its events, and an arrow for each message between ranks. */
export function follow(trace, microbatch, replica) {
  const { head } = trace;
  const names = head.kinds.map((kind) => kind.name);
  const made = new Map();
  const sends = new Map();
  const events = new Set();
  for (let i = 0; i < trace.n; i++) {
    if (trace.microbatch[i] !== microbatch || replicaOf(head, trace.rank[i]) !== replica) continue;
    const name = names[trace.kind[i]];
    if (name.startsWith("SEND")) sends.set(`${trace.stage[i]}${name}`, i);
    if (!MESSAGES.has(name) && name !== "WAIT") made.set(`${trace.stage[i]}${name === "B" ? "I" : name}`, i);
    events.add(i);
  }
  const arrows = [];
  for (const [key, i] of made) {
    const [name, step, send] = key.endsWith("F") ? ["F", 1, "SEND_F"] : ["I", -1, "SEND_B"];
    const user = key.endsWith("W") ? undefined : made.get(`${trace.stage[i] + step}${name}`);
    if (user === undefined || trace.rank[user] === trace.rank[i]) continue;
    const sent = sends.get(`${trace.stage[i]}${send}`);
    const arrival = sent === undefined ? trace.start[user] : Math.min(trace.end[sent], trace.start[user]);
    arrows.push({ from: i, to: user, left: trace.end[i], arrival: Math.max(arrival, trace.end[i]), name });
  }
  return { microbatch, replica, events, arrows };
}

/** All times at which an action begins, in order: the stops of a replay step by step. */
export function stops(trace) {
  const times = trace.rows.flatMap((row) => [...row.boxes.starts]).sort((a, b) => a - b);
  const apart = (trace.span.to - trace.span.from) * 1e-4; // ranks that start together are one stop
  const kept = [];
  for (const time of times) if (!kept.length || time - kept[kept.length - 1] > apart) kept.push(time);
  return [...kept, trace.span.to];
}
