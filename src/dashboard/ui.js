// The parts of every page: toasts, dialogs, tables, marks, empty states.

import { h, s, icon, append, show, uid } from "./dom.js";
import { Problem } from "./api.js";
import { dateTime, relative } from "./format.js";

const toasts = () => document.getElementById("toasts");

/** Says something in the corner. An error stays until it is closed. */
export function toast(text, { bad = false, code = "" } = {}) {
  const box = h("div", { class: bad ? "toast bad" : "toast" },
    h("div", {}, h("div", {}, text), code && h("div", { class: "small muted mono" }, code)),
    h("button", { type: "button", class: "quiet small-button", "aria-label": "Close this message", onclick: () => box.remove() }, "✕"));
  toasts().append(box);
  while (toasts().children.length > 4) toasts().firstChild.remove();
  // In the top layer, so that it is above an open dialog.
  if (toasts().matches(":popover-open")) toasts().hidePopover();
  toasts().showPopover();
  if (!bad) setTimeout(() => box.remove(), 5000);
}

/** Says what went wrong, in the server's words and with its code. */
export function report(error) {
  if (error?.name === "AbortError") return;
  if (!(error instanceof Problem)) console.error(error);
  toast(error.message, { bad: true, code: error.code ?? "" });
}

/** A button that can't be pressed twice while what it does is under way. */
export function button(text, action, { kind = "", label, glyph } = {}) {
  const element = h("button", { type: "button", class: kind, "aria-label": label }, glyph && icon(glyph), text);
  element.addEventListener("click", async () => {
    element.disabled = true;
    try { await action(element); } catch (error) { report(error); } finally { element.disabled = false; }
  });
  return element;
}

/** Closes what is open, as who leaves a page or opens another dialog does. What would follow an answer does not. */
export function closeDialogs() {
  for (const box of document.querySelectorAll("dialog")) {
    box.dataset.left = "";
    box.close();
  }
}

/** Opens a dialog, the only one. `make` gets a function that closes it and returns its content. */
export function dialog(title, make, { kind = "" } = {}) {
  const id = uid("title");
  const box = h("dialog", { class: kind, "aria-labelledby": id });
  const close = () => box.close();
  append(box, [make(close, h("h2", { id, class: "title" }, title))]);
  box.addEventListener("close", () => box.remove());
  // A click outside the dialog must not lose what was typed or is shown only once.
  const stays = () => box.dataset.stays !== undefined || box.querySelector("form");
  box.addEventListener("pointerdown", (event) => { if (event.target === box && !stays()) close(); });
  box.addEventListener("cancel", (event) => { if (box.dataset.stays !== undefined) event.preventDefault(); });
  closeDialogs();
  document.body.append(box);
  box.showModal();
  return box;
}

/** Asks before something is done; `action` runs on yes, and the dialog stays open where it fails. */
export function confirm(title, text, yes, action, { danger = true } = {}) {
  dialog(title, (close, heading) => [
    h("div", { class: "body" }, heading, h("p", { class: "muted wrap" }, text)),
    h("div", { class: "foot" }, button("Cancel", close), button(yes, async () => { await action(); close(); }, { kind: danger ? "primary danger" : "primary" })),
  ]);
}

/** Copies a text and says so. */
export function copyButton(text, what) {
  return button("Copy", async (element) => {
    // Browsers allow the clipboard only to pages from localhost or over TLS.
    if (!navigator.clipboard) {
      getSelection().selectAllChildren(element.parentElement.querySelector("code"));
      return toast("Press Ctrl C: this page may not copy by itself without TLS");
    }
    await navigator.clipboard.writeText(text);
    show(element, icon("pass"), "Copied");
    setTimeout(() => show(element, icon("copy"), "Copy"), 2000);
  }, { glyph: "copy", label: `Copy the ${what}` });
}

/** Shows a secret that is never shown again. */
export function revealSecret(title, what, secret, note, after = () => {}) {
  const box = dialog(title, (close, heading) => [
    h("div", { class: "body" }, heading,
      h("p", { class: "muted" }, `Copy the ${what} now. It is shown only once, and nobody can read it again.`),
      h("div", { class: "secret" }, h("code", { "data-secret": "" }, secret), copyButton(secret, what)),
      note && h("p", { class: "small muted wrap" }, note)),
    h("div", { class: "foot" }, button("I have copied it", close, { kind: "primary" })),
  ]);
  box.dataset.stays = "";
  box.addEventListener("close", () => { if (box.dataset.left === undefined) after(); });
}

