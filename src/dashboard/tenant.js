// One tenant: its agents, budgets, delegations, webhooks, keys, trail and settings.

import { h } from "./dom.js";
import { session, get, post, remove, withQuery } from "./api.js";
import { pageHead, badge, table, empty, ago, button, confirm, toast, revealSecret, card } from "./ui.js";
import { field, form, formDialog, text } from "./forms.js";
import { settingsFields, saveTenant, statusButton } from "./tenants.js";
import { agentTable } from "./agents.js";
import { policyCards } from "./policies.js";
import { delegationView } from "./delegations.js";
import { auditView } from "./audit.js";
import { monthOf } from "./spend-report.js";
import { webhookCards } from "./webhooks.js";

const TABS = [["agents", "Agents", agentsTab], ["policies", "Policies", policiesTab], ["delegations", "Delegations", delegationsTab], ["webhooks", "Webhooks", webhooksTab], ["keys", "Keys", keysTab], ["audit", "Audit", auditTab], ["settings", "Settings", settingsTab]];

export async function tenant(ctx) {
  const [, ref, chosen = "agents"] = ctx.parts;
  const found = await get(`/v1/tenants/${encodeURIComponent(ref)}`, { signal: ctx.signal });
  const tab = TABS.find(([name]) => name === chosen) ?? TABS[0];
  const content = await tab[2](found, ctx);
  const tabs = h("nav", { class: "tabs", "aria-label": "Parts of this tenant" }, TABS.map(([name, label]) =>
    h("a", { href: `#/tenants/${found.slug}/${name}`, "aria-current": name === tab[0] ? "page" : null }, label)));
  return [
    pageHead(found.name, {
      crumb: session.isOperator ? h("a", { href: "#/tenants" }, "Tenants") : "Your tenant",
      marks: [badge(found.status)],
      actions: [session.isOperator && found.id !== null && statusButton(found, ctx.refresh, ""), h("a", { class: "button", href: `#/overview?tenantId=${found.slug}` }, "Figures"), h("a", { class: "button", href: `#/invoice/${found.slug}/${monthOf()}` }, "Invoice"), h("a", { class: "button primary", href: `#/agents/new?tenantId=${found.slug}` }, "New agent")],
    }),
    found.status === "suspended" && h("p", { class: "notice" }, "Suspended: every call of its agents is denied until it is active again. Its data can still be read and changed."),
    tabs, content];
}

async function agentsTab(found, { signal }) {
  return agentTable({ tenantId: found.slug }, signal, { showTenant: false });
}

async function policiesTab(found, ctx) {
  return policyCards({ tenant: found.slug, refresh: ctx.refresh });
}

async function webhooksTab(found, ctx) {
  return webhookCards({ tenant: found.slug, refresh: ctx.refresh });
}

async function delegationsTab(found, ctx) {
  return delegationView(found.slug, ctx);
}

async function auditTab(found, ctx) {
  return auditView({ ...ctx, tenant: found.slug });
}

async function keysTab(found, { refresh }) {
  const keys = await get(`/v1/tenants/${found.slug}/keys`);
  const create = () => button("New key", () => formDialog("New tenant key", "Create key", field("Name", "name", { placeholder: "billing service", hint: "What will use it, so that you know which one to revoke later." }), async (entered) => {
    const made = await post(`/v1/tenants/${found.slug}/keys`, { name: text(entered, "name") });
    revealSecret("The new key", "key", made.key, `It may do for ${found.name} what a tenant key may, and nothing for other tenants.`, refresh);
  }), { kind: "primary", glyph: "plus" });
  const revoke = (key) => button("Revoke", () => confirm(`Revoke the key ${key.name}?`, "Whoever still uses it is refused from then on. This can't be undone.", "Revoke", async () => {
    await remove(`/v1/tenants/${found.slug}/keys/${key.id}`);
    toast(`The key ${key.name} is revoked`);
    await refresh();
  }), { kind: "small-button danger", label: `Revoke ${key.name}` });
  if (!keys.length) {
    return h("div", { class: "card" }, empty("agents", "No key yet", session.isOperator ? "A tenant key lets the tenant's own services manage its agents, ask for decisions and read its trail." : "An operator can make keys for this tenant.", session.isOperator ? create() : null));
  }
  return h("div", { class: "stack" }, session.isOperator && h("div", { class: "row" }, create()), h("div", { class: "card flush" }, table([
    ["Name", (key) => [key.name, key.id === session.who.keyId && h("span", { class: "badge plain" }, "this one")]],
    ["Begins with", (key) => h("code", {}, key.prefix, "…")],
    ["Created", (key) => ago(key.createdAt)],
    ["", (key) => session.isOperator && revoke(key), "actions"],
  ], keys, { label: "Tenant keys" })));
}

async function settingsTab(found, { refresh }) {
  const { settings } = found;
  if (!session.isOperator) {
    const fact = (label, value) => h("div", {}, h("dt", {}, label), h("dd", {}, value));
    return card("Settings", {}, h("dl", { class: "facts" },
      fact("Agents at most", settings.maxAgents ?? "no limit"),
      fact("Delegation depth", settings.maxDelegationDepth ?? "no limit of its own"),
      fact("Audit kept", settings.auditRetentionDays ? `${settings.auditRetentionDays} days` : "for ever"),
      fact("Types its agents may have", settings.allowedAgentTypes?.join(", ") ?? "all"),
      fact("Id", h("code", {}, found.id ?? "default"))),
    h("p", { class: "muted small" }, "An operator changes these."));
  }
  const fields = [found.id !== null && field("Name", "name", { value: found.name }), settingsFields(settings)];
  const edit = card("Settings", { side: h("code", { class: "small muted wrap" }, found.id ?? "default") }, form(fields, "Save", async (entered) => {
    await saveTenant(found, entered);
    toast("Saved");
    await refresh();
  }));
  if (found.id === null) return edit;
  const erase = () => formDialog(`Delete ${found.name}?`, "Delete for good", [
    h("p", { class: "muted wrap" }, "The tenant is erased with its agents, its budgets and its whole audit trail. Nothing brings it back."),
    field(`Type ${found.slug} to confirm`, "confirm", {}),
  ], async (entered) => {
    const path = withQuery(`/v1/tenants/${found.slug}`, { confirm: text(entered, "confirm") || " " });
    try { await remove(path); } catch (error) { if (error.code === "CONFIRMATION_REQUIRED") error.field = "confirm"; throw error; }
    toast(`${found.name} was deleted`);
    location.hash = "#/tenants";
  });
  return h("div", { class: "stack" }, edit, card("Delete", {}, h("div", { class: "row apart" },
    h("p", { class: "muted" }, "Erases the tenant and everything in it."), button("Delete tenant", erase, { kind: "danger" }))));
}
