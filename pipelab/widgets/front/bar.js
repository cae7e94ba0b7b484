// @ts-check
// The buttons of a timeline: replay, zoom, and what is shown.
/** @import { Act, State } from "./types.js" */
import { readTrace } from "./data.js";
import { button, element, setIcon } from "./parts.js";
import { speeds } from "./scale.js";

/** @param {State} s @param {Act} act */
export function makeBar(s, act) {
  const start = button("To the start", () => act.jump(s.whole.from), { icon: "start" });
  const back = button("Back by one action", () => act.stepBy(-1), { icon: "back" });
  const play = button("Play", act.play, { icon: "play", shown: true });
  const forward = button("On by one action", () => act.stepBy(1), { icon: "forth" });
  const speed = element("select", { "aria-label": "Speed of the replay",
    change: () => act.setSpeed(Number(speed.value)) });
  const replay = element("div", { class: "pl-group", role: "group", "aria-label": "Replay" },
    start, back, play, forward, speed);
  const look = element("div", { class: "pl-group", role: "group", "aria-label": "Zoom" },
    button("Zoom out", () => act.zoom(2), { icon: "minus" }),
    button("Zoom in", () => act.zoom(0.5), { icon: "plus" }),
    button("Show the whole step", act.whole, { icon: "whole" }));
  const toggles = makeToggles(s, act);
  const lanes = element("div", { class: "pl-group", role: "group", "aria-label": "Also show" },
    ...Object.values(toggles));
  let shown = "";
  return {
    node: element("div", { class: "pl-bar" }, replay, look, lanes),
    /** A trace has come: its speeds, and which lanes it has. */
    show() {
      const { from, to } = s.live ? s.whole : s.trace.span;
      const { offered, usual } = speeds(to - from);
      if (!offered.some(([value]) => Number(value) === s.speed)) s.speed = usual;
      speed.replaceChildren(...offered.map(([value, words]) => element("option", { value }, words)));
      speed.value = String(s.speed);
      toggles.memory.hidden = !s.curves;
      toggles.ghost.hidden = !s.ghostFrom;
      setText(toggles.ghost, s.ghostFrom?.[0].source === "predicted" ? "Prediction" : "Other run");
    },
    /** Once per frame: whether it plays. */
    update() {
      const state = `${s.playing} ${s.live}`;
      if (state === shown) return;
      shown = state;
      setIcon(play, s.playing ? "pause" : "play");
      setText(play, s.playing ? "Pause" : "Play");
      for (const node of [start, back, play, forward]) node.setAttribute("aria-disabled", String(s.live));
    },
  };
}

/** @param {HTMLElement} node @param {string} text */
function setText(node, text) {
  if (node.lastChild) node.lastChild.textContent = text;
}

/** What to show with the boxes. @param {State} s @param {Act} act */
function makeToggles(s, act) {
  const lane = (/** @type {keyof State["lanes"]} */ name, /** @type {string} */ words) => {
    const toggle = button(words, () => {
      s.lanes[name] = !s.lanes[name];
      if (name === "ghost") s.ghost = s.lanes.ghost && s.ghostFrom ? readTrace(...s.ghostFrom) : null;
      toggle.setAttribute("aria-pressed", String(s.lanes[name]));
      act.redraw();
    });
    toggle.setAttribute("aria-pressed", String(s.lanes[name]));
    return toggle;
  };
  return { messages: lane("messages", "Messages and steps"), memory: lane("memory", "Memory"),
    ghost: lane("ghost", "Prediction") };
}
