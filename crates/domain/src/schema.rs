//! JSON Schemas (2020-12) of the texts and numbers in requests and answers, with the limits that the server checks.
//!
//! Types with hand-written serde code have their schema beside them, by `inline_schema!`. Here are those of texts
//! without a type of their own until they are checked.

use crate::limits::{
    MAX_ACTION_BYTES, MAX_ARG_PATTERN_BYTES, MAX_IDEMPOTENCY_KEY_CHARS, MAX_NAME_CHARS, MAX_RESOURCE_BYTES,
    MAX_RESOURCE_SEGMENTS, MAX_SLUG_CHARS, MAX_THRESHOLD, MAX_WEBHOOK_URL_BYTES,
};
use crate::webhook::message_type::MessageType;

/// Invisible characters: the usual ones, for clients to look out for. The server knows all of them.
const UNSEEN: &str = "\\u0000-\\u001f\\u007f-\\u009f";

const IPV4: &str = "((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

/// IPv6 addresses as RFC 4291, 2.2 writes them, except most of those that end with an IPv4 address.
fn ipv6() -> String {
    let group = "[0-9A-Fa-f]{1,4}";
    let mut forms =
        vec![format!("({group}:){{7}}{group}"), format!("({group}:){{1,7}}:"), format!(":((:{group}){{1,7}}|:)")];
    // Some groups before the gap, the rest after it.
    forms.extend((1..=6).map(|before| format!("({group}:){{1,{before}}}(:{group}){{1,{}}}", 7 - before)));
    forms.push(format!("::([Ff]{{4}}:)?{IPV4}"));
    forms.join("|")
}

/// All names of messages, and what stands for several.
fn message_patterns() -> Vec<String> {
    let mut patterns = vec!["*".to_owned()];
    for name in MessageType::ALL.iter().map(|kind| kind.as_str()) {
        let prefix = name.split_once('.').map(|(prefix, _)| format!("{prefix}.*"));
        patterns.extend(prefix.filter(|prefix| !patterns.contains(prefix)));
        patterns.push(name.to_owned());
    }
    patterns
}

/// Writes the schema of a type inline, wherever the type is used, rather than once by name.
#[macro_export]
macro_rules! inline_schema {
    ($type:ident $($schema:tt)+) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($($schema)+)
            }
        }
    };
}
pub use inline_schema;

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident $schema:tt;)*) => {
        $(
            $(#[$doc])*
            pub struct $name;

            inline_schema!($name $schema);
        )*
    };
}

texts! {
    /// A name, see [`crate::text::parse_name`].
    Name {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_NAME_CHARS,
        "pattern": format!("^[^{UNSEEN}]*[^\\s{UNSEEN}][^{UNSEEN}]*$"),
    };
    /// A webhook's URL, see [`crate::webhook::target::parse_url`].
    WebhookUrl {
        "type": "string",
        "format": "uri",
        "minLength": 1,
        "maxLength": MAX_WEBHOOK_URL_BYTES,
        "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\\s]+",
    };
    /// A threshold of a policy, see [`crate::budget::threshold`].
    Threshold {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_THRESHOLD,
    };
    /// Which messages a webhook asks for, see [`crate::webhook::message_type`].
    MessagePattern {
        "type": "string",
        "enum": message_patterns(),
    };
    /// A text of a filter: an empty one asks for nothing.
    FilterText {
        "type": "string",
        "minLength": 1,
        "pattern": "\\S",
    };
    /// A slug, see [`crate::text::Slug`].
    SlugText {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_SLUG_CHARS,
        "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$",
        "not": { "const": crate::text::DEFAULT_TENANT_NAME },
    };
    /// The name of a tenant in a request, see [`crate::id::TenantRef`].
    TenantName {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_SLUG_CHARS,
        "pattern": "^(tnt_[0-9a-f]{32}|[a-z0-9]+(-[a-z0-9]+)*)$",
    };
    /// An RFC 3339 time with any offset, see [`crate::time::Timestamp::parse`].
    Time {
        "type": "string",
        "format": "date-time",
        "pattern": "^(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T\
                    ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
    };
    /// An RFC 3339 time or a date alone, see [`crate::time::Timestamp::parse_or_day`].
    TimeOrDay {
        "type": "string",
        "anyOf": [{ "format": "date-time" }, { "format": "date" }],
        "pattern": "^(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(T\
                    ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?$",
    };
    /// The resource of a call, see [`crate::permission::pattern::check_resource`].
    Resource {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_RESOURCE_BYTES,
        "pattern": format!(
            "^[^:{UNSEEN}]+((:[^:{UNSEEN}]*){{0,{inner}}}:[^:{UNSEEN}]+)?$",
            inner = MAX_RESOURCE_SEGMENTS - 2
        ),
    };
    /// The resources of a permission, see [`crate::permission::pattern::Pattern`].
    ResourcePattern {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_RESOURCE_BYTES,
        "pattern": format!(
            "^(\\*|[^:*{UNSEEN}]+)((:(\\*|[^:*{UNSEEN}]*)){{0,{inner}}}:(\\*|[^:*{UNSEEN}]+))?$",
            inner = MAX_RESOURCE_SEGMENTS - 2
        ),
    };
    /// The action of a call, see [`crate::permission::check_action`].
    Action {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_ACTION_BYTES,
        "pattern": format!("^[^{UNSEEN}]+$"),
    };
    /// An idempotency key, see [`crate::idempotency::key::IdempotencyKey`].
    IdempotencyKeyText {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_IDEMPOTENCY_KEY_CHARS,
        "pattern": "^[!-~]+$",
    };
    /// An action that a permission grants, or `*`.
    ActionPattern {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_ACTION_BYTES,
        "pattern": format!("^(\\*|[^*{UNSEEN}]+)$"),
    };
    /// A glob, or a regular expression that starts with `^`, see [`crate::permission::arg_pattern`].
    ArgPattern {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_ARG_PATTERN_BYTES,
    };
    /// An address, or a network in CIDR notation.
    AddressOrNetwork {
        "type": "string",
        "anyOf": [
            { "format": "ipv4" },
            { "format": "ipv6" },
            { "pattern": format!("^{IPV4}/(3[0-2]|[12]?[0-9])$") },
            { "pattern": format!("^({})/(12[0-8]|1[01][0-9]|[1-9]?[0-9])$", ipv6()) },
        ],
    };
    /// An address.
    Address {
        "type": "string",
        "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }],
    };
    /// The IANA name of a time zone.
    ZoneName {
        "type": "string",
        "minLength": 1,
        "pattern": "^[A-Za-z0-9_+/-]+$",
    };
    /// A time of day.
    Clock {
        "type": "string",
        "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$",
    };
    /// A JSON object of the client's own.
    AnyObject {
        "type": "object",
    };
    /// Any JSON value.
    AnyJson {};
}
