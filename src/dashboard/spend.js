// What was spent, by day and by whatever one groups by.

import { h, s } from "./dom.js";
import { session, withQuery } from "./api.js";
import { pageHead, card, table, empty, bar } from "./ui.js";
import { UTC, field, zoneField } from "./forms.js";
import { barChart, roundUp } from "./charts.js";
import { cost, count, dateTime, dayName, monthName } from "./format.js";
import { tenantFilter, tenantChoices } from "./tenant-filter.js";
import { GROUPS, LABEL, columnOf, csvButton, dayIn, daysOf, groupName, groupValue, monthOf, report, sumColumns } from "./spend-report.js";

const DAY_MS = 86400000;
/** More days than that are drawn as months: their bars would be too thin. */
const MOST_DAYS = 92;
/** Groups with a colour of their own; the chart adds up the others. */
const MOST_SERIES = 5;
/** Tops of the axis, whose halves have few digits too. */
const TOPS = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10];
/** Rows of the table; the CSV has all. */
const MOST_ROWS = 200;

const PERIODS = [["month", "This month"], ["last", "Last month"], ["7", "Last 7 days"], ["30", "Last 30 days"], ["custom", "Custom"]];

/** The day that many days behind another. Days are counted in UTC, where all have 24 hours. */
const dayAfter = (day, days = 1) => new Date(new Date(day).getTime() + days * DAY_MS).toISOString().slice(0, 10);

/** The days of a period that goes up to today; `until` is the day behind the last one. */
function daysIn(period, given, today) {
  if (period === "custom") return { since: given.since || `${monthOf(today)}-01`, until: dayAfter(given.until || today) };
  if (period === "last") return daysOf(monthOf(today, -1));
  if (period === "7" || period === "30") return { since: dayAfter(today, 1 - Number(period)), until: dayAfter(today) };
  return daysOf(monthOf(today));
}

