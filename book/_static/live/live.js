// Opens what can be used in the page. Until the reader asks, this file is all that is loaded:
// everything else comes as classic scripts, which work from a server and from a disk alike.
"use strict";
const Live = {
  /** Functions by kind of widget, `(container, options)`. Their scripts add themselves. */
  widgets: {},
  /** Base64 of the files of weights by name. */
  weights: {},
  texts: null,
  folder: document.currentScript.src.replace(/[^/]*$/, ""),
  loading: new Map(),

  load(name) {
    if (!Live.loading.has(name)) {
      Live.loading.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        // In the order in which they are asked for: each builds on those before.
        script.async = false;
        script.src = `${Live.folder}${name}.js`;
        script.onload = resolve;
        script.onerror = () => {
          Live.loading.delete(name);
          script.remove();
          reject(new Error(name));
        };
        document.head.append(script);
      }));
    }
    return Live.loading.get(name);
  },

  async open(container) {
    const button = container.querySelector("[data-open]");
    const status = container.querySelector(".live-status");
    // Room for the whole widget is made at once, so that nothing moves when it comes.
    container.style.setProperty("--live-figure", `${container.offsetHeight}px`);
    container.classList.add("live-open");
    button.disabled = true;
    status.textContent = button.dataset.wait;
    try {
      await Promise.all(
        ["texts", "transformer", "parts", container.dataset.live].map(Live.load));
      await Live.widgets[container.dataset.live](container);
      status.textContent = "";
    } catch (error) {
      Live.close(container);
      status.textContent = button.dataset.failed;
    }
  },

  /** The figure is what it was before. */
  close(container) {
    const button = container.querySelector("[data-open]");
    const panel = container.querySelector(".live-panel");
    panel?.dispatchEvent(new Event("close"));
    panel?.remove();
    for (const part of container.children) part.hidden = false;
    container.classList.remove("live-open");
    button.disabled = false;
    button.focus();
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-open]");
  if (button) Live.open(button.closest("[data-live]"));
});
