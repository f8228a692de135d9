// Webhooks of a tenant: where its messages go, what waits, and what became of them.

import { h } from "./dom.js";
import { session, all, get, post, patch, remove, withQuery } from "./api.js";
import { table, badge, empty, ago, button, confirm, toast, revealSecret, dialog } from "./ui.js";
import { field, formDialog, text } from "./forms.js";
import { count, shortId } from "./format.js";

const FORMATS = [["standard", "Standard Webhooks: signed JSON"], ["slack", "Slack: an incoming webhook"]];
/** Messages that are shown at once. */
const MOST = 100;

/** A tenant's webhooks with what can be done about them. */
export async function webhookCards({ tenant, refresh }) {
  const webhooks = await all(withQuery("/v1/webhooks", { tenantId: tenant }));
  const create = () => session.mayManage && button("New webhook", () => editWebhook({ tenant, refresh }), { kind: "primary", glyph: "plus" });
  if (!webhooks.length) {
    return h("div", { class: "card" }, empty("audit", "No webhook yet", "A webhook tells an endpoint of yours, or a Slack channel, what happens in this tenant: a budget that is nearly used up, an agent that is revoked, a policy that changed.", create()));
  }
  return h("div", { class: "stack" }, h("div", { class: "row" }, create()),
    h("div", { class: "grid" }, webhooks.map((webhook) => h("div", { class: "w6" }, webhookCard(webhook, tenant, refresh)))));
}

function webhookCard(webhook, tenant, refresh) {
  const path = `/v1/webhooks/${webhook.id}`;
  const done = async (said) => { toast(said); await refresh(); };
  const disabled = webhook.status === "disabled";
  const fact = (label, value) => h("div", {}, h("dt", {}, label), h("dd", {}, value));
  return h("section", { class: "card stack tight", "aria-label": `Webhook ${webhook.id}`, "data-webhook": webhook.id },
    h("div", { class: "row apart" }, h("h2", { class: "wrap" }, webhook.description ?? webhook.url), h("span", { class: "row" }, h("span", { class: "badge plain" }, webhook.format), badge(webhook.status))),
    webhook.description && h("code", { class: "wrap small" }, webhook.url),
    h("div", {}, webhook.events.map((name) => [h("span", { class: "chip" }, name), " "])),
    h("dl", { class: "facts" },
      fact("Waiting", count(webhook.pending)),
      fact("Given up", count(webhook.dead)),
      fact("Last", webhook.lastOutcome ? [`${webhook.lastOutcome} `, ago(webhook.lastOutcomeAt)] : "nothing sent yet")),
    webhook.lastProblem && h("p", { class: "notice small" }, `${webhook.lastOutcome === "failed" ? "The last attempt failed, and comes again" : "The last message was given up"}: ${webhook.lastProblem}`),
    h("div", { class: "row" },
      session.mayManage && button("Send a test", async () => { await post(`${path}/test`, {}); toast("The test is on its way"); await showDeliveries(webhook, refresh); }, { kind: "small-button" }),
      button("Messages", () => showDeliveries(webhook, refresh), { kind: "small-button" }),
      session.mayManage && [
        button("Edit", () => editWebhook({ tenant, webhook, refresh }), { kind: "small-button" }),
        button(disabled ? "Enable" : "Disable", async () => { await patch(path, { status: disabled ? "active" : "disabled" }); await done(disabled ? "The webhook is on" : "The webhook is off"); }, { kind: "small-button" }),
        button("New secret", () => confirm("Make a new secret?", "For a day, messages are signed with the old one too. Change the endpoint until then.", "New secret", async () => { revealSecret("The new secret", "secret", (await post(`${path}/rotate`, {})).secret, "Give it to the library that checks the signatures.", refresh); }, { danger: false }), { kind: "small-button" }),
        button("Delete", () => confirm("Delete this webhook?", "What waits for it is not sent.", "Delete", async () => { await remove(path); await done("The webhook is deleted"); }), { kind: "small-button danger" }),
      ]),
    h("span", { class: "small muted mono", title: webhook.id }, shortId(webhook.id)));
}

async function showDeliveries(webhook, refresh) {
  const path = `/v1/webhooks/${webhook.id}/deliveries`;
  const deliveries = await get(withQuery(path, { limit: MOST }));
  dialog("Messages", (close, heading) => {
    const again = (delivery) => button("Send again", async () => {
      await post(`${path}/${delivery.id}/redeliver`, {});
      toast("It is sent again");
      close();
      await refresh();
    }, { kind: "small-button", label: `Send ${delivery.id} again` });
    const shown = h("div", { class: "body stack" }, heading,
      deliveries.length ? table([
        ["Type", (delivery) => h("code", {}, delivery.type)],
        ["Status", (delivery) => badge(delivery.status)],
        ["Answer", (delivery) => delivery.problem ?? delivery.httpStatus ?? "–", "wrap"],
        ["Happened", (delivery) => ago(delivery.createdAt)],
        ["", (delivery) => session.mayManage && delivery.status !== "pending" && again(delivery), "actions"],
      ], deliveries, { label: "Messages" }) : h("p", { class: "muted" }, "Nothing was sent yet."),
      deliveries.length >= MOST && h("span", { class: "small muted" }, `The newest ${MOST} are shown; the API has all.`));
    return [shown, h("div", { class: "foot" }, button("Close", () => { close(); return refresh(); }, { kind: "primary" }))];
  }, { kind: "wide" });
}

function editWebhook({ tenant, webhook, refresh }) {
  const content = [
    field("URL", "url", { type: "url", value: webhook?.url ?? "", placeholder: "https://ops.example.com/kavach", wide: true }),
    field("Messages", "events", { value: webhook?.events.join(", ") ?? "budget.threshold, agent.revoked", wide: true, hint: "Names, prefixes such as agent.*, or * for all." }),
    field("Format", "format", { options: FORMATS, value: webhook?.format ?? "standard" }),
    field("Description", "description", { value: webhook?.description ?? "", placeholder: "To the pager" }),
  ];
  formDialog(webhook ? "Edit webhook" : "New webhook", webhook ? "Save" : "Create webhook", content, async (form) => {
    const body = {
      url: text(form, "url"), format: text(form, "format"), description: text(form, "description") || null,
      events: text(form, "events").split(",").map((name) => name.trim()).filter(Boolean),
    };
    if (webhook) {
      await patch(`/v1/webhooks/${webhook.id}`, body);
      toast("Saved");
      return refresh();
    }
    const made = await post("/v1/webhooks", { tenantId: tenant === "default" ? null : tenant, ...body });
    revealSecret("The new webhook's secret", "secret", made.secret, "Messages are signed with it. Give it to the library that checks the signatures.", refresh);
  });
}
