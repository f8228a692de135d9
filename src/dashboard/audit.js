// The audit trail: filters, the live tail, and exports.

import { h, append, show } from "./dom.js";
import { session, get, page, follow, download, withQuery } from "./api.js";
import { pageHead, badge, empty, button, table, tableRow, dialog, report } from "./ui.js";
import { field } from "./forms.js";
import { dateTime, ms } from "./format.js";
import { agentLink, tenantLink } from "./names.js";
import { tenantFilter, tenantChoices } from "./tenant-filter.js";

/** Entries of one page, and the most that a live tail keeps. */
const PAGE = 50;
const MOST_ROWS = 200;
const FILTERS = ["tenantId", "kind", "result", "agentId", "userId", "actions", "code", "resource", "ip", "since", "until"];

export async function audit(ctx) {
  return [pageHead("Audit", { sub: "Every decision, usage report and change is one entry that nothing updates." }), await auditView(ctx)];
}

/** An entry's parameters as JSON, or nothing where there are none. */
function parametersOf({ parameters }, indent) {
  const text = JSON.stringify(parameters, null, indent);
  return text === "{}" || text === "null" ? "" : text;
}

/** The page that asks why, filled in from an entry. */
export const whyLink = (entry) => withQuery("#/why", {
  agentId: entry.agentId, action: entry.action, resource: entry.resource, ip: entry.ip,
  arguments: parametersOf(entry, 0), cost: entry.tokensCost, from: entry.id,
});

/** A table of entries; `add` puts a newer one on top. */
export function auditTable(entries, { showAgent = true, showTenant = true } = {}) {
  const columns = [
    ["Time (UTC)", (entry) => h("span", { class: "num nowrap" }, dateTime(entry.timestamp))],
    ["Result", (entry) => badge(entry.result)],
    ...(showTenant ? [["Tenant", (entry) => tenantLink(entry.tenantId)]] : []),
    ...(showAgent ? [["Agent", (entry) => (entry.kind === "admin" ? h("span", { class: "muted" }, entry.by ?? "–") : agentLink(entry.agentId))]] : []),
    ["Action", (entry) => entry.action],
    ["Resource", (entry) => [h("button", { type: "button", class: "link mono", onclick: () => details(entry), "aria-label": `Details of ${entry.action} on ${entry.resource}` }, entry.resource),
      entry.code && h("div", { class: "small muted reason", title: entry.reason }, entry.reason)], "wrap"],
  ];
  const element = table(columns, entries, { label: "Audit entries" });
  const body = element.querySelector("tbody");
  return {
    element, body,
    add: (entry) => { body.prepend(tableRow(columns, entry, { class: "new", "data-id": entry.id })); while (body.rows.length > MOST_ROWS) body.lastChild.remove(); },
    extend: (more) => append(body, more.map((entry) => tableRow(columns, entry))),
  };
}

/** What entries of each kind are called. */
const KINDS = { decision: "Decision", usage: "Usage report", admin: "Change", delivery: "Message to a webhook" };

/** An entry in full. */
function entryFacts(entry) {
  const fact = (label, value) => value !== null && value !== undefined && h("div", {}, h("dt", {}, label), h("dd", {}, value));
  const long = (label, id, link = (shown) => shown) => id && h("div", { class: "long" }, h("dt", {}, label), h("dd", {}, link(h("code", { class: "small" }, id))));
  const toEntry = (id) => (shown) => h("a", { href: `#/audit/${id}` }, shown);
  return [
    entry.reason && h("p", { class: "wrap" }, entry.reason, " ", h("span", { class: "muted mono small" }, entry.code)),
    h("dl", { class: "facts" },
      fact("Time (UTC)", dateTime(entry.timestamp)), fact("Tenant", tenantLink(entry.tenantId)), entry.agentId && fact("Agent", agentLink(entry.agentId)), fact("Owner", entry.userId),
      fact("Action", entry.action), fact("Resource", h("code", {}, entry.resource)), entry.kind === "decision" && fact("Took", ms(entry.durationMs)), fact("Cost", entry.tokensCost), fact("Settled at", entry.settledCost), fact("Held until (UTC)", entry.heldUntil && dateTime(entry.heldUntil)),
      fact("Address", entry.ip), fact("User agent", entry.userAgent), fact("By", entry.keyName ? `${entry.keyName} (${entry.by})` : entry.by),
      long("Policy", entry.policyId), long("Trace", entry.traceId), long("Of decision", entry.ref, toEntry(entry.ref)), long("Entry", entry.id, toEntry(entry.id))),
    parametersOf(entry, 2) && h("div", { class: "field" }, h("span", { class: "label" }, entry.kind === "admin" ? "New values" : entry.kind === "decision" ? "Arguments" : "Details"), h("pre", { tabindex: "0" }, parametersOf(entry, 2))),
    entry.before && h("div", { class: "field" }, h("span", { class: "label" }, "Before"), h("pre", { tabindex: "0" }, JSON.stringify(entry.before, null, 2))),
  ];
}

