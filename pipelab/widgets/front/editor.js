// The schedule editor: a grid of tokens to drag, or to move with the keyboard.

const MOVES = "Arrow keys go from token to token; with Shift they move it, along its rank or to " +
  "another one. Delete removes it. Dragging moves it, too.";

/** Rows with the token at `from` moved so that it stands at `to`; places are [rank, position]. */
export function moved(rows, from, to) {
  const next = rows.map((row) => [...row]);
  const [token] = next[from[0]].splice(from[1], 1);
  next[to[0]].splice(clamp(to[1], 0, next[to[0]].length), 0, token);
  return next;
}

/** The editor on a page: edits go to Python, which judges them. */
function renderEditor({ model, el }) {
  const get = (name) => model.get(name);
  let rows = get("rows").map((row) => [...row]);
  let [place, dragged] = [[0, 0], null];
  const before = [];
  const grid = element("div", { class: "pl-tokens", role: "group", "aria-label": `Schedule. ${MOVES}` });
  const verdict = element("pre", { class: "pl-verdict", role: "status", "aria-live": "polite" });
  const send = debounce(() => {
    model.set("rows", rows);
    model.save_changes();
  }, 150);

  function edit(next, focus) {
    before.push(rows);
    [rows, place] = [next, focus];
    draw(true);
    verdict.textContent = "…";
    send.soon();
  }
  function ask(name) {
    send.flush();
    model.set(name, get(name) + 1);
    model.save_changes();
  }
  const undo = button("Undo", () => {
    if (!before.length) return;
    rows = before.pop();
    draw(false);
    send.soon();
  });
  const run = button("Run it", () => get("can_run") && ask("run_asked"));
  const stop = button("Stop", () => get("state") === "running" && ask("stop_asked"));
  const id = newId();
  const fresh = element("input", { id, size: 6, autocomplete: "off", placeholder: "2F0" });
  const add = button("Add", () => {
    const token = fresh.value.trim().toUpperCase();
    if (!token) return;
    const [rank] = place;
    edit(rows.map((row, r) => (r === rank ? [...row, token] : row)), [rank, rows[rank].length]);
    fresh.value = "";
  });
  const form = element("form", { class: "pl-bar", "aria-label": "Edit", submit: (event) => {
    event.preventDefault();
    add.click();
  } });
  form.append(element("div", { class: "pl-group" }, run, stop, undo),
    element("div", { class: "pl-group" }, element("label", { for: id }, "Token for this rank"), fresh, add));

  /** One token; it hears keys and dragging. */
  function tokenNode(text, rank, i) {
    const node = element("button", { type: "button", draggable: "true", class: `pl-token pl-kind-${text.replace(/\d/g, "")}` }, text);
    node.tabIndex = rank === place[0] && i === place[1] ? 0 : -1;
    if (get("marks").includes(text)) {
      node.classList.add("pl-blamed");
      node.setAttribute("aria-invalid", "true");
    }
    node.setAttribute("aria-label", `${text}, rank ${rank}, place ${i + 1}`);
    node.addEventListener("focus", () => {
      place = [rank, i];
      for (const other of grid.querySelectorAll(".pl-token")) other.tabIndex = other === node ? 0 : -1;
    });
    node.addEventListener("keydown", (event) => keys(event, rank, i));
    node.addEventListener("dragstart", (event) => {
      dragged = [rank, i];
      event.dataTransfer.setData("text/plain", text);
    });
    return node;
  }
  function keys(event, rank, i) {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.key === "Delete") {
      edit(rows.map((row, r) => (r === rank ? row.filter((_, k) => k !== i) : row)), [rank, Math.max(0, i - 1)]);
    } else if (step) {
      const to = [clamp(rank + step[0], 0, rows.length - 1), i + step[1]];
      const most = rows[to[0]].length - (event.shiftKey && to[0] !== rank ? 0 : 1);
      to[1] = clamp(to[1], 0, Math.max(0, most));
      if (event.shiftKey) edit(moved(rows, [rank, i], to), to);
      else {
        place = to;
        focusPlace();
      }
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
  const focusPlace = () => grid.children[place[0]]?.querySelectorAll(".pl-token")[place[1]]?.focus();

  /** Where in a row a dragged token would land. */
  function landing(row, x) {
    const nodes = [...row.querySelectorAll(".pl-token")];
    const found = nodes.findIndex((node) => x < node.getBoundingClientRect().x + node.offsetWidth / 2);
    return found < 0 ? nodes.length : found;
  }
  function draw(focus) {
    grid.replaceChildren(...rows.map((row, rank) => {
      const node = element("div", { class: "pl-row", role: "group", "aria-label": `rank ${rank}` },
        element("b", {}, `rank ${rank}`), ...row.map((text, i) => tokenNode(text, rank, i)));
      node.addEventListener("dragover", (event) => dragged && event.preventDefault());
      node.addEventListener("drop", (event) => {
        event.preventDefault();
        if (!dragged) return;
        const [from, spot] = [dragged, landing(node, event.clientX)];
        dragged = null;
        const to = [rank, from[0] === rank && from[1] < spot ? spot - 1 : spot];
        edit(moved(rows, from, to), to);
      });
      return node;
    }));
    if (!grid.querySelector('[tabindex="0"]')) grid.querySelector(".pl-token")?.setAttribute("tabindex", "0");
    undo.setAttribute("aria-disabled", !before.length);
    if (focus) focusPlace();
  }
  const view = timeline();
  const root = element("section", { class: "pl-editor pl-root", "aria-label": "Schedule editor" },
    grid, form, verdict, view.node);
  root.dataset.lmSuppressShortcuts = fresh.dataset.lmSuppressShortcuts = "true";
  const told = {
    rows() {
      if (JSON.stringify(rows) === JSON.stringify(get("rows"))) return;
      rows = get("rows").map((row) => [...row]);
      draw(false);
    },
    verdict: () => (verdict.textContent = get("verdict")),
    marks() {
      for (const node of grid.querySelectorAll(".pl-token")) {
        const blamed = get("marks").includes(node.textContent);
        node.classList.toggle("pl-blamed", blamed);
        if (blamed) node.setAttribute("aria-invalid", "true");
        else node.removeAttribute("aria-invalid");
      }
    },
    can_run() {
      run.setAttribute("aria-disabled", !get("can_run"));
      root.dataset.plCanRun = get("can_run");
    },
    state() {
      stop.setAttribute("aria-disabled", get("state") !== "running");
      root.dataset.plState = get("state");
    },
    live: () => (root.dataset.plLive = get("live")),
  };
  draw(false);
  const ends = [hear(model, told), bind(model, view), view.end, send.cancel];
  el.append(root);
  return () => ends.forEach((end) => end());
}

export default { render: renderEditor };
