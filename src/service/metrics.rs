//! Every measured value, for a monitoring system.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::kavach::Kavach;
use super::tenant_counts::{CountedTenants, off_thread, tenant_memory};
use crate::actors::{Core, Phase};
use crate::domain::{Error, Right, Timestamp};
use crate::measure::Measures;
use crate::measure::decision_stats::DecisionTotals;
use crate::measure::metric_values::{MetricValues, TenantDecisions};
use crate::measure::process::Process;
use crate::measure::tenant_labels::LabelledResults;

impl Kavach {
    /// Every measured value, at most a second old.
    ///
    /// # Errors
    /// `INVALID_TOKEN` for anyone but an operator.
    pub async fn metrics(&self) -> Result<Arc<MetricValues>, Error> {
        self.check_operator(Right::Oversee)?;
        let mut last = self.core.measures.figures.lock().await;
        if let Some(figures) = last.current() {
            return Ok(figures);
        }
        let counted = self.count_all().await?;
        let core = Arc::clone(&self.core);
        Ok(last.keep(off_thread(move || read(&core, &counted)).await?))
    }
}

fn read(core: &Core, counted: &CountedTenants) -> MetricValues {
    let (measures, at) = (&core.measures, core.clock.now());
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let mut figures = MetricValues {
        started_at: measures.started_at,
        at,
        ready: core.phase() == Phase::Ready,
        storage_failures: core.storage_failures.load(Ordering::Relaxed),
        clock_jumps: core.clock.jumps(),
        clock_held_back: core.clock.held_back(),
        clock_behind_events: core.clock.behind_events(),
        log: core.log.figures(),
        tenants: counted.tenants,
        memory: tenant_memory(core),
        agents: counted.agents,
        overloaded: get(&measures.overloaded),
        failed_snapshots: get(&measures.failed_snapshots),
        last_snapshot: Some(measures.last_snapshot.load(Ordering::Relaxed))
            .filter(|millis| *millis != 0)
            .map(Timestamp::from_millis),
        recovery_seconds: get(&measures.recovery_micros) as f64 / 1e6,
        replayed: get(&measures.replayed),
        lost_actors: get(&measures.lost_actors),
        webhooks_delivered: get(&measures.webhooks_delivered),
        webhooks_failed: get(&measures.webhooks_failed),
        webhooks_dead: get(&measures.webhooks_dead),
        webhooks_waiting: measures.webhooks_waiting.load(Ordering::Relaxed),
        unauthenticated: get(&measures.unauthenticated),
        process: Process::now(),
        ..MetricValues::default()
    };
    let mut traffic = DecisionTotals::new(at);
    for thread in measures.threads() {
        traffic.add(&thread.traffic);
        figures.decisions.add(&thread.decisions);
        figures.flushes.add(&thread.flushes);
        figures.log_written += thread.written.get();
        figures.log_events += thread.events.get();
        for (sum, count) in figures.answers.iter_mut().zip(&thread.answers) {
            *sum += count.get();
        }
    }
    figures.results = traffic.results;
    figures.denials = traffic.denials();
    figures.syncs.add(&measures.syncs);
    figures.snapshots.add(&measures.snapshots);
    figures.loads.add(&measures.loads);
    let of_tenants = counted.each.iter().filter_map(|one| one.measures.as_ref());
    let waiting = of_tenants.clone().map(|measures| measures.waiting());
    figures.waiting = waiting.clone().sum();
    figures.most_waiting = waiting.max().unwrap_or(0);
    let unsaved = of_tenants.filter_map(|measures| measures.unsaved_since()).min();
    figures.unsaved_seconds = unsaved.map_or(0.0, |since| (at.millis() - since.millis()).max(0) as f64 / 1e3);
    figures.by_tenant = by_tenant(measures, counted);
    figures
}

/// Decisions of each tenant with its own label, and of all others together.
fn by_tenant(measures: &Measures, counted: &CountedTenants) -> Option<Vec<TenantDecisions>> {
    let all = counted.each.iter().filter_map(|one| Some((one.route.id, &**one.measures.as_ref()?)));
    let LabelledResults { named, others } = measures.labels.split(all)?;
    let named = named.into_iter().map(|(id, results)| TenantDecisions { tenant: Some(id), results });
    Some(named.chain([TenantDecisions { tenant: None, results: others }]).collect())
}
