//! `arguments`: what arguments have to be, each by its name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Code, Error};
#[cfg(feature = "schema")]
use crate::limits::MAX_ARGUMENT_NAME_BYTES;
use crate::limits::MAX_NAMED_ARGUMENTS;
use crate::permission::arg_pattern::ArgPattern;
use crate::permission::argument_name::{self, Step};
use crate::permission::constraint::arg_patterns::ArgPatterns;
use crate::permission::constraint::argument_rule::{ArgumentRule, ArgumentRuleSpec};
use crate::permission::constraint::argument_tree::{ArgumentTree, Failed};
use crate::permission::constraint::kind::{Checked, Constraint, Facts, check_count};
use crate::permission::regexes::RegexCache;
use crate::permission::stored::StoredArgument;
use crate::text::{check_no_secret, quote};

/// Rules by the names of their arguments, as requests and answers spell them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct NamedArgumentsSpec(pub BTreeMap<String, ArgumentRuleSpec>);

impl<'de> Deserialize<'de> for NamedArgumentsSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rules;

        impl<'de> Visitor<'de> for Rules {
            type Value = NamedArgumentsSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of rules")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NamedArgumentsSpec, A::Error> {
                let mut rules = BTreeMap::new();
                while let Some((name, rule)) = map.next_entry::<String, ArgumentRuleSpec>()? {
                    // Of two rules one would have no effect.
                    if rules.contains_key(&name) {
                        return Err(de::Error::custom(format!("duplicate argument '{}'", quote(&name))));
                    }
                    rules.insert(name, rule);
                }
                Ok(NamedArgumentsSpec(rules))
            }
        }

        deserializer.deserialize_map(Rules)
    }
}

impl NamedArgumentsSpec {
    /// All texts of patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &String> + Clone {
        self.0.values().filter_map(|rule| rule.matching.as_ref()).flatten()
    }

    /// Bytes of all names and values, without the patterns.
    pub fn bytes(&self) -> usize {
        let values = self.0.values().filter_map(|rule| rule.one_of.as_ref()).flatten();
        self.0.keys().map(String::len).sum::<usize>() + values.map(|value| value.as_str().len()).sum::<usize>()
    }
}

/// Checked rules for arguments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamedArguments(Arc<ArgumentTree>);

impl NamedArguments {
    /// The rules as a tree.
    pub fn tree(&self) -> &Arc<ArgumentTree> {
        &self.0
    }

    /// Shows every pattern with the path of its field, from the constraint's name on.
    pub fn each_pattern(&self, field: &str, mut show: impl FnMut(String, &ArgPattern)) {
        self.0.each("", &mut |name, rule| {
            let patterns = rule.patterns().map(ArgPatterns::as_slice).unwrap_or_default();
            for (at, pattern) in patterns.iter().enumerate() {
                show(format!("{field}.{name}.match[{at}]"), pattern);
            }
        });
    }

    fn read(
        rules: impl Iterator<Item = (String, String, Result<ArgumentRule, Error>)>,
        steps_of: fn(&str) -> Result<Vec<Step>, String>,
    ) -> Result<Self, Error> {
        let mut tree = ArgumentTree::default();
        for (field, name, rule) in rules {
            let refuse = |problem: String| Error::field(Code::InvalidField, &field, problem);
            let steps = steps_of(&name).map_err(refuse)?;
            tree.add(&steps, rule?).map_err(|problem| refuse(problem.to_owned()))?;
        }
        Ok(Self(Arc::new(tree)))
    }
}

impl Constraint for NamedArguments {
    type Spec = NamedArgumentsSpec;
    type Stored = Vec<StoredArgument>;

