// Makes elements. Text is only ever set as text: the names of tenants and agents are whatever someone typed.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

const UNSEEN = /[\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/** The text with characters that can't be seen, or that turn what is around them, as escapes. Emoji and some scripts keep their joiners. */
function visible(text) {
  return text.replace(UNSEEN, (found, at) =>
    /[\u200c\u200d\ufe00-\ufe0f]/.test(found) && text.charCodeAt(at - 1) > 0x7f ? found : `\\u{${found.codePointAt(0).toString(16)}}`);
}

/** Adds children: elements, texts, lists of them; what is null or false is left out. */
export function append(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(String(child))));
  }
  return element;
}

/** An HTML element with attributes, listeners (`onclick`) and children. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Shows these children and nothing else. */
export function show(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

/** An id that no other element has. */
export const uid = ((n) => (word) => `${word}-${++n}`)(0);

const ICONS = {
  overview: "M2 9h3v5H2zM6.5 5h3v9h-3zM11 2h3v12h-3z",
  tenants: "M2 14V4l6-2.5V14M8 6.5l6 2V14M1 14h14M4.5 6v.01M4.5 9v.01M11 11v.01",
  agents: "M3 6h10v7H3zM8 3v3M8 2.5v.01M6 9v1M10 9v1M1.5 8.5v2M14.5 8.5v2",
  audit: "M3 3h10M3 6.5h10M3 10h7M3 13.5h5",
  spend: "M3 1.5h10v13l-2-1.3-2 1.3-2-1.3-2 1.3-2-1.3zM5.5 5h5M5.5 8h5",
  keys: "M5.5 10.8a2.8 2.8 0 1 1 2.6-3.8H14v2.3h-1.6v1.9H10V9.3H8.1a2.8 2.8 0 0 1-2.6 1.5M5.3 8v.01",
  why: "M8 14.5a6.5 6.5 0 1 1 0-13 6.5 6.5 0 0 1 0 13M6.2 6.3a1.9 1.9 0 1 1 2.6 1.8c-.5.2-.8.6-.8 1.1M8 11.3v.01",
  pass: "M3 8.5l3.5 3.5L13 4.5",
  fail: "M4 4l8 8M12 4l-8 8",
  skip: "M4 8h8",
  plus: "M8 3v10M3 8h10",
  copy: "M5.5 5.5h8v8h-8zM10.5 5V2.5h-8v8H5",
  theme: "M8 14.5a6.5 6.5 0 1 1 0-13zM8 1.5a6.5 6.5 0 0 1 0 13",
  book: "M8 4C6.5 2.8 4.5 2.5 2.5 2.5v10c2 0 4 .3 5.5 1.5 1.5-1.2 3.5-1.5 5.5-1.5v-10c-2 0-4 .3-5.5 1.5zM8 4v10",
  exit: "M6.5 2.5h-4v11h4M10 5l3 3-3 3M13 8H6",
  search: "M7 12a5 5 0 1 1 0-10 5 5 0 0 1 0 10M10.7 10.7 14 14",
};

/** A small line drawing that says nothing to a screen reader. */
export function icon(name, tone) {
  const path = s("path", { d: ICONS[name], fill: "none", stroke: "currentColor", "stroke-width": "1.5", "stroke-linecap": "round", "stroke-linejoin": "round" });
  return s("svg", { viewBox: "0 0 16 16", width: "16", height: "16", "aria-hidden": "true", class: tone }, path);
}
