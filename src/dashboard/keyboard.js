// Keys that work everywhere, and the search that goes anywhere.

import { h, show } from "./dom.js";
import { session, all, withQuery } from "./api.js";
import { dialog, report } from "./ui.js";

/** How long `g` waits for the second key. */
const WAIT_MS = 1500;

/** Listens to `/`, `?`, `g` and a letter, and Ctrl K. `places()` is null where nobody is signed in. */
export function shortcuts(places) {
  let pending = 0;
  document.addEventListener("keydown", (event) => {
    const here = places();
    if (!here) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (!document.querySelector("dialog[open]")) palette(here);
      return;
    }
    // A dialog is answered or closed first, wherever the focus is.
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.closest?.("input, select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (Date.now() - pending < WAIT_MS) {
      pending = 0;
      const place = here.find(([, , , key]) => key === event.key);
      if (place) { event.preventDefault(); location.hash = place[0]; }
    } else if (event.key === "g") pending = Date.now();
    else if (event.key === "?") help(here);
    else if (event.key === "/") {
      event.preventDefault();
      const search = document.querySelector("[data-search]");
      search ? search.focus() : palette(here);
    }
  });
}

/** Which keys there are. */
export function help(places) {
  const keys = [["/", "Find on this page"], ["Ctrl K", "Go to a tenant or an agent"], ...places.map(([, name, , key]) => [`g ${key}`, name]), ["Esc", "Close what is open"], ["?", "This list"]];
  dialog("Keyboard", (close, heading) => [
    h("div", { class: "body" }, heading, h("div", { class: "stack tight" }, keys.map(([key, what]) => h("div", { class: "row apart" }, h("span", { class: "wrap" }, what), h("span", { class: "row" }, key.split(" ").map((one) => h("kbd", {}, one))))))),
    h("div", { class: "foot" }, h("button", { type: "button", onclick: close }, "Close")),
  ]);
}

/** Entries that are shown at once. */
const MOST = 30;

/** A search over pages, tenants and agents. */
export function palette(places) {
  let entries = places.map(([href, name]) => ({ href, name, kind: "Page" }));
  let shown = [], at = 0;
  const list = h("ul", { id: "palette-list", role: "listbox", "aria-label": "Found" });
  const input = h("input", { type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "palette-list", "aria-label": "Go to a page, a tenant or an agent", placeholder: "Go to…", autocomplete: "off", spellcheck: "false" });
  const go = (entry) => { if (entry) { location.hash = entry.href; box.close(); } };
  const draw = () => {
    const typed = input.value.trim().toLowerCase();
    shown = entries.filter((entry) => entry.name.toLowerCase().includes(typed) || entry.more?.toLowerCase().includes(typed)).slice(0, MOST);
    at = Math.max(0, Math.min(at, shown.length - 1));
    show(list, shown.length ? shown.map((entry, n) => h("li", { role: "option", id: `palette-${n}`, "aria-selected": n === at ? "true" : "false", onclick: () => go(entry) }, h("span", {}, entry.name), h("span", { class: "muted small" }, entry.kind))) : h("li", { class: "muted" }, "Nothing has that name"));
    shown.length ? input.setAttribute("aria-activedescendant", `palette-${at}`) : input.removeAttribute("aria-activedescendant");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };
  input.addEventListener("input", () => { at = 0; draw(); });
  input.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by && shown.length) { event.preventDefault(); at = (at + by + shown.length) % shown.length; draw(); }
    if (event.key === "Enter") { event.preventDefault(); go(shown[at]); }
  });
  const box = dialog("Go to", (_, heading) => { heading.classList.add("sr"); return h("div", { class: "body" }, heading, input, list); }, { kind: "palette" });
  input.focus();
  draw();
  const add = (more) => { entries = [...entries, ...more]; draw(); };
  const fail = (error) => report(error);
  if (session.isOperator) all("/v1/tenants?limit=1000").then((found) => add(found.map((one) => ({ href: `#/tenants/${one.slug}`, name: one.name, more: one.slug, kind: "Tenant" }))), fail);
  all(withQuery("/v1/agents", { limit: 1000 }), 5000).then((found) => add(found.map((one) => ({ href: `#/agents/${one.id}`, name: one.name, more: one.id, kind: "Agent" }))), fail);
}
