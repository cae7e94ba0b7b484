// @ts-check
// What anywidget calls for the levels.
import { renderLevels } from "./level_view.js";

export default { render: renderLevels };
