// @ts-check
// The levels: a list with stars, what is to be done, help, and what was built; beside it the editor.
/** @import { Model } from "./types.js" */
import { button, element, write } from "./parts.js";
import { keep, kept, leaveRows, mostStars, rowsLeft } from "./progress.js";
import { onTraits } from "./timeline.js";
import { renderEditor } from "./token_editor.js";

/** @typedef {{ name: string, title: string, task: string, hints: string[], stamp: boolean, recorded: boolean }} Level */

const MOST = 3; // stars
const starsOf = (/** @type {number} */ count) => "★".repeat(count) + "☆".repeat(MOST - count);

/** The list of levels: a button each, with its stars.
 * @param {Level[]} levels @param {(name: string) => void} choose */
function levelList(levels, choose) {
  const buttons = levels.map(({ name, title }, i) => {
    const stars = element("span", { class: "pl-stars", "aria-hidden": "true" });
    return element("button", { type: "button", title, click: () => choose(name) }, element("b", {}, String(i + 1)), stars);
  });
  const node = element("nav", { class: "pl-list", "aria-label": "Levels" }, ...buttons);
  return {
    node,
    /** @param {string} level @param {Record<string, number>} progress */
    show(level, progress) {
      for (const [i, { name, title }] of levels.entries()) {
        const count = progress[name] ?? 0;
        write(buttons[i].children[1], starsOf(count));
        buttons[i].dataset.plEarned = String(count);
        buttons[i].setAttribute("aria-label", `Level ${i + 1}, ${title}: ${count} of ${MOST} stars`);
        if (name === level) buttons[i].setAttribute("aria-current", "true");
        else buttons[i].removeAttribute("aria-current");
      }
    },
  };
}

/** Numbers with their names, such as the step's seconds. @param {string[][]} figures */
function figuresOf(figures) {
  return figures.map(([name, value, state]) => {
    const sign = state === "good" ? " ✓" : "";
    return element("div", { class: `pl-figure ${state ? `pl-${state}` : ""}` }, element("dt", {}, name), element("dd", {}, value + sign));
  });
}

/** The help: hints that were asked for, one after another, and what the coach or a bubble says. */
function helpNode() {
  const hints = element("ol", { class: "pl-hints" });
  const advice = element("p", { class: "pl-advice" });
  const node = element("div", { class: "pl-said", role: "status", "aria-live": "polite" }, hints, advice);
  return { node, hints, advice };
}

/** What was built, with what follows. @param {Record<"next" | "recorded", () => void>} act */
function solvedNode(act) {
  const stars = element("p", { class: "pl-big", role: "img" });
  const words = element("div", {});
  const recorded = button("Show what real ranks did", act.recorded);
  const next = button("Next level", act.next);
  const node = element("section", { class: "pl-solved", "aria-label": "Solved" }, stars,
    element("div", { class: "pl-group" }, next, recorded), words); // buttons first: on a phone the words may be scrolled
  return {
    node,
    /** @param {number} count of stars @param {string} text a line for each paragraph, "" for not solved
     * @param {boolean} isRecorded @param {boolean} isLast */
    show(count, text, isRecorded, isLast) {
      node.hidden = !text;
      write(stars, starsOf(count));
      stars.setAttribute("aria-label", `${count} of ${MOST} stars`);
      words.replaceChildren(...text.split("\n").map((line) => element("p", {}, line)));
      recorded.hidden = !isRecorded;
      next.hidden = isLast;
    },
  };
}

/** The buttons for help, and the hints that were asked for so far.
 * @param {(what: string, ...more: unknown[]) => void} ask @param {() => Level} current @param {() => void} again */
