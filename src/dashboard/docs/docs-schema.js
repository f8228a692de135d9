// JSON Schemas, as people read them.

import { h } from "./dom.js";
import { prose } from "./docs-prose.js";

/** What a reference within the document refers to. */
const lookUp = (api, path) =>
  path.slice(2).split("/").reduce((value, name) => value?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], api);

/** A schema with what it refers to, and that one's name. */
function resolve(api, schema) {
  if (!schema.$ref) return { schema, name: null };
  const { $ref, ...beside } = schema;
  return { schema: { ...lookUp(api, $ref), ...beside }, name: $ref.split("/").pop() };
}

/** The value of an example, which may be in the document's components. */
export const exampleOf = (api, example) => (example.$ref ? lookUp(api, example.$ref) : example).value;

/** A schema that may be `null`, apart from that. */
function withoutNull(schema) {
  if (Array.isArray(schema.type) && schema.type.includes("null")) {
    const rest = schema.type.filter((type) => type !== "null");
    return { schema: { ...schema, type: rest.length === 1 ? rest[0] : rest }, nullable: true };
  }
  if (schema.anyOf?.some((choice) => choice.type === "null")) {
    const { anyOf, ...beside } = schema;
    const rest = anyOf.filter((choice) => choice.type !== "null");
    return { schema: rest.length === 1 ? { ...rest[0], ...beside } : { ...beside, anyOf: rest }, nullable: true };
  }
  return { schema, nullable: false };
}

/** What a value is, in a few words. */
export function typeOf(api, given) {
  const { schema: inner, nullable } = withoutNull(given);
  const { schema, name } = resolve(api, inner);
  const or = nullable ? " or null" : "";
  if (schema.type === "array") return `list of ${typeOf(api, schema.items ?? {})}${or}`;
  if (name) return `${name}${or}`;
  if (schema.oneOf && !schema.type) return schema.oneOf.map((choice) => typeOf(api, choice)).join(" or ") + or;
  if (schema.format === "date-time") return `time${or}`;
  if (schema.type) return `${[schema.type].flat().join(" or ")}${or}`;
  return "any value";
}

/** What restricts a value. */
function limitsOf(schema) {
  const limits = [];
  const { minimum, maximum, minLength, maxLength, minItems, maxItems } = schema;
  const range = (least, most, unit) => {
    const large = most >= 2 ** 32 - 1;
    if (least && most !== undefined && !large) limits.push(`${least} to ${most}${unit}`);
    else if (most !== undefined && !large) limits.push(`at most ${most}${unit}`);
    else if (least) limits.push(`at least ${least}${unit}`);
  };
  range(minimum, maximum, "");
  range(minLength, maxLength, " characters");
  range(minItems, maxItems, " items");
  if (schema.default !== undefined) limits.push(`default ${JSON.stringify(schema.default)}`);
  return limits;
}

function details(schema, of = "") {
  const limits = limitsOf(schema);
  const names = schema.enum;
  return [
    names && names.length <= 12 && h("p", { class: "small" }, "One of ",
      names.map((name, n) => [n > 0 && ", ", h("code", null, String(name))])),
    limits.length > 0 && h("p", { class: "small" }, of, limits.join(", ")),
    schema.pattern && h("details", { class: "pattern" }, h("summary", null, "pattern"), h("code", null, schema.pattern)),
  ];
}

/** The members of a schema that something can be said of, where it or its items have any. */
function inside(api, schema) {
  const { schema: plain } = withoutNull(schema);
  const { schema: found, name } = resolve(api, plain);
  if (found.type === "array" && found.items) return inside(api, found.items);
  return { schema: found, name };
}

function memberView(api, name, schema, required, seen) {
  const { schema: own } = withoutNull(schema);
  const deep = inside(api, schema);
  const again = deep.name && seen.includes(deep.name);
  const more = (deep.schema.properties || deep.schema.oneOf) && !again;
  return h("li", null,
    h("div", { class: "member" },
      h("code", { class: "name" }, name),
      h("span", { class: "type" }, typeOf(api, schema)),
      required && h("span", { class: "required" }, "required")),
    prose(schema.description ?? ""),
    own.type === "array" ? [details(own), details(deep.schema, "each ")] : details({ ...deep.schema, ...own }),
    more && h("details", { class: "deeper" }, h("summary", null, deep.name ?? "members"),
      view(api, deep.schema, deep.name ? [...seen, deep.name] : seen)));
}

function view(api, schema, seen) {
  if (schema.allOf) return schema.allOf.map((part) => view(api, resolve(api, part).schema, seen));
  if (schema.properties) {
    const required = schema.required ?? [];
    const names = Object.keys(schema.properties);
    // What is required comes first, in the order in which it is declared.
    const order = [...required.filter((name) => names.includes(name)), ...names.filter((name) => !required.includes(name))];
    return h("ul", { class: "members" },
      order.map((name) => memberView(api, name, schema.properties[name], required.includes(name), seen)));
  }
  if (schema.oneOf) {
    return schema.oneOf.map((choice, n) => {
      const { schema: plain, name } = inside(api, choice);
      return h("div", { class: "choice" }, h("p", { class: "small" }, n > 0 ? "or " : "either ", typeOf(api, choice)),
        prose(plain.description ?? ""), name && seen.includes(name) ? null : view(api, plain, seen));
    });
  }
  return details(schema);
}

/** A schema as elements. One that is `inline` stands beside its own description already. */
export function schemaView(api, schema, { inline } = {}) {
  const { schema: plain, name } = inside(api, schema);
  if (inline) return details({ ...plain, description: undefined });
  return h("div", { class: "schema" },
    h("p", { class: "type" }, typeOf(api, schema)), view(api, plain, name ? [name] : []));
}
