// @ts-check
// The buttons of a timeline: replay, zoom, and what is shown.
/** @import { Act, Image, State } from "./types.js" */
import { button, element, set, setIcon, write } from "./parts.js";
import { isPredictionOf } from "./data.js";
import { say, speeds } from "./scale.js";
import { chooseGhost } from "./state.js";
import { makeStepChoice } from "./steps.js";
import { makeMap } from "./zoom_map.js";

/** @typedef {keyof State["lanes"]} Lane */

/** @param {State} s @param {Image} image @param {Act} act @param {Node[]} extra more buttons */
export function makeBar(s, image, act, extra) {
  const start = button("To the start", () => act.jump(s.whole.from), { icon: "start" });
  const back = button("Back by one action", () => act.stepBy(-1), { icon: "back" });
  const play = button("Play", act.play, { icon: "play", shown: true });
  play.classList.add("pl-play");
  const forward = button("On by one action", () => act.stepBy(1), { icon: "forth" });
  const speed = element("select", { "aria-label": "Speed of the replay",
    change: () => act.setSpeed(Number(speed.value)) });
  const replay = element("div", { class: "pl-group", role: "group", "aria-label": "Replay" },
    start, back, play, forward, speed);
  const choice = makeStepChoice(s, act);
  const look = element("div", { class: "pl-group", role: "group", "aria-label": "Zoom" },
    button("Zoom out", () => act.zoom(2), { icon: "minus" }),
    button("Zoom in", () => act.zoom(0.5), { icon: "plus" }),
    button("Show the whole step", act.whole, { icon: "whole" }), choice.node);
  const { help, open } = makeHelp(image);
  const toggles = makeToggles(s, act);
  const lanes = element("div", { class: "pl-group", role: "group", "aria-label": "Also show" },
    ...Object.values(toggles));
  const map = makeMap(s, act);
  let shown = "";
  return {
    help, node: element("div", { class: "pl-bar" }, replay, look, element("div", { class: "pl-group" }, open, ...extra), lanes, map.node),
    /** A trace has come: its speeds, and which lanes it has. */
    show() {
      const { from, to } = s.live ? s.whole : s.trace.span;
      const { offered, usual } = speeds(to - from);
      if (!offered.some(([value]) => Number(value) === s.speed)) s.speed = usual;
      speed.replaceChildren(...offered.map(([value, words]) => element("option", { value }, words)));
      speed.value = String(s.speed);
      choice.show();
      setText(toggles.messages, s.trace.head.story ? "Messages" : "Messages and steps"); // a story has no steps
      toggles.memory.hidden = !s.curves && !s.live;
      toggles.ghost.hidden = !s.ghostFrom;
      toggles.former.hidden = !s.former;
      setText(toggles.ghost, s.ghostFrom && isPredictionOf(s.ghostFrom[0], s.trace.head) ? "Prediction" : "Other run");
    },
    /** Once per frame: whether it plays. */
    update() {
      map.update();
      choice.update();
      for (const name of /** @type {Lane[]} */ (Object.keys(toggles))) set(toggles[name], { "aria-pressed": s.lanes[name] });
      const state = `${s.playing} ${s.live}`;
      if (state === shown) return;
      shown = state;
      setIcon(play, s.playing ? "pause" : "play");
      setText(play, s.playing ? "Pause" : "Play");
      for (const node of [start, back, play, forward]) set(node, { "aria-disabled": s.live });
    },
  };
}

/** @param {HTMLElement} node @param {string} text */
function setText(node, text) {
  if (node.lastElementChild) write(node.lastElementChild, text);
}

/** What to show with the boxes. Of two other traces, one is drawn at a time. @param {State} s @param {Act} act */
function makeToggles(s, act) {
  const lane = (/** @type {Lane} */ name, /** @type {Lane | null} */ other, /** @type {string} */ words) =>
    button(words, () => {
      s.lanes[name] = !s.lanes[name];
      if (other) s.lanes[other] = false;
      chooseGhost(s);
      act.redraw();
    });
  return { messages: lane("messages", null, "Messages and steps"), memory: lane("memory", null, "Memory"),
    ghost: lane("ghost", "former", "Prediction"), former: lane("former", "ghost", "The one before") };
}

/** How to read the picture, over it, and the button that shows it. @param {Image} image */
function makeHelp(image) {
  const toggle = () => {
    help.hidden = !help.hidden;
    set(open, { "aria-expanded": !help.hidden });
    help.style.minHeight = `${image.place.height}px`;
    (help.hidden ? open : close).focus();
  };
  const open = button("How to read this", toggle);
  const close = button("Close", toggle);
  const lines = /** @type {const} */ (["help_rows", "help_idle", "help_follow", "help_keys"]);
  const help = element("div", { class: "pl-help", role: "note", hidden: "",
    keydown: (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && toggle() },
  element("ul", {}, ...lines.map((line) => element("li", {}, say(line)))), close);
  return { help, open };
}
