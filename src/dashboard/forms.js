// Forms: labelled fields, and a server's refusal shown at the field it names.

import { h, show, uid } from "./dom.js";
import { Problem, all, get, withQuery } from "./api.js";
import { dialog, button, report } from "./ui.js";
import { shortId } from "./format.js";

/** A labelled input, select or textarea. `name` is the field's name in the API, which errors name too. */
export function field(label, name, { as = "input", hint, wide = false, options, control, labelFor, ...props } = {}) {
  const id = uid("field");
  const described = `${id}-hint ${id}-error`;
  control ??= options
    ? h("select", { ...props, id, name, "aria-describedby": described }, options.map(([value, text]) => h("option", { value, selected: value === props.value }, text)))
    : h(as, { autocomplete: "off", spellcheck: "false", ...props, id, name, "aria-describedby": described });
  return h("div", { class: wide ? "field wide" : "field", "data-field": name },
    h("label", { for: labelFor ?? id }, label), control,
    hint && h("div", { class: "hint", id: `${id}-hint` }, hint), h("div", { class: "error", id: `${id}-error` }));
}

/** The zone of whoever names none. */
export const UTC = "UTC";

/** Whether the browser knows a time zone by that name. */
export function isZone(name) {
  try { return Boolean(new Intl.DateTimeFormat("en", { timeZone: name })); } catch { return false; }
}

/** A field for a time zone. The browser's names are offered, and any can be typed; `onchange` hears of those it knows. */
export function zoneField(value, { onchange } = {}) {
  const id = uid("zones");
  const changed = (event) => {
    const known = isZone(event.target.value.trim() || UTC);
    element.querySelector(".error").textContent = known ? "" : "must be the name of a time zone, such as Europe/Berlin";
    if (known) onchange(event);
  };
  const element = field("Time zone", "timeZone", { value, list: id, placeholder: UTC, onchange: onchange && changed });
  element.append(h("datalist", { id }, [UTC, ...(Intl.supportedValuesOf?.("timeZone") ?? [])].map((zone) => h("option", { value: zone }))));
  return element;
}

/** Boxes to tick, one for each `[value, text]`. */
export function checks(label, name, options, chosen) {
  const id = uid("label");
  return h("div", { class: "field wide", role: "group", "aria-labelledby": id, "data-field": name },
    h("span", { class: "label", id }, label),
    h("div", { class: "checks" }, options.map(([value, text]) => h("label", { class: "check" }, h("input", { type: "checkbox", name, value, checked: chosen.includes(value) }), text))),
    h("div", { class: "error" }));
}

/** What a named field of a form holds: trimmed text. */
export const text = (form, name) => form.elements[name].value.trim();

/** The same as a number or null where it is empty. */
export function number(form, name) {
  const value = text(form, name);
  return value === "" ? null : Number(value);
}

/** Labels from text, or null. */
export function readLabels(typed) {
  const pairs = typed.split(",").map((part) => part.trim()).filter(Boolean).map((part) => { const at = part.indexOf("="); return at < 0 ? [part, ""] : [part.slice(0, at).trim(), part.slice(at + 1).trim()]; });
  return pairs.length ? Object.fromEntries(pairs) : null;
}

/** A local date and time field's value as RFC 3339, or null. It is UTC, like every time here. */
export function time(form, name) {
  const value = text(form, name);
  return value === "" ? null : `${value.length === 16 ? `${value}:00` : value}Z`;
}

function clear(form) {
  for (const error of form.querySelectorAll(".field .error, .form-error")) error.textContent = "";
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
}

/** What a browser could not read as a number or a time would look like an empty field. */
function check(form) {
  const bad = [...form.elements].find((control) => control.validity?.badInput);
  if (!bad) return;
  const name = bad.closest("[data-field]")?.dataset.field ?? bad.name;
  throw new Problem(0, { detail: bad.type === "number" ? "must be a number" : "is not complete", details: { field: name } });
}

