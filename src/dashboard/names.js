// Names of agents and tenants for their ids, each asked for once.

import { h } from "./dom.js";
import { get, session } from "./api.js";
import { shortId } from "./format.js";

const known = new Map();
const waiting = [];
let busy = 0;
/** Names that are asked for at once. */
const MOST_BUSY = 4;

function pump() {
  while (busy < MOST_BUSY && waiting.length) {
    const [path, settle] = waiting.shift();
    busy += 1;
    get(path).then((item) => settle(item.name), (error) => {
      // What was deleted has no name. After any other failure the name is asked for again.
      if (error.status !== 404) known.delete(path);
      settle(null);
    }).finally(() => { busy -= 1; pump(); });
  }
}

function nameOf(path) {
  if (!known.has(path)) {
    known.set(path, new Promise((resolve) => { waiting.push([path, resolve]); }));
    pump();
  }
  return known.get(path);
}

/** Keeps what was read anyway. */
export function remember(agents) {
  for (const agent of agents) known.set(`/v1/agents/${agent.id}`, Promise.resolve(agent.name));
}

/** Forgets a name that was changed. */
export const forget = (path) => known.delete(path);

/** Forgets all names, which the next to sign in may not see. */
export function forgetAll() {
  known.clear();
  for (const [, settle] of waiting.splice(0)) settle(null);
}

/** A link to an agent by its name. */
export function agentLink(id) {
  if (!id) return h("span", { class: "muted" }, "–");
  const link = h("a", { href: `#/agents/${id}`, title: id }, shortId(id));
  nameOf(`/v1/agents/${encodeURIComponent(id)}`).then((name) => { if (name) link.textContent = name; });
  return link;
}

/** A link to a tenant by its name; null is the default one. */
export function tenantLink(id) {
  const link = h("a", { href: `#/tenants/${id ?? "default"}` }, id ? shortId(id) : "Default");
  if (id) (session.isOperator ? nameOf(`/v1/tenants/${encodeURIComponent(id)}`) : Promise.resolve(session.who.tenant.name)).then((name) => { if (name) link.textContent = name; });
  return link;
}
