// @ts-check
// A trace in the browser: columns of numbers, and the questions that the picture asks of them.
/** @import { Doing, Followed, Head, Idle, Kind, Lane, Part, Trace } from "./types.js" */
import { bytesText, filled, first, say, timeText } from "./scale.js";
import { WORDS } from "./words.js";

const IN_LANE = new Set(["SEND_F", "RECV_F", "SEND_B", "RECV_B", "REDUCE_GRAD", "STEP"]);

/** Bytes, whether they came live (DataView), from a saved notebook or from an exported page. @param {any} value */
export function bytesOf(value) {
  if (!value) return null;
  const view = value.buffer ? value : new DataView(value);
  return view.byteLength ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : null;
}

/** What a window shows of a lane is a range: events in order of start, with the latest end so far.
 * @param {number[]} indices @param {ArrayLike<number>} start @param {ArrayLike<number>} end @returns {Lane} */
function lane(indices, start, end) {
  const order = Int32Array.from(indices).sort((a, b) => start[a] - start[b] || end[a] - end[b]);
  const reach = new Float32Array(order.length);
  let latest = -Infinity;
  order.forEach((index, i) => {
    latest = Math.max(latest, end[index]);
    reach[i] = latest;
  });
  return { order, reach, starts: Float32Array.from(order, (index) => start[index]) };
}

/** Top and height of an event's box in its row. @param {Trace} trace @param {number} i @param {Part} row @returns {Part} */
export function partOf({ half }, i, [y, height]) {
  return half[i] ? [half[i] === 1 ? y : y + height / 2, height / 2] : [y, height];
}

/** The columns (see data.py), and per rank its lanes of boxes, of messages and of idle pieces.
 * @param {Head} head @param {unknown} value @returns {Trace} */
export function readTrace(head, value) {
  const packed = bytesOf(value);
  const buffer = packed ? packed.slice().buffer : new ArrayBuffer(0); // a copy, aligned to 4 bytes
  const n = buffer.byteLength / 32;
  const ints = (/** @type {number} */ k) => new Int32Array(buffer, 4 * n * k, n);
  const reals = (/** @type {number} */ k) => new Float32Array(buffer, 4 * n * k, n);
  const columns = {
    head, averages: new Set(head.averages), n, rank: ints(0), kind: ints(1), stage: ints(2), microbatch: ints(3), peer: ints(4),
    start: reals(5), end: reals(6), bytes: reals(7),
  };
  const half = new Int8Array(n); // 0 all of its row, 1 the upper half, 2 the lower one
  for (const [upper, lower] of head.pairs ?? []) [half[upper], half[lower]] = [1, 2];
  return { ...columns, ...rowsOf(columns), half };
}

/** Per rank its lanes and its stages, and the time from the first start to the last end.
 * @param {Omit<Trace, "rows" | "stages" | "span" | "half">} columns */
function rowsOf(columns) {
  const { head, n, rank, stage, start, end } = columns;
  const rows = Array.from({ length: head.ranks }, () => ({
    boxes: /** @type {number[]} */ ([]), messages: /** @type {number[]} */ ([]),
    idle: /** @type {number[]} */ ([]), stages: new Set(),
  }));
  let [from, to] = [Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    const row = rows[rank[i]];
    [from, to] = [Math.min(from, start[i]), Math.max(to, end[i])];
    row.stages.add(stage[i]);
    if (isInLane(columns, i)) row.messages.push(i);
    else if (isBox(columns, i)) row.boxes.push(i);
  }
  head.idle?.rank.forEach((at, i) => rows[at].idle.push(i));
  return {
    rows: rows.map((row) => ({
      boxes: lane(row.boxes, start, end),
      messages: lane(row.messages, start, end),
      idle: lane(row.idle, head.idle?.start ?? [], head.idle?.end ?? []),
    })),
    stages: rows.map((row) => [...row.stages].sort((a, b) => a - b)),
    span: n && to > from ? { from, to } : { from: 0, to: 1e-6 },
  };
}

/** The range [low, high) of a lane whose members meet a window.
 * @param {Lane} lane @param {number} from @param {number} to */
export function within({ starts, reach }, from, to) {
  const low = first(reach.length, (i) => reach[i] > from);
  return [low, Math.max(low, first(starts.length, (i) => starts[i] >= to))];
}

/** The member of a lane that runs at a time: the one that started last; -1 if there is none.
 * @param {Lane} lane @param {ArrayLike<number>} end @param {number} time */
export function at({ order, starts }, end, time) {
  const place = first(starts.length, (i) => starts[i] > time) - 1;
  return place >= 0 && end[order[place]] > time ? order[place] : -1;
}

