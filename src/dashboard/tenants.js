// All tenants, for operators.

import { h, append, show } from "./dom.js";
import { session, all, post, patch, get } from "./api.js";
import { pageHead, table, tableRow, badge, empty, ago, button, confirm, toast } from "./ui.js";
import { field, checks, formDialog, text, number } from "./forms.js";
import { forget } from "./names.js";
import { count } from "./format.js";

export const TYPES = [["autonomous", "Autonomous"], ["delegated", "Delegated"], ["service", "Service"]];

/** Rows that are shown at once. */
const MOST = 200;

export async function tenants({ signal, refresh }) {
  if (!session.isOperator) {
    location.replace(`#/tenants/${session.who.tenant.slug}`);
    return h("div");
  }
  const [items, fallback] = await Promise.all([all("/v1/tenants?limit=1000"), get("/v1/tenants/default", { signal })]);
  const create = () => session.mayOperate && button("New tenant", () => createTenant(), { kind: "primary", glyph: "plus" });
  const search = h("input", { type: "search", "data-search": "", "aria-label": "Find a tenant", placeholder: "Find a tenant  /", autocomplete: "off", oninput: () => draw() });
  const columns = [
    ["Name", (one) => h("a", { href: `#/tenants/${one.slug}` }, one.name)],
    ["Slug", (one) => h("span", { class: "mono" }, one.slug)],
    ["Status", (one) => badge(one.status)],
    ["Agents at most", (one) => one.settings.maxAgents ?? "no limit"],
    ["Audit kept", (one) => (one.settings.auditRetentionDays ? `${one.settings.auditRetentionDays} days` : "for ever")],
    ["Created", (one) => ago(one.createdAt)],
    ["", (one) => (one.id === null || !session.mayOperate ? "" : statusButton(one, refresh)), "actions"],
  ];
  const list = table(columns, [], { label: "Tenants" });
  const note = h("p", { class: "small muted", role: "status" });
  const draw = () => {
    const typed = search.value.trim().toLowerCase();
    const found = [...items, fallback].filter((one) => `${one.name} ${one.slug}`.toLowerCase().includes(typed));
    append(show(list.querySelector("tbody")), found.slice(0, MOST).map((one) => tableRow(columns, one)));
    note.textContent = found.length > MOST ? `${MOST} of ${count(found.length)} are shown. Type a name to find others.` : found.length ? "" : "No tenant has that name.";
  };
  draw();
  return [
    pageHead("Tenants", { sub: items.length ? "Each has its own agents, budgets and audit trail, and sees nothing of the others." : null, actions: [items.length > 1 && h("div", {}, search), items.length > 0 && create()] }),
    items.length
      ? h("div", { class: "stack" }, h("div", { class: "card flush" }, list), note)
      : h("div", { class: "card" }, empty("tenants", "No tenant yet", "A tenant is an organization with its own agents, budgets and audit trail. Create one to begin; then give it an agent.", create(), h("a", { class: "button", href: "#/tenants/default" }, "Use the default tenant"))),
  ];
}

/** Suspends or activates a tenant, after asking. */
export function statusButton(tenant, refresh, kind = "small-button") {
  const suspended = tenant.status === "suspended";
  const act = async () => {
    await post(`/v1/tenants/${tenant.slug}/${suspended ? "activate" : "suspend"}`);
    toast(`${tenant.name} is ${suspended ? "active again" : "suspended"}`);
    await refresh();
  };
  return suspended
    ? button("Activate", () => confirm(`Activate ${tenant.name}?`, "All its active agents may work again, with the same permissions and budgets as before.", "Activate", act, { danger: false }), { kind, label: `Activate ${tenant.name}` })
    : button("Suspend", () => confirm(`Suspend ${tenant.name}?`, "All its agents are stopped at once: each call is denied until the tenant is active again. Its keys can still read and change things.", "Suspend", act), { kind, label: `Suspend ${tenant.name}` });
}

/** The fields of a tenant's settings. */
export function settingsFields(settings = {}) {
  return h("div", { class: "fields" },
    field("Agents at most", "settings.maxAgents", { type: "number", min: 0, value: settings.maxAgents ?? "", placeholder: "no limit", hint: "Active ones. A lower limit only stops new ones." }),
    field("Delegation depth", "settings.maxDelegationDepth", { type: "number", min: 1, value: settings.maxDelegationDepth ?? "", placeholder: "no limit of its own", hint: "Links that a chain may have." }),
    field("Audit kept, days", "settings.auditRetentionDays", { type: "number", min: 1, value: settings.auditRetentionDays ?? "", placeholder: "for ever" }),
    checks("Types its agents may have", "settings.allowedAgentTypes", TYPES, settings.allowedAgentTypes ?? TYPES.map(([type]) => type)));
}

/** What those fields hold; null clears a setting. */
export function readSettings(form) {
  const types = [...form.querySelectorAll('[name="settings.allowedAgentTypes"]:checked')].map((box) => box.value);
  return {
    maxAgents: number(form, "settings.maxAgents"),
    maxDelegationDepth: number(form, "settings.maxDelegationDepth"),
    auditRetentionDays: number(form, "settings.auditRetentionDays"),
    allowedAgentTypes: types.length === TYPES.length ? null : types,
  };
}

/** A slug out of a name. */
const slugOf = (name) => name.toLowerCase().normalize("NFKD").replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 63);

function createTenant() {
  const slug = field("Slug", "slug", { placeholder: "acme", hint: "Used in URLs and filters: lowercase letters, digits and hyphens. It can't be changed later." });
  const name = field("Name", "name", { placeholder: "Acme", oninput: (event) => { const input = slug.querySelector("input"); if (!input.dataset.typed) input.value = slugOf(event.target.value); } });
  slug.querySelector("input").addEventListener("input", (event) => { event.target.dataset.typed = "yes"; });
  formDialog("New tenant", "Create tenant", [h("div", { class: "fields" }, name, slug), settingsFields()], async (form) => {
    const made = await post("/v1/tenants", { name: text(form, "name"), slug: text(form, "slug"), settings: readSettings(form) });
    toast(`${made.name} was created`);
    location.hash = `#/tenants/${made.slug}`;
  });
}

/** Saves a tenant's name and settings. */
export async function saveTenant(tenant, form) {
  const saved = await patch(`/v1/tenants/${tenant.slug}`, { ...(tenant.id === null ? {} : { name: text(form, "name") }), settings: readSettings(form) });
  forget(`/v1/tenants/${tenant.id}`);
  return saved;
}
