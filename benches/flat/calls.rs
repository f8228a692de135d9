//! A whole call through the service in process (mailbox, decision, journal, reply) by the number of tenants, agents and
//! audit entries.

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use actix_rt::task::JoinHandle;
use actix_rt::{System, SystemRunner};
use kavach::domain::budget::cost::Cost;
use kavach::domain::{Credential, Request, Secret};
use kavach::journal::DataDir;
use kavach::store::codec;
use kavach::{App, Kavach, ServerSettings};
use tempfile::TempDir;

use crate::common::{ROLES, World, create_folder, measuring, now, tenant_id, token, usual_agent, usual_request};
use crate::decide::shuffle;
use crate::interleaved::{GOAL, Side, compare};
use crate::start;

/// Agents of a tenant in the other comparisons.
const FEW: usize = 10;
/// Calls under way: one at a time, and as many as a busy worker has connections.
const IN_FLIGHT: [usize; 2] = [1, 64];

/// By the number of tenants.
pub fn tenants() {
    let tenants = if measuring() { 10_000 } else { 20 };
    let system = System::new();
    let one = InProcessServer::open(&system, |root| start::prepare(root, 1));
    let many = InProcessServer::open(&system, |root| start::prepare(root, tenants));
    for in_flight in IN_FLIGHT {
        // Not all three in one: the tenants' writes are synced while the next ones call.
        for (calling, name) in
            [(1, format!("of one of {tenants} tenants")), (tenants, format!("of all {tenants} tenants in turn"))]
        {
            let sides = vec![
                one.callers(0..1, start::AGENTS).side("of the only tenant".to_owned(), in_flight),
                many.callers(0..calling, start::AGENTS).side(name, in_flight),
            ];
            compare(&format!("call, {in_flight} under way"), sides, GOAL);
        }
    }
    one.close();
    many.close();
}

/// By the number of agents of a tenant.
pub fn agents() {
    let agents = if measuring() { 100_000 } else { 100 };
    compare_tenants([
        TenantSize { name: "of 10 agents".to_owned(), agents: FEW, calling: FEW, entries: 0 },
        TenantSize { name: format!("of 10 of {agents} agents"), agents, calling: FEW, entries: 0 },
        TenantSize { name: format!("of {agents} agents in turn"), agents, calling: agents, entries: 0 },
    ]);
}

/// By the number of a tenant's audit entries.
pub fn entries() {
    let entries = if measuring() { 10_000_000 } else { 3_000 };
    compare_tenants([0, entries].map(|entries| {
        let name = format!("of a tenant with {entries} audit entries");
        TenantSize { name, agents: FEW, calling: FEW, entries }
    }));
}

/// A tenant by its size.
struct TenantSize {
    name: String,
    agents: usize,
    /// How many of the agents make calls.
    calling: usize,
    entries: usize,
}

/// Compares tenants of one server.
fn compare_tenants<const COUNT: usize>(tenants: [TenantSize; COUNT]) {
    let system = System::new();
    let server = InProcessServer::open(&system, |root| {
        let data = DataDir::open(root).unwrap();
        for (number, kind) in (0..).zip(&tenants) {
            fill(&data, number, kind.agents, kind.entries);
        }
    });
    for in_flight in IN_FLIGHT {
        let sides = (0..)
            .zip(&tenants)
            .map(|(number, kind)| server.callers(number..number + 1, kind.calling).side(kind.name.clone(), in_flight));
        compare(&format!("call, {in_flight} under way"), sides.collect(), GOAL);
    }
    server.close();
}

/// A server in process, on its own data.
struct InProcessServer<'s> {
    system: &'s SystemRunner,
    app: App,
    _root: TempDir,
}

impl<'s> InProcessServer<'s> {
    fn open(system: &'s SystemRunner, prepare: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path());
        // One arbiter: it and the calling thread have a core each.
        let settings = ServerSettings { workers: Some(1), ..ServerSettings::new(root.path()) };
        let app = system.block_on(App::open(&settings)).unwrap();
        Self { system, app, _root: root }
    }

