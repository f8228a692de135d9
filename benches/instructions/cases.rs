//! The calls for which we count instructions: allowed and denied ones of an agent with few and with many permissions, with
//! and without what only some calls have.

use std::hint::black_box;

use kavach::domain::budget::cost::Cost;
use kavach::domain::delegation::commands::{CreateDelegation, NewDelegation};
use kavach::domain::idempotency::key::IdempotencyKey;
use kavach::domain::permission::PermissionSpec;
use kavach::domain::permission::constraint::ConstraintsSpec;
use kavach::domain::permission::constraint::time_window::TimeWindowSpec;
use kavach::domain::{Code, Credential, Decision, Request};
use kavach::journal::Journal;
use serde_json::json;

use crate::common::{OnDisk, World, call, high_limits, now, permissions, tenant_id, token};

/// Calls between two writes to the journal's file, which are not counted.
const BATCH: u64 = 64;

/// One kind of call.
pub struct Case {
    pub name: &'static str,
    /// The code it is denied with; `None` if it is allowed.
    denied: Option<Code>,
    scene: fn() -> Scene,
}

/// A tenant, and the call that it gets again and again.
struct Scene {
    world: World,
    credential: Credential,
    request: Request,
    /// Whether each call comes with an idempotency key of its own.
    has_keys: bool,
}

