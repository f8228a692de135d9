//! What a permission demands besides a match: a rate, a time of day, an address, arguments, approval.
//!
//! Each kind of constraint is a file of its own here, which says all about it. The list below names each once. What
//! requests and answers spell, what is checked, and in which order follow from it.

pub mod arg_patterns;
pub mod argument_rule;
pub mod argument_tree;
#[cfg(test)]
mod example_tests;
pub mod ip_allowlist;
pub mod kind;
pub mod max_calls_per_hour;
pub mod named_arguments;
pub mod other_arguments;
pub mod require_approval;
pub mod time_window;

use std::borrow::Cow;

#[cfg(feature = "schema")]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};
use crate::permission::arg_pattern::ArgPattern;
use crate::permission::constraint::arg_patterns::ArgPatterns;
use crate::permission::constraint::ip_allowlist::IpAllowlist;
use crate::permission::constraint::kind::{Checked, Constraint, Facts, Fails};
use crate::permission::constraint::max_calls_per_hour::MaxCallsPerHour;
use crate::permission::constraint::named_arguments::NamedArguments;
use crate::permission::constraint::other_arguments::OtherArguments;
use crate::permission::constraint::require_approval::RequireApproval;
use crate::permission::constraint::time_window::TimeWindow;
use crate::permission::regexes::RegexCache;
use crate::permission::stored::StoredConstraints;

/// Declares each constraint once: its name, its field, its type.
macro_rules! constraints {
    (
        checked { $($name:literal $field:ident: $Kind:ident,)* }
        counted { $($counted_name:literal $counted:ident: $Counted:ident,)* }
    ) => {
        constraints! {
            @all $($name $field: $Kind,)* $($counted_name $counted: $Counted,)*
        }

        /// A constraint that does not hold.
        pub enum Failure<'c> {
            $(
                #[doc = concat!("`", $name, "` does not.")]
                $Kind(<$Kind as Checked>::Failure<'c>),
            )*
        }

        impl Failure<'_> {
            /// Which code says so.
            pub fn code(&self) -> Code {
                match self { $(Self::$Kind(failure) => failure.code(),)* }
            }

            /// The sentence for people.
            pub fn reason(&self) -> Cow<'static, str> {
                match self { $(Self::$Kind(failure) => failure.reason(),)* }
            }
        }

        impl Constraints {
            /// Checks all that needs no counter, in the order in which failures are reported. Each result is shown to
            /// `looked_at` (the constraint's name and what came of it).
            ///
            /// # Errors
            /// The first constraint that does not hold.
            pub fn check<'c>(
                &'c self,
                facts: &Facts<'_>,
                regexes: &RegexCache,
                mut looked_at: impl FnMut(&'static str, Option<&Failure<'_>>),
            ) -> Result<(), Failure<'c>> {
                $(
                    if let Some(constraint) = &self.$field && constraint.restricts() {
                        let checked = constraint.check(facts, regexes).map_err(Failure::$Kind);
                        looked_at($name, checked.as_ref().err());
                        checked?;
                    }
                )*
                Ok(())
            }
        }
    };
    (@all $($name:literal $field:ident: $Kind:ident,)*) => {
        /// Constraints as requests and answers spell them.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct ConstraintsSpec {
            $(
                #[doc = concat!("See [`", stringify!($Kind), "`].")]
                #[serde(rename = $name, skip_serializing_if = "Option::is_none")]
                pub $field: Option<<$Kind as Constraint>::Spec>,
            )*
        }

        #[cfg(feature = "schema")]
        impl JsonSchema for ConstraintsSpec {
            fn schema_name() -> Cow<'static, str> {
                "NewConstraints".into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": "What must hold besides a match: all that is given.",
                    "type": "object",
                    "properties": { $($name: $Kind::schema(generator),)* },
                    "additionalProperties": false,
                })
            }
        }

        /// Checked constraints. All that are there must hold.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
        pub struct Constraints {
            $($field: Option<$Kind>,)*
        }

        impl Constraints {
            /// The names of all constraints, in the order in which they are checked.
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            /// Reads what a request says. Fields are named from the constraint on.
            ///
            /// # Errors
            /// `INVALID_PATTERN` or `INVALID_FIELD`, naming the field.
            pub fn parse(spec: ConstraintsSpec) -> Result<Self, Error> {
                Ok(Self { $($field: spec.$field.map(|spec| $Kind::parse($name, spec)).transpose()?,)* }.linked())
            }

            /// The constraints as they are spelled, addresses in their shortest form.
            pub fn spec(&self) -> ConstraintsSpec {
                ConstraintsSpec { $($field: self.$field.as_ref().map(Constraint::spec),)* }
            }

            /// Takes what was stored.
            ///
            /// # Errors
            /// As for [`Self::parse`], for what can't be read at all.
            pub fn restore(stored: StoredConstraints) -> Result<Self, Error> {
                // A field that no constraint reads does not compile.
                let StoredConstraints { $($field,)* } = stored;
                Ok(Self { $($field: $field.map(|stored| $Kind::restore($name, stored)).transpose()?,)* }.linked())
            }

            /// The constraints to be stored.
            pub fn stored(&self) -> StoredConstraints {
                StoredConstraints { $($field: self.$field.as_ref().map(Constraint::stored),)* }
            }

            /// Whether there is a call that they deny.
            pub fn restrict(&self) -> bool {
                $(self.$field.as_ref().is_some_and(Constraint::restricts))||*
            }

            /// Steps that a look at them counts, but for those that a check takes as it goes.
            pub fn steps(&self) -> usize {
                [$(self.$field.as_ref().map_or(0, Constraint::steps),)*].into_iter().sum()
            }
        }
    };
}

