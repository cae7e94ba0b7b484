// @ts-check
// What anywidget calls for the schedule editor.
import { renderEditor } from "./token_editor.js";

export default { render: renderEditor };
