//! Warns of permissions that may not do what their author meant. No decision depends on it.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use crate::limits::{MAX_MATCH_STEPS, MAX_WARNINGS};
use crate::permission::constraint::Constraints;
use crate::permission::{ANY_ACTION, Permission, PermissionSet};
use crate::text::quote;

/// A part of a request that was accepted but may not do what it seems to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "PermissionWarning"))]
pub struct Warning {
    /// The field it is about.
    pub field: String,
    /// What it does, in words.
    pub message: String,
}

impl PermissionSet {
    /// The first warnings about these permissions, as many as an answer shows.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut left = MAX_MATCH_STEPS;
        let all = self.as_slice().iter().enumerate();
        all.flat_map(|(at, permission)| {
            patterns(at, permission).into_iter().chain(self.moot(at, permission, &mut left))
        })
        .take(MAX_WARNINGS)
        .collect()
    }

    /// Says that another permission grants without constraints what this one grants with some. Finding that out takes
    /// from `left`; at none, it says nothing.
    fn moot(&self, at: usize, permission: &Permission, left: &mut usize) -> Option<Warning> {
        if !is_restricted(permission) {
            return None;
        }
        let makes_moot = |broad: &Permission| {
            if is_restricted(broad) {
                return false;
            }
            let enough = left.checked_sub(broad.steps());
            *left = enough.unwrap_or(0);
            enough.is_some() && broad.makes_moot(permission)
        };
        let by = self.as_slice().iter().position(makes_moot)?;
        let broad = self.as_slice().get(by)?;
        let actions = if permission.actions().all(|action| broad.grants_action(action)) {
            "all of it".to_owned()
        } else {
            let shared = permission.actions().filter(|action| broad.grants_action(action));
            let any = permission.grants_action(ANY_ACTION).then(|| broad.actions()).into_iter().flatten();
            format!("the action '{}'", quote(shared.chain(any).next()?))
        };
        Some(Warning {
            field: format!("permissions[{at}].constraints"),
            message: format!(
                "permissions[{by}] ('{}') grants {actions} without constraints: a permission never restricts another one, so \
                 these do not hold there",
                quote(broad.resource())
            ),
        })
    }
}

impl Permission {
    /// Whether it grants at least one of `other`'s actions on all of `other`'s resources.
    pub(crate) fn makes_moot(&self, other: &Self) -> bool {
        self.pattern().covers(other.pattern())
            && (other.grants_action(ANY_ACTION) || other.actions().any(|action| self.grants_action(action)))
    }
}

/// Whether a permission has constraints that can deny a call.
pub(crate) fn is_restricted(permission: &Permission) -> bool {
    permission.constraints().is_some_and(Constraints::restrict)
}

/// Says that a regular expression must match the whole value, if it does not say so itself.
fn patterns(at: usize, permission: &Permission) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let Some(constraints) = permission.constraints() else { return warnings };
    constraints.each_arg_pattern(|field, pattern| {
        if warnings.len() < MAX_WARNINGS && pattern.is_implicitly_anchored() {
            warnings.push(Warning {
                field: format!("permissions[{at}].constraints.{field}"),
                message: format!(
                    "'{}' has to match the whole value, as if in ^(?:...)$; write .*$ at its end where more may follow",
                    quote(pattern.as_str())
                ),
            });
        }
    });
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(json: &str) -> Vec<String> {
        let set = PermissionSet::parse(serde_json::from_str(json).unwrap()).unwrap();
        set.warnings().into_iter().map(|warning| warning.field).collect()
    }

    #[test]
    fn constraints_made_moot_by_a_broader_permission_get_a_warning() {
        let broad = r#"{"resource":"site:*","actions":["read"]}"#;
        let narrow = |actions: &str, constraints: &str| {
            format!(r#"{{"resource":"site:premium:*","actions":[{actions}],"constraints":{constraints}}}"#)
        };
        let approval = r#"{"requireApproval":true}"#;
        for (permissions, fields) in [
            (format!("[{broad},{}]", narrow("\"read\"", approval)), vec!["permissions[1].constraints"]),
            (format!("[{},{broad}]", narrow("\"read\"", approval)), vec!["permissions[0].constraints"]),
            (format!("[{broad},{}]", narrow("\"write\",\"read\"", approval)), vec!["permissions[1].constraints"]),
            (format!("[{broad},{}]", narrow("\"*\"", approval)), vec!["permissions[1].constraints"]),
            (format!("[{broad},{}]", narrow("\"write\"", approval)), vec![]),
            (format!("[{broad},{}]", narrow("\"read\"", r#"{"requireApproval":false}"#)), vec![]),
            // Narrower permissions may exempt something from a broader one's constraints: that is what they are for.
            (format!("[{},{}]", broad.replace("site:*", "site:premium:a"), narrow("\"read\"", approval)), vec![]),
            (format!("[{},{}]", narrow("\"read\"", approval), narrow("\"read\"", r#"{"maxCallsPerHour":1}"#)), vec![]),
        ] {
            assert_eq!(warned(&permissions), fields, "{permissions}");
        }
    }

    #[test]
    fn expressions_that_do_not_say_they_match_the_whole_get_a_warning() {
        let json = r#"[{"resource":"a","actions":["b"],"constraints":{"allowedArgPatterns":["/srv/**","^a$","^/srv/","^a|b$"]}}]"#;
        let field = |at: usize| format!("permissions[0].constraints.allowedArgPatterns[{at}]");
        assert_eq!(warned(json), [field(2), field(3)]);
        let json =
            r#"[{"resource":"a","actions":["b"],"constraints":{"arguments":{"b[].c":{"match":["x","^/srv/"]}}}}]"#;
        assert_eq!(warned(json), ["permissions[0].constraints.arguments.b[].c.match[1]"]);
    }

    #[test]
    fn one_answer_shows_a_limited_number_of_warnings() {
        let narrow = r#"{"resource":"a:b","actions":["read"],"constraints":{"maxCallsPerHour":1}}"#;
        let json = format!(r#"[{},{{"resource":"a:*","actions":["*"]}}]"#, [narrow; 500].join(","));
        assert_eq!(warned(&json).len(), MAX_WARNINGS);
    }
}
