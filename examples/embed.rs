//! Kavach in your own process, without HTTP: a tenant, an agent, a budget, some decisions, and the trail of them.
//!
//! ```sh
//! cargo run --example embed
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use kavach::domain::{Credential, Request};
use kavach::service::AuditQuery;
use kavach::{App, ServerSettings};

/// Runs the example.
pub fn main() -> Result<(), Box<dyn Error>> {
    // A program of your own keeps its data directory; this one starts anew each time.
    let folder = tempfile::tempdir()?;
    let mut settings = ServerSettings::new(folder.path());
    settings.workers = Some(1);
    actix_rt::System::new().block_on(run(&settings))
}

async fn run(settings: &ServerSettings) -> Result<(), Box<dyn Error>> {
    let app = App::open(settings).await?;
    // It acts as an operator.
    let kavach = app.kavach();

    // What the API reads as JSON, the library reads as JSON too; each type can also be built field by field.
    let acme = kavach.tenants().create(serde_json::from_str(r#"{ "name": "Acme", "slug": "acme" }"#)?).await?;
    let agent = r#"{
        "tenantId": "acme", "ownerId": "user-1", "name": "data-bot", "type": "autonomous",
        "permissions": [{ "resource": "reports:*", "actions": ["read"] }]
    }"#;
    let (bot, token) = kavach.agents().create(serde_json::from_str(agent)?).await?;
    println!("{} is an agent of acme", bot.agent.profile.id);

    // At most two calls a day.
    let budget = r#"{ "tenantId": "acme", "action": "block", "limits": { "maxCallsPerDay": 2 } }"#;
    kavach.policies().create(serde_json::from_str(budget)?).await?;

    // Ask as the agent itself. Every decision is in the journal before its answer is here.
    let caller = kavach.acting_for(Credential::parse(token.reveal()));
    for (action, resource) in
        [("read", "reports:q1"), ("delete", "reports:q1"), ("read", "reports:q2"), ("read", "reports:q3")]
    {
        let decision = caller.authorize(Request::new(action, resource)?).await?;
        match decision.reason {
            None => println!("{action} {resource}: allowed"),
            Some(reason) => println!("{action} {resource}: denied. {reason}"),
        }
    }

    let query = AuditQuery { tenant: Some(acme.id.into()), ..AuditQuery::default() };
    for entry in kavach.audit().query(query).await?.items {
        println!("recorded at {}: {} {}, {:?}", entry.timestamp, entry.action, entry.resource, entry.result);
    }

    // Writes everything to disk, with a snapshot.
    app.close().await;
    Ok(())
}
