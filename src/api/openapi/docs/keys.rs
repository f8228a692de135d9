//! Operators' keys, and what a token is.

use crate::api::introspection::IntrospectionJson;
use crate::api::openapi::{Docs, Tag};
use crate::api::operator_keys::OperatorKeyJson;
use crate::domain::Code::{InvalidField, KeyLimitExceeded, KeyNotFound};

/// `POST /v1/keys`
pub fn create() -> Docs {
    Docs::new(Tag::Server, "createOperatorKey", "Create an operator key")
        .about("The key's text is in this answer only. An `admin` may do everything, an `auditor` reads everything and changes nothing. The trail of the default tenant has who made and revoked which key.")
        .answers::<OperatorKeyJson>(201, "The key, with its text.")
        .fails(&[InvalidField, KeyLimitExceeded])
        .writes()
        .once()
}

/// `GET /v1/keys`
pub fn list() -> Docs {
    Docs::new(Tag::Server, "listOperatorKeys", "List the operator keys")
        .about("Those that were not revoked, also after their end, oldest first. The first operator key, that of `KAVACH_OPERATOR_KEY` or of the first start, is not among them: it has no id, and only a restart changes it.")
        .answers::<Vec<OperatorKeyJson>>(200, "The keys, without their text.")
}

/// `PATCH /v1/keys/{id}`
pub fn update() -> Docs {
    Docs::new(Tag::Server, "updateOperatorKey", "Change an operator key")
        .about("A new name, or another end; `null` takes the end away. The key's text and its role stay. A key that has ended is good again with an end in the future.")
        .answers::<OperatorKeyJson>(200, "The key as it is now, without its text.")
        .fails(&[InvalidField, KeyNotFound])
        .writes()
}

/// `DELETE /v1/keys/{id}`
pub fn revoke() -> Docs {
    Docs::new(Tag::Server, "revokeOperatorKey", "Revoke an operator key")
        .about("It is final. Every worker refuses the key from its next call on, and streams under way end.")
        .nothing("It is good for nothing from now on.")
        .fails(&[InvalidField, KeyNotFound])
        .writes()
}

/// `POST /v1/tokens/introspect`
pub fn introspect() -> Docs {
    Docs::new(Tag::Agents, "introspectToken", "Ask what an agent's token is")
        .about("In the shape of RFC 7662, from a form or from JSON. Nothing is recorded or charged. A token that is malformed, unknown or replaced, or to a tenant key one of another tenant, is `{\"active\": false}` and nothing else. One of a revoked or expired agent is not active either, and the answer says whose it was.")
        .answers::<IntrospectionJson>(200, "What it is.")
}
