//! `/v1/tokens/introspect`: what an agent's token is (RFC 7662).

use actix_web::HttpResponse;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::Introspector;
use super::error::HandlerResult;
use super::input::JsonOrForm;
use super::responses;
use crate::domain::agent::introspection::TokenFacts;
use crate::domain::tenant::TenantStatus;
use crate::domain::{AgentId, AgentStatus, TenantId};

/// The token to look at. The members are spelled as RFC 7662 has them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "IntrospectedToken")]
pub struct TokenBody {
    /// The token.
    pub token: String,
    /// What kind of token it may be. There is one kind, so it is not looked at.
    pub token_type_hint: Option<String>,
}

/// What a token is. Of one that the caller may not know of there is `active` alone.
#[derive(Default, Serialize, JsonSchema)]
#[schemars(rename = "Introspection")]
pub struct IntrospectionJson {
    /// Whether calls with it may be allowed: the token is good, its agent may work, and so may the tenant's agents.
    active: bool,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<AgentId>,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<AgentId>,
    /// The agent's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<Box<str>>,
    /// `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    /// When it ends, in seconds since 1970; absent if it does not end by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// The agent's tenant; `null` is the default one.
    #[serde(rename = "tenantId", skip_serializing_if = "Option::is_none")]
    tenant_id: Option<TenantId>,
    /// Whether the agent may work.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<AgentStatus>,
    /// Whether the tenant's agents may work.
    #[serde(rename = "tenantStatus", skip_serializing_if = "Option::is_none")]
    tenant_status: Option<TenantStatus>,
}

impl From<TokenFacts> for IntrospectionJson {
    fn from(facts: TokenFacts) -> Self {
        let active = facts.is_active();
        let TokenFacts { agent, tenant, owner, status, tenant_status, expires_at } = facts;
        Self {
            active,
            client_id: Some(agent),
            sub: Some(agent),
            username: Some(owner),
            token_type: Some("Bearer"),
            exp: expires_at.map(|end| end.millis().div_euclid(1_000)),
            tenant_id: Some(tenant),
            status: Some(status),
            tenant_status: Some(tenant_status),
        }
    }
}

/// `POST /v1/tokens/introspect`
pub async fn introspect(
    Introspector(kavach): Introspector,
    JsonOrForm(TokenBody { token, .. }): JsonOrForm<TokenBody>,
) -> HandlerResult {
    let facts = kavach.introspect(&token).await?;
    responses::json(HttpResponse::Ok(), &facts.map(IntrospectionJson::from).unwrap_or_default())
}
