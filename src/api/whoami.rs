//! `/v1/whoami`.

use actix_web::HttpResponse;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::Admin;
use super::error::{HandlerResult, Problem};
use super::responses::{self, TenantJson};
use crate::domain::tenant::Caller;
use crate::domain::{Code, KeyId};

/// What a key is.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[schemars(rename = "Whoami")]
pub enum WhoamiJson {
    /// An operator's.
    Operator,
    /// A tenant's.
    TenantKey {
        /// The key's id.
        key_id: KeyId,
        /// The tenant.
        tenant: TenantJson,
    },
}

/// `GET /v1/whoami`: whether the key is an operator's, or which tenant's.
pub async fn get(Admin(kavach): Admin, (): ()) -> HandlerResult {
    let answer = match kavach.authenticate().await? {
        Caller::Operator => WhoamiJson::Operator,
        Caller::Key(key_id) => WhoamiJson::TenantKey { key_id, tenant: kavach.tenants().own().await?.into() },
        Caller::Agent(_) => return Err(Problem::new(Code::Forbidden, "an agent token may not use this route")),
    };
    responses::json(HttpResponse::Ok(), &answer)
}
