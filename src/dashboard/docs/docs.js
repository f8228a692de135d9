// The page at /docs: what /openapi.json says, and a form to try it.

import { h, show } from "./dom.js";
import { exampleOf, schemaView, typeOf } from "./docs-schema.js";
import { prose } from "./docs-prose.js";
import { tryIt } from "./docs-try.js";

const KEY = "kavach.key";
const THEME = "kavach.theme";
const METHODS = ["get", "post", "put", "patch", "delete"];
const CREDENTIALS = { operatorKey: "operator key", tenantKey: "tenant key", agentToken: "agent token" };

const at = (id) => document.getElementById(id);

function setTheme(next) {
  if (next) localStorage.setItem(THEME, next);
  const chosen = localStorage.getItem(THEME);
  if (chosen) document.documentElement.setAttribute("data-theme", chosen);
}

function frame() {
  setTheme();
  at("theme").addEventListener("click", () => {
    const now = localStorage.getItem(THEME) ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    setTheme(now === "dark" ? "light" : "dark");
  });
  const key = at("key");
  // A page that comes back from the browser's memory may hold a key that was signed out since.
  window.addEventListener("pageshow", () => { key.value = sessionStorage.getItem(KEY) ?? ""; });
  key.addEventListener("input", () => {
    const text = key.value.trim();
    if (text) sessionStorage.setItem(KEY, text);
    else sessionStorage.removeItem(KEY);
  });
  at("key-form").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "TEXTAREA", "SELECT"].includes(document.activeElement?.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      at("filter").focus();
    } else if (event.key === "Escape" && document.activeElement === at("filter")) {
      at("filter").value = "";
      at("filter").dispatchEvent(new Event("input"));
    }
  });
}

/** Operations in the order of the tags, then from short paths to long ones. */
function operationsOf(api) {
  const all = [];
  const depth = (operation) => operation.path.split("/").length;
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS) {
      if (item[method]) all.push({ path, method, ...item[method] });
    }
  }
  all.sort((a, b) => depth(a) - depth(b));
  return api.tags.map((tag) => ({ ...tag, operations: all.filter((operation) => operation.tags[0] === tag.name) }));
}

const method = (operation) => h("span", { class: `method ${operation.method}` }, operation.method.toUpperCase());

/** A path with its variables highlighted. It may break after a slash. */
function pathView(path) {
  const parts = path.split(/(\{[^}]+\}|\/)/).filter(Boolean);
  const show = (part) => (part === "/" ? ["/", h("wbr")] : part.startsWith("{") ? h("em", null, part) : part);
  return h("code", { class: "path" }, parts.map(show));
}

function whoMayCall(operation) {
  const names = operation.security.flatMap(Object.keys).map((name) => CREDENTIALS[name] ?? name);
  return names.length ? `Takes an ${names.join(", or a ").replace("or a agent", "or an agent")}.` : "Takes no key.";
}

function parametersView(api, operation) {
  const rows = operation.parameters ?? [];
  if (!rows.length) return null;
  const row = (parameter) =>
    h("li", null,
      h("div", { class: "member" },
        h("code", { class: "name" }, parameter.name),
        h("span", { class: "type" }, typeOf(api, parameter.schema), ` in ${parameter.in}`),
        parameter.required && h("span", { class: "required" }, "required")),
      prose(parameter.description ?? ""),
      schemaView(api, parameter.schema, { inline: true }));
  return h("section", null, h("h4", null, "Parameters"), h("ul", { class: "members" }, rows.map(row)));
}

function bodyView(api, operation) {
  const content = operation.requestBody?.content?.["application/json"];
  if (!content) return null;
  const optional = operation.requestBody.required ? "" : " (may be empty)";
  return h("section", null, h("h4", null, `Body${optional}`), schemaView(api, content.schema));
}

const indented = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

/** Examples, one at a time. */
function examplesView(api, content) {
  const examples = Object.entries(content.examples ?? {}).map(([name, example]) => [name, exampleOf(api, example)]);
  if (!examples.length) return null;
  const text = h("pre", { tabindex: 0 }, indented(examples[0][1]));
  const choice = examples.length > 1 && h("select", {
    "aria-label": "Example",
    onchange: (event) => { text.textContent = indented(examples[event.target.selectedIndex][1]); },
  }, examples.map(([name]) => h("option", null, name)));
  return h("div", { class: "example" }, h("div", { class: "bar" }, "Example", choice || h("span", null, examples[0][0])), text);
}