/** The share of a limit from which on it is near, as the server has it. */
const NEAR_LIMIT = 0.8;

const TONES = {
  active: "ok", allowed: "ok", delivered: "ok", dead: "bad", pending: "warn", suspended: "warn", triggered: "bad", denied: "bad", rate_limited: "warn", revoked: "bad",
  expired: "warn", disabled: "", block: "", warn: "", throttle: "", revoke: "",
};

/** A status as a coloured word. */
export const badge = (word) => h("span", { class: `badge ${TONES[word] ?? ""}` }, word.replace("_", " "));

/** A budget's status as a coloured word: one that denied a call today, or may deny the next one, does not look fine. */
export function budgetBadge({ status, lastDeniedAt }, share) {
  if (status !== "active") return badge(status);
  // Both times are in UTC.
  if (lastDeniedAt?.slice(0, 10) === new Date().toISOString().slice(0, 10)) return h("span", { class: "badge warn", title: `It last denied a call ${relative(lastDeniedAt)}` }, "denied calls");
  return share >= NEAR_LIMIT ? h("span", { class: "badge warn" }, "near limit") : badge(status);
}

/** A time as how long ago it is, with the time itself on hovering. */
export const ago = (time) => (time ? h("time", { datetime: time, title: `${dateTime(time)} UTC`, class: "nowrap" }, relative(time)) : h("span", { class: "muted" }, "never"));

/** A table whose rows are cards on a phone. `columns`: `[label, cell(item), class]`. */
export function table(columns, items, { label, row = () => ({}) } = {}) {
  const body = h("tbody", {}, items.map((item) => tableRow(columns, item, row(item))));
  return h("div", { class: "table-box" }, h("table", { class: "cards", role: "table", "aria-label": label },
    h("thead", {}, h("tr", { role: "row" }, columns.map(([name, , kind]) => h("th", { role: "columnheader", scope: "col", class: kind }, name || h("span", { class: "sr" }, "Actions"))))),
    body));
}

/** One row of such a table. */
export function tableRow(columns, item, props = {}) {
  return h("tr", { role: "row", ...props }, columns.map(([name, cell, kind]) => {
    const content = [cell(item)].flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false && one !== "");
    // One box, so that on a phone the whole value stays beside its label.
    return h("td", { role: "cell", class: kind, "data-label": name }, content.length > 0 && h("div", {}, content));
  }));
}

/** What stands where there is nothing yet: what it would be, and what to do next. */
export function empty(glyph, title, text, ...actions) {
  return h("div", { class: "empty" }, icon(glyph), h("h2", {}, title), h("p", {}, text), actions.some(Boolean) && h("div", { class: "row" }, actions));
}

/** A card with a heading. */
export function card(title, { kind = "", side = null, id } = {}, ...children) {
  return h("section", { class: `card ${kind}`, "aria-label": title, id }, h("header", {}, h("h2", {}, title), side), children);
}

/** The head of a page. */
export function pageHead(title, { crumb, marks = [], actions = [], sub } = {}) {
  document.title = `${title} · Kavach`;
  return h("div", { class: "head" },
    h("div", { class: "head-title" }, crumb && h("div", { class: "crumb" }, crumb), h("div", { class: "row" }, h("h1", {}, title), marks), sub && h("p", { class: "muted wrap" }, sub)),
    h("div", { class: "row" }, actions));
}

/** A bar that is filled by a share from 0 to 1. The last part of what is filled, `held` of it, is only held. */
export function bar(share, label, held = 0) {
  const filled = Math.max(0, Math.min(1, share));
  const tone = share >= 1 ? "bad" : share >= NEAR_LIMIT ? "warn" : "";
  return s("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("rect", { class: "track", width: 100, height: 6 }), s("rect", { class: `fill ${tone}`, width: filled * (1 - held) * 100, height: 6 }),
    held > 0 && s("rect", { class: `fill held ${tone}`, x: filled * (1 - held) * 100, width: filled * held * 100, height: 6 }));
}
