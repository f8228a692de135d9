// Permissions: how they are shown, the editor that makes them, and ready-made ones.

import { h, append, show } from "./dom.js";
import { button } from "./ui.js";
import { field } from "./forms.js";
import { Problem } from "./api.js";

const everything = (resource, ...actions) => ({ resource, actions });

const inFolder = { match: ["/srv/data", "/srv/data/**"] };
const tool = (name, action, rules, otherArguments = "deny") => ({ resource: `mcp:filesystem:${name}`, actions: [action], constraints: { arguments: rules, otherArguments } });
const FOLDER = [
  tool("read_text_file", "read", { path: inFolder }, "strings"),
  tool("list_directory", "read", { path: inFolder }),
  tool("search_files", "read", { path: inFolder, pattern: {}, "excludePatterns[]": {} }),
  tool("write_file", "execute", { path: inFolder, content: {} }),
];

/** Ready-made sets: `[name, permissions]`. */
export const TEMPLATES = [
  ["Read-only", [everything("*", "read")]],
  ["GitHub reader", [everything("mcp:github:*", "read")]],
  ["GitHub writer, 20 an hour", [everything("mcp:github:*", "read"), { resource: "mcp:github:create_issue", actions: ["execute"], constraints: { maxCallsPerHour: 20 } }]],
  ["Files of one folder", FOLDER],
  ["Office hours", [{ resource: "*", actions: ["read"], constraints: { timeWindow: { start: "08:00", end: "18:00" } } }]],
  ["Ask a person", [{ resource: "*", actions: ["execute"], constraints: { requireApproval: true } }]],
];

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
const listed = (items) => (items.length ? items : undefined);

/** What a rule for one argument says, in words. */
function ruleWords({ match, oneOf, max, min, absent }) {
  const about = [
    match && `matches ${match.join(" or ")}`,
    oneOf && `is ${oneOf.map((value) => JSON.stringify(value)).join(" or ")}`,
    min !== undefined && `is at least ${min}`,
    max !== undefined && `is at most ${max}`,
  ].filter(Boolean);
  if (!about.length) return absent ? "is missing" : "is anything";
  return about.join(" and ") + (absent ? " or is missing" : "");
}

/** Text as JSON. What is not JSON is refused at its field. */
function readJson(text, name) {
  try { return JSON.parse(text); } catch (error) { throw new Problem(0, { detail: `is not JSON: ${error.message}`, details: { field: name } }); }
}

/** Every constraint, by its name: a value in words; the form's fields for one, by what follows the name; and the value that their inputs hold, if any. */
export const CONSTRAINTS = {
  maxCallsPerHour: {
    words: (calls) => `at most ${calls} an hour`,
    fields: (calls) => ({ "": field("Calls an hour", "maxCallsPerHour", { type: "number", min: 0, value: calls ?? "", placeholder: "no limit" }) }),
    read: (calls) => (calls.value.trim() ? Number(calls.value) : undefined),
  },
  timeWindow: {
    words: ({ start, end }) => `from ${start} to ${end} UTC`,
    fields: (window) => ({
      ".start": field("From (UTC)", "start", { type: "time", value: window?.start ?? "" }),
      ".end": field("To (UTC)", "end", { type: "time", value: window?.end ?? "" }),
    }),
    read: (start, end) => (start.value || end.value ? { start: start.value, end: end.value } : undefined),
  },
  allowedArgPatterns: {
    words: (patterns) => `arguments match ${patterns.join(" or ")}`,
    fields: (patterns) => ({ "": field("Arguments must match, one pattern a line", "patterns", { as: "textarea", rows: 2, wide: true, value: patterns?.join("\n") ?? "", placeholder: "/srv/data/**" }) }),
    read: (patterns) => listed(lines(patterns.value)),
  },
  ipAllowlist: {
    words: (addresses) => `from ${addresses.join(", ")}`,
    fields: (addresses) => ({ "": field("Addresses, one a line", "ips", { as: "textarea", rows: 2, wide: true, value: addresses?.join("\n") ?? "", placeholder: "10.0.0.0/8" }) }),
    read: (addresses) => listed(lines(addresses.value)),
  },
  arguments: {
    words: (rules) => Object.entries(rules).map(([name, rule]) => `argument ${name} ${ruleWords(rule)}`).join(", "),
    fields: (rules) => ({ "": field("Arguments by name, as JSON", "arguments", { as: "textarea", rows: 4, wide: true, value: rules ? JSON.stringify(rules, null, 2) : "", placeholder: '{"path": {"match": ["/srv/data/**"]}, "amount": {"max": 100}}', hint: "For each: match (patterns), oneOf (values), max, min, absent: true. {} is anything. a.b leads into objects, a[] into arrays." }) }),
    read: (rules) => (rules.value.trim() ? readJson(rules.value, rules.closest("[data-field]").dataset.field) : undefined),
  },
  otherArguments: {
    words: (others) => ({ deny: "no other arguments", strings: "other arguments without text", allow: "any other arguments" })[others],
    fields: (others) => ({ "": field("Other arguments", "otherArguments", { value: others ?? "", options: [["", "Denied, if some are named"], ["deny", "Denied"], ["strings", "No strings among them"], ["allow", "Allowed"]] }) }),
    read: (others) => others.value || undefined,
  },
  requireApproval: {
    words: (asked) => asked && "needs a person's approval",
    fields: (asked) => ({ "": h("label", { class: "check wide" }, h("input", { type: "checkbox", name: "approval", checked: asked === true }), "Needs a person's approval") }),
    read: (asked) => asked.checked || undefined,
  },
};