/** @param {Pick<Trace, "head" | "kind">} trace @param {number} i @returns {Kind} */
export const kindOf = (trace, i) => trace.head.kinds[trace.kind[i]];

/** How a microbatch is named: its number within its step, of a sequence in slices also the slice, as in 0.1.
 * @param {Trace} trace @param {number} number -1: none */
export function numberOf({ head }, number) {
  const slices = head.slices ?? 1;
  if (number < 0) return "";
  const own = head.steps ? number % ((head.microbatches ?? 1) * slices) : number;
  return slices > 1 ? `${Math.floor(own / slices)}.${own % slices}` : String(own);
}

/** Whether an event is drawn as a box: messages and waits happen beside the computation, or in idle time.
 * @param {Pick<Trace, "head" | "kind" | "averages">} trace @param {number} i */
export const isBox = (trace, i) => !isInLane(trace, i) && kindOf(trace, i).name !== "WAIT";

/** Whether an event is drawn in the lane below the boxes.
 * @param {Pick<Trace, "head" | "kind" | "averages">} trace @param {number} i */
export const isInLane = (trace, i) => IN_LANE.has(kindOf(trace, i).name) && !trace.averages.has(i);

/** The text form of an event's action, such as 2F0. @param {Trace} trace @param {number} i */
export function token(trace, i) {
  return `${trace.stage[i]}${kindOf(trace, i).name}${numberOf(trace, trace.microbatch[i])}`;
}

/** The step of an event of a rank at a time. @param {Head} head @param {number} rank @param {number} time */
export function stepOf({ steps }, rank, time) {
  const starts = steps?.starts[rank] ?? [];
  return Math.max(0, first(starts.length, (n) => starts[n] > time) - 1);
}

/** The slots of phrases about an event. @param {Trace} trace @param {number} i */
export const slots = (trace, i) => ({
  token: token(trace, i), kind: WORDS.kinds[kindOf(trace, i).name].name, rank: trace.rank[i],
  stage: trace.stage[i], microbatch: numberOf(trace, trace.microbatch[i]),
});

/** The copy of the pipeline that a rank belongs to: microbatches of different copies share names.
 * @param {Head} head @param {number} rank */
export const replicaOf = ({ ranks, replicas }, rank) => Math.floor((rank * (replicas || 1)) / ranks);

/** What can be said of a piece of idle time: its reason, shorter and shorter. @param {Idle} idle @param {number} i */
export function idleTexts(idle, i) {
  const token = idle.tokens[idle.words[i]];
  if (!token) return WORDS.reasons[idle.reason[i]]; // as in the legend; its text says no more, with a verb
  const labels = WORDS.idleLabels[idle.reason[i]].map((label) => filled(label, { token }));
  return [idle.texts[idle.words[i]], ...labels, ...WORDS.reasons[idle.reason[i]]];
}

/** What a rank does at a time. @param {Trace} trace @param {number} rank @param {number} time @returns {Doing} */
export function doing(trace, rank, time) {
  const row = trace.rows[rank];
  const event = at(row.boxes, trace.end, time);
  if (event >= 0) {
    const phrase = trace.microbatch[event] < 0 ? "doing_stage" : "doing";
    return { event, idle: -1, words: say(phrase, slots(trace, event)) };
  }
  const step = at(row.messages, trace.end, time);
  if (step >= 0 && trace.microbatch[step] < 0)
    return { event: step, idle: -1, words: say("doing_stage", slots(trace, step)) };
  const { idle } = trace.head;
  const piece = idle?.rank.length ? at(row.idle, idle.end, time) : -1;
  if (idle && piece >= 0) return { event: -1, idle: piece, words: idle.texts[idle.words[piece]] };
  const { starts, reach } = row.boxes;
  const hasFinished = idle && reach.length && time >= reach[reach.length - 1];
  const hasBegun = starts.length && time >= starts[0];
  return { event: -1, idle: -1, words: say(hasFinished ? "finished" : hasBegun ? "waits" : "not_begun") };
}

/** Details of an event, line by line. `ghost` (a trace under this one) adds how it moved.
 * @param {Trace} trace @param {number} i @param {Trace | null} ghost */
