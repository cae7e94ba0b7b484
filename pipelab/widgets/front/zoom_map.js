// @ts-check
// The sign that a part of the step is shown: how close, and a small map of the whole.
/** @import { Act, State } from "./types.js" */
import { clamp, say } from "./scale.js";
import { element, set, svg, write } from "./parts.js";

/** @param {State} s @param {Act} act */
export function makeMap(s, act) {
  const ground = svg("path");
  const window = svg("rect", { height: 24 });
  const words = element("span");
  const drawing = svg("svg", { viewBox: "0 0 150 24", role: "img", "aria-label": say("zoom_map") }, ground, window);
  drawing.addEventListener("click", ({ clientX }) => {
    const { left, width } = drawing.getBoundingClientRect();
    const { from, to } = s.whole;
    act.pan(from + ((clientX - left) / width) * (to - from) - (s.window.from + s.window.to) / 2);
  });
  const node = element("div", { class: "pl-map" }, words, drawing);
  return {
    node,
    /** Once per frame. */
    update() {
      const { whole, window: { from, to }, trace: { rows } } = s;
      const scale = 150 / (whole.to - whole.from);
      const factor = (whole.to - whole.from) / (to - from);
      node.classList.toggle("pl-zoomed", factor > 1.001);
      if (factor <= 1.001) return;
      write(words, say("zoomed", { factor: Number(factor.toPrecision(2)) }));
      set(window, { x: (from - whole.from) * scale, width: clamp((to - from) * scale, 2, 150) });
      set(ground, { d: rows.map(({ boxes: { starts, reach } }, rank) => starts.length ?
        `M${(starts[0] - whole.from) * scale} ${(24 * (rank + 0.5)) / rows.length}H${(reach[reach.length - 1] - whole.from) * scale}` : "").join("") });
    },
  };
}
