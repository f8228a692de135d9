// One tenant: its agents, budgets, delegations, webhooks, keys, trail and settings.

import { h } from "./dom.js";
import { session, get, remove, withQuery } from "./api.js";
import { pageHead, badge, button, toast, card } from "./ui.js";
import { field, form, formDialog, text } from "./forms.js";
import { settingsFields, saveTenant, statusButton } from "./tenants.js";
import { agentTable } from "./agents.js";
import { policyCards } from "./policies.js";
import { delegationView } from "./delegations.js";
import { auditView } from "./audit.js";
import { monthOf } from "./spend-report.js";
import { webhookCards } from "./webhooks.js";
import { tenantKeys } from "./keys.js";

const TABS = [["agents", "Agents", agentsTab], ["policies", "Policies", policiesTab], ["delegations", "Delegations", delegationsTab], ["webhooks", "Webhooks", webhooksTab], ["keys", "Keys", tenantKeys], ["audit", "Audit", auditTab], ["settings", "Settings", settingsTab]];

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
      actions: [session.mayOperate && found.id !== null && statusButton(found, ctx.refresh, ""), h("a", { class: "button", href: `#/overview?tenantId=${found.slug}` }, "Figures"), h("a", { class: "button", href: `#/invoice/${found.slug}/${monthOf()}` }, "Invoice"), session.mayManage && h("a", { class: "button primary", href: `#/agents/new?tenantId=${found.slug}` }, "New agent")],
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

async function settingsTab(found, { refresh }) {
  const { settings } = found;
  if (!session.mayOperate) {
    const fact = (label, value) => h("div", {}, h("dt", {}, label), h("dd", {}, value));
    return card("Settings", {}, h("dl", { class: "facts" },
      fact("Agents at most", settings.maxAgents ?? "no limit"),
      fact("Delegation depth", settings.maxDelegationDepth ?? "no limit of its own"),
      fact("Audit kept", settings.auditRetentionDays ? `${settings.auditRetentionDays} days` : "for ever"),
      fact("Types its agents may have", settings.allowedAgentTypes?.join(", ") ?? "all"),
      fact("Id", h("code", {}, found.id ?? "default"))),
    h("p", { class: "muted small" }, session.isOperator ? "An operator with the role admin changes these." : "An operator changes these."));
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
