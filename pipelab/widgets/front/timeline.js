// @ts-check
// The timeline: a picture that plays, with everything that can be done to it.
//
// All of it happens here, from a trace that was sent once: it works while the kernel is busy, and in
// a file without a kernel. `show` takes a trace, `end` removes the timeline from the page.
/** @import { Head, Model } from "./types.js" */
import { makeActions } from "./actions.js";
import { picture } from "./draw.js";
import { listen } from "./input.js";
import { makeParts } from "./panel.js";
import { emptyState, isEmpty, takeTrace } from "./state.js";

/** @import { AtWork } from "./panel.js" */
const NOTHING = { event: -1, idle: -1, words: "" };
const SHARE = 0.1; // of the time, at most, that goes into pictures of a run in progress: its ranks need the cores

/** @param {Node[]} extra more buttons @param {string[]} shown lanes to begin with, see `Timeline`
 * @param {AtWork} atWork what a rank of a run in progress does */
export function timeline(extra = [], shown = [], atWork = () => NOTHING) {
  const s = emptyState();
  s.lanes = { messages: shown.includes("messages"), memory: shown.includes("memory"),
    ghost: shown.includes("prediction"), former: false };
  const image = picture();
  let [frame, asked] = [0, ""];
  let [drawnAt, cost] = [-Infinity, 0]; // ms

  /** Draw with the next frame; the most that was asked for is done.
   * @param {string} what "cursor", "move" or "draw" */
  function ask(what) {
    const order = ["", "cursor", "move", "draw"];
    if (order.indexOf(what) > order.indexOf(asked)) asked = what;
    frame ||= requestAnimationFrame(paint);
  }
  function paint() {
    const what = asked;
    [frame, asked] = [0, ""];
    const width = parts.stage.clientWidth;
    if (isEmpty(s) || !width) return; // not on the page yet; the observer asks again
    drawnAt = performance.now();
    setTimeout(() => (cost = performance.now() - drawnAt)); // after the browser has painted it
    if (what === "draw" || image.place.width !== width) image.draw(s, width);
    else if (what === "move") image.move(s);
    else image.cursor(s);
    parts.update();
  }
  const act = makeActions(s, ask, { announce: () => parts.announce(), describe: () => parts.describe() });
  const parts = makeParts(s, image, act, extra, atWork);
  const observer = new ResizeObserver(() => ask("draw"));
  observer.observe(parts.stage);
  listen(s, image, parts, act);
  return {
    node: parts.node, disturbed: parts.disturbed,
    /** Show a trace; see `takeTrace`.
     * @param {Head} head @param {unknown} bytes @param {Parameters<typeof takeTrace>[3]} more */
    show(head, bytes, more = {}) {
      takeTrace(s, head, bytes, more);
      parts.show();
      ask("draw");
    },
    /** Show what each rank does at a time, in seconds. */
    lookAt: act.jump,
    /** ms until the next picture of a run in progress may be drawn; what a picture takes decides. */
    pause: () => Math.max(0, drawnAt + cost / SHARE - performance.now()),
    end() {
      s.playing = false;
      cancelAnimationFrame(frame);
      observer.disconnect();
    },
  };
}

/** Calls each of `views` now, and whenever the trait of its name changes; returns what ends that.
 * @param {Model} model @param {Record<string, () => void>} views */
export function onTraits(model, views) {
  const each = Object.entries(views);
  for (const [name, show] of each) {
    model.on(`change:${name}`, show);
    show();
  }
  return () => each.forEach(([name, show]) => model.off(`change:${name}`, show));
}

/** All that the traits of one trace hold, shown; again whenever they change.
 * @param {Model} model @param {ReturnType<typeof timeline>} view @param {() => void} shown called then */
export function bind(model, view, shown = () => {}) {
  const names = ["data", "head", "ghost_data", "ghost_head"];
  let timer = 0;
  const show = () => {
    timer = 0;
    shown();
    const [data, head, ghostBytes, ghost] = names.map((name) => model.get(name));
    if (!head?.kinds) return;
    const [live, now] = [Boolean(model.get("live")), model.get("now") ?? 0];
    view.show(head, data, { ghostHead: ghost?.kinds ? ghost : null, ghostBytes, live, now });
    if (model.get("at") >= 0) view.lookAt(model.get("at"));
  };
  const soon = () => { // several traits of one message, or several reports of a run: one picture
    const pause = model.get("live") ? view.pause() : 0;
    if (timer && pause) return;
    clearTimeout(timer);
    timer = window.setTimeout(show, pause);
  };
  const end = onTraits(model, Object.fromEntries([...names, "live", "now", "at"].map((name) => [name, soon])));
  return () => {
    clearTimeout(timer);
    end();
  };
}
