//! `requireApproval`: a person has to approve, which this server answers with a denial.

use std::borrow::Cow;

#[cfg(feature = "schema")]
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::error::{Code, Error};
use crate::permission::constraint::kind::{Checked, Constraint, Facts, Fails};
use crate::permission::regexes::RegexCache;

/// Whether a person has to approve.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequireApproval(bool);

impl Constraint for RequireApproval {
    type Spec = bool;
    type Stored = bool;

    #[cfg(feature = "schema")]
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Whether a person has to approve, which this server answers with a denial.",
            "type": ["boolean", "null"],
        })
    }

    fn parse(_: &str, spec: bool) -> Result<Self, Error> {
        Ok(Self(spec))
    }

    fn spec(&self) -> bool {
        self.0
    }

    fn restore(_: &str, stored: bool) -> Result<Self, Error> {
        Ok(Self(stored))
    }

    fn stored(&self) -> bool {
        self.0
    }

    fn restricts(&self) -> bool {
        self.0
    }

    fn steps(&self) -> usize {
        0
    }
}

impl Checked for RequireApproval {
    type Failure<'c> = Unapproved;

    fn check(&self, _: &Facts<'_>, _: &RegexCache) -> Result<(), Unapproved> {
        Err(Unapproved)
    }
}

/// A person has to approve.
pub struct Unapproved;

impl Fails for Unapproved {
    fn code(&self) -> Code {
        Code::RequiresApproval
    }

    fn reason(&self) -> Cow<'static, str> {
        "This call requires human approval".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::constraint::example_tests::{anywhere, denial_code};

    #[test]
    fn approval_is_a_denial_and_false_is_none() {
        assert_eq!(denial_code(r#"{"requireApproval":true}"#, &anywhere()), Some(Code::RequiresApproval));
        assert_eq!(denial_code(r#"{"requireApproval":false}"#, &anywhere()), None);
    }
}