function responseView(api, status, response) {
  const kinds = Object.entries(response.content ?? {});
  const headers = Object.keys(response.headers ?? {});
  const codes = response["x-codes"] ?? [];
  const short = codes.length ? codes.join(", ") : response.description;
  return h("details", { class: "response" },
    h("summary", null,
      h("span", { class: `status s${status[0]}` }, status),
      codes.length ? h("code", null, short) : h("span", null, short)),
    h("div", { class: "inside" },
      codes.length ? prose(response.description) : null,
      headers.length > 0 && h("p", { class: "small" }, "Headers: ",
        headers.map((name, n) => [n > 0 && ", ", h("code", { title: api.components.headers[name]?.description }, name)])),
      kinds.map(([media, content]) =>
        h("div", null,
          h("p", { class: "media" }, h("code", null, media)),
          codes.length ? null : schemaView(api, content.schema),
          examplesView(api, content)))));
}

function operationBody(api, operation) {
  const responses = Object.entries(operation.responses);
  return h("div", { class: "inside columns" },
    h("div", { class: "details" },
      operation.description && prose(operation.description),
      h("p", { class: "who" }, whoMayCall(operation)),
      parametersView(api, operation),
      bodyView(api, operation),
      h("section", null, h("h4", null, "Answers"),
        responses.map(([status, response]) => responseView(api, status, response)))),
    tryIt(api, operation, () => sessionStorage.getItem(KEY), (text) => { at("said").textContent = text; }));
}

/** An operation, which shows its details when opened. */
function operationView(api, operation) {
  const view = h("details", { class: "operation", id: operation.operationId },
    h("summary", null, method(operation), pathView(operation.path), h("span", { class: "what" }, operation.summary)));
  view.addEventListener("toggle", () => {
    if (view.open && view.children.length === 1) view.append(operationBody(api, operation));
  });
  return view;
}

function matches(operation, words) {
  const text = `${operation.method} ${operation.path} ${operation.summary} ${operation.operationId}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function navView(groups, words) {
  const link = (operation) =>
    h("li", null, h("a", { href: `#${operation.operationId}` }, method(operation), h("span", null, operation.summary)));
  const shown = groups.map((group) => ({ ...group, operations: group.operations.filter((o) => matches(o, words)) }));
  const filled = shown.filter((group) => group.operations.length);
  if (!filled.length) return h("p", { class: "none" }, "No operation matches.");
  return filled.map((group) => [h("h2", null, group.name), h("ul", null, group.operations.map(link))]);
}

/** Opens the operation that the address names. */
function open() {
  const view = at(location.hash.slice(1));
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.getAttribute("href") === location.hash) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  if (!(view instanceof HTMLDetailsElement)) return;
  view.open = true;
  view.scrollIntoView({ block: "start" });
  view.querySelector("summary").focus({ preventScroll: true });
}

async function start() {
  frame();
  const main = at("main");
  let api;
  try {
    const answer = await fetch("/openapi.json");
    if (!answer.ok) throw new Error(`${answer.status}`);
    api = await answer.json();
  } catch (problem) {
    show(main, h("p", { class: "none" }, `The document could not be fetched: ${problem.message}`));
    return;
  }
  at("version").textContent = api.info.version;
  const groups = operationsOf(api);
  const filter = at("filter");
  const showNav = () => show(at("nav"), navView(groups, filter.value.toLowerCase().split(/\s+/).filter(Boolean)));
  filter.addEventListener("input", showNav);
  showNav();
  show(main,
    h("div", { class: "intro" }, h("h1", null, api.info.summary), prose(api.info.description)),
    groups.map((group) =>
      h("section", { class: "group", "aria-label": group.name },
        h("h2", null, group.name), h("p", { class: "about" }, group.description),
        group.operations.map((operation) => operationView(api, operation)))));
  window.addEventListener("hashchange", open);
  // A link to the operation that is named already names it again.
  at("nav").addEventListener("click", (event) => {
    if (event.target.closest("a")?.getAttribute("href") === location.hash) open();
  });
  open();
}

start();
