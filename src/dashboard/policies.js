// Budgets: how much of each is used, and when it resets.

import { h } from "./dom.js";
import { session, all, post, patch, remove, withQuery } from "./api.js";
import { budgetBadge, empty, button, confirm, toast, bar } from "./ui.js";
import { UTC, field, agentField, formDialog, readLabels, text, time, zoneField } from "./forms.js";
import { amount, count, labelText, meters, secondsUntil, span, shortId } from "./format.js";
import { agentLink } from "./names.js";

const ACTIONS = [["block", "Block: deny"], ["throttle", "Throttle: deny as rate-limited"], ["warn", "Warn: allow with a warning"], ["revoke", "Revoke: deny and revoke the agent"]];
const LIMITS = [["maxCallsPerDay", "Calls a day"], ["maxTokensCostPerDay", "Cost a day"], ["maxCallsPerMonth", "Calls a month"], ["maxTokensCostPerMonth", "Cost a month"]];
const MORE_LIMITS = [["maxCallsPerHour", "Calls an hour"], ["maxTokensCostPerHour", "Cost an hour"], ["maxCallsPerWeek", "Calls a week"], ["maxTokensCostPerWeek", "Cost a week"], ["maxCallsTotal", "Calls in all"], ["maxTokensCostTotal", "Cost in all"]];
const ALL_LIMITS = [...LIMITS, ...MORE_LIMITS];
const limitName = (name) => ALL_LIMITS.find(([one]) => one === name)[1].toLowerCase();
const dayOfWeek = (day) => day[0].toUpperCase() + day.slice(1);
const WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"].map((day) => [day, dayOfWeek(day)]);

/** At which percents webhooks are told unless a policy says otherwise. */
const USUAL_THRESHOLDS = [80, 100];

/** Policies that are shown at once. */
const MOST = 500;

/** The bars of a policy. */
export function policyMeters(policy) {
  return meters(policy).map(({ label, endsAt, used, held, max, share, name }) => {
    const shown = name.includes("Cost") ? amount : count;
    return h("div", { class: "meter" },
      h("div", { class: "meter-line num" }, h("span", {}, label), h("span", {}, h("b", {}, shown(used)), ` of ${shown(max)}`)),
      bar(share, `${label}: ${shown(used)} of ${shown(max)}`, held === undefined ? 0 : held / used),
      h("div", { class: "meter-line muted num" }, h("span", {}, `${Math.floor(share * 100)} %${held === undefined ? "" : `, ${amount(held)} held`}`), h("span", {}, endsAt ? `resets in ${span(secondsUntil(endsAt))}` : "never resets")));
  });
}

/** Whom a policy is about. */
export function scope(policy) {
  if (policy.scope === "instance") return "All tenants together";
  if (policy.agentId) return ["One agent: ", agentLink(policy.agentId)];
  if (policy.userId) return `Agents of ${policy.userId}`;
  return policy.labels ? `Agents with ${labelText(policy.labels)}` : "All agents of the tenant";
}

/** What a policy has besides limits: the calls it charges, its calendar, its alerts, and limits for a while. */
export function terms(policy) {
  const { labels, resource, actions, timeZone = UTC, weekStartsOn = "monday", monthStartsOn = 1, temporary, thresholds = USUAL_THRESHOLDS } = policy;
  const calendar = [timeZone !== UTC && timeZone, weekStartsOn !== "monday" && `weeks from ${dayOfWeek(weekStartsOn)}`, monthStartsOn !== 1 && `months from day ${monthStartsOn}`].filter(Boolean);
  const lines = [
    labels && (policy.agentId || policy.userId) && ["Labels", labelText(labels)], resource && ["Resource", resource], actions && ["Actions", actions.join(", ")], calendar.length && ["Calendar", calendar.join(", ")],
    `${thresholds}` !== `${USUAL_THRESHOLDS}` && ["Alerts", thresholds.length ? thresholds.map((percent) => `${percent} %`).join(", ") : "none"],
    temporary && ["Until", `${temporary.until.slice(0, 16).replace("T", " ")} UTC: ${Object.entries(temporary.limits).map(([name, max]) => `${limitName(name)} ${max === null ? "without limit" : amount(max)}`).join(", ")}`],
  ].filter(Boolean);
  return lines.map(([label, value]) => h("div", { class: "small muted wrap" }, `${label}: ${value}`));
}

