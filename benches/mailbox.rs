//! One authorize through the in-process service: mailbox, decision, journal write, reply.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that can't be set up has to stop")]

mod common;

use std::time::{Duration, Instant};

use common::{call, new_agent, usual_permissions};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kavach::domain::tenant::commands::NewTenant;
use kavach::domain::{Credential, Request};
use kavach::{App, Kavach, ServerSettings};

/// Makes `count` calls, `in_flight` at a time.
async fn calls(kavach: &Kavach, request: &Request, count: u64, in_flight: u64) -> Duration {
    let start = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|task| {
            let (kavach, request) = (kavach.clone(), request.clone());
            let mine = count / in_flight + u64::from(task < count % in_flight);
            actix_rt::spawn(async move {
                for _ in 0..mine {
                    assert!(kavach.authorize(request.clone()).await.unwrap().allowed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    start.elapsed()
}

fn mailbox(c: &mut Criterion) {
    let root = tempfile::tempdir().unwrap();
    let system = actix_rt::System::new();
    let app = system.block_on(App::open(&ServerSettings::new(root.path()))).unwrap();
    let kavach = system.block_on(async {
        let new = NewTenant { name: "Acme".to_owned(), slug: "acme".to_owned(), settings: None };
        app.kavach().tenants().create(new).await.unwrap();
        let mut agent = new_agent(usual_permissions(0));
        agent.tenant_id = Some("acme".to_owned());
        let (_, token) = app.kavach().agents().create(agent).await.unwrap();
        app.kavach().acting_for(Credential::parse(token.reveal()))
    });
    let request = call(&usual_permissions(0)[1], 7);

    let mut group = c.benchmark_group("mailbox");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(1));
    for in_flight in [1, 64] {
        group.bench_function(BenchmarkId::new("in_flight", in_flight), |b| {
            b.iter_custom(|count| system.block_on(calls(&kavach, &request, count, in_flight)));
        });
    }
    group.finish();
    system.block_on(app.close());
}

criterion_group!(benches, mailbox);
criterion_main!(benches);
