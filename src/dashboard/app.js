// Signs in, frames the pages, and routes by the address.

import { h, show, append, icon } from "./dom.js";
import { session, get, Problem } from "./api.js";
import { button, closeDialogs, empty, report } from "./ui.js";
import { form, field, text } from "./forms.js";
import { palette, shortcuts, help } from "./keyboard.js";
import { overview } from "./overview.js";
import { tenants } from "./tenants.js";
import { tenant } from "./tenant.js";
import { agents, newAgent } from "./agents.js";
import { agent } from "./agent.js";
import { audit, auditEntry } from "./audit.js";
import { spend } from "./spend.js";
import { invoice } from "./invoice.js";
import { why } from "./why.js";
import { operatorKeys } from "./keys.js";
import { forgetAll } from "./names.js";

const THEME = "kavach.theme";
const app = document.getElementById("app");
let leave = new AbortController();

/** Pages by the first words of the address; `{}` stands for any one. */
const PAGES = [
  ["overview", overview],
  ["tenants", tenants],
  ["tenants/{}", tenant],
  ["tenants/{}/{}", tenant],
  ["agents", agents],
  ["agents/new", newAgent],
  ["agents/{}", agent],
  ["audit", audit],
  ["audit/{}", auditEntry],
  ["spend", spend],
  ["invoice/{}/{}", invoice],
  ["why", why],
  ["keys", operatorKeys],
];

/** The places that the navigation leads to: `[address, name, icon, key behind g]`. */
function places() {
  const own = session.isOperator ? ["#/tenants", "Tenants", "tenants", "t"] : [`#/tenants/${session.who.tenant.slug}`, session.who.tenant.name, "tenants", "t"];
  return [["#/overview", "Overview", "overview", "o"], own, ["#/agents", "Agents", "agents", "a"], ["#/spend", "Spend", "spend", "s"], ["#/audit", "Audit", "audit", "u"], ["#/why", "Why?", "why", "w"], ...(session.isOperator ? [["#/keys", "Keys", "keys", "k"]] : [])];
}

function decoded(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

function parse(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query ?? "") };
}

async function route() {
  if (!session.who) return;
  const { parts, query } = parse(location.hash);
  if (!parts.length) return location.replace("#/overview");
  leave.abort();
  const mine = leave = new AbortController();
  const found = PAGES.find(([pattern]) => {
    const words = pattern.split("/");
    return words.length === parts.length && words.every((word, n) => word === "{}" || word === parts[n]);
  });
  for (const link of app.querySelectorAll(".nav a")) {
    const here = parse(link.getAttribute("href")).parts;
    const current = here[0] === parts[0];
    current ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  const main = document.getElementById("main");
  const slow = setTimeout(() => show(main, h("div", { class: "loading", role: "status" }, "Loading…")), 250);
  let content;
  try {
    if (!found) throw new Problem(404, { detail: "there is no such page" });
    content = await found[1]({ parts, query, signal: mine.signal, refresh: route });
  } catch (error) {
    if (mine.signal.aborted || !session.who) return;
    if (!(error instanceof Problem)) console.error(error);
    document.title = "Kavach";
    content = empty("fail", error.status === 404 ? "Not here" : "This could not be shown", error.message, button("Try again", route), h("a", { class: "button", href: "#/overview" }, "Overview"));
  } finally {
    clearTimeout(slow);
  }
  if (mine.signal.aborted) return;
  const moved = main.dataset.at !== location.hash;
  show(main, h("div", { class: "page" }, content));
  main.dataset.at = location.hash;
  if (moved) {
    window.scrollTo(0, 0);
  }
  // Keyboard users continue from the new content, even if the element that had the focus is gone.
  if (moved || document.activeElement === document.body) main.focus({ preventScroll: true });
}

function theme(next) {
  const root = document.documentElement;
  if (next !== undefined) next ? localStorage.setItem(THEME, next) : localStorage.removeItem(THEME);
  const chosen = localStorage.getItem(THEME);
  chosen ? root.setAttribute("data-theme", chosen) : root.removeAttribute("data-theme");
  return chosen;
}

/** From the system's setting to the other one and back. */
function toggleTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = theme() ?? (dark ? "dark" : "light");
  theme(now === "dark" ? "light" : "dark");
}