function details(entry) {
  dialog(KINDS[entry.kind], (close, heading) => [
    h("div", { class: "body" }, h("div", { class: "row apart" }, heading, badge(entry.result)), entryFacts(entry)),
    h("div", { class: "foot" }, entry.kind === "decision" && h("a", { class: "button", href: whyLink(entry), onclick: close }, "Why?"), button("Close", close, { kind: "primary" })),
  ]).addEventListener("click", (event) => { if (event.target.closest("a")) event.currentTarget.close(); });
}

/** One entry, at an address that can be kept. */
export async function auditEntry({ parts, signal }) {
  const entry = await get(`/v1/audit/${encodeURIComponent(parts[1])}`, { signal });
  return [
    pageHead(KINDS[entry.kind], {
      crumb: h("a", { href: "#/audit" }, "Audit"), marks: [badge(entry.result)],
      actions: [entry.kind === "decision" && h("a", { class: "button", href: whyLink(entry) }, "Why?")],
    }),
    h("div", { class: "card stack" }, entryFacts(entry)),
  ];
}

/** The trail with its filters, for one tenant or all that the key may see. */
export async function auditView({ query, signal, tenant, parts }) {
  const given = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  if (tenant) given.tenantId = tenant;
  const rfc = (local) => (local && !local.endsWith("Z") ? `${local.length === 16 ? `${local}:00` : local}Z` : local);
  const filter = { ...given, since: rfc(given.since), until: rfc(given.until) };
  const [tenants, first] = await Promise.all([session.isOperator && !tenant ? tenantChoices() : [], page(withQuery("/v1/audit", { ...filter, limit: PAGE }), { signal })]);
  const address = `#/${parts.join("/")}`;

  const goto = (event) => {
    const entered = event.target.form ?? event.target;
    location.hash = withQuery(address, Object.fromEntries(FILTERS.filter((name) => !(tenant && name === "tenantId")).map((name) => [name, entered.elements[name]?.value.trim()])));
  };
  const filters = h("form", { class: "filters", "aria-label": "Filters", onsubmit: (event) => { event.preventDefault(); goto(event); } },
    session.isOperator && !tenant && tenantFilter(tenants, given.tenantId, { onchange: goto }),
    field("Kind", "kind", { value: given.kind, onchange: goto, options: [["", "Decisions"], ["usage", "Usage reports"], ["admin", "Changes"], ["delivery", "Messages to webhooks"], ["all", "Everything"]] }),
    field("Result", "result", { value: given.result, onchange: goto, options: [["", "Any"], ["allowed", "Allowed"], ["denied", "Denied"], ["rate_limited", "Rate-limited"]] }),
    field("Actions", "actions", { value: given.actions, onchange: goto, placeholder: "read, execute" }),
    field("Code", "code", { value: given.code, onchange: goto, placeholder: "BUDGET_EXCEEDED" }),
    field("Resource", "resource", { value: given.resource, onchange: goto, placeholder: "mcp:github:*" }),
    field("Address", "ip", { value: given.ip, onchange: goto, placeholder: "192.0.2.0/24" }),
    field("Agent id", "agentId", { value: given.agentId, onchange: goto, "data-search": "", placeholder: "agt_…" }),
    field("Owner", "userId", { value: given.userId, onchange: goto }),
    field("Since (UTC)", "since", { type: "datetime-local", value: given.since, onchange: goto }),
    field("Until (UTC)", "until", { type: "datetime-local", value: given.until, onchange: goto }));

  const showTenant = session.isOperator && !given.tenantId;
  const list = auditTable(first.items, { showTenant });
  const seen = new Set(first.items.map((entry) => entry.id));
  const box = h("div", { class: "card flush" });
  const narrowed = FILTERS.some((name) => name !== "tenantId" && given[name]);
  const draw = () => show(box, list.body.rows.length ? list.element : narrowed
    ? empty("audit", "No entries match", "Change the filters to see more.", h("a", { class: "button", href: address }, "Clear the filters"))
    : empty("audit", "Nothing happened yet", "Each decision shows up here. Turn the live tail on and let an agent ask, or try a call without recording it.", h("a", { class: "button", href: "#/why" }, "Try a call")));
  draw();

  let next = first.next;
  const more = button("Show older", async () => {
    const part = await page(next);
    list.extend(part.items);
    next = part.next;
    more.hidden = !next;
  });
  more.hidden = !next;

  const live = liveTail({ filter, signal, last: first.items[0]?.id, seen, list, draw });
  const exports = h("div", { class: "row", role: "group", "aria-label": "Export" }, h("span", { class: "small muted" }, "Export"), ["csv", "ndjson", "json"].map((format) => button(format.toUpperCase(), async () => {
    const { blob, name } = await download(withQuery("/v1/audit/export", { ...filter, format, spreadsheet: format === "csv" ? "true" : "" }));
    const url = URL.createObjectURL(blob);
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }, { kind: "small-button", label: `Export as ${format.toUpperCase()}` })));
  return h("div", { class: "stack" }, h("div", { class: "card stack" }, filters, h("div", { class: "row apart" }, live, exports)), box, h("div", { class: "row" }, more));
}

