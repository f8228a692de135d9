// The little of CommonMark that the document's descriptions use: paragraphs, lists and code.

import { h } from "./dom.js";

const inline = (text) =>
  text.split(/(`[^`]+`)/).map((part) => (/^`[^`]+`$/.test(part) ? h("code", null, part.slice(1, -1)) : part));

/** A description as elements. */
export function prose(text) {
  const blocks = text.split(/\n\n+/).filter(Boolean);
  return blocks.map((block) => {
    const lines = block.split("\n");
    if (lines.every((line) => line.startsWith("- "))) {
      return h("ul", { class: "list" }, lines.map((line) => h("li", null, inline(line.slice(2)))));
    }
    return h("p", null, inline(block));
  });
}
