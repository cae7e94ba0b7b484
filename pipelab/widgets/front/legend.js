// @ts-check
// The legend: what occurs in a trace, with its sign.
/** @import { Kind, Reason, State } from "./types.js" */
/** @import { Image } from "./hover.js" */
import { element, svg } from "./parts.js";
import { bytesText, say } from "./scale.js";
import { WORDS } from "./words.js";

// Reasons for idle time that have one shade in common, see timeline.css.
/** @type {Reason[][]} */
const SHADES = [["waiting"], ["message"], ["imbalance"], ["done", "step"], ["overhead", "blocked"]];

/** A sign of one kind: its colour, hatch and letter, as in the picture.
 * @param {Image} image @param {Kind} kind */
export function swatch(image, kind) {
  const [fill, ink, edge] = kind.tints[0];
  const letter = svg("text", { x: 12, y: 12.5, fill: ink, stroke: fill, class: "pl-label" });
  letter.textContent = kind.letter;
  return svg("svg", { width: 24, height: 17, "aria-hidden": true, class: "pl-swatch" },
    svg("rect", { x: 0.5, y: 0.5, width: 23, height: 16, rx: 2, fill: image.fill(kind), stroke: edge }), letter);
}

/** @param {State} s @param {Element} list @param {Image} image */
export function fillLegend(s, list, image) {
  const { head } = s.trace;
  const present = new Set(s.live && s.ghost ? s.ghost.kind : s.trace.kind); // a live trace is not complete
  const items = head.kinds.filter((kind, place) => present.has(place) && kind.name !== "WAIT")
    .map((kind) => element("li", {}, swatch(image, kind), kind.words));
  const reasons = new Set(head.idle?.reason ?? []);
  for (const shade of SHADES) {
    const [one, other] = shade.filter((reason) => reasons.has(reason));
    if (!one) continue;
    const words = WORDS.reasons[one];
    const reason = other ? say("or", { one: words, other: WORDS.reasons[other] }) : words;
    const sign = svg("svg", { width: 24, height: 17, "aria-hidden": true, class: "pl-swatch" },
      svg("rect", { width: 24, height: 17, class: `pl-why pl-${one}` }));
    items.push(element("li", {}, sign, say("idle_because", { reason })));
  }
  if (s.trace.stages.some((stages) => stages.length > 1)) items.push(element("li", {}, say("lighter")));
  if (s.budget && s.curves) items.push(element("li", {}, say("dashed", { bytes: bytesText(s.budget) })));
  list.replaceChildren(...items);
}
