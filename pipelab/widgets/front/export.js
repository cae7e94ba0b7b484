// @ts-check
// The button that saves the picture as a file: Python writes the page, the browser keeps it.
/** @import { Model } from "./types.js" */
import { button, write } from "./parts.js";
import { say } from "./scale.js";

const PATIENCE_FOR_PAGE = 5000; // ms without an answer before the button says so

/** Hidden in a page that is such a file already. @param {Model} model */
export function exportButton(model) {
  let timer = 0;
  const show = (/** @type {"export" | "export_silent"} */ name) =>
    void (node.firstElementChild && write(node.firstElementChild, say(name)));
  const node = button(say("export"), () => {
    timer = window.setTimeout(() => show("export_silent"), PATIENCE_FOR_PAGE);
    model.send({ ask: "page" });
  });
  node.title = say("export_help");
  node.hidden = !model.get("_esm");
  model.on("msg:custom", ({ page }, buffers) => {
    clearTimeout(timer);
    show("export");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([buffers[0]], { type: "text/html" }));
    link.download = page;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), PATIENCE_FOR_PAGE);
  });
  return node;
}
