//! What the kinds' own tests have in common.

use crate::decision::arguments::Strings;
use crate::error::{Code, Error};
use crate::permission::constraint::Constraints;
use crate::permission::constraint::kind::Facts;
use crate::permission::regexes::RegexCache;
use crate::permission::work_budget::WorkBudget;
use crate::time::Timestamp;

/// Constraints of a request.
pub(super) fn parse(json: &str) -> Result<Constraints, Error> {
    Constraints::parse(serde_json::from_str(json).unwrap())
}

/// Why a call is denied: the code and the reason.
pub(super) fn denial(json: &str, facts: &Facts<'_>) -> Option<(Code, String)> {
    let constraints = parse(json).unwrap();
    let failure = constraints.check(facts, &RegexCache::default(), |_, _| {}).err()?;
    Some((failure.code(), failure.reason().into_owned()))
}

/// The code that denies a call.
pub(super) fn denial_code(json: &str, facts: &Facts<'_>) -> Option<Code> {
    denial(json, facts).map(|(code, _)| code)
}

/// A call without arguments from an unknown address, at no time in particular.
pub(super) fn anywhere() -> Facts<'static> {
    Facts { arguments: Strings::of("{}"), ip: None, at: Timestamp::default(), work: WorkBudget::default() }
}

/// A call within that minute of a day.
pub(super) fn at_clock(clock: &str) -> Facts<'static> {
    Facts { at: Timestamp::parse("at", &format!("2026-03-01T{clock}:30Z")).unwrap(), ..anywhere() }
}

/// Holds that each of these is refused, in one line that begins with that field.
pub(super) fn refused_fields(table: &[(&str, &str)]) {
    for (json, field) in table {
        let error = parse(json).unwrap_err();
        assert!(error.message().starts_with(&format!("{field} ")), "{json}: {error}");
        assert!(!error.message().contains('\n'), "{error}");
    }
}
