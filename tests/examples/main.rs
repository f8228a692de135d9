//! The examples run and succeed, so what a newcomer copies works.
#![allow(clippy::unwrap_used, reason = "a test ends by a panic that says what was wrong")]

#[path = "../../examples/actix_middleware.rs"]
mod actix_middleware;
#[path = "../../examples/ask_over_http.rs"]
#[allow(dead_code, reason = "its main reads the command line")]
mod ask_over_http;
#[path = "../../examples/embed.rs"]
mod embed;

use kavach::{Server, ServerSettings};

#[test]
fn embed_runs() {
    embed::main().unwrap();
}

#[test]
fn the_middleware_runs() {
    actix_middleware::main().unwrap();
}

#[test]
fn an_agent_asks_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = ServerSettings::new(folder.path());
    settings.workers = Some(1);
    actix_rt::System::new().block_on(async {
        let server = Server::start(&settings).await.unwrap();
        let agent = r#"{
            "tenantId": null, "ownerId": "user-1", "name": "reader", "type": "service",
            "permissions": [{ "resource": "reports:*", "actions": ["read"] }]
        }"#;
        let agents = server.app().kavach();
        let (_, token) = agents.agents().create(serde_json::from_str(agent).unwrap()).await.unwrap();
        let (base, token) = (server.base_url(), token.reveal().to_owned());
        let asked = actix_rt::task::spawn_blocking(move || {
            let ask = |action, token| ask_over_http::ask(&base, token, action, "reports:q1").map_err(|_| "an error");
            (ask("read", &token), ask("delete", &token), ask("read", "kv_forged"))
        });
        let (may, may_not, forged) = asked.await.unwrap();
        assert_eq!(may, Ok(Ok(())));
        assert!(may_not.unwrap().unwrap_err().ends_with("(PERMISSION_DENIED)"));
        assert_eq!(forged, Err("an error"));
        server.stop().await;
    });
}
