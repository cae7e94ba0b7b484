// Between a widget's traits and the timeline.

/** All that the traits of one trace hold, shown; again whenever they change. */
export function bind(model, view) {
  const names = ["data", "head", "ghost_data", "ghost_head"];
  const changing = [...names, "live", "now"];
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
  for (const name of changing) model.on(`change:${name}`, soon);
  show();
  return () => changing.forEach((name) => model.off(`change:${name}`, soon));
}

