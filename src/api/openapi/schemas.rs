//! JSON Schemas of the types in bodies and answers.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Where named schemas are in the document.
const PLACE: &str = "/components/schemas";

/// What the name of a type that a request makes something of begins with. Where an answer shows that thing, its schema has
/// the name without it and no limits, and lets clients expect further members.
const MAKES: &str = "New";

/// What a type of answers declares, with `extend`, if its own members show stored values. It is left out of the document.
const SHOWS_STORED: &str = "x-shows-stored";

/// Collects the schemas that a document needs. A type may differ between requests and responses, so each direction has its own set.
pub struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Default for Schemas {
    fn default() -> Self {
        let settings = || SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = PLACE.into());
        Self {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
        }
    }
}

impl Schemas {
    /// The schema of what a request holds.
    pub fn request<T: JsonSchema>(&mut self) -> Value {
        tidied(self.read.subschema_for::<T>().to_value(), Way::Read)
    }

    /// The schema of what an answer holds.
    pub fn answer<T: JsonSchema>(&mut self) -> Value {
        tidied(self.written.subschema_for::<T>().to_value(), Way::Written)
    }

    /// The schema of what a query string holds, which needs no name.
    pub fn query<T: JsonSchema>(&mut self) -> Value {
        tidied(T::json_schema(&mut self.read).to_value(), Way::Read)
    }

    /// All named schemas, and the names of those that differ between requests and answers.
    pub fn named(mut self) -> (Map<String, Value>, Vec<String>) {
        let mut all = Map::new();
        let mut clashes = Vec::new();
        for (name, schema) in self.read.take_definitions(true) {
            all.insert(name, tidied(schema, Way::Read));
        }
        for (mut name, mut schema) in self.written.take_definitions(true) {
            let made = name.strip_prefix(MAKES).filter(|rest| rest.starts_with(char::is_uppercase));
            let shows_stored = schema.as_object_mut().is_some_and(|members| members.remove(SHOWS_STORED).is_some());
            let way = if made.is_some() || shows_stored { Way::Stored } else { Way::Written };
            let mut schema = tidied(schema, way);
            if let (Some(made), Value::Object(members)) = (made, &mut schema) {
                members.remove("additionalProperties");
                name = made.to_owned();
            }
            match all.get(&name) {
                Some(read) if *read != schema => clashes.push(name),
                _ => _ = all.insert(name, schema),
            }
        }
        (all, clashes)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Written,
    /// Written, as it was stored. That may be older than a limit of requests.
    Stored,
}

/// A schema in the form that readers and generators expect.
fn tidied(mut schema: Value, way: Way) -> Value {
    tidy(&mut schema, way);
    schema
}

fn tidy(schema: &mut Value, way: Way) {
    let Value::Object(members) = schema else { return };
    for (keyword, value) in members.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties" | "$defs" | "patternProperties", Value::Object(named)) => {
                named.values_mut().for_each(|schema| tidy(schema, way));
            }
            ("oneOf" | "anyOf" | "allOf" | "prefixItems", Value::Array(all)) => {
                all.iter_mut().for_each(|schema| tidy(schema, way));
            }
            ("items" | "additionalProperties" | "not", inner) => tidy(inner, way),
            // Line breaks come from the source code.
            ("description", Value::String(text)) => *text = text.split('\n').collect::<Vec<_>>().join(" "),
            _ => {}
        }
    }
    if members.get("default") == Some(&Value::Null) {
        members.remove("default");
    }
    as_enumeration(members);
    bound_integer(members);
    if way == Way::Stored {
        members.retain(|keyword, _| {
            !matches!(keyword.as_str(), "pattern" | "minLength" | "maxLength" | "minItems" | "maxItems")
        });
        // A choice that only had a limit allows anything now, and so do the choices together.
        if members.get("anyOf").and_then(Value::as_array).is_some_and(|all| all.contains(&json!({}))) {
            members.remove("anyOf");
        }
    }
    if way != Way::Read {
        without_null_where_absent(members);
        if let Some(Value::String(reference)) = members.get_mut("$ref") {
            *reference = reference.replace(&format!("{PLACE}/{MAKES}"), &format!("{PLACE}/"));
        }
    }
}

/// Turns described constants into an enumeration, which more programs support, with a list for people.
fn as_enumeration(members: &mut Map<String, Value>) {
    let Some(Value::Array(each)) = members.get("oneOf") else { return };
    let names: Vec<Value> = each.iter().filter_map(|schema| schema.get("const").cloned()).collect();
    if names.len() != each.len() {
        return;
    }
    let lines: Vec<String> = each
        .iter()
        .filter_map(|schema| Some(format!("- `{}`: {}", schema["const"].as_str()?, schema["description"].as_str()?)))
        .collect();
    let mut description = members.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !lines.is_empty() {
        description = format!("{description}\n\n{}", lines.join("\n"));
    }
    members.remove("oneOf");
    members.insert("type".into(), json!("string"));
    members.insert("enum".into(), names.into());
    members.insert("description".into(), description.trim().into());
}

/// States the largest number of an integer type as a maximum.
fn bound_integer(members: &mut Map<String, Value>) {
    let most = match members.get("format").and_then(Value::as_str) {
        Some("uint32") => u64::from(u32::MAX),
        Some("uint64" | "uint") => u64::MAX,
        _ => return,
    };
    members.remove("format");
    members.entry("maximum").or_insert_with(|| most.into());
}

/// A member that an answer may lack is never `null` in it.
fn without_null_where_absent(members: &mut Map<String, Value>) {
    let required = members.get("required").cloned().unwrap_or_default();
    let is_required = |name: &str| required.as_array().is_some_and(|all| all.iter().any(|other| other == name));
    let Some(Value::Object(properties)) = members.get_mut("properties") else { return };
    for (name, schema) in properties {
        if !is_required(name) {
            not_null(schema);
        }
    }
}

/// Takes `null` out of a schema.
pub fn not_null(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            members.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            members.remove("anyOf");
            members.extend(only);
        }
    }
    if let Some(Value::Array(values)) = members.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
}