export async function spend({ query, signal }) {
  const given = Object.fromEntries(["tenantId", "agentId", "userId", "period", "timeZone", "since", "until", "by"].map((name) => [name, query.get(name) ?? ""]));
  const groups = GROUPS.filter(([name]) => name !== "tenant" || (session.isOperator && !given.tenantId));
  const isLabel = given.by.startsWith(LABEL);
  const by = (isLabel && given.by !== LABEL) || groups.some(([name]) => name === given.by) ? given.by : groups[0][0];
  const period = PERIODS.some(([name]) => name === given.period) ? given.period : "month";
  const today = dayIn(given.timeZone || UTC);
  const { since, until } = daysIn(period, given, today);
  const filter = { tenantId: given.tenantId, agentId: given.agentId, userId: given.userId, timeZone: given.timeZone, since, until };
  const tenants = session.isOperator ? await tenantChoices() : [];

  const goto = (event) => {
    const { elements } = event.target.form;
    const entered = Object.fromEntries(Object.keys(given).map((name) => [name, elements[name]?.value.trim() ?? given[name]]));
    if (entered.by === LABEL) entered.by = LABEL + (elements.label?.value.trim() ?? "");
    // From here on the days are the reader's own.
    if (entered.period === "custom" && period !== "custom") Object.assign(entered, { since, until: dayAfter(until, -1) });
    if (entered.period !== "custom") Object.assign(entered, { since: "", until: "" });
    location.hash = withQuery("#/spend", entered);
  };
  const filters = h("form", { class: "filters card", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
    session.isOperator && tenantFilter(tenants, given.tenantId, { onchange: goto }),
    field("Period", "period", { value: period, onchange: goto, options: PERIODS }),
    period === "custom" && [
      field("First day", "since", { type: "date", value: since, onchange: goto }),
      field("Last day", "until", { type: "date", value: dayAfter(until, -1), onchange: goto }),
    ],
    zoneField(given.timeZone || UTC, { onchange: goto }),
    field("Group by", "by", { value: isLabel ? LABEL : by, onchange: goto, options: [...groups.map(([name, , label]) => [name, label]), [LABEL, "Label"]] }),
    isLabel && field("Label's key", "label", { value: given.by.slice(LABEL.length), onchange: goto, placeholder: "team" }),
    field("Owner", "userId", { value: given.userId, onchange: goto, "data-search": "" }),
    field("Agent id", "agentId", { value: given.agentId, onchange: goto, placeholder: "agt_…" }));

  const found = await report({ ...filter, groupBy: by }, { signal });
  const byTime = await overTime(filter, by, signal);
  const tenant = session.isOperator ? given.tenantId : session.who.tenant.slug;
  const month = monthOf(today, period === "last" ? -1 : 0);
  return [
    pageHead("Spend", {
      sub: `As of ${dateTime(found.asOf)} UTC. A decision counts on its own day, with its real cost once that is reported.`,
      actions: [csvButton({ ...filter, groupBy: by }), tenant && h("a", { class: "button primary", href: withQuery(`#/invoice/${tenant}/${month}`, { timeZone: given.timeZone }) }, "Invoice")],
    }),
    h("div", { class: "stack" }, filters,
      found.unavailableTenants.length > 0 && h("p", { class: "notice" }, `${found.unavailableTenants.length} tenants could not be read, and their spend is not in these sums.`),
      totals(found.total),
      found.rows.length ? [
        chart(byTime, found, by, since, until),
        card(`By ${groupName(by).toLowerCase()}`, { kind: "flush", id: "spend-rows" }, rows(found, by)),
      ] : h("div", { class: "card" }, empty("spend", "Nothing was spent", "Calls with a tokensCost, and usage reports, add up here. Choose another period to see more.", h("a", { class: "button", href: "#/spend?period=30" }, "Last 30 days")))),
  ];
}

/** The report by day or month, and by the groups too if that is not too much. */
async function overTime(filter, by, signal) {
  const days = (new Date(filter.until) - new Date(filter.since)) / DAY_MS;
  const unit = days <= MOST_DAYS && by !== "month" ? "day" : "month";
  const ask = (groupBy) => report({ ...filter, groupBy }, { signal });
  if (by === "day" || by === "month") return { unit, split: false, ...await ask(unit) };
  try {
    return { unit, split: true, ...await ask(`${unit},${by}`) };
  } catch (error) {
    if (error.code !== "TOO_MANY_GROUPS") throw error;
    return { unit, split: false, ...await ask(unit) };
  }
}

function totals(total) {
  const tile = (name, value) => h("div", { class: "tile" }, h("b", {}, value), h("span", {}, name));
  return h("div", { class: "tiles", "data-tiles": "" },
    tile("cost", cost(total.cost)), tile("settled", cost(total.settled)), tile("estimated", cost(total.estimated)),
    total.held > 0 && tile("held", cost(total.held)), tile("calls", count(total.calls)), tile("denied", count(total.denied)));
}

/** The days or months from `since` to the day before `until`. */
function steps(unit, since, until) {
  const all = [];
  for (let day = since; day < until; day = dayAfter(day)) {
    const step = day.slice(0, unit === "day" ? 10 : 7);
    if (all.at(-1) !== step) all.push(step);
  }
  return all;
}

function chart({ unit, split, rows: parts }, found, by, since, until) {
  const column = columnOf(by);
  const all = steps(unit, since, until);
  const place = new Map(all.map((step, i) => [step, i]));
  // Those that cost the most have a colour of their own.
  const top = split ? [...found.rows].sort((a, b) => b.cost - a.cost).filter((row) => row.cost > 0).slice(0, MOST_SERIES).map((row) => row[column]) : [];
  const values = Array.from({ length: top.length + 1 }, () => all.map(() => 0));
  for (const row of parts) {
    const at = place.get(row[unit]);
    const series = split ? top.indexOf(row[column]) : -1;
    if (at !== undefined) values[series === -1 ? top.length : series][at] += row.cost;
  }
  const rest = values[top.length].some((value) => value > 0) || !top.length;
  const kinds = [...top.map((_, n) => `s-${n + 1}`), split && top.length ? "s-rest" : "s-1"];
  const shown = kinds.map((kind, n) => [kind, values[n]]).filter((_, n) => n < top.length || rest);
  const restName = split && top.length ? "All others" : "Cost";
  const title = unit === "day" ? "Cost by day" : "Cost by month";
  const name = (step) => (unit === "day" ? dayName(step) : monthName(step));
  const round = (n) => cost(Math.round(n * 1e6) / 1e6);
  const bars = barChart(`${title}, ${groupName(by).toLowerCase()} by ${groupName(by).toLowerCase()}`);
  bars.update({
    bars: all.length,
    series: shown,
    tick: (i) => name(all[i]),
    // Cents are enough beside an axis.
    amount: (n) => n.toLocaleString("en", { maximumSignificantDigits: 3 }),
    ceiling: (n) => (n > 0 ? roundUp(n, TOPS) : 1),
    say: (at) => (at === null
      ? `${cost(found.total.cost)} from ${dayName(since)} to ${dayName(dayAfter(until, -1))}`
      : [h("b", {}, name(all[at])), " · ", round(shown.reduce((sum, [, each]) => sum + each[at], 0))]),
  });
  const swatch = (kind, text) => h("span", {}, s("svg", { viewBox: "0 0 9 9", "aria-hidden": "true" }, s("rect", { class: kind, width: 9, height: 9, rx: 2 })), text);
  const legend = split && top.length > 0 && h("div", { class: "legend" }, top.map((value, n) => swatch(kinds[n], groupValue(by, value))), rest && swatch("s-rest", restName));
  return card(title, { side: legend }, bars.element);
}

function rows(found, by) {
  const column = columnOf(by);
  const byTime = by === "day" || by === "month";
  const sorted = byTime ? found.rows : [...found.rows].sort((a, b) => b.cost - a.cost || b.calls - a.calls);
  const most = Math.max(...found.rows.map((row) => row.cost));
  const shown = [...sorted.slice(0, MOST_ROWS), { ...found.total, isTotal: true }];
  const columns = [
    [groupName(by), (row) => (row.isTotal ? h("b", {}, "Sum") : groupValue(by, row[column]))],
    ...sumColumns(shown),
    ["", (row) => !row.isTotal && most > 0 && h("div", { class: "mid", "aria-hidden": "true" }, plainBar(row.cost / most)), "part"],
  ];
  const element = table(columns, shown, { label: `Spend by ${groupName(by).toLowerCase()}`, row: (row) => (row.isTotal ? { class: "sum" } : {}) });
  return [element, sorted.length > MOST_ROWS && h("p", { class: "perm-row small muted" }, `The ${MOST_ROWS} that cost the most are shown; the CSV has all ${count(sorted.length)}.`)];
}

/** A bar without a limit's colours. */
function plainBar(share) {
  const element = bar(0, "");
  for (const name of ["role", "aria-label"]) element.removeAttribute(name);
  element.querySelector(".fill").setAttribute("width", share * 100);
  return element;
}
