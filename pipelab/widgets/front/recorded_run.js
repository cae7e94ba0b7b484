// @ts-check
// Beside a prediction: the same schedule recorded on real ranks, and the line that records it anywhere.
/** @import { Settings } from "./address.js" */
import { USUAL } from "./address.js";
import { button, element, write } from "./parts.js";
import { localModel, withBytes } from "./remote.js";
import { bind, timeline } from "./timeline.js";

/** What the page shows: its settings, the address, whether the order is one of the catalogue's, and
 * whether the stages per rank can be chosen.
 * @typedef {{ settings: Settings, address: string, isNamed: boolean, hasStages: boolean }} Shown */

const TIMED = /** @type {const} */ (["f", "i", "w", "l"]);
const FLAGS = { f: "--forward", i: "--backward-input", w: "--backward-weight", l: "--latency" };
const UNRECORDED = "No recording of exactly this is shipped. The line below makes one, on any machine with pipelab.";
const NO_SERVER = "A recording is fetched from the site: open this page from a web server to see it.";

/** The recordings of what is shown, by their kinds. @param {Shown} shown @param {string[]} names */
export function recordingsOf({ settings: s, isNamed, hasStages }, names) {
  if (!isNamed || (hasStages && s.v !== USUAL.v)) return {};
  const name = `${s.s}-${s.p}-${s.m}`;
  const isUsual = TIMED.every((letter) => s[letter] === USUAL[letter]);
  /** @type {{ paced?: string, unpaced?: string }} */
  const found = {};
  if (isUsual && names.includes(name)) found.paced = name;
  if (names.includes(`${name}-unpaced`)) found.unpaced = `${name}-unpaced`;
  return found;
}

/** The line that records what is shown. @param {Shown} shown */
export function commandOf({ settings: s, address, isNamed, hasStages }) {
  if (!isNamed || TIMED.some((letter) => s[letter].includes(","))) return `pipelab run --schedule '${address}'`;
  const parts = [`pipelab run --schedule ${s.s} -p ${s.p} -m ${s.m}`];
  if (hasStages) parts.push(`-v ${s.v}`);
  if (TIMED.some((letter) => s[letter] !== USUAL[letter]))
    parts.push(...TIMED.map((letter) => `${FLAGS[letter]} ${s[letter].trim()}ms`));
  return parts.join(" ");
}

/** A button for each kind of recording. @param {(kind: "paced" | "unpaced") => void} choose */
function kindButtons(choose) {
  const buttons = { paced: button("Paced", () => choose("paced")), unpaced: button("As fast as the machine went", () => choose("unpaced")) };
  const node = element("div", { class: "pl-group", role: "group", "aria-label": "Recording" }, buttons.paced, buttons.unpaced);
  return {
    node,
    /** @param {{ paced?: string, unpaced?: string }} found @param {string} kind */
    show(found, kind) {
      node.hidden = !(found.paced || found.unpaced);
      for (const name of /** @type {const} */ (["paced", "unpaced"])) {
        buttons[name].setAttribute("aria-disabled", String(!found[name]));
        buttons[name].setAttribute("aria-pressed", String(name === kind));
      }
    },
  };
}

/** The line to copy. */
function commandLine() {
  const code = element("code", {});
  const copy = button("Copy", () => {
    navigator.clipboard?.writeText(code.textContent ?? "").then(() => write(copy.firstElementChild ?? copy, "Copied"));
    setTimeout(() => write(copy.firstElementChild ?? copy, "Copy"), 2000);
  });
  return { node: element("p", { class: "pl-line" }, code, copy), code };
}

/** The part of the page with recordings; `show` is called whenever what the page shows has changed.
 * @param {string[]} names of the recordings that the site has */
export function recordedRun(names) {
  const words = element("p", { role: "status" });
  const line = commandLine();
  const model = localModel({ data: null, head: {}, ghost_data: null, ghost_head: {} }, () => {});
  const view = timeline([], ["prediction"]);
  bind(model, view);
  /** @type {{ paced?: string, unpaced?: string }} */
  let found = {};
  /** @type {"paced" | "unpaced"} */
  let wanted = "paced";
  let played = "";
  const kinds = kindButtons((kind) => {
    if (!found[kind]) return;
    wanted = kind;
    play();
  });
  async function play() {
    const kind = found[wanted] ? wanted : found.paced ? "paced" : "unpaced";
    const name = found[kind] ?? "";
    kinds.show(found, kind);
    view.node.hidden = !name || location.protocol === "file:";
    if (name === played) return;
    played = name;
    if (!name) return write(words, UNRECORDED);
    if (location.protocol === "file:") return write(words, NO_SERVER); // where nothing can be fetched
    try {
      const answer = await fetch(new URL(`runs/${name}.json`, document.baseURI));
      const state = withBytes(await answer.json());
      if (played !== name) return; // another one was asked for meanwhile
      write(words, state.words);
      model.take(state);
      node.dataset.plRecorded = name;
    } catch {
      view.node.hidden = true;
      write(words, NO_SERVER);
    }
  }
  const node = element("section", { class: "pl-recorded", "aria-label": "Recorded on real ranks" }, element("h2", {}, "What real ranks did"),
    kinds.node, words, view.node, element("p", {}, "Record what is shown above on your own machine:"), line.node);
  return {
    node,
    /** @param {Shown | null} shown null for a schedule that cannot run */
    show(shown) {
      node.hidden = !shown;
      if (!shown) return;
      write(line.code, commandOf(shown));
      found = recordingsOf(shown, names);
      play();
    },
  };
}