    #[cfg(feature = "schema")]
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What arguments have to be, each by its name: `a.b` is the member `b` of the object `a`, `a[]` \
                every item of the array `a`, and a backslash takes the meaning from the dot, bracket or backslash after it. \
                An array without items counts as missing. `otherArguments` says what may be there besides.",
            "type": ["object", "null"],
            "minProperties": 1,
            "maxProperties": MAX_NAMED_ARGUMENTS,
            "propertyNames": { "minLength": 1, "maxLength": MAX_ARGUMENT_NAME_BYTES },
            "additionalProperties": generator.subschema_for::<ArgumentRuleSpec>(),
        })
    }

    fn parse(field: &str, NamedArgumentsSpec(rules): NamedArgumentsSpec) -> Result<Self, Error> {
        check_count(field, rules.len(), MAX_NAMED_ARGUMENTS)?;
        for name in rules.keys() {
            check_no_secret(field, name)?;
        }
        let rules = rules.into_iter().map(|(name, rule)| {
            let field = format!("{field}.{}", quote(&name));
            let rule = ArgumentRule::parse(&field, rule);
            (field, name, rule)
        });
        Self::read(rules, argument_name::parse)
    }

    fn spec(&self) -> NamedArgumentsSpec {
        let mut rules = BTreeMap::new();
        self.0.each("", &mut |name, rule| _ = rules.insert(name, rule.spec()));
        NamedArgumentsSpec(rules)
    }

    /// No regular expression is compiled before a call needs it.
    fn restore(field: &str, stored: Vec<StoredArgument>) -> Result<Self, Error> {
        let rules = stored.into_iter().map(|stored| {
            let field = format!("{field}.{}", quote(&stored.name));
            (field.clone(), stored.name.clone(), ArgumentRule::restore(&field, stored))
        });
        Self::read(rules, argument_name::read)
    }

    fn stored(&self) -> Vec<StoredArgument> {
        let mut rules = BTreeMap::new();
        self.0.each("", &mut |name, rule| _ = rules.insert(name.clone(), rule.stored(name)));
        rules.into_values().collect()
    }

    fn restricts(&self) -> bool {
        true
    }

    /// A check takes its steps by the arguments, as it goes.
    fn steps(&self) -> usize {
        0
    }
}

impl Checked for NamedArguments {
    type Failure<'c> = Failed<'c>;

