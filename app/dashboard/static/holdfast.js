// Live refresh of pages, copy buttons and form behaviour.
"use strict";

const REFRESH_MS = 1000;   // shortest interval between refreshes
const TIMES_MS = 30000;    // keeps "2 min ago" current
const NOTICES = ["deleted", "restored", "applied", "pruned"];   // query parameters with the result of a form

const seen = new Map();    // HTML of each part at its last refresh, by its id
const live = { source: null, due: 0, timer: null };

// The result of a form is shown once, not again when the page is reloaded.
{
  const address = new URL(location.href);
  const notices = NOTICES.filter((name) => address.searchParams.has(name));
  notices.forEach((name) => address.searchParams.delete(name));
  if (notices.length) history.replaceState(null, "", address);
}

function refresh() {
  clearTimeout(live.timer);
  const wait = Math.max(0, live.due - Date.now());
  live.timer = setTimeout(() => {
    live.due = Date.now() + REFRESH_MS;
    fetchParts();
  }, wait);
}

// The address of this page, with the current search.
function here() {
  const address = new URL(location.href);
  const search = document.querySelector("form.search");
  if (search) for (const [name, value] of new FormData(search)) address.searchParams.set(name, value);
  return address.href;
}

// Fetches this page again and replaces the parts marked with data-refresh. Forms in other parts keep their input.
async function fetchParts() {
  const parts = [...document.querySelectorAll("[data-refresh]")];
  if (!parts.length) return;
  const address = here();
  const answer = await fetch(address, { headers: { Accept: "text/html", "Holdfast-Refresh": "yes" }, redirect: "manual" }).catch(() => null);
  if (!answer) return;   // the server is unreachable, which the header shows
  if (answer.type === "opaqueredirect" || answer.status === 401) { location.reload(); return; }
  if (!answer.ok) return;
  if (address !== here()) return;   // the search has changed in the meantime
  const found = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of parts) {
    const other = found.getElementById(part.id);
    if (other && other.outerHTML !== seen.get(part.id)) {
      seen.set(part.id, other.outerHTML);
      await htmx.swap({ text: other.outerHTML, target: part, sourceElement: part, swap: "outerMorph" });
    }
  }
  document.dispatchEvent(new CustomEvent("holdfast:refreshed"));
}

function showState(state, text) {
  const place = document.querySelector("[data-live-state]");
  if (place) { place.dataset.state = state; place.textContent = text; }
}

function listen() {
  const address = document.body.dataset.live;
  if (!address || live.source) return;
  const source = live.source = new EventSource(address);
  source.addEventListener("open", (event) => {   // once from the browser, once from the server as an event
    showState("live", "live");
    if (event instanceof MessageEvent) refresh();   // changes before this event are not repeated
  });
  source.addEventListener("changed", refresh);
  source.addEventListener("moving", () => { if ("moving" in document.body.dataset) refresh(); });
  source.addEventListener("error", () => {
    showState("away", "disconnected");
    if (source.readyState !== EventSource.CLOSED) return;   // the browser reconnects by itself
    stop();
    refresh();   // leads to the sign-in page if the session has ended
    setTimeout(listen, 5000);
  });
}

function stop() {
  if (live.source) live.source.close();
  live.source = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) { stop(); } else { listen(); refresh(); }   // hidden pages need no connection
});
addEventListener("pagehide", stop);
setInterval(() => { if (!document.hidden) refresh(); }, TIMES_MS);
listen();

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {   // only secure pages may write to the clipboard: select the text for the user
    getSelection().selectAllChildren(source);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

document.addEventListener("htmx:error", (event) => {   // a preview that could not be fetched; other parts stay as they are
  const place = document.getElementById("preview");
  if (!place || event.target.getAttribute("hx-target") !== "#preview") return;
  const text = Object.assign(document.createElement("p"), { className: "fault", textContent: "The server did not answer." });
  place.replaceChildren(text);
  document.addEventListener("holdfast:refreshed", () => {   // the server answers again
    if (place.contains(text)) event.target.dispatchEvent(new Event("input", { bubbles: true }));
  }, { once: true });
});

document.addEventListener("change", (event) => {   // the chosen order and filters survive a refresh
  const form = event.target.closest("form[data-address]");
  if (form) history.replaceState(null, "", `${form.action}?${new URLSearchParams(new FormData(form))}`);
});

document.addEventListener("input", (event) => {   // typing a number selects "this number"
  const field = event.target.closest("#policy-form input[type=number]");
  if (field && field.value) field.form.elements[`${field.name}_rule`].value = "number";
}, true);
