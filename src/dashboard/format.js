// Numbers, times and ids as people read them. Times are UTC, as the server's days and windows are.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A count: `1,234`, from a hundred thousand on `123.4K`. */
export const count = (n) => (Math.abs(n) < 100000 ? whole : compact).format(n);

const CENTS = 2;
const MILLIONTHS = 6;
const money = Array.from({ length: MILLIONTHS + 1 }, (_, digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: MILLIONTHS }));

/** A cost with all its digits: `1,204.50`, `0.000001`; in a column, with as many as `costDigits` says. */
export const cost = (n, digits = CENTS) => money[digits].format(n);

/** A cost in a sentence, with the digits that it has: `1,500`, `0.5`. */
export const amount = (n) => cost(n, 0);

/** How many digits the points of a column of costs line up with. */
export const costDigits = (costs) => Math.max(CENTS, ...costs.map((n) => (cost(n).split(".")[1] ?? "").length));

/** Milliseconds with three significant figures. */
export function ms(n) {
  if (n === null || n === undefined) return "–";
  if (n >= 1000) return `${(n / 1000).toFixed(2)} s`;
  return `${n >= 100 ? n.toFixed(0) : n >= 1 ? n.toFixed(1) : n.toFixed(2)} ms`;
}

/** `18:04:31` */
export const clock = (time) => new Date(time).toISOString().slice(11, 19);

/** `24 Nov 18:04:31` */
export function dateTime(time) {
  if (!time) return "–";
  const date = new Date(time);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}${date.getUTCFullYear() === new Date().getUTCFullYear() ? "" : ` ${date.getUTCFullYear()}`} ${clock(time)}`;
}

/** `November 2026` for `2026-11`. */
export function monthName(month) {
  const [year, number] = month.split("-").map(Number);
  return `${MONTH_NAMES[number - 1]} ${year}`;
}

/** `24 Nov` for `2026-11-24`, with the year if it is another one. */
export const dayName = (day) => `${Number(day.slice(8))} ${MONTHS[Number(day.slice(5, 7)) - 1]}${Number(day.slice(0, 4)) === new Date().getUTCFullYear() ? "" : ` ${day.slice(0, 4)}`}`;

const MONTH_NAMES = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** How long ago, or how long until: `3 min ago`, `in 5 h`. */
export function relative(time) {
  if (!time) return "never";
  const seconds = Math.round((new Date(time) - Date.now()) / 1000);
  const length = span(Math.abs(seconds));
  return Math.abs(seconds) < 5 ? "now" : seconds < 0 ? `${length} ago` : `in ${length}`;
}

/** A number of seconds: `42 s`, `3 min`, `5 h 12 min`, `6 d 3 h`. */
export function span(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  return `${Math.floor(hours / 24)} d${hours % 24 ? ` ${hours % 24} h` : ""}`;
}

/** Seconds until that time, at least 0. */
export const secondsUntil = (time, now = Date.now()) => Math.max(0, Math.ceil((new Date(time) - now) / 1000));

/** The part of an id by which two of one tenant differ: its end is the same for all of them. */
export const shortId = (id) => (id ? `${id.slice(0, 4)}…${id.slice(12, 28)}` : "–");

/** `rate_limited` and `maxCallsPerDay` as words. */
export const words = (name) => name.replaceAll("_", " ").replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

/** The windows of a policy: how their limits and their usage are named, and how we say it. */
const WINDOWS = { hour: ["PerHour", "ThisHour", "this hour"], day: ["PerDay", "Today", "today"], week: ["PerWeek", "ThisWeek", "this week"], month: ["PerMonth", "ThisMonth", "this month"], total: ["Total", "Total", "in all"] };

/** A policy's limits that hold now, with what is used of them. */
export function meters(policy) {
  // Of one limit over all tenants, nobody but an operator sees how much is used.
  const { currentUsage: used, windows = [], effectiveLimits, limits } = policy;
  const hold = effectiveLimits ?? limits;
  return [["Calls", "calls"], ["TokensCost", "tokensCost"]].flatMap(([limit, usage]) => windows.map(({ period, endsAt, tokensCostHeld, callsHeld }) => {
    const [suffix, tail, said] = WINDOWS[period];
    const [name, amount] = [`max${limit}${suffix}`, used[`${usage}${tail}`]];
    const max = hold[name];
    const part = usage === "tokensCost" ? tokensCostHeld : callsHeld;
    const held = Number(part) > 0 ? part : undefined;
    return { name, label: `${usage === "calls" ? "Calls" : "Cost"} ${said}`, endsAt, used: amount, held, max, share: Number(max) === 0 ? 1 : Number(amount) / Number(max) };
  })).filter(({ max }) => max !== undefined);
}

/** Labels as text, `team=data, env=production`. */
export const labelText = (labels) => Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`).join(", ");