/** A permission's constraints in words. */
export function constraintWords(constraints = {}) {
  const given = Object.entries(CONSTRAINTS).filter(([name]) => constraints[name] !== undefined);
  return given.map(([name, { words }]) => words(constraints[name])).filter(Boolean);
}

/** One permission as a line. */
export function permissionRow(permission, extra) {
  const words = constraintWords(permission.constraints);
  return h("div", { class: "perm-row" },
    h("div", { class: "row" }, h("code", { class: "wrap" }, permission.resource), permission.actions.map((action) => h("span", { class: "chip" }, action === "*" ? "any action" : action))),
    words.length > 0 && h("div", { class: "small muted wrap" }, words.join(" · ")),
    extra);
}

/** An editor of permissions: `element`, and `read()` for what it holds. `name` is the list's name in errors. */
export function permissionEditor(initial = [], { name = "permissions", templates = true } = {}) {
  const list = h("div", { class: "stack tight" });
  const box = h("div", { class: "field wide", role: "group", "aria-label": "Permissions", "data-field": name });

  function row(permission = { resource: "", actions: [] }) {
    const at = () => `${name}[${[...list.children].indexOf(element)}]`;
    const resource = field("Resource", "resource", { value: permission.resource, placeholder: "reports:* or mcp:github:*" });
    const actions = field("Actions", "actions", { value: permission.actions.join(", "), placeholder: "read, execute or *" });
    const constraints = Object.entries(CONSTRAINTS).map(([constraint, { fields, read }]) => ({ constraint, read, fields: fields(permission.constraints?.[constraint]) }));
    const legend = h("legend", {});
    const element = h("fieldset", { class: "perm" }, legend,
      h("div", { class: "fields" }, resource, actions),
      h("details", { open: permission.constraints !== undefined && Object.keys(permission.constraints).length > 0 }, h("summary", {}, "Constraints"), h("div", { class: "fields" }, constraints.map(({ fields }) => Object.values(fields)))),
      h("div", { class: "row" }, button("Remove", () => { element.remove(); number(); }, { kind: "small-button danger", label: "Remove this permission" })));
    const input = (place) => place.querySelector("input, textarea, select");
    element.number = () => {
      legend.textContent = `Permission ${[...list.children].indexOf(element) + 1}`;
      // A field without a place for errors leaves them to its container.
      const named = (place, part) => { if (place.querySelector(".error")) place.dataset.field = `${at()}.${part}`; };
      named(resource, "resource");
      named(actions, "actions");
      for (const { constraint, fields } of constraints) for (const [part, place] of Object.entries(fields)) named(place, `constraints.${constraint}${part}`);
    };
    element.read = () => {
      const values = constraints.map(({ constraint, fields, read }) => [constraint, read(...Object.values(fields).map(input))]);
      const given = values.filter(([, value]) => value !== undefined);
      const names = input(actions).value.split(",").map((action) => action.trim()).filter(Boolean);
      return { resource: input(resource).value.trim(), actions: names, ...(given.length && { constraints: Object.fromEntries(given) }) };
    };
    return element;
  }
  const number = () => [...list.children].forEach((element) => element.number());
  const add = (permissions) => { append(list, permissions.map(row)); number(); };
  const put = (permissions) => { show(list); add(permissions); };

  append(box, [
    h("span", { class: "label" }, "Permissions"),
    templates && h("div", { class: "templates", role: "group", "aria-label": "Ready-made permissions" }, TEMPLATES.map(([title, permissions]) => button(title, () => put(permissions), { kind: "small-button" }))),
    list,
    h("div", { class: "row" }, button("Add a permission", () => { add([undefined]); list.lastChild.querySelector("input").focus(); }, { kind: "small-button", glyph: "plus" })),
    h("div", { class: "error" }),
  ]);
  add(initial);
  return { element: box, read: () => [...list.children].map((element) => element.read()), put };
}
