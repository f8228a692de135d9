// The overview: decisions over time, slow tenants, and budgets near their limit.

import { h, show } from "./dom.js";
import { session, get, withQuery } from "./api.js";
import { pageHead, card, table, budgetBadge, empty, bar } from "./ui.js";
import { timeChart, legend } from "./charts.js";
import { count, ms, relative, span, words } from "./format.js";
import { agentLink, tenantLink } from "./names.js";

/** Milliseconds between two looks, while the page is seen. */
const EVERY = 2000;

/** Seconds over which the rate that is shown is taken. */
const RATE_SECONDS = 5;

const tile = (label) => {
  const value = h("b", {}, "–");
  return { element: h("div", { class: "tile" }, value, h("span", {}, label)), set: (text) => { value.textContent = text; } };
};

export async function overview({ query, signal }) {
  const tenant = query.get("tenantId") ?? "";
  const path = withQuery("/v1/stats", { tenantId: tenant });
  const first = await get(path, { signal });

  const tiles = { rate: tile("decisions/s"), allowed: tile("allowed"), denied: tile("denied"), limited: tile("rate-limited"), agents: tile("active agents"), p99: tile("p99, 5 minutes") };
  const tenants = session.isOperator && !tenant ? tile("active tenants") : null;
  const [seconds, minutes] = [timeChart("Decisions in each second of the last minute", "second"), timeChart("Decisions in each minute of the last hour", "minute")];
  const [slow, budgets, denials, stamp] = [h("div"), h("div"), h("div"), h("span", { class: "small muted num" })];

  const draw = (stats) => {
    const recent = ["allowed", "denied", "rateLimited"].reduce((sum, name) => sum + stats.seconds[name].slice(-RATE_SECONDS).reduce((a, b) => a + b, 0), 0) / RATE_SECONDS;
    tiles.rate.set(recent >= 10 || recent === 0 ? count(recent) : recent.toFixed(1));
    tiles.allowed.set(count(stats.decisions.allowed));
    tiles.denied.set(count(stats.decisions.denied));
    tiles.limited.set(count(stats.decisions.rateLimited));
    tiles.agents.set(count(stats.agents.active));
    tiles.p99.set(stats.latency.count ? ms(stats.latency.p99Ms) : "–");
    tenants?.set(count(stats.tenants?.active ?? 0));
    seconds.update(stats.seconds, stats.startedAt);
    minutes.update(stats.minutes, stats.startedAt);
    show(slow, slowest(stats.slowestTenants));
    show(budgets, nearLimit(stats.budgets));
    show(denials, reasons(stats.denials, stats.startedAt));
    stamp.textContent = `Counted since the server started, ${relative(stats.startedAt)}`;
  };

  const timer = setInterval(async () => {
    if (document.visibilityState !== "visible" || signal.aborted) return;
    try { draw(await get(path, { signal })); } catch { stamp.textContent = "The server did not answer; trying again"; }
  }, EVERY);
  signal.addEventListener("abort", () => clearInterval(timer));

  const content = [
    pageHead(tenant ? `Overview of ${tenant}` : "Overview", {
      crumb: tenant && h("a", { href: "#/overview" }, "All tenants"),
      sub: stamp,
    }),
    h("div", { class: "stack" },
    h("div", { class: "tiles", "data-tiles": "" }, [tiles.rate, tiles.allowed, tiles.denied, tiles.limited, tiles.agents, tenants, tiles.p99].filter(Boolean).map((one) => one.element)),
    h("div", { class: "grid" },
      h("div", { class: "w6" }, card("Last minute", { side: legend() }, seconds.element)),
      h("div", { class: "w6" }, card("Last hour", { side: legend() }, minutes.element)),
      h("div", { class: "w8" }, card("Budgets near their limit", { kind: "flush", id: "budgets" }, budgets)),
      h("div", { class: "w4" }, card("Why calls were denied", {}, denials)),
      h("div", { class: "w12" }, card(session.isOperator ? "Slowest tenants, last 5 minutes" : "Time in the server, last 5 minutes", { kind: "flush" }, slow)))),
  ];
  draw(first);
  return content;
}

/** What a policy does once a limit of it is used up. */
const ACTS = { warn: "warns", throttle: "throttles", block: "blocks", revoke: "revokes" };

function nearLimit(budgets) {
  if (!budgets.length) {
    return empty("pass", "All budgets have room", "A policy shows up here once four fifths of one of its limits are used, or on a day when it denied a call.");
  }
  const unit = (budget, amount) => (budget.limit.includes("Cost") ? amount : count(amount));
  return table([
    ["Tenant", (budget) => h("a", { href: `#/tenants/${budget.slug}/policies` }, budget.slug)],
    ["Limit", (budget) => [h("span", { class: "nowrap" }, words(budget.limit).replace("max ", "").replace("tokens ", "")), h("div", { class: "small muted" }, budget.agentId ? ["only ", agentLink(budget.agentId)] : budget.userId ? `owner ${budget.userId}` : "all agents")]],
    ["Used", (budget) => h("div", { class: "meter" }, h("div", { class: "meter-line num" }, h("span", {}, `${unit(budget, budget.used)} of ${unit(budget, budget.max)}`), h("span", {}, `${Math.floor(Math.min(budget.share, 9.99) * 100)} %`)), bar(budget.share, `${Math.floor(budget.share * 100)} % used`))],
    ["Resets", (budget) => h("span", { class: "nowrap" }, budget.resetsAt ? `in ${span(Math.max(0, (new Date(budget.resetsAt) - Date.now()) / 1000))}` : "never")],
    ["Status", (budget) => [budgetBadge(budget, budget.share), h("div", { class: "small muted" }, ACTS[budget.action])]],
  ], budgets, { label: "Budgets near their limit" });
}

function reasons(denials, since) {
  if (!denials.length) return h("p", { class: "muted" }, `No denial since the server started, ${relative(since)}. `, h("a", { href: "#/audit?result=denied" }, "The audit trail"), " has those before.");
  const most = Math.max(...denials.map((one) => one.count));
  return h("div", { class: "stack tight" }, denials.slice(0, 8).map((one) => h("div", { class: "meter" },
    h("div", { class: "meter-line" }, h("a", { href: "#/audit?result=denied", class: "mono small" }, one.code), h("span", { class: "num" }, count(one.count))),
    share(one.count / most))));
}

/** A bar without a limit's colours. */
function share(part) {
  const element = bar(Math.min(part, 0.79), "");
  element.removeAttribute("role");
  element.removeAttribute("aria-label");
  element.setAttribute("aria-hidden", "true");
  element.querySelector(".fill").setAttribute("width", part * 100);
  return element;
}

function slowest(tenants) {
  if (!tenants.length) {
    return empty("overview", "No calls in the last 5 minutes", "Once an agent asks for a decision, its tenant's time in the server is here.", session.mayManage && h("a", { class: "button", href: "#/agents/new" }, "Create an agent"));
  }
  const most = Math.max(...tenants.map((one) => one.p99Ms));
  return table([
    ["Tenant", (one) => (one.tenantId ? h("a", { href: `#/tenants/${one.slug}` }, one.name) : tenantLink(null))],
    ["Decisions", (one) => count(one.decisions), "num"],
    ["p99", (one) => ms(one.p99Ms), "num"],
    ["", (one) => h("div", { class: "mid" }, share(one.p99Ms / most)), "share"],
  ], tenants, { label: "Slowest tenants" });
}
