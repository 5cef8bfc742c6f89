// Fills in the five steps of a launch while they happen. Every other page works without this.
"use strict";

(() => {
  const section = document.querySelector("[data-live]");
  if (!section) return;

  // A page that was loaded again after a failure only shows what came of it: if the server still
  // says "being built", going on would load it for ever.
  const again = new URLSearchParams(location.search).has("after");
  const total = section.querySelector("[data-total]");
  const announce = section.querySelector("[data-announce]");
  const begun = performance.now();
  let lastKnown = 0;
  let heardAt = begun;
  let over = false;

  const words = (milliseconds) => {
    if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
    if (milliseconds < 60000) return `${(milliseconds / 1000).toFixed(1)} s`;
    return `${Math.floor(milliseconds / 60000)} min ${Math.floor((milliseconds % 60000) / 1000)} s`;
  };

  const show = (event) => {
    const item = section.querySelector(`[data-step="${CSS.escape(event.step)}"]`);
    if (!item) return;
    item.dataset.state = event.state;
    item.querySelector(".step-state").textContent = event.state;
    if (event.message) item.querySelector(".step-message").textContent = event.message;
    item.querySelector(".step-elapsed").textContent = event.state === "running" ? "" : words(event.elapsed_ms);
    announce.textContent = `${item.querySelector(".step-name").textContent}: ${event.state}`;
    lastKnown = event.elapsed_ms;
    heardAt = performance.now();
    total.textContent = words(lastKnown);
  };

  const clock = setInterval(() => {
    if (over) clearInterval(clock);
    else total.textContent = words(lastKnown + performance.now() - heardAt);
  }, 100);

  const source = new EventSource(section.dataset.live);

  const finish = () => {
    over = true;
    source.close();
  };

  const receive = (message) => {
    let event;
    try {
      event = JSON.parse(message.data);
    } catch {
      return;
    }
    show(event);
    if (event.state === "failed") {
      finish();
      if (!again) location.replace(`${location.pathname}?after=failed`);
    } else if (event.step === "open" && event.state === "done") {
      finish();
      const door = document.querySelector("[data-door]");
      if (section.dataset.open) {
        door.hidden = false;
        door.querySelector("a").focus();
        location.assign(section.dataset.open);
      }
    }
  };

  source.addEventListener("message", receive);
  source.addEventListener("step", receive);
  // The browser connects again by itself after a cut; when it gives up, the page says so.
  source.addEventListener("error", () => {
    if (over || source.readyState !== EventSource.CLOSED) return;
    finish();
    announce.classList.remove("hidden");
    announce.textContent = "The connection to Cubicle was lost. Reload this page to look again.";
  });
})();