    fn check<'c>(&'c self, facts: &Facts<'_>, regexes: &RegexCache) -> Result<(), Failed<'c>> {
        self.0.check(Some(facts.arguments.json()), &facts.work, regexes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::arguments::Strings;
    use crate::limits::{
        MAX_ARG_PATTERNS, MAX_ARGUMENT_NAME_BYTES, MAX_ARGUMENT_NAME_STEPS, MAX_ARGUMENT_VALUE_BYTES,
        MAX_ARGUMENT_VALUES, MAX_MATCHED_BYTES, MAX_NUMBER_BYTES,
    };
    use crate::permission::constraint::example_tests::{anywhere, denial, parse, refused_fields};

    fn with_arguments(json: &str) -> Facts<'_> {
        Facts { arguments: Strings::of(json), ..anywhere() }
    }

    /// Holds that each of these calls gets that answer from the rules, with anything else allowed.
    #[track_caller]
    fn holds(rules: &str, calls: &[(&str, bool)]) {
        let json = format!(r#"{{"arguments":{rules},"otherArguments":"allow"}}"#);
        for (arguments, granted) in calls {
            let denial = denial(&json, &with_arguments(arguments));
            assert_eq!(denial.is_none(), *granted, "{rules} {arguments}: {denial:?}");
            assert!(denial.is_none_or(|(code, _)| code == Code::ArgumentNotAllowed));
        }
    }

    #[test]
    fn a_string_must_match_and_be_there() {
        holds(
            r#"{"path":{"match":["/srv/data/**","^tmp-[0-9]+$"]}}"#,
            &[
                (r#"{"path":"/srv/data/a"}"#, true),
                (r#"{"path":"tmp-1"}"#, true),
                (r#"{"path":"\/srv\/data\/a"}"#, true),
                (r#"{"\u0070ath":"/srv/data/a"}"#, true),
                (r#"{"path":"/etc/passwd"}"#, false),
                (r#"{"path":"tmp-1x"}"#, false),
                (r#"{"path":"/srv/data/../../etc"}"#, false),
                ("{}", false),
                (r#"{"Path":"/srv/data/a"}"#, false),
                (r#"{"path":null}"#, false),
                (r#"{"path":["/srv/data/a"]}"#, false),
                (r#"{"path":{"0":"/srv/data/a"}}"#, false),
                (r#"{"path":1}"#, false),
                // Every one of them has to match, whichever a program reads.
                (r#"{"path":"/srv/data/a","path":"/etc"}"#, false),
                (r#"{"path":"/etc","path":"/srv/data/a"}"#, false),
                (r#"{"path":"/srv/data/a","content":"/etc/passwd\n"}"#, true),
                ("[]", false),
                (r#""/srv/data/a""#, false),
                ("null", false),
            ],
        );
    }

    #[test]
    fn a_number_is_compared_digit_by_digit() {
        holds(
            r#"{"amount":{"max":100,"min":0.01}}"#,
            &[
                (r#"{"amount":100}"#, true),
                (r#"{"amount":100.0}"#, true),
                (r#"{"amount":1e2}"#, true),
                (r#"{"amount":1000e-1}"#, true),
                (r#"{"amount":0.01}"#, true),
                (r#"{"amount":100.00000000000000000001}"#, false),
                (r#"{"amount":1e308}"#, false),
                (r#"{"amount":1e99999999999999999999}"#, false),
                (r#"{"amount":0}"#, false),
                (r#"{"amount":-5}"#, false),
                (r#"{"amount":1e-99999999999999999999}"#, false),
                (r#"{"amount":"5"}"#, false),
                (r#"{"amount":true}"#, false),
                (r#"{"amount":[5]}"#, false),
                (r#"{"amount":null}"#, false),
                ("{}", false),
            ],
        );
    }

    #[test]
    fn a_value_must_be_one_of_those_listed() {
        holds(
            r#"{"sort":{"oneOf":["name","größe",100,true,null]}}"#,
            &[
                (r#"{"sort":"name"}"#, true),
                (r#"{"sort":"gr\u00f6\u00dfe"}"#, true),
                (r#"{"sort":1e2}"#, true),
                (r#"{"sort":100.00}"#, true),
                (r#"{"sort":true}"#, true),
                (r#"{"sort":null}"#, true),
                (r#"{"sort":"Name"}"#, false),
                (r#"{"sort":"name "}"#, false),
                (r#"{"sort":"100"}"#, false),
                (r#"{"sort":"true"}"#, false),
                (r#"{"sort":"null"}"#, false),
                (r#"{"sort":false}"#, false),
                (r#"{"sort":100.1}"#, false),
                (r#"{"sort":["name"]}"#, false),
                (r#"{"sort":{}}"#, false),
                ("{}", false),
            ],
        );
        holds(r#"{"n":{"oneOf":[1,2,300],"max":2}}"#, &[(r#"{"n":2}"#, true), (r#"{"n":300}"#, false)]);
    }

    #[test]
    fn absent_alone_means_missing_and_beside_another_rule_that_it_may_be() {
        holds(
            r#"{"force":{"absent":true}}"#,
            &[("{}", true), (r#"{"force":false}"#, false), (r#"{"force":null}"#, false)],
        );
        holds(
            r#"{"limit":{"max":10,"absent":true}}"#,
            &[("{}", true), (r#"{"limit":10}"#, true), (r#"{"limit":11}"#, false), (r#"{"limit":null}"#, false)],
        );
        holds(r#"{"content":{}}"#, &[("{}", true), (r#"{"content":{"any":["thing"]}}"#, true)]);
    }

    #[test]
    fn names_lead_into_objects_and_arrays() {
        holds(
            r#"{"edits[].path":{"match":["/srv/**"]},"edits[].text":{},"options.depth":{"max":3,"absent":true}}"#,
            &[
                (r#"{"edits":[{"path":"/srv/a","text":"/etc"},{"path":"/srv/b"}]}"#, true),
                (r#"{"edits":[{"path":"/srv/a"},{"path":"/etc"}]}"#, false),
                (r#"{"edits":[{"path":"/srv/a"},{}]}"#, false),
                (r#"{"edits":[{"path":"/srv/a"},"/etc"]}"#, false),
                // What has no items has none that matches.
                (r#"{"edits":[]}"#, false),
                (r#"{"edits":{"path":"/srv/a"}}"#, false),
                (r#"{"edits":"[]"}"#, false),
                ("{}", false),
                (r#"{"edits":[{"path":"/srv/a"}],"options":{}}"#, true),
                (r#"{"edits":[{"path":"/srv/a"}],"options":{"depth":3}}"#, true),
                (r#"{"edits":[{"path":"/srv/a"}],"options":{"depth":4}}"#, false),
                // Not a place where a depth could be missing.
                (r#"{"edits":[{"path":"/srv/a"}],"options":"depth=4"}"#, false),
                (r#"{"edits":[{"path":"/srv/a"}],"options":null}"#, false),
            ],
        );
        holds(
            r#"{"grid[][]":{"max":9}}"#,
            &[
                (r#"{"grid":[[1],[2,9]]}"#, true),
                (r#"{"grid":[[1],[2,10]]}"#, false),
                (r#"{"grid":[1]}"#, false),
                (r#"{"grid":[[1],[]]}"#, false),
            ],
        );
        holds(
            r#"{"[]":{"match":["/srv/*"]}}"#,
            &[(r#"["/srv/a"]"#, true), (r#"["/srv/a","/etc"]"#, false), ("{}", false)],
        );
        holds(
            r#"{"a\\.b":{"max":1},"a\\[]":{"max":1}}"#,
            &[(r#"{"a.b":1,"a[]":1}"#, true), (r#"{"a":{"b":1},"a[]":1}"#, false), (r#"{"a.b":2,"a[]":1}"#, false)],
        );
    }

    #[test]
    fn a_reason_names_the_argument_and_what_it_lacks() {
        let rules = r#"{"arguments":{"edits[].path":{"match":["/srv/**"],"absent":true},"amount":{"max":100,"min":1,"absent":true},"sort":{"oneOf":["a",1,true,null,"b"],"absent":true},"force":{"absent":true},"must":{"min":1}}}"#;
        let secret = format!("kv_{}", "aB3-".repeat(16));
        for (arguments, reason) in [
            (
                r#"{"must":1,"edits":[{},{"path":"/etc"}]}"#,
                "Argument 'edits[1].path' is not allowed: value '/etc' does not match pattern '/srv/**'",
            ),
            (
                r#"{"must":1,"edits":[{"path":"/srv/.."}]}"#,
                "Argument 'edits[0].path' is not allowed: value '/srv/..' does not match pattern '/srv/**': a glob never matches a value \
                 with a segment '.' or '..', percent-encoded or not",
            ),
            (r#"{"must":1,"edits":[{"path":[]}]}"#, "Argument 'edits[0].path' must be a string, not an array"),
            (r#"{"must":1,"edits":[1]}"#, "Argument 'edits[0]' must be an object, not a number"),
            (r#"{"must":1,"edits":"x"}"#, "Argument 'edits' must be an array, not a string"),
            (r#"{"must":1,"amount":100.5}"#, "Argument 'amount' is not allowed: 100.5 is over the maximum of 100"),
            (r#"{"must":1,"amount":0}"#, "Argument 'amount' is not allowed: 0 is under the minimum of 1"),
            (r#"{"must":1,"amount":"5"}"#, "Argument 'amount' must be a number, not a string"),
            (
                r#"{"must":1,"sort":"c"}"#,
                "Argument 'sort' is not allowed: value 'c' is not \"a\" or 1 or true or 2 other values",
            ),
            (r#"{"must":1,"force":true}"#, "Argument 'force' must not be there"),
            ("{}", "Argument 'must' is missing, and the permission is about its value"),
            (r#"{"must":1,"other":1}"#, "Argument 'other' is not one that the permission names"),
            ("[]", "The value of arguments must be an object, not an array"),
            (
                &format!(r#"{{"must":1,"sort":"{secret}"}}"#),
                "Argument 'sort' is not allowed: value 'kv_(hidden)' is not \"a\" or 1 or true or 2 other values",
            ),
            (&format!(r#"{{"must":1,"{secret}":1}}"#), "Argument 'kv_(hidden)' is not one that the permission names"),
        ] {
            assert_eq!(
                denial(rules, &with_arguments(arguments)),
                Some((Code::ArgumentNotAllowed, reason.to_owned())),
                "{arguments}"
            );
        }
    }

    #[test]
    fn a_check_takes_bounded_work() {
        let rules = r#"{"arguments":{"a[].b":{"match":["*a*a*a*a*b"]}}}"#;
        let long = format!(r#"{{"a":[{}]}}"#, vec![format!(r#"{{"b":"{}"}}"#, "a".repeat(4_000)); 200].join(","));
        let (_, reason) = denial(rules, &with_arguments(&long)).unwrap();
        assert!(reason.contains("more work") || reason.contains("does not match"), "{reason}");
        // Each level is read once more, and each name is looked for in each item.
        let names: Vec<_> = (0..MAX_NAMED_ARGUMENTS).map(|at| format!(r#""a[].n{at}":{{"absent":true}}"#)).collect();
        let items = format!(r#"{{"a":[{}]}}"#, vec!["{}"; 300_000].join(","));
        let many = format!(r#"{{"arguments":{{{}}}}}"#, names.join(","));
        let (code, reason) = denial(&many, &with_arguments(&items)).unwrap();
        assert_eq!(code, Code::ArgumentNotAllowed);
        assert!(reason.contains("takes more work to check than one decision may do"), "{reason}");
        let long = format!(r#"{{"a":[{{"b":"{}"}}]}}"#, "a".repeat(MAX_MATCHED_BYTES + 1));
        let (_, reason) = denial(rules, &with_arguments(&long)).unwrap();
        assert!(reason.contains("has 4097 bytes"), "{reason}");
        // Nesting that nobody asks about is not followed.
        let deep = format!(r#"{{"a":[{{"b":"aaaab","c":{}{}}}]}}"#, "[".repeat(10_000), "]".repeat(10_000));
        let open = r#"{"arguments":{"a[].b":{"match":["*a*a*a*a*b"]}},"otherArguments":"allow"}"#;
        assert_eq!(denial(open, &with_arguments(&deep)), None);
    }

    #[test]
    fn what_is_stored_is_not_held_against_the_limits() {
        let rules: Vec<_> = (0..=MAX_NAMED_ARGUMENTS)
            .map(|at| StoredArgument {
                name: format!("n{at:03}\u{200b}{}", "n".repeat(MAX_ARGUMENT_NAME_BYTES)),
                matching: Some(vec!["^(".to_owned(); MAX_ARG_PATTERNS + 1]),
                one_of: Some(vec![format!("\"{}\"", "v".repeat(MAX_ARGUMENT_VALUE_BYTES)); MAX_ARGUMENT_VALUES + 1]),
                max: Some("1".repeat(MAX_NUMBER_BYTES + 1)),
                min: Some("2".to_owned()),
                absent: None,
            })
            .collect();
        let restored = NamedArguments::restore("arguments", rules.clone()).unwrap();
        assert_eq!(restored.stored(), rules);
        assert!(NamedArguments::parse("arguments", restored.spec()).is_err());
        let call = format!(r#"{{"{}":"("}}"#, rules[0].name);
        let failure = restored.check(&with_arguments(&call), &RegexCache::default()).err();
        assert!(failure.is_some(), "one that can't be compiled matches nothing");
        // What can't be read at all is refused, and so is what leads too deep.
        let named = |name: String| StoredArgument { name, ..rules[0].clone() };
        let deep = "[]".repeat(MAX_ARGUMENT_NAME_STEPS + 1);
        for bad in [
            named(deep),
            named("a..b".to_owned()),
            StoredArgument { max: Some("x".to_owned()), ..rules[0].clone() },
            StoredArgument { one_of: Some(vec!["{}".to_owned()]), ..rules[0].clone() },
            StoredArgument { one_of: Some(vec![r#""\ud800""#.to_owned()]), ..rules[0].clone() },
        ] {
            assert!(NamedArguments::restore("arguments", vec![bad.clone()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bad_rules_name_the_field() {
        let too_many: Vec<_> = (0..=MAX_NAMED_ARGUMENTS).map(|at| format!(r#""n{at}":{{}}"#)).collect();
        let secret = format!("kv_{}", "aB3-".repeat(16));
        let values =
            format!(r#"{{"arguments":{{"a":{{"oneOf":[{}]}}}}}}"#, vec!["1"; MAX_ARGUMENT_VALUES + 1].join(","));
        let long = format!(r#"{{"arguments":{{"a":{{"oneOf":["{}"]}}}}}}"#, "a".repeat(MAX_ARGUMENT_VALUE_BYTES));
        refused_fields(&[
            (r#"{"arguments":{}}"#, "arguments"),
            (&format!(r#"{{"arguments":{{{}}}}}"#, too_many.join(",")), "arguments"),
            (&format!(r#"{{"arguments":{{"{secret}":{{}}}}}}"#), "arguments"),
            (r#"{"arguments":{"a..b":{}}}"#, "arguments.a..b"),
            (r#"{"arguments":{"":{}}}"#, "arguments."),
            (r#"{"arguments":{"a":{"match":[]}}}"#, "arguments.a.match"),
            (r#"{"arguments":{"a":{"match":["x","^("]}}}"#, "arguments.a.match[1]"),
            (r#"{"arguments":{"a[].b":{"match":["/srv/../x"]}}}"#, "arguments.a[].b.match[0]"),
            (r#"{"arguments":{"a":{"oneOf":[]}}}"#, "arguments.a.oneOf"),
            (r#"{"arguments":{"a":{"oneOf":[1,[2]]}}}"#, "arguments.a.oneOf[1]"),
            (r#"{"arguments":{"a":{"oneOf":[{"b":1}]}}}"#, "arguments.a.oneOf[0]"),
            (r#"{"arguments":{"a":{"oneOf":[1e999]}}}"#, "arguments.a.oneOf[0]"),
            (&values, "arguments.a.oneOf"),
            (&long, "arguments.a.oneOf[0]"),
            (&format!(r#"{{"arguments":{{"a":{{"oneOf":["{secret}"]}}}}}}"#), "arguments.a.oneOf[0]"),
            (r#"{"arguments":{"a":{"max":"1"}}}"#, "arguments.a.max"),
            (r#"{"arguments":{"a":{"max":true}}}"#, "arguments.a.max"),
            (r#"{"arguments":{"a":{"min":1e-999}}}"#, "arguments.a.min"),
            (r#"{"arguments":{"a":{"max":1,"min":1.01}}}"#, "arguments.a.max"),
            (r#"{"arguments":{"a":{"max":1,"match":["b"]}}}"#, "arguments.a"),
            (r#"{"arguments":{"a":{"absent":false}}}"#, "arguments.a.absent"),
            (r#"{"arguments":{"a":{},"a.b":{}}}"#, "arguments.a.b"),
            (r#"{"arguments":{"a[]":{},"a":{}}}"#, "arguments.a[]"),
            (r#"{"arguments":{"a.b":{},"a[].b":{}}}"#, "arguments.a[].b"),
            (r#"{"arguments":{"a":{},"[]":{}}}"#, "arguments.a"),
        ]);
        for wrong in [
            r#"{"arguments":{"a":{},"a":{"max":1}}}"#,
            r#"{"arguments":{"a":{},"\u0061":{"max":1}}}"#,
            r#"{"arguments":{"a":{"maximum":1}}}"#,
            r#"{"arguments":{"a":1}}"#,
            r#"{"arguments":[]}"#,
            r#"{"otherArguments":"none"}"#,
        ] {
            assert!(serde_json::from_str::<crate::permission::constraint::ConstraintsSpec>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_given_is_shown_with_the_default() {
        let constraints = parse(r#"{"arguments":{"a":{"oneOf":["\u0061",1e2]},"b.c":{"max":0.10}}}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&constraints.spec()).unwrap(),
            r#"{"arguments":{"a":{"oneOf":["a",1e2]},"b.c":{"max":0.10}},"otherArguments":"deny"}"#
        );
    }
}
