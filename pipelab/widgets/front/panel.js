// @ts-check
// What is around the picture: a sentence, buttons, what each rank does now, legend, tables.
/** @import { Doing, Head, State } from "./types.js" */
/** @import { Image } from "./hover.js" */
/** @import { Act } from "./input.js" */
import { makeBar } from "./bar.js";
import { atWork, details, doing } from "./data.js";
import { fillLegend, swatch } from "./legend.js";
import { element } from "./parts.js";
import { say, timeText } from "./scale.js";
import { fillTables } from "./tables.js";

const HELP = "Arrow keys move from action to action, Enter follows its microbatch, Escape deselects, " +
  "Space plays, plus and minus zoom, Shift with arrow keys moves the window, 0 shows all. " +
  "Ctrl with the wheel zooms, dragging moves.";

/** The elements around the picture, empty. @param {Image} image @param {HTMLElement} bar @param {HTMLElement} scrub */
function makeNodes(image, bar, scrub) {
  const stage = element("div", { class: "pl-stage" }, image.node);
  const tip = element("div", { class: "pl-tip", "aria-hidden": "true", hidden: "" });
  stage.append(tip);
  const sentence = element("p", { class: "pl-sentence" });
  const about = element("p", { class: "pl-about", role: "status" });
  const spoken = element("p", { class: "pl-spoken", role: "status", "aria-live": "polite" });
  const legend = element("ul", { class: "pl-legend", "aria-label": "Legend" });
  const now = element("ul", { class: "pl-now", "aria-label": "What each rank does at this time" });
  const clock = element("output", { class: "pl-clock" });
  const tables = element("div", { class: "pl-tables" });
  const figure = element("figure", {}, stage, element("div", { class: "pl-time" }, scrub, clock));
  const node = element("section", { class: "pl-timeline", "aria-label": "Timeline" },
    sentence, bar, figure, about, now, legend, tables, spoken);
  node.dataset.lmSuppressShortcuts = "true";
  image.node.setAttribute("role", "application");
  image.node.setAttribute("aria-roledescription", "timeline");
  return { node, stage, tip, sentence, about, spoken, legend, now, clock, tables };
}

/** The parts of a timeline, and how they show what changed; `act` holds what its buttons do.
 * @param {State} s @param {Image} image @param {Act} act */
export function makeParts(s, image, act) {
  const bar = makeBar(s, act);
  const scrub = element("input", { type: "range", min: 0, max: 1000, step: 1, class: "pl-scrub",
    "aria-label": "Time of the replay",
    input: () => act.jump(s.whole.from + (Number(scrub.value) / 1000) * (s.whole.to - s.whole.from)) });
  const nodes = makeNodes(image, bar.node, scrub);
  /** @type {((state: Doing | null) => void)[]} */
  let lines = [];
  /** @type {Head | null} */
  let known = null;
  const describe = () => (nodes.about.textContent = description(s));

  return {
    node: nodes.node, stage: nodes.stage, tip: nodes.tip, describe,
    /** Once per frame: the cursor's time, and what each rank does then. */
    update() {
      bar.update();
      Object.assign(nodes.node.dataset, { plTime: s.time, plPlaying: s.playing, plFrom: s.window.from,
        plTo: s.window.to, plFollowed: s.followed ? s.followed.microbatch : "" });
      const hasEnded = s.time >= s.whole.to && !s.live;
      const text = hasEnded ? "end" : timeText(s.time);
      if (nodes.clock.textContent !== text) nodes.clock.textContent = text;
      scrub.value = String(Math.round(((s.time - s.whole.from) / (s.whole.to - s.whole.from)) * 1000));
      scrub.disabled = s.live;
      scrub.setAttribute("aria-valuetext", text);
      nodes.now.classList.toggle("pl-ended", hasEnded);
      const stateOf = (/** @type {number} */ rank) =>
        s.live ? atWork(s.trace, rank, s.ghost) : hasEnded ? null : doing(s.trace, rank, s.time);
      lines.forEach((line, rank) => line(stateOf(rank)));
    },
    /** A trace has come: everything that does not depend on the time. */
    show() {
      const { head } = s.trace;
      if (s.live && known === head) return; // bars grow; nothing around them changes
      known = head;
      nodes.sentence.textContent = head.sentence ?? "";
      image.node.setAttribute("aria-label", `${head.alt ?? head.sentence ?? "Timeline"} ${HELP}`);
      lines = fillNow(s, nodes.now, image);
      fillLegend(s, nodes.legend, image);
      fillTables(s, nodes.tables);
      bar.show();
      describe();
    },
    /** The time for screen readers; not while it plays, which would be too much. */
    announce() {
      if (s.time >= s.whole.to) nodes.spoken.textContent = say("end", { time: timeText(s.trace.span.to) });
      else {
        const all = s.trace.rows.slice(0, 16).map((_, rank) =>
          say("rank_does", { rank, does: doing(s.trace, rank, s.time).words }));
        nodes.spoken.textContent = say("at", { time: timeText(s.time), ranks: all.join("; ") });
      }
    },
  };
}

/** Words on what is chosen and followed. @param {State} s */
function description(s) {
  const words = s.chosen >= 0 ? details(s.trace, s.chosen, s.ghost) : [];
  if (s.followed) {
    const { events, arrows, microbatch } = s.followed;
    const starts = [...events].map((i) => s.trace.start[i]);
    const ends = [...events].map((i) => s.trace.end[i]);
    words.push(say("following", { microbatch, count: arrows.length, start: timeText(Math.min(...starts)),
      end: timeText(Math.max(...ends)) }));
  }
  return words.length ? `${words.join("; ")}.` : "";
}

/** One line per rank; returns for each a function that shows what the rank does.
 * @param {State} s @param {Element} list @param {Image} image */
function fillNow(s, list, image) {
  list.replaceChildren();
  return s.trace.rows.slice(0, 32).map((_, rank) => {
    const sign = element("span", { class: "pl-sign" });
    const text = element("span");
    list.append(element("li", {}, sign, element("b", {}, say("rank", { rank })), " ", text));
    let [before, name] = ["", ""];
    return (/** @type {Doing | null} */ state) => {
      const words = state ? state.words : s.trace.head.totals?.[rank] ?? say("finished");
      if (words === before) return;
      before = words;
      text.textContent = words;
      const kind = state && state.event >= 0 ? s.trace.head.kinds[s.trace.kind[state.event]] : null;
      if ((kind?.name ?? "") === name) return;
      name = kind?.name ?? "";
      sign.replaceChildren(...(kind ? [swatch(image, kind)] : []));
      list.children[rank].classList.toggle("pl-waits", !kind);
    };
  });
}
