// What pages do beyond being read: they look again when the server tells that something has changed, and they copy.
"use strict";

const REFRESH_MS = 1000;   // at most so often
const TIMES_MS = 30000;    // so that "2 min ago" stays true
const SAID = ["deleted", "restored", "applied", "pruned"];   // what an address tells of the form that led to it

const seen = new Map();    // by its id, what each part looked like when it was last refreshed
const live = { source: null, due: 0, timer: null };

// What a form has done is said once, and not again when the page is reloaded.
{
  const address = new URL(location.href);
  const said = SAID.filter((name) => address.searchParams.has(name));
  said.forEach((name) => address.searchParams.delete(name));
  if (said.length) history.replaceState(null, "", address);
}

function refresh() {
  clearTimeout(live.timer);
  const wait = Math.max(0, live.due - Date.now());
  live.timer = setTimeout(() => {
    live.due = Date.now() + REFRESH_MS;
    lookAgain();
  }, wait);
}

// The address of this page, with what is being searched for.
function here() {
  const address = new URL(location.href);
  const search = document.querySelector("form.search");
  if (search) for (const [name, value] of new FormData(search)) address.searchParams.set(name, value);
  return address.href;
}

// Asks for this very page and lets the parts that say so follow it; forms that somebody is filling in stay.
async function lookAgain() {
  const parts = [...document.querySelectorAll("[data-refresh]")];
  if (!parts.length) return;
  const address = here();
  const answer = await fetch(address, { headers: { Accept: "text/html", "Holdfast-Refresh": "yes" }, redirect: "manual" }).catch(() => null);
  if (!answer) return;   // the server is away, as is said at the top
  if (answer.type === "opaqueredirect" || answer.status === 401) { location.reload(); return; }
  if (!answer.ok) return;
  if (address !== here()) return;   // somebody wants to see something else by now
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

function say(state, text) {
  const place = document.querySelector("[data-live-state]");
  if (place) { place.dataset.state = state; place.textContent = text; }
}

function listen() {
  const address = document.body.dataset.live;
  if (!address || live.source) return;
  const source = live.source = new EventSource(address);
  source.addEventListener("open", (event) => {   // of the connection, and then of the server, which tells from there on
    say("live", "live");
    if (event instanceof MessageEvent) refresh();   // what happened before then is told by nobody
  });
  source.addEventListener("changed", refresh);
  source.addEventListener("moving", () => { if ("moving" in document.body.dataset) refresh(); });
  source.addEventListener("error", () => {
    say("away", "not live");
    if (source.readyState !== EventSource.CLOSED) return;   // it tries again by itself
    stop();
    refresh();   // which asks for a token where the session has ended
    setTimeout(listen, 5000);
  });
}

function stop() {
  if (live.source) live.source.close();
  live.source = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) { stop(); } else { listen(); refresh(); }   // a hidden page would hold a connection for nothing
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
  } catch {   // only secure pages may write there: let the user do it
    getSelection().selectAllChildren(source);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

document.addEventListener("htmx:error", (event) => {   // a preview that could not be fetched; what others show stays
  const place = document.getElementById("preview");
  if (!place || event.target.getAttribute("hx-target") !== "#preview") return;
  const text = Object.assign(document.createElement("p"), { className: "fault", textContent: "The server did not answer." });
  place.replaceChildren(text);
  document.addEventListener("holdfast:refreshed", () => {   // it does again
    if (place.contains(text)) event.target.dispatchEvent(new Event("input", { bubbles: true }));
  }, { once: true });
});

document.addEventListener("change", (event) => {   // what was chosen stays when the page looks again
  const form = event.target.closest("form[data-address]");
  if (form) history.replaceState(null, "", `${form.action}?${new URLSearchParams(new FormData(form))}`);
});

document.addEventListener("input", (event) => {   // whoever types a number means it
  const field = event.target.closest("#policy-form input[type=number]");
  if (field && field.value) field.form.elements[`${field.name}_rule`].value = "number";
}, true);