export function details(trace, i, ghost = null) {
  const { name } = kindOf(trace, i);
  const [start, end] = [trace.start[i], trace.end[i]];
  const times = { duration: timeText(end - start), start: timeText(start), end: timeText(end) };
  const lines = [say(trace.microbatch[i] < 0 ? "action_stage" : "action", slots(trace, i)), say("times", times)];
  if (trace.head.steps) lines.push(say("in_step", { step: stepOf(trace.head, trace.rank[i], start) }));
  if (trace.bytes[i] > 0)
    lines.push(say("bytes", { bytes: bytesText(trace.bytes[i]), what: WORDS.kinds[name].bytes }));
  if (trace.peer[i] >= 0)
    lines.push(say(name.startsWith("SEND") ? "to_rank" : "from_rank", { rank: trace.peer[i] }));
  const { idle } = trace.head;
  const piece = waitBefore(trace, i);
  if (idle && piece >= 0) {
    const duration = timeText(idle.end[piece] - idle.start[piece]);
    lines.push(say("idle_before", { duration, idle: idle.texts[idle.words[piece]] }));
  }
  return ghost ? [...lines, ...movedFrom(ghost, trace, i)] : lines;
}

/** Whether one is what was predicted of the other; if not, it is just another run.
 * @param {Head} other @param {Head} head */
export function isPredictionOf(other, head) {
  return other.source === "predicted" && head.source !== "predicted";
}

/** How much later and longer an event is than the same one of another trace.
 * @param {Trace} other @param {Trace} trace @param {number} i */
function movedFrom(other, trace, i) {
  const twin = find(other, trace, i);
  if (twin < 0) return [];
  const late = trace.start[i] - other.start[twin];
  const longer = trace.end[i] - trace.start[i] - (other.end[twin] - other.start[twin]);
  const name = say(isPredictionOf(other.head, trace.head) ? "than_predicted" : "than_recorded");
  return [say(late < 0 ? "earlier" : "later", { time: timeText(Math.abs(late)), other: name }),
    say(longer < 0 ? "shorter" : "longer", { time: timeText(Math.abs(longer)), other: name })];
}

/** The piece of idle time right before a box on its rank; -1 if there was none.
 * @param {Trace} trace @param {number} i */
function waitBefore(trace, i) {
  const { idle } = trace.head;
  if (!idle?.rank.length || !isBox(trace, i)) return -1;
  const near = trace.start[i] - 1e-4 * (trace.end[i] - trace.start[i]);
  return at(trace.rows[trace.rank[i]].idle, idle.end, near);
}

/** The event of another trace that is the same action on the same rank; -1 if it has none.
 * @param {Trace} other @param {Trace} trace @param {number} i */
export function find(other, trace, i) {
  other.places ??= new Map(Array.from({ length: other.n }, (_, k) => [`${other.rank[k]} ${token(other, k)}`, k]));
  return other.places.get(`${trace.rank[i]} ${token(trace, i)}`) ?? -1;
}

/** One microbatch through all stages: its events, and an arrow for each message between ranks.
 * @param {Trace} trace @param {number} microbatch @param {number} replica @returns {Followed} */
export function follow(trace, microbatch, replica) {
  const made = new Map();
  const sends = new Map();
  const events = new Set();
  for (let i = 0; i < trace.n; i++) {
    if (trace.microbatch[i] !== microbatch || replicaOf(trace.head, trace.rank[i]) !== replica) continue;
    const { name } = kindOf(trace, i);
    if (name.startsWith("SEND")) sends.set(`${trace.stage[i]}${name}`, i);
    if (isBox(trace, i)) made.set(`${trace.stage[i]}${name === "B" ? "I" : name}`, i);
    events.add(i);
  }
  const arrows = [];
  for (const [key, i] of made) {
    const [name, step, send] = key.endsWith("F") ? ["F", 1, "SEND_F"] : ["I", -1, "SEND_B"];
    const user = key.endsWith("W") ? undefined : made.get(`${trace.stage[i] + Number(step)}${name}`);
    if (user === undefined || trace.rank[user] === trace.rank[i]) continue;
    const sent = sends.get(`${trace.stage[i]}${send}`);
    const arrival = sent === undefined ? trace.start[user] : Math.min(trace.end[sent], trace.start[user]);
    arrows.push({ from: i, to: user, left: trace.end[i], arrival: Math.max(arrival, trace.end[i]), name: String(name) });
  }
  return { microbatch, replica, events, arrows };
}

/** All times at which an action begins, in order: the stops of a replay step by step. @param {Trace} trace */
export function stops(trace) {
  const times = trace.rows.flatMap((row) => [...row.boxes.starts]).sort((a, b) => a - b);
  const apart = (trace.span.to - trace.span.from) * 1e-4; // ranks that start together are one stop
  /** @type {number[]} */
  const kept = [];
  for (const time of times) if (!kept.length || time - kept[kept.length - 1] > apart) kept.push(time);
  return [...kept, trace.span.to];
}