constraints! {
    // What the call's own facts decide, in the order in which failures are reported.
    checked {
        "timeWindow" time_window: TimeWindow,
        "ipAllowlist" ip_allowlist: IpAllowlist,
        "allowedArgPatterns" allowed_arg_patterns: ArgPatterns,
        "arguments" arguments: NamedArguments,
        "otherArguments" other_arguments: OtherArguments,
        "requireApproval" require_approval: RequireApproval,
    }
    // Checked last, where the counter is.
    counted {
        "maxCallsPerHour" max_calls_per_hour: MaxCallsPerHour,
    }
}

impl Constraints {
    /// Calls allowed in a sliding hour, where that is limited.
    pub fn max_calls_per_hour(&self) -> Option<u32> {
        self.max_calls_per_hour.as_ref().map(Constraint::spec)
    }

    /// Shows every pattern for arguments with the path of its field, from the constraint's name on.
    pub fn each_arg_pattern(&self, mut show: impl FnMut(String, &ArgPattern)) {
        let patterns = self.allowed_arg_patterns.as_ref().map(ArgPatterns::as_slice).unwrap_or_default();
        for (at, pattern) in patterns.iter().enumerate() {
            show(format!("allowedArgPatterns[{at}]"), pattern);
        }
        if let Some(arguments) = &self.arguments {
            arguments.each_pattern("arguments", show);
        }
    }

    /// What is not named depends on what is.
    fn linked(mut self) -> Self {
        if let Some(arguments) = &self.arguments {
            self.other_arguments = Some(OtherArguments::beside(self.other_arguments, arguments.tree()));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::example_tests::{anywhere, parse};
    use super::*;

    const ALL: &str = r#"{"timeWindow":{"start":"22:00","end":"06:30"},"ipAllowlist":["10.0.0.0/8","192.0.2.7"],
        "allowedArgPatterns":["a*","^b"],"arguments":{"amount":{"max":100,"min":0.5,"absent":true},"edits[].a\\.b":{},
        "path":{"match":["/srv/**"]},"sort":{"oneOf":["name",1e2,null,true]}},"otherArguments":"strings",
        "requireApproval":false,"maxCallsPerHour":3}"#;

    #[test]
    fn what_is_read_is_spelled_and_stored_as_it_was() {
        let spec: ConstraintsSpec = serde_json::from_str(ALL).unwrap();
        let spelled = serde_json::to_value(&spec).unwrap();
        assert!(Constraints::NAMES.iter().all(|name| spelled.get(name).is_some()), "ALL has all: {spelled}");
        let constraints = Constraints::parse(spec.clone()).unwrap();
        assert_eq!(constraints.spec(), spec);
        assert_eq!(Constraints::restore(constraints.stored()).unwrap(), constraints);
    }

    #[test]
    fn a_spec_leaves_out_what_is_not_there_and_knows_no_other_names() {
        assert_eq!(serde_json::to_string(&ConstraintsSpec::default()).unwrap(), "{}");
        for wrong in [r#"{"maxCallsPerHour":-1}"#, r#"{"maxCalls":1}"#] {
            assert!(serde_json::from_str::<ConstraintsSpec>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_steps_grow_with_what_a_check_looks_at() {
        let steps = |json: &str| parse(json).unwrap().steps();
        assert_eq!(steps("{}"), 0);
        assert_eq!(steps(ALL), 2 * crate::limits::STEPS_PER_ITEM);
    }

    #[test]
    fn the_first_failure_in_the_order_of_the_names_is_reported() {
        let mut left = serde_json::json!({
            "maxCallsPerHour": 0, "requireApproval": true, "allowedArgPatterns": ["/srv/**"],
            "arguments": { "a": { "max": 1 } }, "otherArguments": "deny",
            "ipAllowlist": ["10.0.0.1"], "timeWindow": { "start": "12:00", "end": "13:00" },
        });
        let mut failed = Vec::new();
        loop {
            let (constraints, mut last) = (parse(&left.to_string()).unwrap(), "");
            if constraints.check(&anywhere(), &RegexCache::default(), |name, _| last = name).is_ok() {
                break;
            }
            failed.push(last);
            left.as_object_mut().unwrap().remove(last);
        }
        assert_eq!(failed, ["timeWindow", "ipAllowlist", "allowedArgPatterns", "arguments", "requireApproval"]);
    }
}