/** A tenant's policies with what can be done about them. */
export async function policyCards({ tenant, refresh }) {
  const policies = await all(withQuery("/v1/policies", { tenantId: tenant, limit: MOST }), MOST);
  const create = () => session.mayManage && button("New policy", () => editPolicy({ tenant, refresh }), { kind: "primary", glyph: "plus" });
  if (!policies.length) {
    return h("div", { class: "card" }, empty("overview", "No budget yet", "A policy limits calls or cost of a tenant, an owner or one agent by hour, day, week, month or in all, and says what happens when a limit is used up.", create()));
  }
  return h("div", { class: "stack" }, h("div", { class: "row" }, create(), policies.length >= MOST && h("span", { class: "small muted" }, `The first ${MOST} are shown; GET /v1/policies has all.`)),
    h("div", { class: "grid" }, policies.map((policy) => h("div", { class: "w4" }, policyCard(policy, tenant, refresh)))));
}

function policyCard(policy, tenant, refresh) {
  const path = `/v1/policies/${policy.id}`;
  const done = async (said) => { toast(said); await refresh(); };
  const disabled = policy.status === "disabled";
  return h("section", { class: "card stack tight", "aria-label": `Policy ${policy.id}`, "data-policy": policy.id },
    h("div", { class: "row apart" }, h("h2", { class: "wrap" }, scope(policy)), h("span", { class: "row" }, h("span", { class: "badge plain" }, policy.action), budgetBadge(policy, Math.max(0, ...meters(policy).map((meter) => meter.share))))),
    terms(policy),
    policyMeters(policy),
    session.mayManage && h("div", { class: "row" },
      button("Edit", () => editPolicy({ tenant, policy, refresh }), { kind: "small-button" }),
      button(disabled ? "Enable" : "Disable", async () => { await patch(path, { status: disabled ? "active" : "disabled" }); await done(disabled ? "The policy is on" : "The policy is off"); }, { kind: "small-button" }),
      button("Reset", () => confirm("Reset what is used?", "All its counts start at zero again. The audit trail keeps every call.", "Reset", async () => { await post(`${path}/reset`, { period: "all" }); await done("The counts start at zero"); }, { danger: false }), { kind: "small-button" }),
      button("Delete", () => confirm("Delete this policy?", "Its limits are gone at once.", "Delete", async () => { await remove(path); await done("The policy is deleted"); }), { kind: "small-button danger" })),
    h("span", { class: "small muted mono", title: policy.id }, shortId(policy.id)));
}

/** A limit as its field shows it. */
const shownLimit = (limits, name) => (limits[name] === null ? "none" : String(limits[name] ?? ""));

/** A field for a limit. Of limits for a while, `none` lifts one. */
const limitField = (group, limits) => ([name, label]) => field(group === "limits" ? label : `${label}, meanwhile`, `${group}.${name}`, { inputmode: "decimal", value: shownLimit(limits, name), placeholder: group === "limits" ? "no limit" : "as it is" });

/** A number as typed, with all its digits; other text as it is, for the server to refuse. */
const exact = (typed) => (/^(0|[1-9]\d*)(\.\d+)?$/.test(typed) ? (JSON.rawJSON?.(typed) ?? Number(typed)) : typed);