function helpButtons(ask, current, again) {
  let [hinted, bubble] = [0, 0]; // hints that are shown; the next bubble to explain
  const hint = button("Hint", () => {
    hinted = Math.min(hinted + 1, current().hints.length);
    show();
  });
  const help = helpNode();
  function show() {
    const { hints } = current();
    help.hints.replaceChildren(...hints.slice(0, hinted).map((text) => element("li", {}, text)));
    write(hint.children[0], hinted < hints.length ? `Hint ${hinted + 1} of ${hints.length}` : "No more hints");
    hint.setAttribute("aria-disabled", String(hinted === hints.length));
  }
  const coach = button("Coach: one move", () => ask("coach"));
  coach.title = "It makes the move; the third star is then for a time without it";
  const node = element("div", { class: "pl-group" }, hint, coach,
    button("Why is this bubble there?", () => ask("why", bubble++)), button("Begin again", again));
  return {
    node, help,
    /** Another level. */
    reset() {
      hinted = 0;
      show();
    },
    /** Other rows: the longest bubble comes first again. */
    changed: () => void (bubble = 0),
  };
}

/** Remember the stars, and show them in the list. @param {Model} model @param {ReturnType<typeof levelList>} list */
function showStars(model, list) {
  const [level, known] = [model.get("level"), model.get("progress")];
  const best = mostStars(mostStars(known, kept().stars), { [level]: model.get("stars") });
  if (JSON.stringify(best) !== JSON.stringify(known)) {
    model.set("progress", best);
    model.save_changes();
  }
  keep({ ...kept(), stars: best });
  list.show(level, best);
}

/** All of it. @param {{ model: Model, el: HTMLElement }} place @param {Node[]} extra below the help */
export function renderLevels({ model, el }, extra = []) {
  const get = (/** @type {string} */ name) => model.get(name);
  /** @type {Level[]} */
  const levels = get("contents");
  const place = () => Math.max(0, levels.findIndex(({ name }) => name === get("level")));
  let begun = ""; // the level that is shown
  const ask = (/** @type {string} */ what, /** @type {unknown[]} */ ...more) => {
    model.set("asked", [(get("asked")[0] ?? 0) + 1, what, ...more]);
    model.save_changes();
  };
  const begin = (/** @type {string} */ name) => ask("begin", 0, name, rowsLeft(name), Boolean(kept().coached[name]));
  const list = levelList(levels, begin);
  const title = element("h2", { tabindex: -1 });
  const task = element("p", { class: "pl-task" });
  const figures = element("dl", { class: "pl-figures" });
  const buttons = helpButtons(ask, () => levels[place()], () => ask("again"));
  const solved = solvedNode({ next: () => begin(levels[place() + 1].name), recorded: () => ask("recorded") });
  const aside = element("div", { class: "pl-goal" }, title, task, figures, buttons.node, buttons.help.node, ...extra);
  const editor = element("div", { class: "pl-order" });
  const root = element("section", { class: "pl-levels pl-root", "aria-label": "Levels" }, list.node, aside, editor, solved.node);
  function showLevel() {
    const level = levels[place()];
    if (begun === level.name) return;
    if (begun && solved.node.contains(document.activeElement)) title.focus(); // its button may be gone
    begun = level.name;
    write(title, `${place() + 1} · ${level.title}`);
    write(task, level.task);
    root.dataset.plStamp = String(level.stamp);
    buttons.reset();
    showAll();
  }
  function showAll() {
    showStars(model, list);
    solved.show(get("stars"), get("solved"), levels[place()].recorded, place() === levels.length - 1);
  }
  el.append(root);
  const end = renderEditor({ model, el: editor });
  const ends = onTraits(model, {
    level: showLevel,
    figures: () => figures.replaceChildren(...figuresOf(get("figures"))),
    stars: showAll,
    solved: showAll,
    advice: () => write(buttons.help.advice, get("advice")),
    rows: buttons.changed,
    head: () => void (root.dataset.plEmpty = String(!get("head")?.kinds)), // it cannot run yet
    checked: () => leaveRows(get("level"), get("rows"), Boolean(get("coached"))),
  });
  return () => { ends(); end(); };
}
