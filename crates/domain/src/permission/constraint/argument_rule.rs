//! What one argument must be: its spelling, and its check.

use std::cmp::Ordering;
use std::fmt;

#[cfg(feature = "schema")]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::decision::json_parts::{Kind, text};
use crate::error::{Code, Error};
#[cfg(feature = "schema")]
use crate::limits::MAX_ARG_PATTERNS;
use crate::limits::{MAX_ARGUMENT_VALUE_BYTES, MAX_ARGUMENT_VALUES, STEPS_PER_ITEM};
use crate::permission::constraint::arg_patterns::{ArgPatterns, ArgumentNotAllowed};
use crate::permission::constraint::kind::{Constraint, check_count};
use crate::permission::decimal::Decimal;
use crate::permission::regexes::RegexCache;
use crate::permission::stored::StoredArgument;
use crate::permission::work_budget::WorkBudget;
use crate::text::{check_no_secret, quote};

/// A JSON value in the text it was written in, so that a number keeps all its digits.
#[derive(Clone, Debug)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    fn of(json: &str) -> Self {
        // What a rule holds was read from JSON, so this is JSON.
        Self(RawValue::from_string(json.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for JsonText {}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// What one argument must be: all that is given. `{}` is anything, or nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArgumentRuleSpec {
    /// A string that matches one of these patterns.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<Vec<String>>,
    /// One of these strings, numbers, booleans and `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<JsonText>>,
    /// A number of at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<JsonText>,
    /// A number of at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<JsonText>,
    /// It may be missing too; if nothing else is given, it has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<bool>,
}

#[cfg(feature = "schema")]
impl JsonSchema for ArgumentRuleSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NewArgumentRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What one argument must be: all that is given. An argument with `match`, `oneOf`, `max` or `min` \
                must be there, unless `absent` is given too. An empty object is anything, or nothing at all.",
            "type": "object",
            "properties": {
                "match": {
                    "description": "A string that matches one of these patterns, as in `allowedArgPatterns`.",
                    "type": ["array", "null"],
                    "items": generator.subschema_for::<crate::schema::ArgPattern>(),
                    "minItems": 1,
                    "maxItems": MAX_ARG_PATTERNS,
                },
                "oneOf": {
                    "description": "One of these values. Numbers are equal by their value: `100`, `100.0` and `1e2` are one.",
                    "type": ["array", "null"],
                    "items": { "type": ["string", "number", "boolean", "null"] },
                    "minItems": 1,
                    "maxItems": MAX_ARGUMENT_VALUES,
                },
                "max": { "description": "A number of at most this, digit by digit.", "type": ["number", "null"] },
                "min": { "description": "A number of at least this.", "type": ["number", "null"] },
                "absent": {
                    "description": "It may be missing too; if nothing else is given, it has to be. `null` is not missing. Only `true` \
                        can be given.",
                    // Without an enum: generators of clients know none of booleans. `false` is refused.
                    "type": ["boolean", "null"],
                },
            },
            "additionalProperties": false,
        })
    }
}

/// A checked rule for one argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ArgumentRule {
    patterns: Option<ArgPatterns>,
    one_of: Option<Box<[Scalar]>>,
    max: Option<Decimal>,
    min: Option<Decimal>,
    absent: bool,
}

/// A value that has no parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scalar {
    Null,
    Bool(bool),
    Number(Decimal),
    Text(Box<str>),
}

impl Scalar {
    /// Reads a value of a request.
    fn parse(field: &str, json: &str) -> Result<Self, Error> {
        let refuse = |problem: String| Error::field(Code::InvalidField, field, problem);
        if json.len() > MAX_ARGUMENT_VALUE_BYTES {
            return Err(refuse(format!("must have at most {MAX_ARGUMENT_VALUE_BYTES} bytes as JSON")));
        }
        match Kind::of(json) {
            Kind::Number => return Decimal::parse(json).map(Self::Number).map_err(refuse),
            kind @ (Kind::Array | Kind::Object) => {
                return Err(refuse(format!("must be a string, a number, true, false or null, not {}", kind.as_str())));
            }
            Kind::Null | Kind::Bool | Kind::Text => {}
        }
        let value = Self::read(json).ok_or_else(|| refuse("must not contain an unpaired surrogate".to_owned()))?;
        if let Self::Text(text) = &value {
            check_no_secret(field, text)?;
        }
        Ok(value)
    }

