//! More calls than a tenant can take: it sheds its own at once, and no other tenant's.

use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use kavach::actors::mailbox::MAILBOX_CAPACITY;
use kavach::domain::agent::commands::NewAgent;
use kavach::domain::tenant::commands::NewTenant;
use kavach::domain::{AgentType, Code, Request};
use kavach::service::TenantCounts;
use kavach::{App, ServerSettings};

#[test]
fn a_full_mailbox_sheds_new_calls_and_loses_none_it_accepted() {
    let home = tempfile::tempdir().unwrap();
    actix_rt::System::new().block_on(async {
        // Two arbiters, so that the quiet tenant does not share one with the stalled tenant.
        let settings = ServerSettings { workers: Some(2), ..ServerSettings::new(home.path()) };
        let app = App::open(&settings).await.unwrap();
        let kavach = app.kavach();
        let new = NewTenant { name: "Quiet".into(), slug: "quiet".into(), settings: None };
        kavach.tenants().create(new).await.unwrap();
        let ask = |tenant: &str| {
            let mut request = Request::new("read", "reports:1").unwrap();
            request.tenants.push(tenant.into());
            kavach.authorize(request)
        };

        let stats = async || kavach.stats(None).await.unwrap();
        assert_eq!((stats().await.tenants.unwrap().active, stats().await.agents.active), (2, 0));
        let agent = NewAgent {
            tenant_id: None,
            owner_id: "someone".into(),
            name: "Reader".into(),
            kind: AgentType::Autonomous,
            permissions: Vec::new(),
            expires_at: None,
            metadata: None,
            labels: None,
        };
        kavach.agents().create(agent).await.unwrap();

        let (release, until) = mpsc::channel();
        kavach.inject_stall("default", until).unwrap();
        let mut shed = 0;
        let mut taken = Vec::new();
        for _ in 0..2 * MAILBOX_CAPACITY {
            // The first poll sends the message, or finds the mailbox full.
            let mut call = Box::pin(ask("default"));
            match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => {
                    assert_eq!(answer.unwrap_err().code(), Code::Overloaded);
                    shed += 1;
                }
                Poll::Pending => taken.push(call),
            }
        }
        assert!(taken.len() <= MAILBOX_CAPACITY + 2, "{} calls were taken", taken.len());
        assert_eq!(shed + taken.len(), 2 * MAILBOX_CAPACITY);
        let quiet = pin!(ask("quiet")).await.unwrap();
        assert_eq!(quiet.code, Some(Code::AgentNotFound), "another tenant answers meanwhile");

        // It does not count as gone: figures keep its last report.
        let seen = stats().await;
        assert_eq!(seen.tenants.unwrap(), TenantCounts { active: 2, ..TenantCounts::default() });
        assert_eq!(seen.agents.active, 0);

        release.send(()).unwrap();
        for call in taken {
            assert_eq!(call.await.unwrap().code, Some(Code::AgentNotFound));
        }
        assert_eq!(ask("default").await.unwrap().code, Some(Code::AgentNotFound), "it goes on");
        assert_eq!(stats().await.agents.active, 1);
        app.close().await;
    });
}
