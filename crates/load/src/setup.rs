//! Creates the tenants, agents and policies for a load over the API, and deletes them.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Request;

use crate::calls::permissions;
use crate::options::{BaseUrl, LoadSettings};
use crate::progress;
use crate::targets::{TargetAgent, TargetTenant, Targets};
use kavach_domain::secret::OperatorKey;

/// Requests under way at once. Each change waits for the disk, which serves many with one sync.
const THREADS: usize = 16;
/// How long one request may take: past any sync, short of a person's patience.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The start of the slug of a tenant created here. Only such tenants are deleted.
const SLUG_PREFIX: &str = "load-";
/// Agents of one owner.
const AGENTS_PER_OWNER: u32 = 10;
/// Owners of a tenant, at most.
const MAX_OWNERS: u32 = 1_000;
/// Agents of a tenant that can have a policy of their own: it takes 10,000 policies, its owners' and its own among
/// them. In a larger one the third is one more of the owner's.
const MAX_OWN_POLICIES: u32 = 7_000;
/// Limits that no load uses up.
const MANY_CALLS: u64 = 1_000_000_000_000_000;
const MUCH_COST: u64 = 1_000_000_000_000;

/// Whether a slug has the form of those that [`Setup::create`] gives, not just the start of one.
fn was_made_by_a_load(slug: &str) -> bool {
    let run_and_number = slug.strip_prefix(SLUG_PREFIX).and_then(|rest| rest.split_once('-'));
    run_and_number.is_some_and(|(run, number)| {
        run.len() == 8
            && run.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A client that creates and deletes the targets of a load.
pub struct Setup<'a> {
    http: ureq::Agent,
    url: &'a BaseUrl,
    key: &'a OperatorKey,
    stop: &'a AtomicBool,
}

/// How many of each to create.
#[derive(Clone, Copy)]
struct Size {
    tenants: u32,
    agents: u32,
    budgets: u32,
}

impl Size {
    fn owners(self) -> u32 {
        self.agents.div_ceil(AGENTS_PER_OWNER).min(MAX_OWNERS)
    }

    /// Policies about all agents of a tenant.
    fn of_tenant(self) -> u32 {
        self.budgets.min(1) + self.budgets.saturating_sub(3)
    }

    /// Policies about each owner.
    fn of_owner(self) -> u32 {
        match self.budgets {
            0 | 1 => 0,
            2 => 1,
            _ if self.agents > MAX_OWN_POLICIES => 2,
            _ => 1,
        }
    }

    /// Policies about each agent.
    fn of_agent(self) -> u32 {
        u32::from(self.budgets > 2 && self.agents <= MAX_OWN_POLICIES)
    }
}

impl<'a> Setup<'a> {
    /// A client; it sends nothing yet. Work ends early once `stop` is set.
    pub fn new(url: &'a BaseUrl, key: &'a OperatorKey, stop: &'a AtomicBool) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            // Below the server's own, so that no request meets a connection that is being closed.
            .max_idle_age(Duration::from_secs(2))
            .max_idle_connections(THREADS)
            .max_idle_connections_per_host(THREADS)
            .build();
        Self { http: config.into(), url, key, stop }
    }

    /// Creates tenants, agents and policies. `own_ip` is the address that the server sees. If something fails, the tenants
    /// created so far are deleted again.
    ///
    /// # Errors
    /// A sentence that says what failed.
    pub fn create(&self, settings: &LoadSettings, own_ip: Option<IpAddr>) -> Result<Targets, String> {
        let size = Size { tenants: settings.tenants, agents: settings.agents, budgets: settings.budgets };
        let run = getrandom::u32().map_err(|problem| problem.to_string())?;
        let bar = progress::items("tenants", size.tenants.into());
        let made = Mutex::new(Vec::new());
        let result = in_parallel(size.tenants as usize, &bar, self.stop, |n| {
            let tenant = self.create_tenant(&format!("{SLUG_PREFIX}{run:08x}-{n}"))?;
            if let Ok(mut made) = made.lock() {
                made.push(TargetTenant { id: tenant.id.clone(), slug: tenant.slug.clone(), agents: Vec::new() });
            }
            self.create_policies(&tenant.id, size)?;
            Ok(tenant)
        })
        .and_then(|mut tenants| {
            self.create_agents(&mut tenants, size, own_ip)?;
            Ok(Targets { tenants })
        });
        if result.is_err() {
            // The first problem is the one to report.
            let _ = self.delete(&Targets { tenants: made.into_inner().unwrap_or_default() });
        }
        result
    }

    fn create_agents(&self, tenants: &mut [TargetTenant], size: Size, own_ip: Option<IpAddr>) -> Result<(), String> {
        let per_tenant = size.agents as usize;
        let count = tenants.len() * per_tenant;
        let bar = progress::items("agents", count as u64);
        let permissions = permissions(own_ip);
        let mut agents = in_parallel(count, &bar, self.stop, |n| {
            let Some(tenant) = tenants.get(n / per_tenant) else { return Err("there is no such tenant".to_owned()) };
            let n = n % per_tenant;
            let agent: TargetAgent = self.post(
                "agents",
                &json!({
                    "tenantId": tenant.id,
                    "ownerId": owner(n % size.owners() as usize),
                    "name": format!("agent-{n}"),
                    "type": "service",
                    "permissions": permissions,
                }),
            )?;
            for _ in 0..size.of_agent() {
                self.create_policy(json!({ "agentId": agent.id }), "block")?;
            }
            Ok(agent)
        })?
        .into_iter();
        for tenant in tenants {
            tenant.agents = agents.by_ref().take(per_tenant).collect();
        }
        Ok(())
    }

    fn create_tenant(&self, slug: &str) -> Result<TargetTenant, String> {
        #[derive(Deserialize)]
        struct CreatedTenant {
            id: String,
        }
        let CreatedTenant { id } =
            self.post("tenants", &json!({ "name": format!("Load test {slug}"), "slug": slug }))?;
        Ok(TargetTenant { id, slug: slug.to_owned(), agents: Vec::new() })
    }

    /// Creates the policies that apply to more than one agent.
    fn create_policies(&self, tenant: &str, size: Size) -> Result<(), String> {
        for _ in 0..size.of_tenant() {
            self.create_policy(json!({ "tenantId": tenant }), "block")?;
        }
        for _ in 0..size.of_owner() {
            for n in 0..size.owners() as usize {
                self.create_policy(json!({ "tenantId": tenant, "userId": owner(n) }), "throttle")?;
            }
        }
        Ok(())
    }

    fn create_policy(&self, mut policy: Value, action: &str) -> Result<(), String> {
        #[derive(Deserialize)]
        struct CreatedPolicy {}
        if let Some(policy) = policy.as_object_mut() {
            let limits = json!({ "maxCallsPerDay": MANY_CALLS, "maxTokensCostPerMonth": MUCH_COST });
            policy.insert("limits".to_owned(), limits);
            policy.insert("action".to_owned(), action.into());
        }
        self.post::<CreatedPolicy>("policies", &policy).map(|CreatedPolicy {}| ())
    }

    /// Deletes the tenants that were made by a load, with all that is in them. It can't be stopped.
    ///
    /// # Errors
    /// A sentence that says what failed.
    pub fn delete(&self, targets: &Targets) -> Result<(), String> {
        let tenants: Vec<_> = targets.tenants.iter().filter(|tenant| was_made_by_a_load(&tenant.slug)).collect();
        let bar = progress::items("deleting", tenants.len() as u64);
        let never = AtomicBool::new(false);
        in_parallel(tenants.len(), &bar, &never, |n| {
            let Some(tenant) = tenants.get(n) else { return Ok(()) };
            self.send("DELETE", &format!("tenants/{}?confirm={}", tenant.id, tenant.slug), &[]).map(|_| ())
        })
        .map(|_| ())
    }

    fn post<T: for<'de> Deserialize<'de>>(&self, route: &str, body: &Value) -> Result<T, String> {
        let answer = self.send("POST", route, body.to_string().as_bytes())?;
        serde_json::from_slice(&answer)
            .map_err(|problem| format!("{} does not answer as a Kavach server: {problem}", self.url))
    }

    fn send(&self, method: &str, route: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        let url = self.url;
        let unreachable = |problem: &dyn std::fmt::Display| format!("{url} did not answer: {problem}");
        let request = Request::builder()
            .method(method)
            .uri(format!("{url}/v1/{route}"))
            .header("Authorization", format!("Bearer {}", self.key.reveal()))
            .header("Content-Type", "application/json")
            .body(body)
            .map_err(|problem| unreachable(&problem))?;
        let (parts, body) = self.http.run(request).map_err(|problem| unreachable(&problem))?.into_parts();
        let bytes = body.into_with_config().read_to_vec().map_err(|problem| unreachable(&problem))?;
        if parts.status.is_success() {
            Ok(bytes)
        } else {
            Err(self.refusal(method, route, parts.status.as_u16(), &bytes))
        }
    }

    /// The sentence for an answer that is no success.
    fn refusal(&self, method: &str, route: &str, status: u16, body: &[u8]) -> String {
        #[derive(Deserialize)]
        struct ApiProblem {
            code: String,
            detail: String,
        }
        let detail = match serde_json::from_slice(body) {
            Ok(ApiProblem { code, detail }) => format!("{code}: {detail}"),
            Err(_) => "not in the way of a Kavach server".to_owned(),
        };
        let url = self.url;
        match status {
            401 | 403 => format!("{url} refuses the key, and the operator key is needed ({status} {detail})"),
            _ => format!("{url} answered {method} /v1/{route} with {status} ({detail})"),
        }
    }
}

fn owner(n: usize) -> String {
    format!("owner-{n}")
}

/// Does the work for each number below `count`, on some threads. Answers the results in order, or the first problem,
/// after which no more is begun.
fn in_parallel<T: Send>(
    count: usize,
    bar: &ProgressBar,
    stop: &AtomicBool,
    work: impl Fn(usize) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    let next = AtomicUsize::new(0);
    let first_problem = Mutex::new(None);
    let begin = || {
        let goes_on = !stop.load(Ordering::Relaxed) && first_problem.lock().is_ok_and(|problem| problem.is_none());
        goes_on.then(|| next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count)
    };
    let run = || {
        let mut done = Vec::new();
        while let Some(n) = begin() {
            match work(n) {
                Ok(result) => done.push((n, result)),
                Err(problem) => {
                    if let Ok(mut first) = first_problem.lock() {
                        first.get_or_insert(problem);
                    }
                    break;
                }
            }
            bar.inc(1);
        }
        done
    };
    let mut done: Vec<(usize, T)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS.min(count)).map(|_| scope.spawn(run)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    bar.finish_and_clear();
    if let Some(problem) = first_problem.into_inner().unwrap_or_default() {
        return Err(problem);
    }
    if done.len() < count {
        return Err("it was interrupted before all was made".to_owned());
    }
    done.sort_unstable_by_key(|(n, _)| *n);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loads_own_tenants_are_deleted() {
        assert!(was_made_by_a_load("load-0123abcd-17"));
        for slug in
            ["load-balancer", "load-", "load-0123abcd", "load-0123abcd-", "load-0123abcd-x", "load-abc-1", "acme"]
        {
            assert!(!was_made_by_a_load(slug), "{slug}");
        }
    }

    fn policies_per_agent(agents: u32, budgets: u32) -> u32 {
        let size = Size { tenants: 1, agents, budgets };
        let all = size.of_tenant() + size.of_owner() * size.owners() + size.of_agent() * agents;
        assert!(all <= 10_000, "{all} policies in a tenant of {agents} agents");
        size.of_tenant() + size.of_owner() + size.of_agent()
    }

    #[test]
    fn every_agent_has_as_many_policies_as_were_asked_for() {
        for agents in [1, 9, 10, 11, 100, MAX_OWN_POLICIES, MAX_OWN_POLICIES + 1, 2_000_000] {
            for budgets in [0, 1, 2, 3, 4, 10, 1_000] {
                assert_eq!(policies_per_agent(agents, budgets), budgets, "{agents} agents");
            }
        }
    }

    #[test]
    fn work_in_parallel_keeps_its_order_and_stops_at_a_problem() {
        let bar = ProgressBar::hidden();
        let go = AtomicBool::new(false);
        assert_eq!(in_parallel(1000, &bar, &go, Ok).unwrap(), (0..1000).collect::<Vec<_>>());
        assert!(in_parallel(0, &bar, &go, Ok).unwrap().is_empty());
        let begun = AtomicUsize::new(0);
        let failed = in_parallel(100_000, &bar, &go, |n| {
            begun.fetch_add(1, Ordering::Relaxed);
            if n == 3 { Err("no".to_owned()) } else { Ok(n) }
        });
        assert_eq!(failed, Err("no".to_owned()));
        assert!(in_parallel(10, &bar, &AtomicBool::new(true), Ok).unwrap_err().contains("interrupted"));
    }
}
