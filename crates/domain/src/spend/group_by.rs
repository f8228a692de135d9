//! What a spend report groups by.

use std::borrow::Cow;

use crate::agent::labels::is_key;
use crate::error::{Code, Error};
use crate::limits::MAX_GROUP_BY;
use crate::text::quote;

/// One thing that a report groups by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// The tenant.
    Tenant,
    /// The agent that a call named, or that a usage report was about.
    Agent,
    /// The agent's owner at that time.
    Owner,
    /// The value of that label, which the agent had at that time.
    Label(Box<str>),
    /// The call's resource. A usage report has none.
    Resource,
    /// The call's action. A usage report has none.
    Action,
    /// The day.
    Day,
    /// The calendar month.
    Month,
}

/// What comes before a label's key, in a request and as the name of its column.
pub const LABEL: &str = "label:";

impl Dimension {
    /// All but labels, in the order in which they are documented.
    pub const PLAIN: [Self; 7] =
        [Self::Tenant, Self::Agent, Self::Owner, Self::Resource, Self::Action, Self::Day, Self::Month];

    /// Reads its name in a request.
    fn parse(name: &str) -> Option<Self> {
        match name.strip_prefix(LABEL) {
            Some(key) => is_key(key).then(|| Self::Label(key.into())),
            None => Self::PLAIN.into_iter().find(|plain| plain.name() == name),
        }
    }

    /// Its name in a request.
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Tenant => "tenant",
            Self::Agent => "agent",
            Self::Owner => "owner",
            Self::Label(key) => return format!("{LABEL}{key}").into(),
            Self::Resource => "resource",
            Self::Action => "action",
            Self::Day => "day",
            Self::Month => "month",
        })
    }

    /// The column of its values, which is named as in audit entries where those have it.
    pub fn column(&self) -> Cow<'static, str> {
        match self {
            Self::Tenant => "tenantId".into(),
            Self::Agent => "agentId".into(),
            Self::Owner => "userId".into(),
            Self::Label(_) | Self::Resource | Self::Action | Self::Day | Self::Month => self.name(),
        }
    }
}

/// What a report groups by, in the order of its columns. Without anything there is one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupBy(Vec<Dimension>);

impl GroupBy {
    /// Reads a list that is separated by commas, such as `owner,month`.
    ///
    /// # Errors
    /// `INVALID_QUERY` for an unknown or repeated name, and for a list that is too long.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let refuse = |problem: String| Err(Error::field(Code::InvalidQuery, field, problem));
        let mut dimensions = Vec::new();
        for name in text.split(',') {
            let Some(dimension) = Dimension::parse(name) else {
                let known: Vec<_> = Dimension::PLAIN.iter().map(Dimension::name).collect();
                let known = known.join(", ");
                return refuse(format!("must name some of {known} and {LABEL}KEY, not '{}'", quote(name)));
            };
            if dimensions.contains(&dimension) {
                return refuse(format!("must not name {name} twice"));
            }
            if dimensions.len() >= MAX_GROUP_BY {
                return refuse(format!("must have at most {MAX_GROUP_BY} names"));
            }
            dimensions.push(dimension);
        }
        Ok(Self(dimensions))
    }

    /// What it groups by.
    pub fn dimensions(&self) -> &[Dimension] {
        &self.0
    }

    /// The columns of the groups' values.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = Cow<'static, str>> {
        self.0.iter().map(Dimension::column)
    }

    /// The keys of the labels that it groups by.
    pub fn label_keys(&self) -> Vec<Box<str>> {
        let keys = self.0.iter().filter_map(|dimension| match dimension {
            Dimension::Label(key) => Some(key.clone()),
            _ => None,
        });
        keys.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_read_in_its_order() {
        let by = GroupBy::parse("groupBy", "month,owner,label:cost/center,tenant").unwrap();
        assert_eq!(by.columns().collect::<Vec<_>>(), ["month", "userId", "label:cost/center", "tenantId"]);
        assert_eq!(by.label_keys(), ["cost/center".into()]);
        assert!(GroupBy::default().label_keys().is_empty());
        assert_eq!(GroupBy::parse("groupBy", "label:a,label:b").unwrap().dimensions().len(), 2);
        assert_eq!(GroupBy::default().dimensions(), []);
    }

    #[test]
    fn a_bad_list_is_refused_with_what_is_wrong() {
        for (text, problem) in [
            ("", "not ''"),
            ("owner,", "not ''"),
            ("owner, day", "not ' day'"),
            ("Owner", "not 'Owner'"),
            ("label", "not 'label'"),
            ("label:", "not 'label:'"),
            ("label:a b", "not 'label:a b'"),
            ("label:team,label:team", "must not name label:team twice"),
            ("day,owner,day", "must not name day twice"),
            ("tenant,agent,owner,action,day", "at most 4"),
        ] {
            let error = GroupBy::parse("groupBy", text).unwrap_err();
            assert_eq!(error.code(), Code::InvalidQuery, "{text}");
            assert!(error.message().starts_with("groupBy ") && error.message().contains(problem), "{error}");
        }
    }
}
