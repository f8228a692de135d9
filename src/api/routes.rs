//! The table of routes: each with its handler and its documentation.

use actix_web::HttpRequest;
use actix_web::http::Method;
use serde_json::Value;

use super::auth::Public;
use super::endpoint::{Endpoint, endpoint};
use super::openapi::docs;
#[cfg(feature = "dashboard")]
use super::pages;
use super::{
    agents, audit, authorize, authzen, delegations, forward_auth, health, holds, introspection, metrics, operator_keys,
    policies, spend, stats, tenants, usage, webhooks, whoami,
};
use crate::api::openapi::document;

/// All routes.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        // The router tries the routes in order, and a `{name}` costs a regular expression: the busiest come first.
        endpoint(Method::POST, "/v1/authorize", authorize::single, docs::decisions::single),
        endpoint(Method::POST, "/v1/authorize/batch", authorize::batch, docs::decisions::batch),
        endpoint(Method::POST, "/v1/agents/{id}/authorize", authorize::by_agent, docs::decisions::by_agent),
        endpoint(Method::POST, "/v1/tenants/{tenant}/authorize", authorize::by_tenant, docs::decisions::by_tenant),
        endpoint(Method::POST, "/access/v1/evaluation", authzen::evaluation::single, docs::authzen::evaluation),
        endpoint(Method::POST, "/access/v1/evaluations", authzen::evaluations::many, docs::authzen::evaluations),
        endpoint(Method::GET, "/livez", health::live, docs::server::live),
        endpoint(Method::GET, "/readyz", health::ready, docs::server::ready),
        endpoint(Method::POST, "/v1/tenants", tenants::create, docs::tenants::create),
        endpoint(Method::GET, "/v1/tenants", tenants::list, docs::tenants::list),
        endpoint(Method::GET, "/v1/tenants/{tenant}", tenants::get, docs::tenants::get),
        endpoint(Method::PATCH, "/v1/tenants/{tenant}", tenants::update, docs::tenants::update),
        endpoint(Method::DELETE, "/v1/tenants/{tenant}", tenants::delete, docs::tenants::delete),
        endpoint(Method::POST, "/v1/tenants/{tenant}/suspend", tenants::suspend, docs::tenants::suspend),
        endpoint(Method::POST, "/v1/tenants/{tenant}/activate", tenants::activate, docs::tenants::activate),
        endpoint(Method::POST, "/v1/tenants/{tenant}/keys", tenants::create_key, docs::tenants::create_key),
        endpoint(Method::GET, "/v1/tenants/{tenant}/keys", tenants::keys, docs::tenants::keys),
        endpoint(Method::PATCH, "/v1/tenants/{tenant}/keys/{id}", tenants::update_key, docs::tenants::update_key),
        endpoint(Method::DELETE, "/v1/tenants/{tenant}/keys/{id}", tenants::revoke_key, docs::tenants::revoke_key),
        endpoint(Method::POST, "/v1/keys", operator_keys::create, docs::keys::create),
        endpoint(Method::GET, "/v1/keys", operator_keys::list, docs::keys::list),
        endpoint(Method::PATCH, "/v1/keys/{id}", operator_keys::update, docs::keys::update),
        endpoint(Method::DELETE, "/v1/keys/{id}", operator_keys::revoke, docs::keys::revoke),
        endpoint(Method::POST, "/v1/tokens/introspect", introspection::introspect, docs::keys::introspect),
        endpoint(Method::POST, "/v1/agents", agents::create, docs::agents::create),
        endpoint(Method::GET, "/v1/agents", agents::list, docs::agents::list),
        endpoint(Method::GET, "/v1/agents/{id}", agents::get, docs::agents::get),
        endpoint(Method::PATCH, "/v1/agents/{id}", agents::update, docs::agents::update),
        endpoint(Method::DELETE, "/v1/agents/{id}", agents::revoke, docs::agents::revoke),
        endpoint(Method::GET, "/v1/agents/{id}/policies", agents::policies, docs::budgets::of_agent),
        endpoint(Method::POST, "/v1/agents/{id}/suspend", agents::suspend, docs::agents::suspend),
        endpoint(Method::POST, "/v1/agents/{id}/activate", agents::activate, docs::agents::activate),
        endpoint(Method::POST, "/v1/agents/{id}/rotate", agents::rotate, docs::agents::rotate),
        endpoint(Method::POST, "/v1/authorize/explain", authorize::explain, docs::decisions::explain),
        endpoint(Method::POST, "/v1/delegations", delegations::create, docs::delegations::create),
        endpoint(Method::GET, "/v1/delegations", delegations::list, docs::delegations::list),
        endpoint(Method::GET, "/v1/delegations/{id}", delegations::get, docs::delegations::get),
        endpoint(Method::DELETE, "/v1/delegations/{id}", delegations::revoke, docs::delegations::revoke),
        endpoint(
            Method::GET,
            "/v1/delegations/{id}/permissions",
            delegations::permissions,
            docs::delegations::permissions,
        ),
        endpoint(Method::POST, "/v1/policies", policies::create, docs::budgets::create),
        endpoint(Method::GET, "/v1/policies", policies::list, docs::budgets::list),
        // Before `{id}`, which would match it too.
        endpoint(Method::POST, "/v1/policies/reset", policies::reset_all, docs::budgets::reset_all),
        endpoint(Method::GET, "/v1/policies/{id}", policies::get, docs::budgets::get),
        endpoint(Method::PATCH, "/v1/policies/{id}", policies::update, docs::budgets::update),
        endpoint(Method::DELETE, "/v1/policies/{id}", policies::delete, docs::budgets::delete),
        endpoint(Method::POST, "/v1/policies/{id}/reset", policies::reset, docs::budgets::reset),
        endpoint(Method::POST, "/v1/budget/check", policies::check, docs::budgets::check),
        endpoint(Method::POST, "/v1/usage", usage::report, docs::budgets::report),
        endpoint(Method::GET, "/v1/holds", holds::list, docs::holds::list),
        endpoint(Method::GET, "/v1/holds/{id}", holds::get, docs::holds::get),
        endpoint(Method::POST, "/v1/holds/{id}/release", holds::release, docs::holds::release),
        endpoint(Method::POST, "/v1/holds/{id}/extend", holds::extend, docs::holds::extend),
        endpoint(Method::POST, "/v1/webhooks", webhooks::create, docs::webhooks::create),
        endpoint(Method::GET, "/v1/webhooks", webhooks::list, docs::webhooks::list),
        endpoint(Method::GET, "/v1/webhooks/{id}", webhooks::get, docs::webhooks::get),
        endpoint(Method::PATCH, "/v1/webhooks/{id}", webhooks::update, docs::webhooks::update),
        endpoint(Method::DELETE, "/v1/webhooks/{id}", webhooks::delete, docs::webhooks::delete),
        endpoint(Method::POST, "/v1/webhooks/{id}/rotate", webhooks::rotate, docs::webhooks::rotate),
        endpoint(Method::POST, "/v1/webhooks/{id}/test", webhooks::test, docs::webhooks::test),
        endpoint(Method::GET, "/v1/webhooks/{id}/deliveries", webhooks::deliveries, docs::webhooks::deliveries),
        endpoint(
            Method::POST,
            "/v1/webhooks/{id}/deliveries/{delivery}/redeliver",
            webhooks::redeliver,
            docs::webhooks::redeliver,
        ),
        endpoint(Method::GET, "/v1/audit", audit::query, docs::audit::query),
        // Before `{id}`, which would match these too.
        endpoint(Method::GET, "/v1/audit/export", audit::export, docs::audit::export),
        endpoint(Method::GET, "/v1/audit/stream", audit::stream, docs::audit::stream),
        endpoint(Method::GET, "/v1/audit/checkpoint", audit::checkpoint, docs::audit::checkpoint),
        endpoint(Method::GET, "/v1/audit/{id}", audit::get, docs::audit::get),
        endpoint(Method::GET, "/v1/spend", spend::report, docs::budgets::spend),
        endpoint(Method::POST, "/v1/snapshot", tenants::snapshot, docs::server::snapshot),
        endpoint(Method::GET, forward_auth::PATH, forward_auth::check, docs::decisions::forward_auth).catch_all(),
        endpoint(
            Method::GET,
            "/openapi.json",
            |guard: Public, request: HttpRequest| document::get(guard, request, endpoints),
            docs::server::openapi,
        ),
        endpoint(Method::GET, "/v1/whoami", whoami::get, docs::server::whoami),
        #[cfg(feature = "dashboard")]
        endpoint(Method::GET, "/", pages::file, docs::server::dashboard),
        #[cfg(feature = "dashboard")]
        endpoint(Method::GET, "/docs", pages::file, docs::server::docs_page),
        #[cfg(feature = "dashboard")]
        endpoint(Method::GET, "/assets/{file}", pages::file, docs::server::asset),
        endpoint(Method::GET, "/v1/stats", stats::get, docs::server::stats),
        endpoint(Method::POST, "/access/v1/search/subject", authzen::search::subject, docs::authzen::search_subject),
        endpoint(Method::POST, "/access/v1/search/resource", authzen::search::resource, docs::authzen::search_resource),
        endpoint(Method::POST, "/access/v1/search/action", authzen::search::action, docs::authzen::search_action),
        endpoint(Method::GET, authzen::discovery::PATH, authzen::discovery::metadata, docs::authzen::metadata),
        endpoint(Method::GET, "/metrics", metrics::get, docs::server::metrics),
    ]
}

/// The OpenAPI document, and the names of schemas that differ between requests and answers.
pub fn openapi_document() -> (Value, Vec<String>) {
    document::document(&endpoints())
}
