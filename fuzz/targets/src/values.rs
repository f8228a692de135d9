//! Text parsed into values: what parses prints, and parses to an equal value.

use std::fmt::Display;

use serde_json::Value;
use serde_json::value::RawValue;

use kavach_domain::budget::calendar::Span;
use kavach_domain::budget::cost::Cost;
use kavach_domain::decision::arguments::{Arguments, Compact, Strings};
use kavach_domain::limits::{MAX_NAME_CHARS, MAX_QUOTED_CHARS};
use kavach_domain::permission::constraint::{Constraints, ConstraintsSpec};
use kavach_domain::permission::{PermissionSet, PermissionSpec};
use kavach_domain::text::{Slug, has_unseen, parse_name, quote};
use kavach_domain::{
    AgentId, AuditId, Credential, DelegationId, KeyId, PolicyId, SecretHash, TenantId, TenantRef, Timestamp,
};
use kavach_fixture::small_tenant::readable;

/// Any text, parsed as each kind of value.
pub fn values(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    ids(&text);
    names(&text);
    times(&text);
    costs(&text);
    credentials(&text);
    if let Ok(json) = serde_json::from_str::<&RawValue>(&text) {
        arguments(json.get());
    }
    if let Ok(spec) = serde_json::from_str::<ConstraintsSpec>(&text) {
        constraints(spec);
    }
    if let Ok(specs) = serde_json::from_str::<Vec<PermissionSpec>>(&text) {
        permissions(specs);
    }
}

/// Each value has one spelling.
fn prints(value: Option<impl Display>, text: &str) {
    if let Some(value) = value {
        assert_eq!(value.to_string(), text);
    }
}

fn ids(text: &str) {
    prints(AgentId::parse(text), text);
    prints(KeyId::parse(text), text);
    prints(PolicyId::parse(text), text);
    prints(DelegationId::parse(text), text);
    prints(AuditId::parse(text), text);
    prints(TenantId::parse(text), text);
    match TenantRef::parse(text) {
        TenantRef::Default => assert_eq!(text, "default"),
        TenantRef::Id(id) => assert_eq!(id.to_string(), text),
        TenantRef::Slug(slug) => assert_eq!(Slug::parse("slug", text).unwrap().as_str(), &*slug),
        TenantRef::Impossible => assert!(Slug::parse("slug", text).is_err()),
    }
}

fn names(text: &str) {
    if let Ok(name) = parse_name("name", text) {
        assert!(!name.is_empty() && name.chars().count() <= MAX_NAME_CHARS && !name.chars().any(char::is_control));
        assert_eq!(parse_name("name", &name).unwrap(), name);
    }
    let quoted = quote(text);
    assert!(!has_unseen(&quoted));
    // The longest way to show a character is `\u{10ffff}`.
    assert!(quoted.chars().count() <= MAX_QUOTED_CHARS * 10 + 1);
}

fn times(text: &str) {
    if let Ok(time) = Timestamp::parse("at", text) {
        let shown = time.to_string();
        assert_eq!(shown.len(), "2026-03-01T09:30:00.000Z".len(), "{shown}");
        assert_eq!(Timestamp::parse("at", &shown).unwrap(), time);
        assert!(time.minute_of_day() < 1_440);
        assert!(Span::ALL.into_iter().all(|span| span.utc(time).contains(time)));
    }
}

fn costs(text: &str) {
    // The parser gets numbers as JSON spells them.
    let is_number = serde_json::from_str::<&RawValue>(text)
        .is_ok_and(|json| json.get() == text && text.starts_with(|first: char| first == '-' || first.is_ascii_digit()));
    let parsed = Cost::parse("cost", text);
    if let Ok(cost) = parsed {
        assert_eq!(Cost::parse("cost", &cost.to_string()).unwrap(), cost);
        assert_eq!(serde_json::to_string(&cost).unwrap(), cost.to_string());
    }
    if is_number
        && text.len() < 60
        && let Some(plain) = naive_decimal(text)
    {
        let fits = plain
            .as_ref()
            .is_some_and(|(whole, fraction)| whole.len() < 13 || whole == "1000000000000" && fraction.is_empty());
        assert_eq!(parsed.is_ok(), fits, "{text}");
        if let (Ok(cost), Some((whole, fraction))) = (parsed, plain) {
            let limit = Cost::parse_limit("cost", text).unwrap();
            let (kept, rest) = fraction.split_at(fraction.len().min(6));
            let kept = kept.trim_end_matches('0');
            let shown = if kept.is_empty() { whole } else { format!("{whole}.{kept}") };
            assert_eq!(limit.to_string(), shown, "{text}");
            assert_eq!(cost.millionths(), limit.millionths() + u64::from(!rest.is_empty()), "{text}");
        }
    }
}

