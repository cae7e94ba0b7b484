// @ts-check
// Between a widget's traits and the timeline.
/** @import { Model } from "./types.js" */

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
 * @param {Model} model @param {ReturnType<typeof import("./timeline.js").timeline>} view */
export function bind(model, view) {
  const names = ["data", "head", "ghost_data", "ghost_head"];
  let isDue = false;
  const show = () => {
    isDue = false;
    const [data, head, ghostBytes, ghost] = names.map((name) => model.get(name));
    if (!head?.kinds) return;
    const [live, now] = [Boolean(model.get("live")), model.get("now") ?? 0];
    view.show(head, data, { ghostHead: ghost?.kinds ? ghost : null, ghostBytes, live, now });
  };
  const soon = () => { // several traits of one message: one picture
    if (!isDue) queueMicrotask(show);
    isDue = true;
  };
  return onTraits(model, Object.fromEntries([...names, "live", "now"].map((name) => [name, soon])));
}
