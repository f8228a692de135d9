//! Reads an audit trail of a million entries: a query by agent, whole exports, and their effect on decisions.
//! `KAVACH_BENCH_ENTRIES=10000000` takes ten times as many, with a few minutes and 1 GB of disk.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that can't be set up has to stop")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{call, measuring, new_agent, usual_permissions};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kavach::domain::tenant::commands::NewTenant;
use kavach::domain::{AgentId, AuditFilter, Request, TenantRef};
use kavach::service::{AuditQuery, ExportFormat};
use kavach::{App, Kavach, ServerSettings};

/// Agents that share the trail.
const AGENTS: usize = 100;
/// Calls of the one agent that seldom appears, all at the very beginning.
const SELDOM: usize = 10;

fn entries() -> usize {
    match std::env::var("KAVACH_BENCH_ENTRIES").ok().and_then(|text| text.parse().ok()) {
        Some(entries) => entries,
        None if measuring() => 1_000_000,
        None => 3_000,
    }
}

async fn agent(kavach: &Kavach) -> AgentId {
    let mut agent = new_agent(usual_permissions(0));
    agent.tenant_id = Some("acme".to_owned());
    kavach.agents().create(agent).await.unwrap().0.agent.profile.id
}

/// A tenant with that trail, a busy agent of it, and one that seldom appears.
async fn fill(kavach: &Kavach) -> (AgentId, AgentId) {
    let new = NewTenant { name: "Acme".to_owned(), slug: "acme".to_owned(), settings: None };
    kavach.tenants().create(new).await.unwrap();
    let seldom = agent(kavach).await;
    let mut agents = Vec::new();
    for _ in 0..AGENTS {
        agents.push(agent(kavach).await);
    }
    let permissions = usual_permissions(0);
    let request = |agent, n: usize| -> Request { call(&permissions[n % permissions.len()], n).for_agent(agent) };
    let first = (0..SELDOM).map(|n| request(seldom, n)).collect();
    kavach.authorize_batch(first, Instant::now()).await.unwrap();
    let mut made = SELDOM;
    while made < entries() {
        let batch: Vec<_> = (made..entries().min(made + 1_000)).map(|n| request(agents[n % AGENTS], n)).collect();
        made += batch.len();
        kavach.authorize_batch(batch, Instant::now()).await.unwrap();
    }
    (agents[0], seldom)
}

async fn page(kavach: &Kavach, agent: AgentId) -> usize {
    let filter = AuditFilter { agent: Some(agent), ..AuditFilter::default() };
    let query = AuditQuery { tenant: Some(TenantRef::parse("acme")), filter, ..AuditQuery::default() };
    kavach.audit().query(query).await.unwrap().items.len()
}

async fn export(kavach: &Kavach, format: ExportFormat) -> usize {
    let tenant = TenantRef::parse("acme");
    let mut export = kavach.audit().export(Some(&tenant), AuditFilter::default(), format).unwrap();
    let mut bytes = 0;
    while let Some(chunk) = export.next().await {
        bytes += chunk.unwrap().len();
    }
    bytes
}

/// Makes `count` calls, one after another.
async fn calls(kavach: &Kavach, request: &Request, count: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        kavach.authorize(request.clone()).await.unwrap();
    }
    start.elapsed()
}

fn audit(c: &mut Criterion) {
    let root = tempfile::tempdir().unwrap();
    let system = actix_rt::System::new();
    let app = system.block_on(App::open(&ServerSettings::new(root.path()))).unwrap();
    let kavach = app.kavach();
    let (busy, seldom) = system.block_on(fill(&kavach));

    let mut group = c.benchmark_group("audit");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    group.bench_function("query/busy agent", |b| {
        b.iter(|| assert!(system.block_on(page(&kavach, busy)) > 0));
    });
    group.throughput(Throughput::Elements(entries() as u64));
    group.bench_function("query/agent seldom there", |b| {
        b.iter(|| assert_eq!(system.block_on(page(&kavach, seldom)), SELDOM));
    });
    for (name, format) in [("json", ExportFormat::Json), ("ndjson", ExportFormat::Ndjson), ("csv", ExportFormat::Csv)] {
        group.bench_function(BenchmarkId::new("export", name), |b| {
            b.iter(|| assert!(system.block_on(export(&kavach, format)) > 0));
        });
    }

    let request = call(&usual_permissions(0)[0], 1).for_agent(busy);
    group.throughput(Throughput::Elements(1));
    group.bench_function("authorize/quiet", |b| {
        b.iter_custom(|count| system.block_on(calls(&kavach, &request, count)));
    });
    let stop = Arc::new(AtomicBool::new(false));
    let scan = || {
        let (kavach, stop) = (kavach.clone(), Arc::clone(&stop));
        actix_rt::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                page(&kavach, seldom).await;
            }
        })
    };
    let scans: Vec<_> = system.block_on(async { (0..4).map(|_| scan()).collect() });
    group.bench_function("authorize/while four scan", |b| {
        b.iter_custom(|count| system.block_on(calls(&kavach, &request, count)));
    });
    stop.store(true, Ordering::Relaxed);
    system.block_on(async {
        for scan in scans {
            scan.await.unwrap();
        }
    });
    group.finish();
    system.block_on(app.close());
}

criterion_group!(benches, audit);
criterion_main!(benches);
