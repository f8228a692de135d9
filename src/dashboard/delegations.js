// Who lends permissions to whom, as a graph and as a list.

import { h } from "./dom.js";
import { session, all, post, remove, withQuery } from "./api.js";
import { card, table, badge, empty, ago, button, confirm, toast } from "./ui.js";
import { field, agentField, formDialog, text, number, time } from "./forms.js";
import { graph } from "./charts.js";
import { permissionEditor } from "./permissions.js";
import { agentLink, remember } from "./names.js";
import { shortId } from "./format.js";

/** Links that a graph shows; more of them are in the list only. */
const MOST_DRAWN = 60;

export async function delegationView(tenant, { refresh }) {
  const [links, agents] = await Promise.all([all(withQuery("/v1/delegations", { tenantId: tenant, limit: 1000 }), 2000), all(withQuery("/v1/agents", { tenantId: tenant, limit: 1000 }), 5000)]);
  remember(agents);
  const names = new Map(agents.map((agent) => [agent.id, agent]));
  const create = () => session.mayManage && button("Delegate", () => delegate(tenant, refresh), { kind: "primary", glyph: "plus" });
  if (!links.length) {
    return h("div", { class: "card" }, empty("agents", "No delegation yet", agents.length < 2 ? "An agent can lend what it may do to another one. Create two agents first." : "An agent can lend what it may do to another one, never more than it holds. Revoking a link ends all that depend on it.", agents.length < 2 ? session.mayManage && h("a", { class: "button", href: `#/agents/new?tenantId=${tenant}` }, "Create an agent") : create()));
  }
  const alive = links.filter((link) => link.status === "active");
  const live = alive.slice(0, MOST_DRAWN);
  const ids = [...new Set(live.flatMap((link) => [link.fromAgent, link.toAgent]))];
  const nodes = ids.map((id) => {
    const agent = names.get(id);
    return { id, name: agent?.name ?? shortId(id), sub: agent ? `${agent.type} · ${agent.ownerId}` : "", off: agent && agent.status !== "active", href: `#/agents/${id}` };
  });
  const edges = live.map((link) => ({ from: link.fromAgent, to: link.toAgent, label: link.permissions.map((one) => `${one.actions.join(", ")} on ${one.resource}`).join("; ") }));
  const revoke = (link) => button("Revoke", () => confirm("Revoke this delegation?", "It ends at once, and so do all that depend on it, even if their grantor holds the permission itself.", "Revoke", async () => {
    await remove(`/v1/delegations/${link.id}`);
    toast("The delegation is revoked");
    await refresh();
  }), { kind: "small-button danger", label: `Revoke the delegation from ${names.get(link.fromAgent)?.name ?? link.fromAgent} to ${names.get(link.toAgent)?.name ?? link.toAgent}` });
  return h("div", { class: "stack" },
    h("div", { class: "row" }, create()),
    live.length > 0 && card("Who lends to whom", { side: h("span", { class: "small muted" }, alive.length > live.length ? `${live.length} of ${alive.length} live` : `${live.length} live`) }, graph(nodes, edges, "Delegations between agents; the list below shows them too")),
    h("div", { class: "card flush" }, table([
      ["From", (link) => agentLink(link.fromAgent)],
      ["To", (link) => agentLink(link.toAgent)],
      ["May", (link) => link.permissions.map((one) => h("div", {}, h("code", {}, one.resource), " ", one.actions.map((action) => [h("span", { class: "chip" }, action), " "])))],
      ["Depth", (link) => `${link.depth} of ${link.maxDepth}`],
      ["Ends", (link) => (link.expiresAt ? ago(link.expiresAt) : "never")],
      ["Status", (link) => badge(link.status)],
      ["", (link) => session.mayManage && link.status === "active" && revoke(link), "actions"],
    ], links, { label: "Delegations" })));
}

function delegate(tenant, refresh) {
  const editor = permissionEditor([], { templates: false });
  const content = [
    h("div", { class: "fields" },
      agentField("From", "fromAgent", { tenant: () => tenant, onpick: (agent) => { if (!editor.read().some((one) => one.resource)) editor.put(agent.permissions.map(({ resource, actions }) => ({ resource, actions }))); } }),
      agentField("To", "toAgent", { tenant: () => tenant })),
    editor.element,
    h("div", { class: "fields" },
      field("Ends (UTC)", "expiresAt", { type: "datetime-local", hint: "Empty: only when it is revoked." }),
      field("Links a chain may have", "maxDepth", { type: "number", min: 1, placeholder: "3" })),
  ];
  formDialog("Delegate", "Delegate", content, async (form) => {
    const depth = number(form, "maxDepth");
    await post("/v1/delegations", { fromAgent: text(form, "fromAgent"), toAgent: text(form, "toAgent"), permissions: editor.read(), ...(time(form, "expiresAt") && { expiresAt: time(form, "expiresAt") }), ...(depth !== null && { maxDepth: depth }) });
    toast("The permissions are lent");
    await refresh();
  });
}
