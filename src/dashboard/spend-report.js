// Spend reports of the server: asking for one, and its parts that several pages show.

import { h } from "./dom.js";
import { get, download, withQuery } from "./api.js";
import { button } from "./ui.js";
import { UTC, isZone } from "./forms.js";
import { cost, costDigits, count, dayName, monthName } from "./format.js";
import { agentLink, tenantLink } from "./names.js";

/** What reports are grouped by here: `[name in the API, column, label]`. */
export const GROUPS = [
  ["tenant", "tenantId", "Tenant"],
  ["owner", "userId", "Owner"],
  ["agent", "agentId", "Agent"],
  ["action", "action", "Action"],
  ["resource", "resource", "Resource"],
  ["day", "day", "Day"],
  ["month", "month", "Month"],
];

/** What comes before a label's key in the name of a group. */
export const LABEL = "label:";

/** The column of a group's values, and its name for people. */
export const columnOf = (by) => (by.startsWith(LABEL) ? by : GROUPS.find(([name]) => name === by)[1]);
export const groupName = (by) => (by.startsWith(LABEL) ? `Label ${by.slice(LABEL.length)}` : GROUPS.find(([name]) => name === by)[2]);

/** A report. */
export const report = (query, options) => get(withQuery("/v1/spend", query), options);

/** A group's value as text or a link. */
export function groupValue(by, value) {
  if (by === "tenant") return tenantLink(value);
  if (by === "agent") return value ? agentLink(value) : h("span", { class: "muted" }, "no agent");
  if (value === null) return h("span", { class: "muted" }, by === "owner" ? "unknown agents" : by.startsWith(LABEL) ? "without this label" : "usage reports");
  return by === "day" ? h("span", { class: "nowrap" }, dayName(value)) : by === "month" ? monthName(value) : by === "resource" ? h("code", { class: "wrap" }, value.split(/(?<=[:_/])/).map((part) => [part, h("wbr")])) : value === "" ? h("span", { class: "muted" }, "empty") : value;
}

/** A table's columns of sums, for these rows. What is held is left out where nothing is. */
export function sumColumns(rows) {
  const costs = (name) => {
    const digits = costDigits(rows.map((row) => row[name]));
    return (row) => cost(row[name], digits);
  };
  const counted = costs("cost");
  return [
    ["Calls", (row) => count(row.calls), "num"],
    ["Denied", (row) => count(row.denied), "num"],
    ["Estimated", costs("estimated"), "num"],
    ["Settled", costs("settled"), "num"],
    ...(rows.some((row) => row.held > 0) ? [["Held", costs("held"), "num"]] : []),
    ["Cost", (row) => h("b", {}, counted(row)), "num"],
  ];
}

/** A button that downloads a report as CSV that a spreadsheet may open. */
export const csvButton = (query) => button("CSV", async () => {
  const { blob, name } = await download(withQuery("/v1/spend", { ...query, format: "csv", spreadsheet: "true" }));
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}, { label: "Download as CSV" });

/** The day of a time in a zone, such as `2026-11-30`. A zone that the browser does not know is for the server to refuse. */
export function dayIn(zone = UTC, time = new Date()) {
  return isZone(zone) ? new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" }).format(time) : dayIn(UTC, time);
}

/** The month of a day, such as `2026-11`; months count from this one with `by`. */
export function monthOf(day = dayIn(), by = 0) {
  const [year, month] = day.split("-").map(Number);
  return new Date(Date.UTC(year, month - 1 + by, 1)).toISOString().slice(0, 7);
}

/** The days of a month: its first, and the first of the next. */
export const daysOf = (month) => ({ since: `${month}-01`, until: `${monthOf(month, 1)}-01` });

/** Sums that are only shown are added here; floats leave digits past the last millionth. */
const plus = (map, key, amount) => map.set(key, Math.round(((map.get(key) ?? 0) + amount) * 1e6) / 1e6);

/** What agents and owners cost this month, as text: `{agent(id), owner(tenantId, name)}`; null where the report is too large. */
export async function costsThisMonth(tenantId, signal) {
  const [agents, owners] = [new Map(), new Map()];
  const owner = (tenant, name) => JSON.stringify([tenant, name]);
  try {
    const { rows } = await report({ tenantId, groupBy: "tenant,agent,owner", since: `${monthOf()}-01` }, { signal });
    for (const row of rows) {
      plus(agents, row.agentId, row.cost);
      plus(owners, owner(row.tenantId, row.userId), row.cost);
    }
  } catch {
    // The page is about agents: it stands without what they cost.
    return null;
  }
  const digits = costDigits([...agents.values(), ...owners.values()]);
  return { agent: (id) => cost(agents.get(id) ?? 0, digits), owner: (tenant, name) => cost(owners.get(owner(tenant, name)) ?? 0, digits) };
}
