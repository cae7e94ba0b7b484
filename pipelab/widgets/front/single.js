// @ts-check
// What anywidget calls for one trace.
/** @import { Model } from "./types.js" */
import { exportButton } from "./export.js";
import { bind, timeline } from "./timeline.js";

/** @param {{ model: Model, el: HTMLElement }} place */
function render({ model, el }) {
  const view = timeline([exportButton(model)], model.get("show"));
  view.node.classList.add("pl-root");
  el.append(view.node);
  const unbind = bind(model, view);
  return () => {
    unbind();
    view.end();
  };
}

export default { render };
