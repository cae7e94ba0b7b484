// What anywidget calls: the timeline of a trace that came in traits.

/** All that the traits of one trace hold, shown; again whenever they change. */
export function bind(model, view, names = ["data", "head", "ghost_data", "ghost_head"]) {
  let due = false;
  const show = () => {
    due = false;
    const [data, head, ghostBytes, ghost] = names.map((name) => model.get(name));
    if (!head?.kinds) return;
    view.show(head, data, { ghostHead: ghost?.kinds ? ghost : null, ghostBytes });
  };
  const soon = () => { // several traits of one message: one picture
    if (!due) queueMicrotask(show);
    due = true;
  };
  for (const name of names) model.on(`change:${name}`, soon);
  show();
  return () => names.forEach((name) => model.off(`change:${name}`, soon));
}

function render({ model, el }) {
  const view = timeline();
  view.node.classList.add("pl-root");
  el.append(view.node);
  const free = bind(model, view);
  return () => {
    free();
    view.end();
  };
}

export default { render };
