//! More calls than a tenant can take: shed at once, and only that tenant's.

use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use kavach::actors::tenant::MAILBOX_CAPACITY;
use kavach::domain::tenant_commands::NewTenant;
use kavach::domain::{Code, Request};
use kavach::{App, Settings};

#[test]
fn a_full_mailbox_sheds_its_own_calls_and_loses_none_it_took() {
    let home = tempfile::tempdir().unwrap();
    actix_rt::System::new().block_on(async {
        // Two arbiters, so that the quiet tenant does not live with the stalled one.
        let settings = Settings { workers: Some(2), ..Settings::new(home.path()) };
        let app = App::open(&settings).await.unwrap();
        let kavach = app.kavach();
        let new = NewTenant { name: "Quiet".into(), slug: "quiet".into(), settings: None };
        kavach.tenants().create(new).await.unwrap();
        let ask = |tenant: &str| {
            let mut request = Request::new("read", "reports:1").unwrap();
            request.tenants.push(tenant.into());
            kavach.authorize(request)
        };

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

        release.send(()).unwrap();
        for call in taken {
            assert_eq!(call.await.unwrap().code, Some(Code::AgentNotFound));
        }
        assert_eq!(ask("default").await.unwrap().code, Some(Code::AgentNotFound), "it goes on");
        app.close().await;
    });
}