function editPolicy({ tenant, policy, refresh }) {
  const limits = policy?.limits ?? {};
  const content = [
    !policy && tenant === "default" && field("About", "scope", { options: [["tenant", "Agents of this tenant"], ["instance", "All tenants together"]], value: "tenant", hint: "A limit over all tenants blocks or throttles, and names no agent or owner." }),
    !policy && h("div", { class: "fields" },
      agentField("Only one agent", "agentId", { tenant: () => tenant, hint: "Empty: all agents." }),
      field("Only one owner's agents", "userId", { placeholder: "user-1", hint: "Empty: every owner's." })),
    h("div", { class: "fields", "data-field": "limits" }, LIMITS.map(limitField("limits", limits)), h("div", { class: "error bad small wide" })),
    h("details", { open: MORE_LIMITS.some(([name]) => limits[name] !== undefined) }, h("summary", { class: "small" }, "By hour, by week, in all"), h("div", { class: "fields" }, MORE_LIMITS.map(limitField("limits", limits)))),
    field("Tell webhooks at (percent)", "thresholds", { value: (policy?.thresholds ?? USUAL_THRESHOLDS).join(", "), placeholder: "none", hint: "Of each limit, once in each of its periods. Empty: never." }),
    field("When one is used up", "action", { options: ACTIONS, value: policy?.action ?? "block" }),
    h("details", { open: Boolean(policy?.labels || policy?.resource || policy?.actions) }, h("summary", { class: "small" }, "Only some calls"), h("div", { class: "fields" },
      field("Agents with all labels", "labels", { value: labelText(policy?.labels), placeholder: "team=data, env=production", hint: "Empty: whatever their labels." }),
      field("Resource", "resource", { value: policy?.resource ?? "", placeholder: "mcp:github:*", hint: "A pattern. Empty: any." }),
      field("Actions", "actions", { value: policy?.actions?.join(", ") ?? "", placeholder: "read, write", hint: "Empty: any." }))),
    h("details", {}, h("summary", { class: "small" }, "Calendar"), h("div", { class: "fields" },
      zoneField(policy?.timeZone ?? UTC),
      field("Weeks start on", "weekStartsOn", { options: WEEKDAYS, value: policy?.weekStartsOn ?? "monday" }),
      field("Months start on day", "monthStartsOn", { type: "number", min: 1, max: 28, value: policy?.monthStartsOn ?? 1 }))),
    h("details", { open: Boolean(policy?.temporary) }, h("summary", { class: "small" }, "Other limits for a while"), h("div", { class: "fields", "data-field": "temporary" },
      field("Until (UTC)", "temporary.until", { type: "datetime-local", value: policy?.temporary?.until.slice(0, 16) ?? "", hint: "Empty: none. They end by themselves." }),
      ALL_LIMITS.map(limitField("temporary.limits", policy?.temporary?.limits ?? {})), h("div", { class: "error bad small wide" }))),
  ];
  formDialog(policy ? "Edit policy" : "New policy", policy ? "Save" : "Create policy", content, async (form) => {
    // Sent as typed: a cost is an exact decimal, and the server refuses what is not a number.
    const typed = (group) => ALL_LIMITS.map(([name]) => {
      const value = text(form, `${group}.${name}`);
      return [name, value === "" || value === "none" ? null : exact(value), value];
    });
    const given = Object.fromEntries(typed("limits").filter(([name, value]) => value !== null || limits[name] !== undefined).map(([name, value]) => [name, value]));
    const until = time(form, "temporary.until");
    const meanwhile = Object.fromEntries(typed("temporary.limits").filter(([, , value]) => value !== "").map(([name, value]) => [name, value]));
    const list = (name) => { const parts = text(form, name).split(",").map((part) => part.trim()).filter(Boolean); return parts.length ? parts : null; };
    const all = {
      limits: given, action: text(form, "action"), thresholds: (list("thresholds") ?? []).map(exact),
      labels: text(form, "labels") === labelText(policy?.labels) ? undefined : readLabels(text(form, "labels")), resource: text(form, "resource") || null, actions: list("actions"),
      timeZone: text(form, "timeZone") || UTC, weekStartsOn: text(form, "weekStartsOn"), monthStartsOn: Number(text(form, "monthStartsOn")),
      temporary: until === null ? null : { limits: meanwhile, until },
    };
    // What was not touched is not sent: a time that has passed meanwhile would be refused.
    const was = policy?.temporary;
    const same = text(form, "temporary.until") === (was?.until.slice(0, 16) ?? "") && ALL_LIMITS.every(([name]) => text(form, `temporary.limits.${name}`) === shownLimit(was?.limits ?? {}, name));
    let made = null;
    if (policy) await patch(`/v1/policies/${policy.id}`, { ...all, ...(same && { temporary: undefined }) });
    else made = await post("/v1/policies", { ...(tenant === "default" && { scope: text(form, "scope") }), tenantId: tenant === "default" ? null : tenant, agentId: text(form, "agentId") || null, userId: text(form, "userId") || null, ...all });
    const idle = made?.matchesAgents === 0 ? ", and no agent matches it yet" : "";
    toast(policy ? "Saved" : `The policy is on${idle}`);
    await refresh();
  });
}
