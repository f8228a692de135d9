//! The server itself.

use serde_json::json;

use crate::api::health::{Liveness, Readiness};
use crate::api::openapi::example::Examples;
use crate::api::openapi::{Docs, Tag};
use crate::api::stats::StatsJson;
use crate::api::tenants::SnapshotJson;
use crate::api::whoami::WhoamiJson;
use crate::domain::Code::{TenantMismatch, TenantNotFound};

fn docs(id: &'static str, summary: &'static str) -> Docs {
    Docs::new(Tag::Server, id, summary)
}

/// `GET /livez`
pub fn live() -> Docs {
    docs("getLiveness", "Is the process alive?")
        .about("It touches no tenant and no disk, so it answers while tenants are still loading. `/readyz` says more.")
        .answers::<Liveness>(200, "It is.")
}

/// `GET /readyz`
pub fn ready() -> Docs {
    docs("getReadiness", "Should calls be sent here?")
        .about(
            "A single tenant that can't be served does not make the server unready; a disk that can't be written does.",
        )
        .answers::<Readiness>(200, "They should.")
        .answers::<Readiness>(503, "Not yet, or not any more.")
}

/// `POST /v1/snapshot`
pub fn snapshot() -> Docs {
    docs("takeSnapshot", "Write a snapshot of every tenant now")
        .about("It makes the next start faster. Nothing is lost without one.")
        .answers::<SnapshotJson>(200, "They are on disk.")
        .writes()
}

/// `GET /v1/stats`
pub fn stats() -> Docs {
    docs("getStats", "Get figures for a dashboard")
        .about("They are counted in memory from the start of the process. A tenant key gets the figures of its own tenant.")
        .answers::<StatsJson>(200, "The figures.")
        .fails(&[TenantMismatch, TenantNotFound])
}

/// `GET /metrics`
pub fn metrics() -> Docs {
    const ONE: &str = "# HELP kavach_http_connections Open connections.\n# TYPE kavach_http_connections gauge\n";
    fn of(end: &str) -> Examples {
        vec![("one of them", format!("{ONE}kavach_http_connections 3\n{end}").into())]
    }
    docs("getMetrics", "Get metrics for a monitoring system")
        .about("They name no tenant unless --metrics-per-tenant is set. docs/metrics.md explains them.")
        .text("text/plain; version=0.0.4; charset=utf-8", "As Prometheus reads them.", || of(""))
        .text("application/openmetrics-text; version=1.0.0; charset=utf-8", "", || of("# EOF\n"))
}

/// `GET /v1/whoami`
pub fn whoami() -> Docs {
    docs("getWhoami", "Whose key is this?")
        .about("Says what the key in the request is good for.")
        .answers::<WhoamiJson>(200, "An operator's, or a tenant's with the tenant; and its role.")
}

/// `GET /`
#[cfg(feature = "dashboard")]
pub fn dashboard() -> Docs {
    docs("getDashboard", "Open the dashboard")
        .about("Everyone gets the same page; what it shows comes from the routes here, with the key that is entered in it.")
        .text("text/html; charset=utf-8", "A page for a browser.", || vec![("its start", "<!doctype html>...".into())])
        .versioned()
}

/// `GET /docs`
#[cfg(feature = "dashboard")]
pub fn docs_page() -> Docs {
    docs("getDocs", "Open the documentation of this API")
        .about("This document as a page, which can also send requests. It loads nothing from other hosts.")
        .text("text/html; charset=utf-8", "A page for a browser.", || vec![("its start", "<!doctype html>...".into())])
        .versioned()
}

/// `GET /assets/{file}`
#[cfg(feature = "dashboard")]
pub fn asset() -> Docs {
    docs("getAsset", "Get a file of the dashboard")
        .about("Scripts, styles and pictures of the dashboard and of the documentation.")
        .text("text/javascript; charset=utf-8", "The file.", || vec![("its start", "import ...".into())])
        .text("text/css; charset=utf-8", "", || vec![("its start", ":root { ... }".into())])
        .text("image/svg+xml", "", || vec![("its start", "<svg ...".into())])
        .versioned()
        .fails(&[crate::domain::Code::RouteNotFound])
}

/// `GET /openapi.json`
pub fn openapi() -> Docs {
    docs("getOpenapi", "Get this document")
        .about("It is made from the types that the server reads and answers, so it says what this version does.")
        .object("application/json", "An OpenAPI 3.1 document.", document)
        .versioned()
}

fn document() -> Examples {
    vec![(
        "its start",
        json!({ "openapi": "3.1.0", "info": { "title": "Kavach", "version": env!("CARGO_PKG_VERSION") } }),
    )]
}
