//! `otherArguments`: what may be among a call's arguments besides those that `arguments` names.

use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::permission::constraint::argument_tree::{ArgumentTree, Failed, Unnamed};
use crate::permission::constraint::kind::{Checked, Constraint, Facts};
use crate::permission::regexes::RegexCache;
use crate::permission::stored::StoredOtherArguments;

/// What may be among the arguments besides those that are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherArgumentsSpec {
    /// Anything.
    Allow,
    /// Nothing.
    Deny,
    /// What holds no text: the strings among them are denied.
    Strings,
}

/// A rule for all arguments that have none, with those that have one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OtherArguments {
    unnamed: Unnamed,
    named: Arc<ArgumentTree>,
}

impl OtherArguments {
    /// The rule beside these arguments. Where a request says nothing, nothing else is allowed.
    pub fn beside(this: Option<Self>, named: &Arc<ArgumentTree>) -> Self {
        let unnamed = this.map_or(Unnamed::Denied, |this| this.unnamed);
        Self { unnamed, named: Arc::clone(named) }
    }

    fn alone(unnamed: Unnamed) -> Self {
        Self { unnamed, named: Arc::default() }
    }
}

impl Constraint for OtherArguments {
    type Spec = OtherArgumentsSpec;
    type Stored = StoredOtherArguments;

    #[cfg(feature = "schema")]
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What may be among the arguments besides those that `arguments` names: `deny` is nothing, and what \
                counts if `arguments` is given alone; `strings` denies their strings and the members of their objects, so \
                that numbers, booleans and `null` may be there; `allow` is anything. Without `arguments` it is about all.",
            "type": ["string", "null"],
            "enum": ["allow", "deny", "strings", null],
        })
    }

    fn parse(_: &str, spec: OtherArgumentsSpec) -> Result<Self, Error> {
        Ok(Self::alone(match spec {
            OtherArgumentsSpec::Allow => Unnamed::Allowed,
            OtherArgumentsSpec::Deny => Unnamed::Denied,
            OtherArgumentsSpec::Strings => Unnamed::WithoutText,
        }))
    }

    fn spec(&self) -> OtherArgumentsSpec {
        match self.unnamed {
            Unnamed::Allowed => OtherArgumentsSpec::Allow,
            Unnamed::Denied => OtherArgumentsSpec::Deny,
            Unnamed::WithoutText => OtherArgumentsSpec::Strings,
        }
    }

    fn restore(_: &str, stored: StoredOtherArguments) -> Result<Self, Error> {
        Ok(Self::alone(match stored {
            StoredOtherArguments::Allow => Unnamed::Allowed,
            StoredOtherArguments::Deny => Unnamed::Denied,
            StoredOtherArguments::Strings => Unnamed::WithoutText,
        }))
    }

    fn stored(&self) -> StoredOtherArguments {
        match self.unnamed {
            Unnamed::Allowed => StoredOtherArguments::Allow,
            Unnamed::Denied => StoredOtherArguments::Deny,
            Unnamed::WithoutText => StoredOtherArguments::Strings,
        }
    }

    fn restricts(&self) -> bool {
        self.unnamed != Unnamed::Allowed
    }

    /// A check takes its steps by the arguments, as it goes.
    fn steps(&self) -> usize {
        0
    }
}

impl Checked for OtherArguments {
    type Failure<'c> = Failed<'c>;

    fn check<'c>(&'c self, facts: &Facts<'_>, _: &RegexCache) -> Result<(), Failed<'c>> {
        self.named.check_unnamed(facts.arguments.json(), self.unnamed, &facts.work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::arguments::Strings;
    use crate::permission::constraint::example_tests::{anywhere, denial_code};

    #[test]
    fn what_is_not_named_is_allowed_denied_or_without_text() {
        let named = r#""arguments":{"path":{},"edits[].new":{},"o.x":{}}"#;
        let rules = |rule: &str| format!(r#"{{{named},"otherArguments":"{rule}"}}"#);
        let default = format!("{{{named}}}");
        for (arguments, strings, deny) in [
            ("{}", true, true),
            (r#"{"path":"/a","edits":[{"new":"x"},{}],"o":{"x":{"y":"z"}}}"#, true, true),
            (r#"{"head":10}"#, true, false),
            (r#"{"dryRun":true}"#, true, false),
            (r#"{"none":null}"#, true, false),
            (r#"{"list":[1,[2]]}"#, true, false),
            (r#"{"empty":{}}"#, true, false),
            (r#"{"other":"text"}"#, false, false),
            (r#"{"other":["text"]}"#, false, false),
            (r#"{"other":{"deep":[{"er":1}]}}"#, false, false),
            (r#"{"Path":"/etc"}"#, false, false),
            (r#"{"p\u0430th":"/etc"}"#, false, false),
            (r#"{"":"/etc"}"#, false, false),
            // Also in what is named.
            (r#"{"edits":[{"new":"x","old":1}]}"#, true, false),
            (r#"{"edits":[{"new":"x"},{"old":"y"}]}"#, false, false),
            (r#"{"o":{"y":"z"}}"#, false, false),
        ] {
            let facts = Facts { arguments: Strings::of(arguments), ..anywhere() };
            let grants = |json: &str| denial_code(json, &facts).is_none();
            assert!(grants(&rules("allow")), "{arguments}");
            assert_eq!(grants(&rules("strings")), strings, "{arguments}");
            assert_eq!(grants(&rules("deny")), deny, "{arguments}");
            assert_eq!(grants(&default), deny, "{arguments}: nothing else unless it is said");
        }
    }

    #[test]
    fn without_names_it_is_about_all_arguments() {
        for (arguments, strings, deny) in [
            ("{}", true, true),
            (r#"{"a":1}"#, true, false),
            (r#"{"a":"b"}"#, false, false),
            ("[1]", false, false),
            ("5", false, false),
        ] {
            let facts = Facts { arguments: Strings::of(arguments), ..anywhere() };
            let grants = |rule: &str| denial_code(&format!(r#"{{"otherArguments":"{rule}"}}"#), &facts).is_none();
            assert_eq!((grants("allow"), grants("strings"), grants("deny")), (true, strings, deny), "{arguments}");
        }
    }
}
