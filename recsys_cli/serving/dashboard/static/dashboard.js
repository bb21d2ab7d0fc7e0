// Reads the page again every few seconds and puts what is new in the place of what was there.
"use strict";
(() => {
  const live = document.querySelector("[data-refresh]");
  if (!live) return;
  const button = document.getElementById("pause");
  let paused = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Go on" : "Pause";
  });
  const busy = () => paused || document.hidden || live.contains(document.activeElement);
  async function refresh() {
    if (!busy()) {
      try {
        const answer = await fetch(location.href, { credentials: "same-origin" });
        if (answer.ok && !busy()) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const fresh = page.getElementById("live");
          if (fresh && !busy()) live.replaceChildren(...fresh.childNodes);
          document.body.classList.remove("stale");
        }
      } catch {
        document.body.classList.add("stale");
      }
    }
    setTimeout(refresh, seconds * 1000);
  }
  const seconds = Number(live.dataset.refresh);
  setTimeout(refresh, seconds * 1000);
})();