/// The digits before and after the decimal point, with the exponent applied. The inner `None` is a negative number, the
/// outer one an exponent too large to write out.
#[allow(clippy::option_option)]
fn naive_decimal(number: &str) -> Option<Option<(String, String)>> {
    let (number, is_negative) = number.strip_prefix('-').map_or((number, false), |number| (number, true));
    if is_negative
        && number.split(['e', 'E']).next().is_some_and(|digits| digits.contains(|digit| ('1'..='9').contains(&digit)))
    {
        return Some(None);
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i32 = exponent.parse().ok().filter(|exponent| (-200..200).contains(exponent))?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // Enough zeros on both sides to move the point.
    let pad = "0".repeat(200);
    let digits = format!("{pad}{whole}{fraction}{pad}");
    let point = usize::try_from(i32::try_from(pad.len() + whole.len()).ok()? + exponent).ok()?;
    let (whole, fraction) = digits.split_at(point);
    let whole = whole.trim_start_matches('0');
    Some(Some((if whole.is_empty() { "0" } else { whole }.to_owned(), fraction.trim_end_matches('0').to_owned())))
}

fn credentials(text: &str) {
    let hash = SecretHash::of(text);
    match Credential::parse(text) {
        Credential::Operator(own) => assert!(own.hash.matches(&hash)),
        Credential::TenantKey(_, own) => assert!(own.matches(&hash) && text.starts_with("kvt_")),
        Credential::AgentToken(_, own) => assert!(own.matches(&hash) && text.starts_with("kv_")),
    }
    assert_eq!(SecretHash::from_hex(&hash.to_hex()), Some(hash));
    if let Some(read) = SecretHash::from_hex(text) {
        assert_eq!(read.to_hex(), text.to_lowercase());
        assert_eq!(read.matches(&hash), read == hash);
    }
}

fn arguments(json: &str) {
    // serde_json has its own limit of nesting: we don't compare what it can't read.
    let value = serde_json::from_str::<Value>(json).ok();
    if let Ok(Compact { json: compact, .. }) = Arguments::Any(json).compact() {
        assert!(compact.len() <= json.len());
        assert_eq!(Arguments::Any(&compact).compact().unwrap().json, compact);
        assert_eq!(serde_json::from_str::<Value>(&compact).ok(), value);
    }
    if let Some(value) = value
        && !has_repeated_member(json, &value)
    {
        let mut shown = Vec::new();
        let all = Strings::of(json).all(|text| {
            shown.push(text.to_owned());
            true
        });
        let mut expected = Vec::new();
        strings_of(&value, &mut expected);
        shown.sort();
        expected.sort();
        assert!(all != expected.is_empty() && shown == expected, "{json}");
    }
}

/// Whether an object repeats a member. A value keeps only one of them, so its compact text is shorter.
fn has_repeated_member(json: &str, value: &Value) -> bool {
    fn colons(value: &Value) -> usize {
        match value {
            Value::Array(items) => items.iter().map(colons).sum(),
            Value::Object(members) => members.values().map(|value| 1 + colons(value)).sum(),
            _ => 0,
        }
    }
    let mut in_string = false;
    let mut escaped = false;
    let mut all = 0;
    for c in json.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            ':' if !in_string => all += 1,
            _ => {}
        }
    }
    all != colons(value)
}

fn strings_of(value: &Value, all: &mut Vec<String>) {
    match value {
        Value::String(text) => all.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings_of(item, all)),
        Value::Object(members) => members.values().for_each(|item| strings_of(item, all)),
        _ => {}
    }
}

fn constraints(spec: ConstraintsSpec) {
    if let Ok(parsed) = Constraints::parse(spec) {
        let shown = parsed.spec();
        readable(&serde_json::to_string(&shown).unwrap());
        assert_eq!(Constraints::parse(shown).unwrap(), parsed);
        assert_eq!(Constraints::restore(parsed.stored()).unwrap(), parsed);
    }
}

fn permissions(specs: Vec<PermissionSpec>) {
    if let Ok(parsed) = PermissionSet::parse(specs) {
        assert_eq!(PermissionSet::parse(parsed.specs()).unwrap(), parsed);
        let stored = rmp_serde::to_vec_named(&parsed).unwrap();
        assert_eq!(rmp_serde::from_slice::<PermissionSet>(&stored).unwrap(), parsed);
    }
}