    /// Reads a value that was stored. `None` for what is none.
    fn read(json: &str) -> Option<Self> {
        match Kind::of(json) {
            Kind::Null => Some(Self::Null),
            Kind::Bool => Some(Self::Bool(json == "true")),
            Kind::Number => Decimal::read(json).map(Self::Number),
            Kind::Text => text(json).map(|text| Self::Text(text.into())),
            Kind::Array | Kind::Object => None,
        }
    }

    /// As JSON.
    fn spell(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => number.as_str().to_owned(),
            Self::Text(text) => serde_json::Value::from(&**text).to_string(),
        }
    }

    fn is(&self, json: &str, string: Option<&str>) -> bool {
        match self {
            Self::Null => json == "null",
            Self::Bool(value) => json == if *value { "true" } else { "false" },
            Self::Number(number) => number.compare(json) == Some(Ordering::Equal),
            Self::Text(text) => string == Some(text),
        }
    }
}

impl ArgumentRule {
    /// Reads a rule.
    ///
    /// # Errors
    /// `INVALID_PATTERN` or `INVALID_FIELD`, naming the field from `field` on.
    pub fn parse(field: &str, spec: ArgumentRuleSpec) -> Result<Self, Error> {
        let ArgumentRuleSpec { matching, one_of, max, min, absent } = spec;
        let refuse =
            |part: &str, problem: &str| Err(Error::field(Code::InvalidField, &format!("{field}{part}"), problem));
        if absent == Some(false) {
            return refuse(".absent", "must be true, or left out");
        }
        if let Some(values) = &one_of {
            check_count(&format!("{field}.oneOf"), values.len(), MAX_ARGUMENT_VALUES)?;
        }
        let patterns = matching.map(|patterns| ArgPatterns::parse(&format!("{field}.match"), patterns)).transpose()?;
        let number = |part: &str, json: Option<JsonText>| {
            let refuse = |problem| Error::field(Code::InvalidField, &format!("{field}.{part}"), problem);
            json.map(|json| Decimal::parse(json.as_str()).map_err(refuse)).transpose()
        };
        let value = |(at, json): (usize, JsonText)| Scalar::parse(&format!("{field}.oneOf[{at}]"), json.as_str());
        let rule = Self {
            patterns,
            one_of: one_of.map(|all| all.into_iter().enumerate().map(value).collect()).transpose()?,
            max: number("max", max)?,
            min: number("min", min)?,
            absent: absent.unwrap_or(false),
        };
        if rule.patterns.is_some() && (rule.max.is_some() || rule.min.is_some()) {
            return refuse(
                "",
                "must not have both match, which is about strings, and max or min, which are about numbers",
            );
        }
        if let (Some(max), Some(min)) = (&rule.max, &rule.min)
            && max.compare(min.as_str()) == Some(Ordering::Less)
        {
            return refuse(".max", "must not be less than min");
        }
        Ok(rule)
    }

    /// Takes what was stored.
    ///
    /// # Errors
    /// `INVALID_FIELD` for what can't be read, naming the field.
    pub fn restore(field: &str, stored: StoredArgument) -> Result<Self, Error> {
        let StoredArgument { name: _, matching, one_of, max, min, absent } = stored;
        let refuse = |part: &str| Error::field(Code::InvalidField, &format!("{field}.{part}"), "can't be read");
        let number = |part: &str, json: Option<String>| {
            json.map(|json| Decimal::read(&json).ok_or_else(|| refuse(part))).transpose()
        };
        let values =
            |all: Vec<String>| -> Option<Box<[Scalar]>> { all.iter().map(|json| Scalar::read(json)).collect() };
        Ok(Self {
            patterns: matching.map(|patterns| ArgPatterns::restore(field, patterns)).transpose()?,
            one_of: one_of.map(|all| values(all).ok_or_else(|| refuse("oneOf"))).transpose()?,
            max: number("max", max)?,
            min: number("min", min)?,
            absent: absent.unwrap_or(false),
        })
    }

    /// The rule as it is spelled.
    pub fn spec(&self) -> ArgumentRuleSpec {
        let StoredArgument { name: _, matching, one_of, max, min, absent } = self.stored(String::new());
        let text = |json: String| JsonText::of(&json);
        ArgumentRuleSpec {
            matching,
            one_of: one_of.map(|values| values.into_iter().map(text).collect()),
            max: max.map(text),
            min: min.map(text),
            absent,
        }
    }

    /// The rule to be stored, for the argument of that name.
    pub fn stored(&self, name: String) -> StoredArgument {
        let number = |number: &Decimal| number.as_str().to_owned();
        StoredArgument {
            name,
            matching: self.patterns.as_ref().map(Constraint::stored),
            one_of: self.one_of.as_ref().map(|values| values.iter().map(Scalar::spell).collect()),
            max: self.max.as_ref().map(number),
            min: self.min.as_ref().map(number),
            absent: self.absent.then_some(true),
        }
    }

