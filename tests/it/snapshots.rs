//! Snapshots that a server writes by itself, after many events.

use std::time::Instant;

use kavach::domain::agent::commands::NewAgent;
use kavach::domain::permission::PermissionSpec;
use kavach::domain::{AgentType, Request};
use kavach::{App, ServerSettings};
use kavach_fixture::tools;

use crate::harness::eventually;

/// Events after which a snapshot is due.
const DUE: usize = 200_000;

#[test]
fn many_events_cause_a_snapshot_and_the_tenant_continues() {
    let home = tempfile::tempdir().unwrap();
    actix_rt::System::new().block_on(async {
        let app = App::open(&ServerSettings::new(home.path())).await.unwrap();
        let kavach = app.kavach();
        let all = PermissionSpec { resource: "mcp:*".into(), actions: vec!["*".into()], constraints: None };
        let new = NewAgent {
            tenant_id: None,
            owner_id: "ana".into(),
            name: "busy".into(),
            kind: AgentType::Service,
            permissions: vec![all],
            expires_at: None,
            metadata: None,
            labels: None,
        };
        let id = kavach.agents().create(new).await.unwrap().0.agent.profile.id;
        let tool = &tools()[0];
        let request = Request::new(tool.action(), &tool.resource()).unwrap().for_agent(id);
        let mut decided = 0;
        while decided < DUE + 10_000 {
            let decisions = kavach.authorize_batch(vec![request.clone(); 1_000], Instant::now()).await.unwrap();
            assert!(decisions.iter().all(|decision| decision.allowed));
            decided += decisions.len();
        }
        let newest = || {
            let names = std::fs::read_dir(home.path().join("default")).unwrap();
            let names = names.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
            names.filter_map(|name| name.strip_suffix(".snapshot")?.parse::<usize>().ok()).max().unwrap_or(0)
        };
        eventually("a snapshot that was due by the number of events", || (newest() >= DUE).then_some(()));
        app.close().await;
    });
}
