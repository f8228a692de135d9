//! What calls a policy is about, beside its agent and owner.

use serde::{Deserialize, Serialize};

use crate::agent::labels::Labels;
use crate::error::{Code, Error};
use crate::permission::pattern::{Pattern, Segments};
use crate::permission::{ANY_ACTION, check_actions};
use crate::text::check_no_secret;

/// What a policy names: at least one of the three, all of which must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredScope", into = "StoredScope")]
pub struct Scope {
    /// Labels, all of which the agent has.
    pub labels: Labels,
    /// The resources.
    pub resource: Option<Pattern>,
    /// The actions, `*` for any. If it is empty, it does not restrict.
    pub actions: Vec<Box<str>>,
}

/// A scope as it is stored and shown.
#[derive(Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct StoredScope {
    #[serde(skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<Box<str>>,
}

impl TryFrom<StoredScope> for Scope {
    type Error = Error;

    fn try_from(stored: StoredScope) -> Result<Self, Error> {
        let StoredScope { labels, resource, actions } = stored;
        let resource = resource.map(|text| Pattern::stored("resource", &text)).transpose()?;
        Ok(Self { labels, resource, actions })
    }
}

impl From<Scope> for StoredScope {
    fn from(scope: Scope) -> Self {
        let Scope { labels, resource, actions } = scope;
        Self { labels, resource: resource.map(|pattern| pattern.as_str().to_owned()), actions }
    }
}

/// What a call is about, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call<'a> {
    /// The action.
    pub action: Option<&'a str>,
    /// The resource.
    pub resource: Option<&'a str>,
}

impl<'a> Call<'a> {
    /// A call of which both are known.
    pub fn new(action: &'a str, resource: &'a str) -> Self {
        Self { action: Some(action), resource: Some(resource) }
    }
}

impl Scope {
    /// Whether it is about that call of an agent with these labels. Of a report that is about no call, only labels can
    /// match.
    pub fn matches(&self, labels: &Labels, call: Call<'_>) -> bool {
        labels.has_all(&self.labels)
            && (self.actions.is_empty()
                || call
                    .action
                    .is_some_and(|action| self.actions.iter().any(|own| &**own == action || &**own == ANY_ACTION)))
            && self.resource.as_ref().is_none_or(|pattern| {
                call.resource.is_some_and(|resource| pattern.matches(Segments::of(resource).as_slice()))
            })
    }

    /// Whether it restricts nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads a scope's resource pattern.
///
/// # Errors
/// `INVALID_PATTERN` or `INVALID_FIELD`.
pub fn parse_resource(text: &str) -> Result<Pattern, Error> {
    check_no_secret("resource", text)?;
    Pattern::parse("resource", text)
}

/// Reads a scope's actions.
///
/// # Errors
/// `INVALID_PATTERN` or `INVALID_FIELD`, also for an empty list.
pub fn parse_actions(actions: Vec<String>) -> Result<Vec<Box<str>>, Error> {
    check_actions(&actions)?;
    Ok(actions.into_iter().map(String::into_boxed_str).collect())
}

/// Refuses labels that select nothing.
///
/// # Errors
/// `INVALID_FIELD` for an empty map.
pub fn some_labels(labels: Labels) -> Result<Labels, Error> {
    if labels.is_empty() {
        let problem = "must name at least one label; leave it out for agents with any labels";
        return Err(Error::field(Code::InvalidField, "labels", problem));
    }
    Ok(labels)
}