/// All kinds, from the cheapest to the most expensive.
pub const CASES: [Case; 12] = [
    Case { name: "bare/1", denied: None, scene: || Scene::new(permissions(1)) },
    Case { name: "allowed/10", denied: None, scene: || Scene::new(constrained(10)).with_budgets() },
    Case { name: "allowed/1000", denied: None, scene: || Scene::new(constrained(1_000)).with_budgets() },
    Case { name: "with a key/10", denied: None, scene: || Scene::new(constrained(10)).with_budgets().with_keys() },
    Case { name: "3 scoped policies/3", denied: None, scene: || Scene::new(permissions(10)).with_scoped(3) },
    Case { name: "3 scoped policies/1000", denied: None, scene: || Scene::new(permissions(10)).with_scoped(1_000) },
    Case {
        name: "no permission/10",
        denied: Some(Code::PermissionDenied),
        scene: || Scene::new(constrained(10)).with_budgets().asking_for("mcp:github:drop_everything"),
    },
    Case {
        name: "no permission/1000",
        denied: Some(Code::PermissionDenied),
        scene: || Scene::new(constrained(1_000)).with_budgets().asking_for("mcp:github:drop_everything"),
    },
    Case {
        name: "argument not allowed/10",
        denied: Some(Code::ArgumentNotAllowed),
        scene: || Scene::new(constrained(10)).with_budgets().with_arguments(r#"{"path":"../../etc/passwd"}"#),
    },
    Case {
        name: "budget exceeded/10",
        denied: Some(Code::BudgetExceeded),
        scene: || Scene::new(constrained(10)).with_budgets().used_up(),
    },
    Case { name: "delegated/1 link", denied: None, scene: || Scene::delegated(1) },
    Case { name: "delegated/3 links", denied: None, scene: || Scene::delegated(3) },
];

/// That many permissions; the last one has every constraint that a call can meet.
fn constrained(count: usize) -> Vec<PermissionSpec> {
    let mut all = permissions(count);
    all[count - 1].constraints = Some(ConstraintsSpec {
        max_calls_per_hour: Some(1_000_000_000),
        allowed_arg_patterns: Some(vec!["/srv/data/**".to_owned(), "*".to_owned()]),
        time_window: Some(TimeWindowSpec { start: "06:00".to_owned(), end: "22:00".to_owned() }),
        ip_allowlist: Some(vec!["192.0.2.0/24".to_owned(), "10.0.0.0/8".to_owned()]),
        ..ConstraintsSpec::default()
    });
    all
}

impl Scene {
    /// One agent with these permissions, and a call that the last one grants.
    fn new(permissions: Vec<PermissionSpec>) -> Self {
        let mut world = World::new();
        let mut request = call(&permissions[permissions.len() - 1], 7);
        request.ip = Some([10, 1, 2, 3].into());
        world.add_agent(permissions);
        let credential = Credential::parse(token(tenant_id(0), 0).reveal());
        Self { world, credential, request, has_keys: false }
    }

    /// Adds budgets for the tenant, the owner and the agent.
    fn with_budgets(mut self) -> Self {
        for about in [json!({}), json!({ "userId": "user-1" }), json!({ "agentId": self.world.agent_id(0) })] {
            self.world.add_policy(about, high_limits());
        }
        self.request.cost = Some(Cost::from_millionths(1));
        self
    }

    fn with_keys(self) -> Self {
        Self { has_keys: true, ..self }
    }

    /// Adds scoped policies: three that charge the call, and others of the same shapes that do not.
    fn with_scoped(mut self, count: usize) -> Self {
        let (action, resource) = (self.request.action().to_owned(), self.request.resource().to_owned());
        let (service, _) = resource.rsplit_once(':').unwrap();
        for n in 0..count {
            let (action, resource) = match n {
                0..3 => (action.clone(), resource.clone()),
                _ => (format!("action-{n}"), format!("{service}:tool-{n}")),
            };
            let about = match n % 3 {
                0 => json!({ "resource": resource }),
                1 => json!({ "actions": [action] }),
                _ => json!({ "resource": resource, "actions": [action] }),
            };
            self.world.add_policy(about, high_limits());
        }
        self.request.cost = Some(Cost::from_millionths(1));
        self
    }

    fn used_up(mut self) -> Self {
        self.world.add_policy(json!({}), json!({ "maxCallsPerDay": 0 }));
        self
    }

    fn asking_for(mut self, resource: &str) -> Self {
        let spec =
            PermissionSpec { resource: resource.to_owned(), actions: vec!["read".to_owned()], constraints: None };
        self.request = call(&spec, 7);
        self
    }

    fn with_arguments(mut self, json: &str) -> Self {
        self.request = self.request.with_arguments(json).unwrap();
        self
    }

    /// The last agent of a chain calls by a permission of the first.
    fn delegated(links: u32) -> Self {
        let lent = constrained(10);
        let mut scene = Self::new(lent.clone());
        for link in 0..links {
            let own = PermissionSpec {
                resource: "notes:own".to_owned(),
                actions: vec!["read".to_owned()],
                constraints: None,
            };
            scene.world.add_agent(vec![own]);
            let new = NewDelegation {
                tenant_id: None,
                from_agent: scene.world.agent_id(link).to_string(),
                to_agent: scene.world.agent_id(link + 1).to_string(),
                permissions: vec![lent[lent.len() - 1].clone()],
                expires_at: None,
                max_depth: Some(links),
            };
            scene.world.execute(CreateDelegation::parse(new).unwrap());
        }
        scene.credential = Credential::parse(token(tenant_id(0), links).reveal());
        scene.with_budgets()
    }
}

impl Case {
    /// Makes the call `calls` times.
    pub fn run(&self, calls: u64) {
        let Scene { mut world, credential, mut request, has_keys } = (self.scene)();
        let mut disk = OnDisk::new(&world.events);
        let journal = disk.journal.as_mut().unwrap();
        for made in 0..calls {
            if has_keys {
                request = request.with_key(IdempotencyKey::parse("key", &format!("call-{made}")).unwrap(), false);
            }
            let decision = counted_by_callgrind(&mut world, &credential, &request, journal);
            assert_eq!(decision.code, self.denied, "{}", self.name);
            if made % BATCH == BATCH - 1 {
                journal.flush().unwrap();
            }
        }
    }
}

/// Callgrind counts from this function's first instruction to its last. It is found by its name, which no closure may
/// share.
#[inline(never)]
pub fn counted_by_callgrind(
    world: &mut World,
    credential: &Credential,
    request: &Request,
    journal: &mut Journal,
) -> Decision {
    black_box(decide(black_box(world), black_box(credential), black_box(request), black_box(journal)))
}

/// What a tenant's actor does for one call, except for its mailbox, the write and the reply.
fn decide(world: &mut World, credential: &Credential, request: &Request, journal: &mut Journal) -> Decision {
    let caller = world.tenant.authenticate(credential, now()).unwrap();
    let mut decision = None;
    let seq = journal.next_seq();
    journal.append(seq, |buffer| decision = Some(world.decide(&caller, request, buffer))).unwrap();
    decision.unwrap()
}
