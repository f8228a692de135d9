// Permissions: how they are shown, the editor that makes them, and ready-made ones.

import { h, append, show } from "./dom.js";
import { button } from "./ui.js";
import { field } from "./forms.js";

const everything = (resource, ...actions) => ({ resource, actions });

/** Ready-made sets: `[name, permissions]`. */
export const TEMPLATES = [
  ["Read-only", [everything("*", "read")]],
  ["GitHub reader", [everything("mcp:github:*", "read")]],
  ["GitHub writer, 20 an hour", [everything("mcp:github:*", "read"), { resource: "mcp:github:create_issue", actions: ["execute"], constraints: { maxCallsPerHour: 20 } }]],
  ["Files of one folder", [{ resource: "mcp:filesystem:*", actions: ["read"], constraints: { allowedArgPatterns: ["/srv/data/**"] } }]],
  ["Office hours", [{ resource: "*", actions: ["read"], constraints: { timeWindow: { start: "08:00", end: "18:00" } } }]],
  ["Ask a person", [{ resource: "*", actions: ["execute"], constraints: { requireApproval: true } }]],
];

/** A permission's constraints in words. */
export function constraintWords(constraints = {}) {
  const { maxCallsPerHour, allowedArgPatterns, timeWindow, ipAllowlist, requireApproval } = constraints;
  return [
    maxCallsPerHour !== undefined && `at most ${maxCallsPerHour} an hour`,
    allowedArgPatterns && `arguments match ${allowedArgPatterns.join(" or ")}`,
    timeWindow && `from ${timeWindow.start} to ${timeWindow.end} UTC`,
    ipAllowlist && `from ${ipAllowlist.join(", ")}`,
    requireApproval && "needs a person's approval",
  ].filter(Boolean);
}

/** One permission as a line. */
export function permissionRow(permission, extra) {
  const words = constraintWords(permission.constraints);
  return h("div", { class: "perm-row" },
    h("div", { class: "row" }, h("code", { class: "wrap" }, permission.resource), permission.actions.map((action) => h("span", { class: "chip" }, action === "*" ? "any action" : action))),
    words.length > 0 && h("div", { class: "small muted wrap" }, words.join(" · ")),
    extra);
}

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/** An editor of permissions: `element`, and `read()` for what it holds. `name` is the list's name in errors. */
export function permissionEditor(initial = [], { name = "permissions", templates = true } = {}) {
  const list = h("div", { class: "stack tight" });
  const box = h("div", { class: "field wide", role: "group", "aria-label": "Permissions", "data-field": name });

  function row(permission = { resource: "", actions: [] }) {
    const at = () => `${name}[${[...list.children].indexOf(element)}]`;
    const { maxCallsPerHour, allowedArgPatterns, timeWindow, ipAllowlist, requireApproval } = permission.constraints ?? {};
    const make = (label, part, props) => field(label, part, props);
    const parts = {
      resource: make("Resource", "resource", { value: permission.resource, placeholder: "reports:* or mcp:github:*" }),
      actions: make("Actions", "actions", { value: permission.actions.join(", "), placeholder: "read, execute or *" }),
      "constraints.maxCallsPerHour": make("Calls an hour", "maxCallsPerHour", { type: "number", min: 0, value: maxCallsPerHour ?? "", placeholder: "no limit" }),
      "constraints.timeWindow.start": make("From (UTC)", "start", { type: "time", value: timeWindow?.start ?? "" }),
      "constraints.timeWindow.end": make("To (UTC)", "end", { type: "time", value: timeWindow?.end ?? "" }),
      "constraints.allowedArgPatterns": make("Arguments must match, one pattern a line", "patterns", { as: "textarea", rows: 2, wide: true, value: allowedArgPatterns?.join("\n") ?? "", placeholder: "/srv/data/**" }),
      "constraints.ipAllowlist": make("Addresses, one a line", "ips", { as: "textarea", rows: 2, wide: true, value: ipAllowlist?.join("\n") ?? "", placeholder: "10.0.0.0/8" }),
    };
    const approval = h("label", { class: "check wide" }, h("input", { type: "checkbox", name: "approval", checked: requireApproval === true }), "Needs a person's approval");
    const [resource, actions, ...constraints] = Object.values(parts);
    const legend = h("legend", {});
    const element = h("fieldset", { class: "perm" }, legend,
      h("div", { class: "fields" }, resource, actions),
      h("details", { open: permission.constraints !== undefined && Object.keys(permission.constraints).length > 0 }, h("summary", {}, "Constraints"), h("div", { class: "fields" }, constraints, approval)),
      h("div", { class: "row" }, button("Remove", () => { element.remove(); number(); }, { kind: "small-button danger", label: "Remove this permission" })));
    const control = (part) => parts[part].querySelector("input, textarea");
    element.number = () => {
      legend.textContent = `Permission ${[...list.children].indexOf(element) + 1}`;
      for (const [part, place] of Object.entries(parts)) place.dataset.field = `${at()}.${part}`;
    };
    element.read = () => {
      const calls = control("constraints.maxCallsPerHour").value.trim();
      const [start, end] = [control("constraints.timeWindow.start").value, control("constraints.timeWindow.end").value];
      const [patterns, ips] = [lines(control("constraints.allowedArgPatterns").value), lines(control("constraints.ipAllowlist").value)];
      const given = {
        ...(calls && { maxCallsPerHour: Number(calls) }),
        ...(patterns.length && { allowedArgPatterns: patterns }),
        ...((start || end) && { timeWindow: { start, end } }),
        ...(ips.length && { ipAllowlist: ips }),
        ...(approval.firstChild.checked && { requireApproval: true }),
      };
      const names = control("actions").value.split(",").map((action) => action.trim()).filter(Boolean);
      return { resource: control("resource").value.trim(), actions: names, ...(Object.keys(given).length && { constraints: given }) };
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
