//! The information model: what a subject, a resource, an action and a context say, and the request they make.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::api::authorize_body::{self, AuthorizeBody, CallHead, json_text};
use crate::domain::budget::cost::Cost;
use crate::domain::decision::arguments::Arguments;
use crate::domain::limits::{MAX_RESOURCE_BYTES, MAX_RESOURCE_SEGMENTS};
use crate::domain::schema::inline_schema;
use crate::domain::{Error, Request, schema};

/// The type of the subjects there are: agents.
pub const AGENT: &str = "agent";

/// A subject or a resource.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenSubject")]
pub struct Entity<'a> {
    /// The type. For subjects, only `agent` is known.
    #[serde(borrow)]
    #[schemars(with = "String")]
    pub r#type: Cow<'a, str>,
    /// The id: for subjects, an agent's.
    #[serde(borrow)]
    #[schemars(with = "String")]
    pub id: Cow<'a, str>,
    /// Accepted, and ignored by decisions.
    #[serde(borrow, default, deserialize_with = "object_text")]
    #[schemars(with = "Option<schema::AnyObject>")]
    pub properties: Option<&'a str>,
}

/// A subject or a resource that is searched for. An id in it is ignored.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenSought")]
pub struct Sought<'a> {
    /// The type.
    #[serde(borrow)]
    #[schemars(with = "String")]
    pub r#type: Cow<'a, str>,
    /// Accepted, and ignored by decisions.
    #[serde(borrow, default, deserialize_with = "object_text")]
    #[schemars(with = "Option<schema::AnyObject>")]
    pub properties: Option<&'a str>,
}

/// An action.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenAction")]
pub struct Action<'a> {
    /// Its name.
    #[serde(borrow)]
    #[schemars(with = "schema::Action")]
    pub name: Cow<'a, str>,
    /// The call's arguments.
    #[serde(borrow, default, deserialize_with = "object_text")]
    #[schemars(with = "Option<schema::AnyObject>")]
    pub properties: Option<&'a str>,
}

/// The context of a request. It may hold anything; only these members count.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuthzenContext")]
pub struct AuthzenContext<'a> {
    /// The caller's address, as the asking service knows it.
    #[serde(borrow)]
    #[schemars(with = "Option<schema::Address>")]
    pub ip: Option<Cow<'a, str>>,
    /// The caller's `User-Agent`, as the asking service knows it.
    #[serde(borrow)]
    #[schemars(with = "Option<String>")]
    pub user_agent: Option<Cow<'a, str>>,
    /// The agent's tenant, as the asking service knows it.
    #[serde(borrow)]
    #[schemars(with = "Option<String>")]
    pub tenant_id: Option<Cow<'a, str>>,
    /// The estimated cost of the call.
    #[serde(borrow, default, deserialize_with = "json_text")]
    #[schemars(with = "Option<Cost>")]
    pub tokens_cost: Option<&'a str>,
}

/// The schema of a resource: its type and its id together name a resource of Kavach.
pub struct ResourceEntity;

inline_schema!(ResourceEntity {
    "type": "object",
    "required": ["type", "id"],
    "properties": {
        "type": {
            "description": "The type: the first segment of the resource.",
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_RESOURCE_BYTES - 2,
            "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        },
        "id": {
            "description": "The id: the segments after the type.",
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_RESOURCE_BYTES - 2,
            "pattern": format!(
                "^([^:\\u0000-\\u001f\\u007f-\\u009f]*:){{0,{inner}}}[^:\\u0000-\\u001f\\u007f-\\u009f]+$",
                inner = MAX_RESOURCE_SEGMENTS - 2
            ),
        },
        "properties": { "description": "Accepted, and ignored by decisions.", "type": ["object", "null"] },
    },
});

fn object_text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a str>, D::Error> {
    let text = Option::<&RawValue>::deserialize(deserializer)?.map(RawValue::get);
    // Of a value's text the first byte says which kind it is.
    if text.is_some_and(|text| !text.starts_with('{')) { Err(D::Error::custom("expected an object")) } else { Ok(text) }
}

/// The resource that a type and an id name: `type:id`. A `:` in the type is written `%3A`, and a `%` there `%25`, so that
/// no two pairs name the same resource, whoever chooses the id or the type.
pub fn resource_of(kind: &str, id: &str) -> String {
    format!("{}:{id}", segment_of(kind))
}

/// The first segment of a type's resources.
pub fn segment_of(kind: &str) -> Cow<'_, str> {
    if kind.contains([':', '%']) { kind.replace('%', "%25").replace(':', "%3A").into() } else { kind.into() }
}

/// The content of one evaluation, or of a search with a placeholder for what it looks for.
pub struct Asking<'a> {
    /// As [`Entity::agent`] spells it; `None` where nobody is named.
    pub agent: Option<Cow<'a, str>>,
    /// The action's name.
    pub action: &'a str,
    /// The action's properties.
    pub arguments: Option<&'a str>,
    /// As [`resource_of`] spells it.
    pub resource: Cow<'a, str>,
    /// What surrounds it.
    pub context: Option<&'a AuthzenContext<'a>>,
}

impl Asking<'_> {
    /// The request, as `/v1/authorize` would make it.
    ///
    /// # Errors
    /// `INVALID_FIELD`.
    pub fn request(&self, head: &CallHead<'_>) -> Result<Request, Error> {
        let context = self.context.cloned().unwrap_or_default();
        // It is named otherwise there.
        if let Some(number) = context.tokens_cost {
            Cost::parse("context.tokensCost", number)?;
        }
        let body = AuthorizeBody {
            // No agent has the id that is empty.
            agent_id: Some(self.agent.as_deref().unwrap_or_default().into()),
            tenant_id: context.tenant_id,
            action: self.action.into(),
            resource: Cow::Borrowed(&*self.resource),
            arguments: self.arguments.map(Arguments::Any),
            tokens_cost: context.tokens_cost,
            idempotency_key: None,
            hold: None,
            context: Some(authorize_body::CallContext { ip: context.ip, user_agent: context.user_agent }),
        };
        body.check(head, None)
    }
}

impl AuthzenContext<'_> {
    /// Bytes of what counts in it.
    pub fn weight(&self) -> usize {
        let texts = [self.ip.as_deref(), self.user_agent.as_deref(), self.tenant_id.as_deref(), self.tokens_cost];
        texts.into_iter().flatten().map(str::len).sum()
    }
}

impl<'a> Entity<'a> {
    /// The agent's id or, if it is no agent, what no agent's id is, with its type.
    pub fn agent(&'a self) -> Cow<'a, str> {
        if self.r#type == AGENT { Cow::Borrowed(&*self.id) } else { format!("{}:{}", self.r#type, self.id).into() }
    }

    /// The resource it names.
    pub fn resource(&self) -> Cow<'a, str> {
        resource_of(&self.r#type, &self.id).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_two_pairs_name_the_same_resource() {
        let text = "[a:%3A25*]{0,4}";
        proptest!(|(one in (text, text), other in (text, text))| {
            let names = |(kind, id): &(String, String)| resource_of(kind, id);
            prop_assert_eq!(names(&one) == names(&other), one == other);
        });
        assert_eq!(resource_of("mcp", "github:repos"), "mcp:github:repos");
        assert_eq!(resource_of("urn:x", "100%"), "urn%3Ax:100%");
    }
}
