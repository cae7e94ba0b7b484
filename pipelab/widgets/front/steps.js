// @ts-check
// Several steps in one picture: where each rank begins the next one, and the choice of one to see.
/** @import { Act, Draw, State } from "./types.js" */
import { say } from "./scale.js";
import { element, set } from "./parts.js";

/** A line in each rank's row where one of the later steps begins. @type {Draw} */
export function drawSteps(view, s, { from, to, x }) {
  s.trace.head.steps?.starts.forEach((starts, rank) => {
    const { top, bottom } = view.place.rows[rank];
    for (const time of starts.slice(1)) {
      if (time >= from && time <= to) set(view.nodes.steps.next(), { d: `M${x(time).toFixed(1)} ${top - 3}V${bottom + 3}` });
    }
  });
  view.nodes.steps.finish();
}

/** A list of the steps: the chosen one fills the window. @param {State} s @param {Act} act */
export function makeStepChoice(s, act) {
  const node = element("select", { "aria-label": say("step_choice"), hidden: "", change: () => {
    const spans = s.trace.head.steps?.spans;
    if (node.value && spans) act.look(...spans[Number(node.value)]);
    else act.whole();
  } });
  return {
    node,
    /** A trace has come. */
    show() {
      const spans = s.trace.head.steps?.spans ?? [];
      node.hidden = !spans.length;
      node.replaceChildren(element("option", { value: "" }, say("all_steps", { count: spans.length })),
        ...spans.map((_, n) => element("option", { value: n }, say("one_step", { step: n }))));
    },
    /** Once per frame: another window shows no chosen step. */
    update() {
      const [from, to] = s.trace.head.steps?.spans[Number(node.value || -1)] ?? [s.window.from, s.window.to];
      if (from !== s.window.from || to !== s.window.to) node.value = "";
    },
  };
}
