// Keys of people and services: who holds which, what each may do, and until when.

import { h } from "./dom.js";
import { session, get, post, patch, remove, withQuery } from "./api.js";
import { pageHead, table, badge, empty, ago, button, toast, revealSecret } from "./ui.js";
import { field, formDialog, text, time } from "./forms.js";
import { dateTime } from "./format.js";

/** The roles of each kind of key, each with what it may do. */
const ROLES = {
  tenant: [["admin", "Admin: manages the tenant"], ["approver", "Approver: reads, for who decides on approvals"], ["viewer", "Viewer: reads, changes nothing"], ["caller", "Caller: asks for decisions, reports usage"]],
  operator: [["auditor", "Auditor: reads everything, changes nothing"], ["admin", "Admin: may do everything"]],
};

/** The operators' keys. */
export async function operatorKeys({ refresh, signal }) {
  if (!session.isOperator) {
    location.replace(`#/tenants/${session.who.tenant.slug}/keys`);
    return h("div");
  }
  const keys = await get("/v1/keys", { signal });
  const create = () => newKey({ kind: "operator", path: "/v1/keys", title: "New operator key", note: "It is good for this whole server, as far as its role goes.", refresh });
  const first = h("p", { class: "small muted wrap" }, "The first operator key is not listed: it is an admin's, has no end, and is set where the server is started.");
  return [
    pageHead("Operator keys", { sub: "One for each person and each tool, so that the trail says who changed what, and each can end alone.", actions: [keys.length > 0 && create()] }),
    keys.length
      ? h("div", { class: "stack" }, keyTable(keys, { path: "/v1/keys", label: "Operator keys", refresh }), first)
      : h("div", { class: "stack" }, h("div", { class: "card" }, empty("keys", "Only the first key", "Everybody who runs this server shares the first operator key. Give each person and each tool a key of its own, with the role it needs.", create())), first),
  ];
}

/** The keys of a tenant. */
export async function tenantKeys(found, { refresh }) {
  const path = `/v1/tenants/${found.slug}/keys`;
  const keys = await get(path);
  const create = () => newKey({ kind: "tenant", path, title: "New tenant key", note: `It may do for ${found.name} what its role says, and nothing for other tenants.`, refresh });
  if (!keys.length) {
    return h("div", { class: "card" }, empty("keys", "No key yet", session.isOperator ? "A tenant key lets the tenant's own services manage its agents, ask for decisions and read its trail." : "An operator can make keys for this tenant.", create()));
  }
  return h("div", { class: "stack" }, session.mayOperate && h("div", { class: "row" }, create()), keyTable(keys, { path, label: "Tenant keys", refresh }));
}

function keyTable(keys, { path, label, refresh }) {
  return h("div", { class: "card flush" }, table([
    ["Name", (key) => [key.name, key.id === session.who.keyId && h("span", { class: "badge plain" }, "this one")]],
    ["Role", (key) => h("span", { class: "badge plain" }, key.role)],
    ["Begins with", (key) => h("code", {}, key.prefix, "…")],
    ["Ends", (key) => end(key)],
    ["Last used", (key) => lastUse(key)],
    ["Created", (key) => ago(key.createdAt)],
    ["", (key) => session.mayOperate && [editButton(key, path, refresh), " ", revokeButton(key, path, refresh)], "actions"],
  ], keys, { label }));
}

function end({ expiresAt }) {
  if (!expiresAt) return h("span", { class: "muted" }, "no end");
  const at = h("time", { datetime: expiresAt, class: "nowrap" }, `${dateTime(expiresAt)} UTC`);
  return new Date(expiresAt) <= new Date() ? [badge("expired"), " ", at] : at;
}

/** Uses are noted in memory, so a key that shows none may still have been used before. */
function lastUse({ lastUsedAt, trackedSince }) {
  return lastUsedAt ? ago(lastUsedAt) : h("span", { class: "muted", title: `Uses before ${dateTime(trackedSince)} UTC are not known` }, "not since ", ago(trackedSince));
}

/** A key's end as a field shows it, to the minute. */
const shownEnd = (key) => key.expiresAt?.slice(0, 16) ?? "";

function editButton(key, path, refresh) {
  return button("Edit", () => formDialog(`Edit the key ${key.name}`, "Save", [
    field("Name", "name", { value: key.name }),
    field("Ends (UTC)", "expiresAt", { type: "datetime-local", value: shownEnd(key), hint: "Empty: it has no end. Its role stays: for another one make a new key, and revoke this." }),
  ], async (entered) => {
    const changed = text(entered, "expiresAt") !== shownEnd(key);
    await patch(`${path}/${key.id}`, { name: text(entered, "name"), ...(changed && { expiresAt: time(entered, "expiresAt") }) });
    toast("Saved");
    await refresh();
  }), { kind: "small-button", label: `Edit ${key.name}` });
}

function revokeButton(key, path, refresh) {
  return button("Revoke", () => formDialog(`Revoke the key ${key.name}?`, "Revoke", [
    h("p", { class: "muted wrap" }, "Whoever still uses it is refused from then on, and what it streams ends. This can't be undone."),
    field("Reason, for the trail", "reason", { placeholder: "left the company" }),
  ], async (entered) => {
    await remove(withQuery(`${path}/${key.id}`, { reason: text(entered, "reason") }));
    toast(`The key ${key.name} is revoked`);
    await refresh();
  }), { kind: "small-button danger", label: `Revoke ${key.name}` });
}

function newKey({ kind, path, title, note, refresh }) {
  if (!session.mayOperate) return null;
  return button("New key", () => formDialog(title, "Create key", [
    field("Name", "name", { placeholder: kind === "operator" ? "Ada" : "billing service", hint: "Who or what will use it. The trail shows it with every change, and you know which one to revoke later." }),
    field("Role", "role", { options: ROLES[kind], value: ROLES[kind][0][0] }),
    field("Ends (UTC)", "expiresAt", { type: "datetime-local", hint: "Empty: it has no end." }),
  ], async (entered) => {
    const made = await post(path, { name: text(entered, "name"), role: text(entered, "role"), expiresAt: time(entered, "expiresAt") });
    revealSecret("The new key", "key", made.key, note, refresh);
  }), { kind: "primary", glyph: "plus" });
}
