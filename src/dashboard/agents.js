// Agents of all tenants or one, and the page that makes one.

import { h, append } from "./dom.js";
import { session, page, post, withQuery, Problem } from "./api.js";
import { pageHead, table, tableRow, badge, empty, ago, button, revealSecret } from "./ui.js";
import { field, form, readLabels, text, time } from "./forms.js";
import { labelText } from "./format.js";
import { permissionEditor } from "./permissions.js";
import { tenantLink, remember } from "./names.js";
import { tenantFilter, tenantChoices } from "./tenant-filter.js";
import { TYPES } from "./tenants.js";
import { costsThisMonth } from "./spend-report.js";

const PAGE = 100;

export async function agents({ query, signal }) {
  const given = Object.fromEntries(["tenantId", "status", "type", "userId"].map((name) => [name, query.get(name) ?? ""]));
  const tenants = session.isOperator ? await tenantChoices() : [];
  const goto = (event) => {
    const entered = event.target.form;
    location.hash = withQuery("#/agents", Object.fromEntries(Object.keys(given).map((name) => [name, entered.elements[name]?.value.trim()])));
  };
  const filters = h("form", { class: "filters card", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
    session.isOperator && tenantFilter(tenants, given.tenantId, { onchange: goto }),
    field("Status", "status", { value: given.status, onchange: goto, options: [["", "Any"], ["active", "Active"], ["suspended", "Suspended"], ["revoked", "Revoked"], ["expired", "Expired"]] }),
    field("Type", "type", { value: given.type, onchange: goto, options: [["", "Any"], ...TYPES] }),
    field("Owner", "userId", { value: given.userId, onchange: goto, "data-search": "" }));
  return [
    pageHead("Agents", { actions: [session.mayManage && h("a", { class: "button primary", href: withQuery("#/agents/new", { tenantId: given.tenantId }) }, "New agent")] }),
    h("div", { class: "stack" }, filters, await agentTable(given, signal, { showTenant: session.isOperator && !given.tenantId })),
  ];
}

/** A table of agents with a button for more. */
export async function agentTable(filter, signal, { showTenant = true } = {}) {
  const first = await page(withQuery("/v1/agents", { ...filter, limit: PAGE }), { signal });
  if (!first.items.length) {
    const narrowed = filter.status || filter.type || filter.userId;
    return h("div", { class: "card" }, narrowed
      ? empty("agents", "No agents match", "Change the filters to see more.", h("a", { class: "button", href: withQuery("#/agents", { tenantId: filter.tenantId }) }, "Clear the filters"))
      : empty("agents", "No agent yet", "An agent is what asks for decisions. Create one, say what it may do, and give its token to the service that runs it.", session.mayManage && h("a", { class: "button primary", href: withQuery("#/agents/new", { tenantId: filter.tenantId }) }, "Create an agent")));
  }
  // It may take longer than the list.
  const costs = costsThisMonth(filter.tenantId, signal);
  const later = (read, words = "") => {
    const place = h("span", { class: "num nowrap" }, "…");
    costs.then((known) => { place.textContent = known ? `${read(known)}${words}` : "–"; });
    return place;
  };
  const columns = [
    ["Name", (one) => h("a", { href: `#/agents/${one.id}` }, one.name)],
    ...(showTenant ? [["Tenant", (one) => tenantLink(one.tenantId)]] : []),
    ["Owner", (one) => [one.ownerId, h("div", { class: "small muted" }, later((known) => known.owner(one.tenantId, one.ownerId), " this month"))]],
    ["Type", (one) => one.type],
    ["Own permissions", (one) => (one.permissions.length ? h("span", { title: one.permissions.map((p) => p.resource).join("\n") }, h("code", {}, one.permissions[0].resource), one.permissions.length > 1 && ` +${one.permissions.length - 1}`) : h("span", { class: "muted" }, "nothing"))],
    ["Status", (one) => badge(one.status)],
    ["Active", (one) => ago(one.lastActiveAt)],
    ["Cost this month", (one) => later((known) => known.agent(one.id)), "num"],
  ];
  const list = table(columns, first.items, { label: "Agents" });
  remember(first.items);
  let next = first.next;
  const more = button("Show more", async () => {
    const part = await page(next);
    remember(part.items);
    append(list.querySelector("tbody"), part.items.map((one) => tableRow(columns, one)));
    next = part.next;
    more.hidden = !next;
  });
  more.hidden = !next;
  return h("div", { class: "stack" }, h("div", { class: "card flush" }, list), h("div", { class: "row" }, more));
}

/** What the fields show of what they can't show exactly: a time's seconds, a number's last digits. */
const shown = (agent) => ({
  expiresAt: agent.expiresAt?.slice(0, 16) ?? "",
  labels: labelText(agent.labels),
  metadata: agent.metadata && Object.keys(agent.metadata).length ? JSON.stringify(agent.metadata, null, 2) : "",
});

/** The fields that creating and changing an agent share. */
export function agentFields(agent = {}) {
  const { expiresAt, labels, metadata } = shown(agent);
  return [
    field("Name", "name", { value: agent.name ?? "", placeholder: "report-writer" }),
    field("Owner", "ownerId", { value: agent.ownerId ?? "", placeholder: "user-1", hint: "The user or team that answers for it." }),
    field("Type", "type", { value: agent.type ?? "autonomous", options: TYPES }),
    field("Ends (UTC)", "expiresAt", { type: "datetime-local", value: expiresAt, hint: "Empty: only when it is revoked." }),
    field("Labels", "labels", { value: labels, placeholder: "team=data, env=production", hint: "Budgets and lists select agents by them." }),
    field("Metadata, a JSON object", "metadata", { as: "textarea", rows: 3, wide: true, value: metadata, placeholder: '{"team": "data"}' }),
  ];
}

/** What those fields hold; of an agent that is there already, not what was left as it is shown. */
export function readAgent(entered, editor, agent) {
  const before = agent && shown(agent);
  const changed = (name) => before?.[name] !== text(entered, name);
  const metadata = text(entered, "metadata");
  let parsed = null;
  try { parsed = metadata === "" ? null : JSON.parse(metadata); } catch (error) {
    throw new Problem(0, { detail: `metadata must be JSON: ${error.message}`, details: { field: "metadata" } });
  }
  return { name: text(entered, "name"), ownerId: text(entered, "ownerId"), type: text(entered, "type"), ...(changed("expiresAt") && { expiresAt: time(entered, "expiresAt") }), ...(changed("labels") && { labels: readLabels(text(entered, "labels")) }), ...(changed("metadata") && { metadata: parsed }), permissions: editor.read() };
}

export async function newAgent({ query }) {
  const tenants = await tenantChoices();
  const given = query.get("tenantId") ?? tenants[0]?.slug ?? "default";
  const editor = permissionEditor([undefined]);
  const content = [
    h("div", { class: "fields" }, session.isOperator && tenantFilter(tenants, given, { allName: null }), agentFields()),
    editor.element,
  ];
  const element = form(content, "Create agent", async (entered) => {
    const tenant = session.isOperator ? text(entered, "tenantId") : null;
    const made = await post("/v1/agents", { ...(session.isOperator && { tenantId: tenant === "default" ? null : tenant }), ...readAgent(entered, editor) });
    revealSecret(`${made.name} is ready`, "token", made.token, "The agent sends it as Authorization: Bearer with every call of /v1/authorize.", () => { location.hash = `#/agents/${made.id}`; });
  }, { cancel: h("a", { class: "button", href: withQuery("#/agents", { tenantId: query.get("tenantId") }) }, "Cancel") });
  return [pageHead("New agent", { crumb: h("a", { href: "#/agents" }, "Agents") }), h("div", { class: "card" }, element)];
}
