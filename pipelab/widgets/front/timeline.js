// @ts-check
// The timeline: a picture that plays, with everything that can be done to it.
//
// All of it happens here, from a trace that was sent once: it works while the kernel is busy, and in
// a file without a kernel. `show` takes a trace, `end` removes the timeline from the page.
/** @import { Head } from "./types.js" */
import { picture } from "./draw.js";
import { listen } from "./input.js";
import { makeNavigation } from "./navigation.js";
import { makeParts } from "./panel.js";
import { makeReplay } from "./replay.js";
import { emptyState, isEmpty, takeTrace } from "./state.js";

export function timeline() {
  const s = emptyState();
  const image = picture();
  let [frame, asked] = [0, ""];

  /** Draw with the next frame; the most that was asked for is done.
   * @param {string} what "cursor", "move" or "draw" */
  function ask(what) {
    const order = ["", "cursor", "move", "draw"];
    if (order.indexOf(what) > order.indexOf(asked)) asked = what;
    frame ||= requestAnimationFrame(paint);
  }
  function paint() {
    const what = asked;
    [frame, asked] = [0, ""];
    const width = parts.stage.clientWidth;
    if (isEmpty(s) || !width) return; // not on the page yet; the observer asks again
    if (what === "draw" || image.place.width !== width) image.draw(s, width);
    else if (what === "move") image.move(s);
    else image.cursor(s);
    parts.update();
  }
  const act = {
    ...makeReplay(s, ask, () => parts.announce()),
    ...makeNavigation(s, ask, () => parts.describe()),
    redraw: () => ask("draw"),
  };
  const parts = makeParts(s, image, act);
  const observer = new ResizeObserver(() => ask("draw"));
  observer.observe(parts.stage);
  const pointer = listen(s, image, parts, act);
  return {
    node: parts.node,
    /** Show a trace; see `takeTrace`.
     * @param {Head} head @param {unknown} bytes @param {Parameters<typeof takeTrace>[3]} more */
    show(head, bytes, more = {}) {
      takeTrace(s, head, bytes, more);
      parts.show();
      ask("draw");
    },
    end() {
      s.playing = false;
      cancelAnimationFrame(frame);
      observer.disconnect();
      pointer.end();
    },
  };
}
