// Budgets: how much of each is used, and when it resets.

import { h } from "./dom.js";
import { all, post, patch, remove, withQuery } from "./api.js";
import { budgetBadge, empty, button, confirm, toast, bar } from "./ui.js";
import { field, agentField, formDialog, text } from "./forms.js";
import { count, meters, span, untilReset, shortId } from "./format.js";
import { agentLink } from "./names.js";

const ACTIONS = [["block", "Block: deny"], ["throttle", "Throttle: deny as rate-limited"], ["warn", "Warn: allow with a warning"], ["revoke", "Revoke: deny and revoke the agent"]];
const LIMITS = [["maxCallsPerDay", "Calls a day"], ["maxCallsPerMonth", "Calls a month"], ["maxTokensCostPerDay", "Cost a day"], ["maxTokensCostPerMonth", "Cost a month"]];

/** Policies that are shown at once. */
const MOST = 500;

/** The bars of a policy. */
export function policyMeters(policy) {
  return meters(policy).map(({ label, period, used, held, max, share, name }) => {
    const amount = (n) => (name.includes("Cost") ? String(n) : count(n));
    return h("div", { class: "meter" },
      h("div", { class: "meter-line num" }, h("span", {}, label), h("span", {}, h("b", {}, amount(used)), ` of ${amount(max)}`)),
      bar(share, `${label}: ${amount(used)} of ${amount(max)}`, held > 0 ? held / used : 0),
      h("div", { class: "meter-line muted num" }, h("span", {}, `${Math.floor(share * 100)} %`, held > 0 && h("span", { title: "Charged, but not spent yet: a hold keeps it until the call is settled" }, `, ${amount(held)} held`)), h("span", {}, `resets in ${span(untilReset(period))}`)));
  });
}

/** Whom a policy is about. */
export function scope(policy) {
  if (policy.agentId) return ["One agent: ", agentLink(policy.agentId)];
  return policy.userId ? `Agents of ${policy.userId}` : "All agents of the tenant";
}

/** A tenant's policies with what can be done about them. */
export async function policyCards({ tenant, refresh }) {
  const policies = await all(withQuery("/v1/policies", { tenantId: tenant, limit: MOST }), MOST);
  const create = () => button("New policy", () => editPolicy({ tenant, refresh }), { kind: "primary", glyph: "plus" });
  if (!policies.length) {
    return h("div", { class: "card" }, empty("overview", "No budget yet", "A policy limits calls or cost of a tenant, an owner or one agent by day and month, and says what happens when a limit is used up.", create()));
  }
  return h("div", { class: "stack" }, h("div", { class: "row" }, create(), policies.length >= MOST && h("span", { class: "small muted" }, `The first ${MOST} are shown; GET /v1/policies has all.`)),
    h("div", { class: "grid" }, policies.map((policy) => h("div", { class: "w4" }, policyCard(policy, tenant, refresh)))));
}

function policyCard(policy, tenant, refresh) {
  const path = `/v1/policies/${policy.id}`;
  const done = async (said) => { toast(said); await refresh(); };
  const disabled = policy.status === "disabled";
  return h("section", { class: "card stack tight", "aria-label": `Policy ${policy.id}`, "data-policy": policy.id },
    h("div", { class: "row apart" }, h("h2", { class: "wrap" }, scope(policy)), h("span", { class: "row" }, h("span", { class: "badge plain" }, policy.action), budgetBadge(policy, Math.max(...meters(policy).map((meter) => meter.share))))),
    policyMeters(policy),
    h("div", { class: "row" },
      button("Edit", () => editPolicy({ tenant, policy, refresh }), { kind: "small-button" }),
      button(disabled ? "Enable" : "Disable", async () => { await patch(path, { status: disabled ? "active" : "disabled" }); await done(disabled ? "The policy is on" : "The policy is off"); }, { kind: "small-button" }),
      button("Reset", () => confirm("Reset what is used?", "Its counts of today and of this month start at zero again. The audit trail keeps every call.", "Reset", async () => { await post(`${path}/reset`, { period: "all" }); await done("The counts start at zero"); }, { danger: false }), { kind: "small-button" }),
      button("Delete", () => confirm("Delete this policy?", "Its limits are gone at once.", "Delete", async () => { await remove(path); await done("The policy is deleted"); }), { kind: "small-button danger" })),
    h("span", { class: "small muted mono", title: policy.id }, shortId(policy.id)));
}

function editPolicy({ tenant, policy, refresh }) {
  const limits = policy?.limits ?? {};
  const content = [
    !policy && h("div", { class: "fields" },
      agentField("Only one agent", "agentId", { tenant: () => tenant, hint: "Empty: all agents." }),
      field("Only one owner's agents", "userId", { placeholder: "user-1", hint: "Empty: every owner's." })),
    h("div", { class: "fields", "data-field": "limits" }, LIMITS.map(([name, label]) => field(label, `limits.${name}`, { inputmode: "decimal", value: limits[name] ?? "", placeholder: "no limit" })), h("div", { class: "error bad small wide" })),
    field("When one is used up", "action", { options: ACTIONS, value: policy?.action ?? "block" }),
  ];
  formDialog(policy ? "Edit policy" : "New policy", policy ? "Save" : "Create policy", content, async (form) => {
    // Sent as typed: a cost is an exact decimal, and the server refuses what is not a number.
    const given = Object.fromEntries(LIMITS.map(([name]) => {
      const typed = text(form, `limits.${name}`);
      const exact = /^(0|[1-9]\d*)(\.\d+)?$/.test(typed) ? (JSON.rawJSON?.(typed) ?? Number(typed)) : typed;
      return [name, typed === "" ? null : exact];
    }).filter(([name, value]) => value !== null || limits[name] !== undefined));
    const action = text(form, "action");
    if (policy) await patch(`/v1/policies/${policy.id}`, { limits: given, action });
    else await post("/v1/policies", { tenantId: tenant === "default" ? null : tenant, agentId: text(form, "agentId") || null, userId: text(form, "userId") || null, limits: given, action });
    toast(policy ? "Saved" : "The policy is on");
    await refresh();
  });
}
