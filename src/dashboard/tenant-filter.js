// The choice of a tenant, for pages that show one tenant or all.

import { session, all } from "./api.js";
import { field } from "./forms.js";

/** All tenants to choose from; a tenant key has only its own. */
export const tenantChoices = () => (session.isOperator ? all("/v1/tenants?limit=1000") : Promise.resolve([session.who.tenant]));

/** A field to choose a tenant, or all of them. */
export function tenantFilter(tenants, chosen, { allName = "All tenants", onchange, wide } = {}) {
  return field("Tenant", "tenantId", {
    value: chosen,
    wide,
    onchange,
    options: [...(allName ? [["", allName]] : []), ["default", "Default"], ...tenants.map((one) => [one.slug, one.name])],
  });
}