    /// Its patterns.
    pub fn patterns(&self) -> Option<&ArgPatterns> {
        self.patterns.as_ref()
    }

    /// Whether it says what a value has to be.
    fn is_about_value(&self) -> bool {
        self.patterns.is_some() || self.one_of.is_some() || self.max.is_some() || self.min.is_some()
    }

    /// Checks an argument that is missing.
    ///
    /// # Errors
    /// That it is.
    pub fn check_missing<'c>(&self) -> Result<(), Problem<'c>> {
        if self.absent || !self.is_about_value() { Ok(()) } else { Err(Problem::Missing) }
    }

    /// Checks an argument's value, as JSON.
    ///
    /// # Errors
    /// Why the rule does not hold.
    pub fn check<'c>(&'c self, json: &str, work: &WorkBudget, regexes: &RegexCache) -> Result<(), Problem<'c>> {
        if !self.is_about_value() {
            return if self.absent { Err(Problem::Present) } else { Ok(()) };
        }
        let kind = Kind::of(json);
        let string = if kind == Kind::Text { text(json) } else { None };
        if let Some(patterns) = &self.patterns {
            let string = string.as_deref().ok_or(Problem::OtherKind(Kind::Text, kind))?;
            patterns.check_value(string, work, regexes).map_err(Problem::Unmatched)?;
        }
        if let Some(values) = &self.one_of {
            if !work.take(values.len() * (STEPS_PER_ITEM + json.len().min(MAX_ARGUMENT_VALUE_BYTES))) {
                return Err(Problem::TooMuchWork);
            }
            if !values.iter().any(|value| value.is(json, string.as_deref())) {
                return Err(Problem::NotOneOf(
                    shown(json, string.as_deref()),
                    values.iter().map(Scalar::spell).collect(),
                ));
            }
        }
        for (limit, beyond) in [(&self.max, Ordering::Less), (&self.min, Ordering::Greater)] {
            let Some(limit) = limit else { continue };
            let compared = limit.compare(json).ok_or(Problem::OtherKind(Kind::Number, kind))?;
            if compared == beyond {
                return Err(Problem::Beyond(quote(json), limit.as_str(), beyond == Ordering::Less));
            }
        }
        Ok(())
    }
}

/// A value in a sentence.
fn shown(json: &str, string: Option<&str>) -> String {
    quote(string.unwrap_or(json))
}

/// Why a rule does not hold for an argument.
pub enum Problem<'c> {
    /// It has to be there.
    Missing,
    /// It must not be there.
    Present,
    /// It is of the second kind rather than the first.
    OtherKind(Kind, Kind),
    /// It matches no pattern.
    Unmatched(ArgumentNotAllowed<'c>),
    /// It is none of these values; it is quoted.
    NotOneOf(String, Vec<String>),
    /// It is over that limit, or under it if the last one is false; it is quoted.
    Beyond(String, &'c str, bool),
    /// The permission names the arguments, and not this one.
    Unnamed,
    /// The permission does not name it, and it has text.
    UnnamedText,
    /// No steps are left to look at it.
    TooMuchWork,
}

/// Values that a sentence names.
const SHOWN_VALUES: usize = 3;

impl fmt::Display for Problem<'_> {
    /// What follows the argument's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing, and the permission is about its value"),
            Self::Present => f.write_str("must not be there"),
            Self::OtherKind(wanted, kind) => write!(f, "must be {}, not {}", wanted.as_str(), kind.as_str()),
            Self::Unmatched(failure) => write!(f, "is not allowed: {}", failure.what()),
            Self::NotOneOf(value, values) => {
                let wanted: Vec<_> = values.iter().take(SHOWN_VALUES).map(|value| quote(value)).collect();
                let more = values.len().saturating_sub(wanted.len());
                let more = if more == 0 { String::new() } else { format!(" or {more} other values") };
                write!(f, "is not allowed: value '{value}' is not {}{more}", wanted.join(" or "))
            }
            Self::Beyond(value, limit, true) => write!(f, "is not allowed: {value} is over the maximum of {limit}"),
            Self::Beyond(value, limit, false) => write!(f, "is not allowed: {value} is under the minimum of {limit}"),
            Self::Unnamed => f.write_str("is not one that the permission names"),
            Self::UnnamedText => f.write_str("has text, and is not one that the permission names"),
            Self::TooMuchWork => f.write_str("takes more work to check than one decision may do"),
        }
    }
}