function signOut(problem) {
  leave.abort();
  session.key = null;
  session.who = null;
  forgetAll();
  document.getElementById("toasts").replaceChildren();
  // Signing out clears the address; after a refused key, another one may continue there.
  if (!problem) history.replaceState(null, "", location.pathname);
  closeDialogs();
  signIn(problem);
}

function signIn(problem) {
  document.title = "Sign in · Kavach";
  const content = [
    h("div", { class: "brand" }, h("img", { src: "/assets/icon.svg", alt: "" }), h("h1", {}, "Kavach")),
    h("p", { class: "muted" }, "Sign in with an operator key, such as the one that the first start printed, or with a tenant key. It is kept in this tab only."),
    field("Operator or tenant key", "key", { type: "password", autocomplete: "off", placeholder: "kvo_… or kvt_…" }),
  ];
  const element = form(content, "Sign in", async (entered) => {
    const key = text(entered, "key");
    if (!key) throw new Problem(0, { detail: "enter a key", details: { field: "key" } });
    if (!/^[\x21-\x7e]+$/.test(key)) throw new Problem(0, { detail: "a key has no spaces and no such characters", details: { field: "key" } });
    try { await enter(key); } catch (error) {
      session.key = null;
      if (error instanceof Problem && error.status) error.field = "key";
      throw error;
    }
  });
  show(app, h("main", { class: "signin", id: "main", tabindex: "-1" }, element));
  if (problem) element.querySelector(".form-error").textContent = `${problem.message} (${problem.code})`;
  element.elements.key.focus();
}

async function enter(key) {
  session.key = key;
  session.onlost = () => {};
  try {
    session.who = await get("/v1/whoami");
  } catch (error) {
    // If the server does not answer, the key may still be good.
    if (!(error instanceof Problem && (!error.status || error.status === 429 || error.status >= 500))) session.key = null;
    throw error;
  }
  session.onlost = (problem) => session.who && signOut(problem);
  frame();
  await route();
}

/** Goes on with the key that this tab has kept. */
async function resume() {
  try { await enter(session.key); } catch (error) {
    if (!(error instanceof Problem)) report(error);
    if (!session.key) return signIn(error instanceof Problem ? error : undefined);
    show(app, h("main", { class: "signin", id: "main", tabindex: "-1" },
      empty("fail", "The server is not answering", error.message, button("Try again", resume, { kind: "primary" }), button("Sign out", () => signOut()))));
  }
}

function frame() {
  const { who } = session;
  const nav = h("nav", { class: "nav", "aria-label": "Pages" }, places().map(([href, name, glyph, key]) =>
    h("a", { href, title: `g ${key}` }, icon(glyph), name)));
  const side = h("div", { class: "side" },
    h("a", { class: "brand", href: "#/overview" }, h("img", { src: "/assets/icon.svg", alt: "" }), "Kavach"),
    nav,
    h("div", { class: "side-foot" },
      h("div", { class: "who", title: who.tenant?.name }, `${who.kind === "operator" ? "Operator" : `Key of ${who.tenant.name}`}${who.role === "admin" ? "" : `, ${who.role}`}`),
      h("button", { type: "button", class: "quiet", "aria-label": "Search", title: "Search (Ctrl K)", onclick: () => palette(places()) }, icon("search"), h("span", { class: "wide-only" }, "Search")),
      h("button", { type: "button", class: "quiet", "aria-label": "Light or dark", title: "Light or dark", onclick: toggleTheme }, icon("theme"), h("span", { class: "wide-only" }, "Theme")),
      h("a", { class: "button quiet", href: "/docs", "aria-label": "API", title: "The API to read and to try" }, icon("book"), h("span", { class: "wide-only" }, "API")),
      h("button", { type: "button", class: "quiet wide-only", "aria-label": "Keyboard", title: "Keyboard (?)", onclick: () => help(places()) }, h("kbd", {}, "?"), "Keyboard"),
      h("button", { type: "button", class: "quiet", "aria-label": "Sign out", title: "Sign out", onclick: () => signOut() }, icon("exit"), h("span", { class: "wide-only" }, "Sign out"))));
  show(app, append(h("div", { class: "shell" }), [side, h("main", { id: "main", tabindex: "-1" })]));
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main")?.focus();
});
window.addEventListener("hashchange", () => { closeDialogs(); route(); });
shortcuts(() => (session.who ? places() : null));
theme();
if (session.key) resume();
else signIn();
