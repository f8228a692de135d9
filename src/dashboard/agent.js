// One agent: what it may do, what it has done, and its token.

import { h } from "./dom.js";
import { session, get, getTagged, post, patch, remove, page, withQuery } from "./api.js";
import { pageHead, badge, card, empty, ago, button, confirm, table, toast, revealSecret } from "./ui.js";
import { field, formDialog, number } from "./forms.js";
import { cost, costDigits, labelText } from "./format.js";
import { permissionEditor, permissionRow } from "./permissions.js";
import { policyMeters, scope, terms } from "./policies.js";
import { agentFields, readAgent } from "./agents.js";
import { auditTable } from "./audit.js";
import { agentLink, tenantLink, remember, forget } from "./names.js";
import { monthOf, report } from "./spend-report.js";

const RECENT = 8;
/** Open holds that are shown, the oldest first. */
const MOST_HOLDS = 50;

export async function agent({ parts, signal, refresh }) {
  const path = `/v1/agents/${encodeURIComponent(parts[1])}`;
  const { found, tag } = await getTagged(path, { signal });
  remember([found]);
  const [effective, policies, recent, holds] = await Promise.all([
    get(`/v1/delegations/${found.id}/permissions`, { signal }),
    get(`/v1/agents/${found.id}/policies`, { signal }),
    page(withQuery("/v1/audit", { agentId: found.id, limit: RECENT }), { signal }),
    page(withQuery("/v1/holds", { tenantId: found.tenantId ?? "default", agentId: found.id, limit: MOST_HOLDS }), { signal }),
  ]);
  const fact = (label, value) => h("div", {}, h("dt", {}, label), h("dd", {}, value));
  const tenant = found.tenantId ?? "default";
  const spent = h("a", { href: withQuery("#/spend", { tenantId: session.isOperator ? tenant : "", agentId: found.id, by: "day" }) }, "…");
  report({ tenantId: tenant, agentId: found.id, since: `${monthOf()}-01` }, { signal }).then(({ total }) => { spent.textContent = cost(total.cost); }, () => { spent.textContent = "–"; });
  const whyLink = withQuery("#/why", { agentId: found.id });

  const edit = () => {
    const editor = permissionEditor(found.permissions);
    formDialog(`Edit ${found.name}`, "Save", [h("div", { class: "fields" }, agentFields(found)), editor.element], async (form) => {
      await patch(path, readAgent(form, editor, found), tag);
      forget(path);
      toast("Saved");
      await refresh();
    });
  };
  const rotate = () => formDialog(`Rotate the token of ${found.name}?`, "Rotate", [
    h("p", { class: "muted" }, "The agent gets a new token. The old one is refused at once, or after the grace period."),
    field("Old token still works for, seconds", "graceSeconds", { type: "number", min: 0, value: 0, hint: "At most 2,592,000 (30 days)." }),
  ], async (form) => {
    const made = await post(`${path}/rotate`, { graceSeconds: number(form, "graceSeconds") ?? 0 });
    revealSecret("The new token", "token", made.token, null, refresh);
  });
  const suspended = found.status === "suspended";
  const setSuspended = async (suspend) => {
    await post(`${path}/${suspend ? "suspend" : "activate"}`);
    toast(`${found.name} is ${suspend ? "suspended" : "active again"}`);
    await refresh();
  };
  const suspend = () => confirm(`Suspend ${found.name}?`, "All its calls are denied until it is activated again, and what it has lent rests. Its token, delegations and counts stay.", "Suspend", () => setSuspended(true));
  const activate = () => confirm(`Activate ${found.name}?`, "It may work again, with the same token, permissions and budgets as before.", "Activate", () => setSuspended(false), { danger: false });
  const revoke = () => confirm(`Revoke ${found.name}?`, `All its calls are denied from now on, and everything it has lent ends. This can't be undone.${suspended ? "" : " To stop it for now, suspend it instead."}`, "Revoke", async () => {
    await remove(path);
    toast(`${found.name} is revoked`);
    await refresh();
  });
  const changeable = session.mayManage && found.status !== "revoked";
  const [own, lent] = [effective.filter((one) => one.source === "own"), effective.filter((one) => one.source !== "own")];

  return [
    pageHead(found.name, {
      crumb: h("span", {}, h("a", { href: "#/agents" }, "Agents"), " / ", tenantLink(found.tenantId)),
      marks: [badge(found.status)],
      actions: [
        h("a", { class: "button", href: whyLink }, "Why?"),
        changeable && button("Edit", edit), changeable && button("Rotate token", rotate), changeable && (suspended ? button("Activate", activate) : button("Suspend", suspend)), changeable && button("Revoke", revoke, { kind: "danger" }),
      ],
    }),
    h("div", { class: "grid" },
      h("div", { class: "w12" }, h("div", { class: "card" }, h("dl", { class: "facts" },
        h("div", { class: "long" }, h("dt", {}, "Id"), h("dd", {}, h("code", { class: "small" }, found.id))), fact("Owner", found.ownerId), fact("Type", found.type),
        fact("Last active", ago(found.lastActiveAt)), fact("Cost this month", spent), fact("Created", ago(found.createdAt)), fact("Ends", found.expiresAt ? ago(found.expiresAt) : "never"), Object.keys(found.labels).length > 0 && fact("Labels", labelText(found.labels))),
      found.metadata && Object.keys(found.metadata).length > 0 && h("details", {}, h("summary", { class: "small muted" }, "Metadata"), h("pre", {}, JSON.stringify(found.metadata, null, 2))))),
      h("div", { class: "w8 stack" },
        card("May do", { kind: "flush" }, own.length ? own.map((one) => permissionRow(one)) : lent.length ? h("p", { class: "perm-row muted" }, "Nothing of its own; only what is lent to it.") : empty("skip", "Nothing of its own", "Without a permission every call is denied.", changeable && button("Add permissions", edit))),
        lent.length > 0 && card("Lent by other agents", { kind: "flush" }, lent.map((one) => permissionRow(one, h("div", { class: "small muted" }, "from ", agentLink(one.fromAgent), one.held === false && h("span", { class: "warn" }, " · the grantor does not hold all of it now"))))),
        holds.items.length > 0 && card("Open holds", { kind: "flush", id: "holds" }, holdTable(holds.items, refresh),
          holds.next && h("p", { class: "perm-row small muted" }, `The oldest ${MOST_HOLDS} are shown; GET /v1/holds has all.`)),
        card("Recent decisions", { kind: "flush", side: h("a", { class: "small", href: withQuery("#/audit", { agentId: found.id }) }, "All") }, recent.items.length
          ? auditTable(recent.items, { showAgent: false, showTenant: false }).element
          : empty("audit", "No decision yet", "Ask with its token at /v1/authorize, or try a call here without recording it.", h("a", { class: "button", href: whyLink }, "Try a call")))),
      h("div", { class: "w4 stack" },
        card("Budgets", { side: policies.some((policy) => policy.status === "triggered" && policy.action !== "warn") ? badge("triggered") : null }, policies.length
          ? h("div", { class: "stack" }, policies.map((policy) => h("div", { class: "stack tight" }, h("div", { class: "row apart small muted" }, h("span", {}, policy.agentId ? "This agent" : scope(policy)), h("span", { class: "badge plain" }, policy.action)), terms(policy), policyMeters(policy))))
          : h("p", { class: "muted" }, "No policy limits this agent.")))),
  ];
}

/** What calls hold until somebody says what they cost. */
function holdTable(holds, refresh) {
  const release = (hold) => confirm("Release this hold?", `The ${hold.tokensCost} that it holds are left again at once. If the call did cost something, settle it instead: POST /v1/usage.`, "Release", async () => {
    await post(`/v1/holds/${hold.auditId}/release`, {});
    toast("The hold is released");
    await refresh();
  });
  const digits = costDigits(holds.map((hold) => hold.tokensCost));
  return table([
    ["Held since", (hold) => ago(hold.createdAt)],
    ["Ends", (hold) => ago(hold.until)],
    ["Decision", (hold) => h("a", { href: `#/audit/${hold.auditId}`, "aria-label": `Show the decision that holds ${hold.tokensCost}` }, "Show")],
    ["Held", (hold) => cost(hold.tokensCost, digits), "num"],
    ["", (hold) => session.mayManage && button("Release", () => release(hold), { kind: "small-button", label: `Release the hold of ${hold.tokensCost}` }), "actions"],
  ], holds, { label: "Open holds", row: (hold) => ({ "data-id": hold.auditId }) });
}
