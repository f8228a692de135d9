// A tenant's month as a page to print.

import { h } from "./dom.js";
import { get, withQuery } from "./api.js";
import { pageHead, button, empty, table } from "./ui.js";
import { UTC, field, text, zoneField } from "./forms.js";
import { dateTime, monthName } from "./format.js";
import { columnOf, csvButton, dayIn, daysOf, groupValue, monthOf, report, sumColumns } from "./spend-report.js";

/** Months that can be chosen. */
const MONTHS = 24;

const LINES = [["owner", "Owner"], ["agent", "Agent"]];

export async function invoice({ parts, query, signal }) {
  const [, slug, given] = parts;
  const zone = query.get("timeZone") || UTC;
  const month = /^\d{4}-(0[1-9]|1[0-2])$/.test(given) ? given : monthOf(dayIn(zone));
  const by = query.get("by") === "agent" ? "agent" : "owner";
  const filter = { tenantId: slug, ...daysOf(month), timeZone: zone, groupBy: by };
  const [tenant, found] = await Promise.all([get(`/v1/tenants/${encodeURIComponent(slug)}`, { signal }), report(filter, { signal })]);
  const column = columnOf(by);
  const months = Array.from({ length: MONTHS }, (_, n) => monthOf(dayIn(zone), -n));
  if (!months.includes(month)) months.push(month);
  const goto = (event) => {
    const { elements } = event.target.form;
    location.hash = withQuery(`#/invoice/${tenant.slug}/${elements.month.value}`, { by: elements.by.value, timeZone: text(event.target.form, "timeZone") });
  };
  const choices = h("form", { class: "filters card screen-only", "aria-label": "Invoice of", onsubmit: (event) => event.preventDefault() },
    field("Month", "month", { value: month, onchange: goto, options: months.map((one) => [one, monthName(one)]) }),
    zoneField(zone, { onchange: goto }),
    field("A line for each", "by", { value: by, onchange: goto, options: LINES }));
  const lines = [...[...found.rows].sort((a, b) => b.cost - a.cost || b.calls - a.calls), { ...found.total, isTotal: true }];
  const columns = [
    [by === "owner" ? "Owner" : "Agent", (row) => (row.isTotal ? h("b", {}, "Sum") : groupValue(by, row[column]))],
    ...sumColumns(lines),
  ];
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const over = monthOf(dayIn(zone, new Date(found.asOf))) > month;
  return [
    pageHead(`${tenant.name}, ${monthName(month)}`, {
      crumb: h("a", { href: withQuery("#/spend", { tenantId: tenant.slug, timeZone: query.get("timeZone") }), class: "screen-only" }, "Spend"),
      actions: [h("span", { class: "row screen-only" }, csvButton(filter), button("Print", () => window.print(), { kind: "primary" }))],
    }),
    h("div", { class: "stack invoice" }, choices,
      h("div", { class: "card" }, h("dl", { class: "facts" },
        fact("Tenant", tenant.name), fact("Month", monthName(month)), fact("Time zone", zone), fact("As of (UTC)", dateTime(found.asOf)),
        h("div", { class: "long" }, h("dt", {}, "Id"), h("dd", {}, h("code", { class: "small" }, tenant.id ?? "default"))))),
      !over && h("p", { class: "notice" }, "The month is not over: this is what it has cost so far."),
      h("div", { class: "card flush", id: "invoice-lines" }, found.rows.length
        ? table(columns, lines, { label: "Lines", row: (row) => (row.isTotal ? { class: "sum" } : {}) })
        : empty("spend", "Nothing was spent", `No call and no usage report of ${monthName(month)} is on record.`)),
      h("p", { class: "small muted" }, "Each call counts in the month in which it was decided, with its real cost where that was reported, else with its estimate. Usage reports without a decision count in their own month.")),
  ];
}
