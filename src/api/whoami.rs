//! `/v1/whoami`.

use actix_web::HttpResponse;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::AnyKey;
use super::error::{HandlerResult, Problem};
use super::responses::{self, TenantJson};
use crate::domain::tenant::Caller;
use crate::domain::{Code, KeyId, KeyRole, OperatorRole};

/// What a key is.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[schemars(rename = "Whoami")]
pub enum WhoamiJson {
    /// An operator's.
    Operator {
        /// What it may do.
        role: OperatorRole,
        /// The key's id; the first operator key has none.
        key_id: Option<KeyId>,
    },
    /// A tenant's.
    TenantKey {
        /// What it may do.
        role: KeyRole,
        /// The key's id.
        key_id: KeyId,
        /// The tenant.
        tenant: TenantJson,
    },
}

/// `GET /v1/whoami`: whether the key is an operator's, or which tenant's, and its role.
pub async fn get(AnyKey(kavach): AnyKey, (): ()) -> HandlerResult {
    let answer = match kavach.authenticate().await? {
        Caller::Operator => WhoamiJson::Operator { role: OperatorRole::Admin, key_id: None },
        Caller::OperatorKey(key_id, role) => WhoamiJson::Operator { role, key_id: Some(key_id) },
        Caller::Key(key_id, role) => {
            WhoamiJson::TenantKey { role, key_id, tenant: kavach.tenants().own().await?.into() }
        }
        Caller::Agent(_) => return Err(Problem::new(Code::Forbidden, "an agent token may not use this route")),
    };
    responses::json(HttpResponse::Ok(), &answer)
}