    /// That many agents of each of these tenants, in an order that no cache can guess.
    fn callers(&self, tenants: Range<u32>, agents: usize) -> Callers<'s> {
        let of_tenant = |tenant| (0..agents).map(move |n| (token(tenant_id(tenant), n as u32), n % ROLES));
        let credential = |(token, role): (Secret, usize)| (Credential::parse(token.reveal()), role);
        let mut agents: Vec<_> = tenants.flat_map(of_tenant).map(credential).collect();
        shuffle(&mut agents);
        let requests = (0..ROLES).map(usual_request).collect();
        Callers { system: self.system, kavach: self.app.kavach(), agents: agents.into(), requests, next: Cell::new(0) }
    }

    fn close(self) {
        self.system.block_on(self.app.close());
    }
}

/// Creates a tenant with that many agents and audit entries, and a snapshot of everything.
pub fn fill(data: &DataDir, number: u32, agents: usize, entries: usize) {
    let mut world = World::of(number);
    let callers: Vec<_> = (0..agents).map(|n| world.add(usual_agent(n))).collect();
    let request = |role| {
        let mut request = usual_request(role);
        request.cost = Some(Cost::from_millionths(12_345));
        request
    };
    let requests: Vec<_> = (0..ROLES).map(request).collect();
    let mut journal = create_folder(data, number, &world.events);
    world.events = Vec::new();
    for made in 0..entries {
        let seq = journal.next_seq();
        journal
            .append(seq, |buffer| {
                world.decide(&callers[made % agents], &requests[made % agents % ROLES], buffer);
            })
            .unwrap();
        if made % 64 == 0 {
            journal.flush().unwrap();
            journal.rotate_if_due(now().millis()).unwrap();
        }
    }
    journal.flush().unwrap();
    let point = journal.begin_sync().run().unwrap();
    journal.finish_sync(point, now().millis()).unwrap();
    // Sealed now, not while calls are measured.
    journal.take_compression_jobs().into_iter().for_each(|job| job.run().unwrap());
    journal.begin_snapshot(journal.written_seq()).run(|file| codec::write_state(&world.tenant.state(), file)).unwrap();
    journal.close(now().millis()).unwrap();
}

/// Agents, each with its token and its role.
struct Callers<'s> {
    system: &'s SystemRunner,
    kavach: Kavach,
    agents: Rc<[(Credential, usize)]>,
    requests: Rc<[Request]>,
    /// The next agent to call.
    next: Cell<usize>,
}

impl<'s> Callers<'s> {
    fn side(self, name: String, in_flight: usize) -> Side<'s> {
        Side::new(name, move || self.run(in_flight))
    }

    /// Makes many calls, `in_flight` at a time. Returns the nanoseconds of each.
    fn run(&self, in_flight: usize) -> f64 {
        let each = if measuring() { 20_000 } else { 64 } / in_flight;
        let first = self.next.replace(self.next.get() + each * in_flight);
        let start = Instant::now();
        self.system.block_on(async {
            let tasks: Vec<_> = (0..in_flight).map(|task| self.calls(first + task * each, each)).collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        start.elapsed().as_nanos() as f64 / (each * in_flight) as f64
    }

    /// A task that makes `count` calls, one after another.
    fn calls(&self, first: usize, count: usize) -> JoinHandle<()> {
        let (kavach, agents, requests) = (self.kavach.clone(), Rc::clone(&self.agents), Rc::clone(&self.requests));
        actix_rt::spawn(async move {
            for (credential, role) in agents.iter().cycle().skip(first % agents.len()).take(count) {
                let call = kavach.acting_for(*credential);
                assert!(call.authorize(requests[*role].clone()).await.unwrap().allowed);
            }
        })
    }
}
