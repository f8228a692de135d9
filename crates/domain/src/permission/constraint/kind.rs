//! What every kind of constraint says of itself. Nothing here has a default, so a new kind can't forget any of it.

use std::borrow::Cow;
use std::net::IpAddr;

#[cfg(feature = "schema")]
use schemars::{Schema, SchemaGenerator};

use crate::decision::arguments::Strings;
use crate::error::{Code, Error};
use crate::permission::regexes::RegexCache;
use crate::permission::work_budget::WorkBudget;
use crate::time::Timestamp;

/// A kind of constraint. Where a field is named, that is the path of its value, from the constraint's own name on.
pub trait Constraint: Sized {
    /// Its value in requests and answers.
    type Spec;
    /// Its value in the journal and in snapshots.
    type Stored;

    /// The JSON Schema of its value, or of `null`, with its description and its limits.
    #[cfg(feature = "schema")]
    fn schema(generator: &mut SchemaGenerator) -> Schema;

    /// Reads what a request says, and checks all of it.
    ///
    /// # Errors
    /// `INVALID_PATTERN` or `INVALID_FIELD`, naming the field.
    fn parse(field: &str, spec: Self::Spec) -> Result<Self, Error>;

    /// The value as it is spelled.
    fn spec(&self) -> Self::Spec;

    /// Takes what was stored. It was a request's once: it is not held against today's limits.
    ///
    /// # Errors
    /// `INVALID_PATTERN` for what can't be read, naming the field.
    fn restore(field: &str, stored: Self::Stored) -> Result<Self, Error>;

    /// The value to be stored.
    fn stored(&self) -> Self::Stored;

    /// Whether there is a call that it denies.
    fn restricts(&self) -> bool;

    /// The fixed price of its check, in steps; what the check takes as it runs comes on top. Steps bound a decision's
    /// work, so they must grow with what the check looks at.
    fn steps(&self) -> usize;
}

/// A constraint that a call's own facts decide.
pub trait Checked: Constraint {
    /// How it fails to hold.
    type Failure<'c>: Fails
    where
        Self: 'c;

    /// Checks one that restricts.
    ///
    /// # Errors
    /// Why it does not hold.
    fn check<'c>(&'c self, facts: &Facts<'_>, regexes: &RegexCache) -> Result<(), Self::Failure<'c>>;
}

/// Why a constraint does not hold. The sentence for people is made only where somebody reads it: a decision may look at
/// many that fail, and reports one.
pub trait Fails {
    /// Which code says so.
    fn code(&self) -> Code;

    /// The sentence for people.
    fn reason(&self) -> Cow<'static, str>;
}

/// The facts of a call that constraints look at.
pub struct Facts<'a> {
    /// The call's arguments, and the strings among them.
    pub arguments: Strings<'a>,
    /// The caller's address, where it is known.
    pub ip: Option<IpAddr>,
    /// When the call is decided.
    pub at: Timestamp,
    /// What may still be done to match the arguments, and to look at what was delegated.
    pub work: WorkBudget,
}

/// Checks how many items a list has.
pub(super) fn check_count(field: &str, count: usize, most: usize) -> Result<(), Error> {
    if count == 0 || count > most {
        return Err(Error::field(Code::InvalidField, field, format!("must contain 1 to {most} items, not {count}")));
    }
    Ok(())
}
