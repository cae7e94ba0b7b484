// Between a widget's traits and the timeline.

/** Calls each of `views` now, and whenever the trait of its name changes; returns what ends that. */
export function hear(model, views) {
  const each = Object.entries(views);
  for (const [name, show] of each) {
    model.on(`change:${name}`, show);
    show();
  }
  return () => each.forEach(([name, show]) => model.off(`change:${name}`, show));
}

/** All that the traits of one trace hold, shown; again whenever they change. */
export function bind(model, view) {
  const names = ["data", "head", "ghost_data", "ghost_head"];
  let due = false;
  const show = () => {
    due = false;
    const [data, head, ghostBytes, ghost] = names.map((name) => model.get(name));
    if (!head?.kinds) return;
    const [live, now] = [Boolean(model.get("live")), model.get("now") ?? 0];
    view.show(head, data, { ghostHead: ghost?.kinds ? ghost : null, ghostBytes, live, now });
  };
  const soon = () => { // several traits of one message: one picture
    if (!due) queueMicrotask(show);
    due = true;
  };
  return hear(model, Object.fromEntries([...names, "live", "now"].map((name) => [name, soon])));
}

