//! What a spend report groups by.

use crate::error::{Code, Error};
use crate::limits::MAX_GROUP_BY;
use crate::text::quote;

/// One thing that a report groups by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// The tenant.
    Tenant,
    /// The agent that a call named, or that a usage report was about.
    Agent,
    /// The agent's owner at that time.
    Owner,
    /// The call's resource. A usage report has none.
    Resource,
    /// The call's action. A usage report has none.
    Action,
    /// The day in UTC.
    Day,
    /// The calendar month in UTC.
    Month,
}

impl Dimension {
    /// All of them, in the order in which they are documented.
    pub const ALL: [Self; 7] =
        [Self::Tenant, Self::Agent, Self::Owner, Self::Resource, Self::Action, Self::Day, Self::Month];

    /// Its name in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Agent => "agent",
            Self::Owner => "owner",
            Self::Resource => "resource",
            Self::Action => "action",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The column of its values, which is named as in audit entries where those have it.
    pub fn column(self) -> &'static str {
        match self {
            Self::Tenant => "tenantId",
            Self::Agent => "agentId",
            Self::Owner => "userId",
            Self::Resource => "resource",
            Self::Action => "action",
            Self::Day => "day",
            Self::Month => "month",
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
            let Some(dimension) = Dimension::ALL.into_iter().find(|known| known.name() == name) else {
                let known: Vec<_> = Dimension::ALL.iter().map(|known| known.name()).collect();
                return refuse(format!("must name some of {}, not '{}'", known.join(", "), quote(name)));
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
    pub fn columns(&self) -> impl ExactSizeIterator<Item = &'static str> {
        self.0.iter().map(|dimension| dimension.column())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_read_in_its_order() {
        let by = GroupBy::parse("groupBy", "month,owner,agent,tenant").unwrap();
        assert_eq!(by.columns().collect::<Vec<_>>(), ["month", "userId", "agentId", "tenantId"]);
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
            ("day,owner,day", "must not name day twice"),
            ("tenant,agent,owner,action,day", "at most 4"),
        ] {
            let error = GroupBy::parse("groupBy", text).unwrap_err();
            assert_eq!(error.code(), Code::InvalidQuery, "{text}");
            assert!(error.message().starts_with("groupBy ") && error.message().contains(problem), "{error}");
        }
    }
}