/** Shows a refusal at the field it names, or else above the form's foot. */
export function refuse(form, error) {
  if (!(error instanceof Problem)) return report(error);
  // The error for `permissions[0].resource[3]` appears at the nearest field of the form.
  let path = error.field;
  let place = null;
  while (path && !place) {
    place = form.querySelector(`[data-field="${CSS.escape(path)}"]`);
    // Names of arguments may hold anything.
    const shorter = path.replace(/(\.[^.[]*|\[\d*\]|^[^.[]+)$/, "");
    path = shorter === path ? path.slice(0, -1) : shorter;
  }
  if (!place) {
    form.querySelector(".form-error").textContent = `${error.message}${error.code ? ` (${error.code})` : ""}`;
    return form.querySelector(".form-error").scrollIntoView({ block: "nearest" });
  }
  for (let outer = place.closest("details"); outer; outer = outer.parentElement.closest("details")) outer.open = true;
  place.querySelector(".error").textContent = error.message;
  const control = place.querySelector("input, select, textarea");
  control?.setAttribute("aria-invalid", "true");
  control?.focus();
}

/** A form whose `action` gets it on submit. */
export function form(content, submit, action, { cancel, kind = "stack" } = {}) {
  const send = h("button", { type: "submit", class: "primary" }, submit);
  const element = h("form", { novalidate: true, class: kind }, content, h("div", { class: "form-error", role: "alert" }),
    h("div", { class: "row" }, send, cancel));
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear(element);
    send.disabled = true;
    try { check(element); await action(element); } catch (error) { refuse(element, error); } finally { send.disabled = false; }
  });
  return element;
}

/** A form in a dialog, which closes once `action` has succeeded. */
export function formDialog(title, submit, content, action) {
  return dialog(title, (close, heading) => {
    const send = h("button", { type: "submit", class: "primary" }, submit);
    const element = h("form", { novalidate: true },
      h("div", { class: "body" }, heading, content, h("div", { class: "form-error", role: "alert" })),
      h("div", { class: "foot" }, button("Cancel", close), send));
    element.addEventListener("submit", async (event) => {
      event.preventDefault();
      clear(element);
      send.disabled = true;
      try { check(element); await action(element); close(); } catch (error) { refuse(element, error); } finally { send.disabled = false; }
    });
    return element;
  });
}

/** Most options that are shown at once; typing narrows them. */
const MOST = 50;

/** A field in which an agent is found by its name. `tenant()` is the tenant to look in. An id can be pasted. */
export function agentField(label, name, { tenant, value = "", hint, onpick = () => {}, wide } = {}) {
  const id = uid("agents");
  let agents = null, of = null, options = [], at = 0, chosen = value;
  const input = h("input", { id: `${id}-input`, role: "combobox", "aria-expanded": "false", "aria-controls": id, "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false", placeholder: "Type a name, or paste an id" });
  const list = h("ul", { id, role: "listbox", "aria-label": label, hidden: true });
  const hidden = h("input", { type: "hidden", name, value });
  const set = (agent) => { chosen = agent.id; hidden.value = agent.id; input.value = agent.name; close(); onpick(agent); };
  const close = () => { list.hidden = true; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
  const load = async () => {
    const where = tenant();
    if (agents && of === where) return;
    of = where;
    agents = await all(withQuery("/v1/agents", { tenantId: where, limit: 1000 }), 10000);
  };
  const open = async () => {
    try { await load(); } catch (error) { return report(error); }
    if (document.activeElement !== input) return;
    const typed = input.value.trim().toLowerCase();
    options = agents.filter((agent) => agent.name.toLowerCase().includes(typed) || agent.id === typed || agent.ownerId.toLowerCase().includes(typed)).slice(0, MOST);
    at = 0;
    show(list, options.length ? options.map((agent, n) => h("li", { role: "option", id: `${id}-${n}`, "aria-selected": n === at ? "true" : "false", onmousedown: (event) => { event.preventDefault(); set(agent); } },
      h("span", {}, agent.name), h("span", { class: "muted small" }, agent.status === "active" ? agent.ownerId : agent.status))) : h("li", { class: "none" }, "No agent has that name"));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    if (options.length) input.setAttribute("aria-activedescendant", `${id}-${at}`);
  };
  const move = (by) => {
    if (list.hidden) return open();
    if (!options.length) return;
    list.children[at].setAttribute("aria-selected", "false");
    at = (at + by + options.length) % options.length;
    list.children[at].setAttribute("aria-selected", "true");
    list.children[at].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", `${id}-${at}`);
  };
  input.addEventListener("focus", open);
  input.addEventListener("input", () => { chosen = input.value.trim(); hidden.value = chosen.startsWith("agt_") ? chosen : ""; open(); });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); move(1); }
    if (event.key === "ArrowUp") { event.preventDefault(); move(-1); }
    if (event.key === "Enter" && !list.hidden && options.length) { event.preventDefault(); set(options[at]); }
    if (event.key === "Escape" && !list.hidden) { event.preventDefault(); event.stopPropagation(); close(); }
  });
  if (value) {
    input.value = shortId(value);
    get(`/v1/agents/${encodeURIComponent(value)}`).then((agent) => { if (hidden.value === value) { input.value = agent.name; onpick(agent); } }, () => { input.value = value; });
  }
  return field(label, name, { control: h("div", { class: "combo" }, input, hidden, list), labelFor: input.id, hint, wide });
}
