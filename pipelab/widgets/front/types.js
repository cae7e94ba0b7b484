// @ts-check
// The shapes of data that the files share. Only comments: nothing of it reaches the browser.

/** @typedef {keyof typeof import("./words.js").WORDS.kinds} KindName */
/** @typedef {keyof typeof import("./words.js").WORDS.reasons} Reason */
/** @typedef {keyof typeof import("./words.js").WORDS.phrases} Phrase */

/** A kind of event as data.py describes it; each tint is [fill, ink, edge].
 * @typedef {{ name: KindName, letter: string, hatch: string, words: string, tints: string[][] }} Kind */
/** Pieces of idle time in columns; `words` are places in `texts` and `tokens`, `seen` the reasons to name.
 * @typedef {{ rank: number[], start: number[], end: number[], phase: string[], reason: Reason[],
 *   words: number[], texts: string[], tokens: string[], seen?: Reason[] }} Idle */
/** @typedef {{ caption?: string, heads?: string[], rows?: string[][] }} Table */
/** @typedef {{ time: number, text: string }} Guess */
/** [times, values] of one rank. @typedef {[number[], number[]]} Curve */
/** What data.py says about a trace, except its events.
 * @typedef {{ kinds: Kind[], source: string, ranks: number, replicas?: number, schedule?: string, story?: string,
 *   microbatches?: number, slices?: number, idle?: Idle,
 *   steps?: { starts: number[][], spans: [number, number][] }, pairs?: [number, number][], averages?: number[],
 *   disturbed?: string, shares?: string[], memory?: { unit: string, curves: Curve[] }, budget?: number, guess?: Guess | null,
 *   sentence?: string, alt?: string, totals?: string[], tables?: Table[], comparison?: Table }} Head */

/** Events in order of start, and for each the latest end so far.
 * @typedef {{ order: Int32Array, reach: Float32Array, starts: Float32Array }} Lane */
/** A span of time in seconds. @typedef {{ from: number, to: number }} Span */
/** @typedef {{ boxes: Lane, messages: Lane, idle: Lane }} Row */
/** A trace in columns, and per rank its lanes.
 * @typedef {{ head: Head, n: number, rank: Int32Array, kind: Int32Array, stage: Int32Array,
 *   microbatch: Int32Array, peer: Int32Array, start: Float32Array, end: Float32Array, bytes: Float32Array,
 *   rows: Row[], stages: number[][], span: Span, half: Int8Array, averages: Set<number>, places?: Map<string, number>, stops?: number[] }} Trace */
/** What a rank does: an event or a piece of idle time (-1: none), and words for either.
 * @typedef {{ event: number, idle: number, words: string }} Doing */
/** A message between two ranks: from the end of one event to the start of another.
 * @typedef {{ from: number, to: number, left: number, arrival: number, name: string }} Arrow */
/** @typedef {{ microbatch: number, replica: number, events: Set<number>, arrows: Arrow[] }} Followed */

/** [y, height] of a part of a row. @typedef {[number, number]} Part */
/** @typedef {{ top: number, bottom: number, ghost: Part, box: Part, messages: Part, memory: Part }} Placed */
/** Where everything is in the picture, in pixels.
 * @typedef {{ width: number, left: number, right: number, plot: number, rows: Placed[], bottom: number,
 *   height: number }} Place */
/** What the learner sees: which trace, when, how close, and what is chosen.
 * @typedef {{ trace: Trace, ghost: Trace | null, ghostFrom: [Head, unknown] | null, ghostName: string,
 *   window: Span, whole: Span, time: number, chosen: number, followed: Followed | null,
 *   lanes: { messages: boolean, memory: boolean, ghost: boolean, former: boolean },
 *   former: [Head, unknown] | null, last: [Head, unknown] | null, speed: number, playing: boolean,
 *   live: boolean, curves: Curve[] | null, peaks: number[], memoryUnit: string, budget: number,
 *   guess: Guess | null }} State */
/** The part of time that is drawn: its scale in px per second, and its width in px.
 * @typedef {Span & { x: (time: number) => number, width: number, words: Words[] }} Frame */
/** A label of what reaches from a to b, in px of the drawn part: the longest of its texts that fits;
 * one that yields stands beside the line of a guess.
 * @typedef {{ node: SVGElement, a: number, b: number, texts: string[], size: number,
 *   yields?: boolean }} Words */
/** The SVG nodes of a picture, and what they show at present.
 * @typedef {{ root: SVGElement, defs: SVGElement, plot: SVGElement, moving: SVGElement, axis: SVGElement,
 *   flats: Record<"idle" | "ghost" | "memory" | "dense" | "messages", SVGElement>,
 *   nodes: Record<"boxes" | "guess" | "labels" | "reasons" | "arrows" | "ticks" | "grid" | "steps" | "names", Pool>,
 *   over: Record<"veil" | "chosen" | "line" | "guessText", SVGElement>,
 *   fills: Map<string, string>, id: string, place: Place, drawn: (Span & { scale: number, words: Words[] }) | null }} View */
/** @typedef {ReturnType<typeof import("./draw.js").picture>} Image */
/** @typedef {ReturnType<typeof import("./actions.js").makeActions>} Act */
/** Draws one part of the picture. @typedef {(view: View, s: State, frame: Frame) => void} Draw */
/** @typedef {Record<string, unknown>} Attributes */
/** @typedef {{ next: (row?: number) => SVGElement, finish: () => void }} Pool */
/** @typedef {{ soon: () => void, flush: () => boolean, cancel: () => void }} Debounced */
/** A control with its label. @typedef {{ node: HTMLElement, input: HTMLElement,
 *   show: (value: any) => void, value: () => string | number | boolean }} Control */
/** The part of a widget's model that the front end uses.
 * @typedef {{ get: (name: string) => any, set: (name: string, value: unknown) => void,
 *   save_changes: () => void, send: (content: object) => void,
 *   on: (event: string, act: (...values: any[]) => void) => void,
 *   off: (event: string, act: (...values: any[]) => void) => void }} Model */
/** One run in the chart. @typedef {{ p: number, m: number, bubble: number, words?: string,
 *   schedule?: string, mark?: string, name?: string, paced?: boolean, disturbed?: boolean }} Run */
/** Theory's bubble against m and against p. @typedef {{ name?: string, m: [number, number][],
 *   p: [number, number][], fixed?: { m: string, p: string } }} Theory */

export {};
