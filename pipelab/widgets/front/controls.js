// Labelled controls, each with its name, and a way to hear one only once it rests.

/**
 * A labelled range: the number stands beside it for eyes; a screen reader hears the input's.
 * `act`, debounced, is due while it moves, and done when it is let go.
 */
export function slider(label, letter, [min, max], value, act) {
  const id = newId();
  const number = element("span", { class: "pl-number", "aria-hidden": "true" });
  const input = element("input", { type: "range", id, min, max, step: 1 });
  const show = (v) => (number.textContent = input.value = v);
  show(value);
  input.addEventListener("input", () => {
    number.textContent = input.value;
    act.soon();
  });
  input.addEventListener("pointerup", act.flush);
  const words = element("label", { for: id }, `${label} `, element("i", {}, letter));
  const node = element("div", { class: "pl-control" }, words, element("div", {}, input, number));
  return { node, input, show, value: () => Number(input.value) };
}

/** A labelled choice; `options` are pairs of value and words. */
export function dropdown(label, options, value, onChange) {
  const id = newId();
  const select = element("select", { id, change: onChange });
  for (const [name, words] of options) select.append(element("option", { value: name }, words));
  select.value = value;
  const words = element("label", { for: id }, label);
  const node = element("div", { class: "pl-control" }, words, select);
  return { node, input: select, show: (v) => (select.value = v), value: () => select.value };
}

/** A labelled switch; `help` is read with it. */
export function checkbox(label, help, value, onChange) {
  const id = newId();
  const input = element("input", { type: "checkbox", id, change: onChange });
  input.checked = value;
  const node = element("div", { class: "pl-check" }, input, element("label", { for: id }, label));
  if (help) {
    input.setAttribute("aria-describedby", `${id}-help`);
    node.append(element("p", { id: `${id}-help`, class: "pl-small" }, help));
  }
  return { node, input, show: (v) => (input.checked = v), value: () => input.checked };
}

/** Calls `act` once things have been quiet for `ms`; `flush` does it now, if it is due. */
export function debounce(act, ms, clock = globalThis) {
  let timer = null;
  const fire = () => {
    timer = null;
    act();
  };
  return {
    soon() {
      clock.clearTimeout(timer);
      timer = clock.setTimeout(fire, ms);
    },
    flush() {
      if (timer === null) return false;
      clock.clearTimeout(timer);
      fire();
      return true;
    },
    cancel() {
      clock.clearTimeout(timer);
      timer = null;
    },
  };
}
