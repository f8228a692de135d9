// Why a call is allowed or denied: the explain endpoint, step by step.

import { h, show, icon } from "./dom.js";
import { session, post, withQuery, Problem } from "./api.js";
import { pageHead, card, empty } from "./ui.js";
import { agentField, field, form, text } from "./forms.js";
import { span, words, shortId } from "./format.js";
import { agentLink } from "./names.js";
import { CONSTRAINTS } from "./permissions.js";
import { tenantFilter, tenantChoices } from "./tenant-filter.js";

export async function why({ query }) {
  const tenants = session.isOperator ? await tenantChoices() : [];
  const given = (name) => query.get(name) ?? "";
  const answer = h("div", { "aria-live": "polite" }, card("Steps", { kind: "flush" }, empty("why", "Ask about a call", "Choose an agent and what it would do. Nothing is recorded and nothing is charged.")));
  let tenant = given("tenantId");
  const content = [
    h("div", { class: "fields" },
      session.isOperator && tenantFilter(tenants, tenant, { wide: true, onchange: (event) => { tenant = event.target.value; } }),
      agentField("Agent", "agentId", { tenant: () => tenant, value: given("agentId"), wide: true }),
      field("Action", "action", { value: given("action"), placeholder: "read", wide: true }),
      field("Resource", "resource", { value: given("resource"), placeholder: "mcp:github:list_issues", "data-search": "", wide: true }),
      field("Arguments, JSON", "arguments", { as: "textarea", rows: 4, wide: true, value: pretty(given("arguments")), placeholder: '{"path": "/srv/data/report.csv"}' }),
      field("Address", "context.ip", { value: given("ip"), placeholder: "10.0.0.7" }),
      field("Cost", "tokensCost", { value: given("cost"), inputmode: "decimal", placeholder: "0" })),
  ];
  const element = form(content, "Explain", async (entered) => {
    const [args, cost, ip] = ["arguments", "tokensCost", "context.ip"].map((name) => text(entered, name));
    let parsed;
    try { parsed = args ? JSON.parse(args) : undefined; } catch (error) {
      throw new Problem(0, { detail: `arguments must be JSON: ${error.message}`, details: { field: "arguments" } });
    }
    const agentId = text(entered, "agentId");
    if (!agentId) throw new Problem(0, { detail: "choose an agent from the list, or paste its id", details: { field: "agentId" } });
    const call = { agentId, action: text(entered, "action"), resource: text(entered, "resource"), arguments: parsed, tokensCost: cost ? (Number.isNaN(Number(cost)) ? cost : Number(cost)) : undefined, context: ip ? { ip } : undefined };
    const explained = await post("/v1/authorize/explain", call);
    show(answer, result(explained));
    history.replaceState(null, "", withQuery("#/why", { agentId, action: call.action, resource: call.resource, arguments: args, ip, cost }));
  });
  const old = given("from");
  // A link that fills all fields asks at once.
  if (given("agentId") && given("action") && given("resource")) setTimeout(() => element.requestSubmit());
  return [
    pageHead("Why?", { sub: old ? `Filled in from the entry ${shortId(old)}. The answer is about now: permissions, budgets and the time may have changed since.` : "What would be decided now, and what each step of the decision saw. Nothing is recorded or charged." }),
    h("div", { class: "grid" }, h("div", { class: "w5" }, h("div", { class: "card" }, element)), h("div", { class: "w7" }, answer)),
  ];
}

function pretty(json) {
  try { return json ? JSON.stringify(JSON.parse(json), null, 2) : ""; } catch { return json; }
}

/** The step that settled it: the failure that became the reason, or the last permission that held. */
function deciding({ allowed, reason, steps }) {
  const last = (held) => steps.map(held).lastIndexOf(true);
  if (allowed) return last((step) => step.passed && step.check === "permission");
  const same = last((step) => !step.passed && step.detail === reason);
  return same >= 0 ? same : last((step) => !step.passed);
}

function result(explained) {
  const { allowed, code, reason, retryAfter, policyId, warnings = [], steps, moreSteps } = explained;
  const settled = deciding(explained);
  const tone = allowed ? (warnings.length ? "warn" : "ok") : code === "RATE_LIMITED" || retryAfter !== undefined ? "warn" : "bad";
  const verdict = h("div", { class: `verdict ${tone}`, "data-verdict": allowed ? "allowed" : "denied" }, icon(allowed ? "pass" : "fail"), h("div", { class: "stack tight" },
    h("div", {}, h("b", {}, allowed ? "Allowed" : "Denied"), code && h("span", { class: "mono small" }, ` ${code}`)),
    reason && h("p", { class: "wrap" }, reason),
    retryAfter !== undefined && h("p", { class: "small" }, `The call can be allowed in ${span(retryAfter)}.`),
    policyId && h("p", { class: "small" }, "Policy ", h("code", {}, shortId(policyId))),
    warnings.map((warning) => h("p", { class: "small wrap" }, warning.message))));
  const list = h("ol", { class: "steps" }, steps.map((step, n) => {
    const decides = n === settled;
    const refs = [
      decides && h("span", { class: "badge plain" }, "decided it"),
      step.permission !== undefined && h("span", {}, `permission ${step.permission + 1}`),
      step.agent && h("span", {}, "of ", agentLink(step.agent)),
      step.delegation && h("span", {}, "delegation ", h("code", {}, shortId(step.delegation))),
      step.policy && h("span", {}, "policy ", h("code", {}, shortId(step.policy))),
    ].filter(Boolean);
    return h("li", { class: `${decides ? "decides" : ""} ${Object.hasOwn(CONSTRAINTS, step.check) ? "nested" : ""}` },
      icon(step.passed ? "pass" : decides && !allowed ? "fail" : "skip", step.passed ? "ok" : decides && !allowed ? "bad" : "muted"),
      h("span", { class: "name" }, words(step.check), h("span", { class: "sr" }, step.passed ? " held" : decides ? " failed and decided it" : " did not hold")),
      h("div", { class: "stack tight" }, h("span", { class: "wrap" }, step.detail),
        refs.length > 0 && h("span", { class: "refs muted" }, refs)));
  }));
  return h("div", { class: "stack" }, verdict, card("Steps", { kind: "flush", side: h("span", { class: "small muted" }, `${steps.length}${moreSteps ? ` and ${moreSteps} more` : ""}`) }, list));
}