/** The buttons of the live tail. */
function liveTail({ filter, signal, last, seen, list, draw }) {
  let following = null, paused = false, held = [], frame = 0, newest = last;
  const state = h("span", { class: "row small muted", role: "status" });
  const take = (entry) => {
    if (seen.has(entry.id)) return;
    seen.add(entry.id);
    list.add(entry);
    if (list.body.rows.length === 1) draw();
    // No row refers to an older id.
    if (seen.size > 10 * MOST_ROWS) [...seen].slice(0, 5 * MOST_ROWS).forEach((id) => seen.delete(id));
  };
  /** Draws what came since the last frame: a flood may not stop the page. */
  const flush = () => {
    frame = 0;
    if (!paused && !signal.aborted) held.splice(0).forEach(take);
  };
  const say = (name) => show(state, following && [!paused && name === "live" && h("span", { class: "live-dot" }), paused ? `Paused, ${held.length}${held.length === MOST_ROWS ? " or more" : ""} new` : name === "live" ? "Following" : "Reconnecting…"]);
  let name = "";
  const toggle = button("Live tail", () => {
    if (following) {
      following.abort();
      following = null;
      paused = false;
      flush();
    } else {
      following = new AbortController();
      const mine = following;
      signal.addEventListener("abort", () => mine.abort());
      const { until, ...rest } = filter;
      follow(withQuery("/v1/audit/stream", rest), {
        last: newest, signal: mine.signal,
        onentry: (entry) => {
          newest = entry.id;
          held.push(entry);
          // Rows beyond the limit would be drawn only to be removed.
          if (held.length > MOST_ROWS) held.shift();
          if (paused) say(name); else frame ||= requestAnimationFrame(flush);
        },
        onstate: (now) => { name = now; say(name); },
      }).catch((error) => { report(error); mine.abort(); if (following === mine) { following = null; look(); } });
    }
    look();
  });
  const hold = button("Pause", () => {
    paused = !paused;
    flush();
    look();
  });
  const look = () => {
    toggle.setAttribute("aria-pressed", following ? "true" : "false");
    toggle.className = following ? "primary" : "";
    hold.hidden = !following;
    hold.textContent = paused ? "Resume" : "Pause";
    say(name);
  };
  look();
  return h("div", { class: "row" }, toggle, hold, state);
}
