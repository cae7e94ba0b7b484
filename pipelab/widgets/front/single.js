// What anywidget calls for one trace.

function render({ model, el }) {
  const view = timeline();
  view.node.classList.add("pl-root");
  el.append(view.node);
  const free = bind(model, view);
  return () => [free, view.end].forEach((end) => end());
}

export default { render };
