// Timelines of a page: each is drawn by the widget's own front end when the reader comes near.
"use strict";

(() => {
  const NEAR = "800px 0px"; // of the window

  /** The values of a timeline; bytes come as base64. */
  function values(text) {
    const found = JSON.parse(text);
    for (const [name, value] of Object.entries(found)) {
      if (value?.base64 === undefined) continue;
      const bytes = Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0));
      found[name] = new DataView(bytes.buffer);
    }
    return found;
  }

  function draw(place) {
    const state = values(place.querySelector("script").textContent);
    const nothing = () => {};
    const model = {
      get: (name) => state[name],
      set: (name, value) => { state[name] = value; },
      on: nothing,
      off: nothing,
      save_changes: nothing,
      send: nothing,
    };
    const el = document.createElement("div");
    place.append(el);
    window.pipelabViews[place.dataset.story].render({ model, el });
    place.querySelector(".pipelab-still").hidden = true;
    place.dataset.plReady = "true";
  }

  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      draw(target);
    }
  }, { rootMargin: NEAR });

  for (const place of document.querySelectorAll(".pipelab-timeline")) seen.observe(place);
  window.addEventListener("beforeprint", () => {
    for (const place of document.querySelectorAll(".pipelab-timeline:not([data-pl-ready])")) draw(place);
  });
})();
