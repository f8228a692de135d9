//! Shared by the benches: a tenant, its agents and their calls, made from the fixture's real tools.
#![allow(dead_code, reason = "each bench uses its own part")]

use kavach::domain::agent::commands::{CreateAgent, NewAgent};
use kavach::domain::author::By;
use kavach::domain::budget::policy_commands::{CreatePolicy, NewPolicy};
use kavach::domain::event::ChangeRecord;
use kavach::domain::permission::PermissionSpec;
use kavach::domain::permission::constraint::ConstraintsSpec;
use kavach::domain::tenant::Caller;
use kavach::domain::tenant::commands::{NewTenant, TenantSpec};
use kavach::domain::{
    AgentId, AgentType, Change, Command, Decision, Event, Request, Secret, Tenant, TenantId, Timestamp,
};
use kavach::journal::{self, DataDir, Folder, Journal, JournalOptions};
use kavach::store::codec;
use kavach::store::loader::FolderLabel;
use kavach_fixture::tools;
use serde_json::json;
use serde_json::value::RawValue;
use tempfile::TempDir;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whether we want figures. Otherwise each bench runs once, as a test, on little data.
pub fn measuring() -> bool {
    let given = |wanted| std::env::args().any(|arg| arg == wanted);
    given("--bench") && !given("--test")
}

pub fn now() -> Timestamp {
    Timestamp::from_millis(1_772_357_400_000)
}

/// The id of the tenant with that number.
pub fn tenant_id(number: u32) -> TenantId {
    let mut bytes = *b"0123456789ab\0\0\0\0";
    bytes[12..].copy_from_slice(&(number + 1).to_be_bytes());
    TenantId::from_bytes(bytes)
}

/// The token of an agent of that tenant, by the number of agents created before it.
pub fn token(tenant: TenantId, slot: u32) -> Secret {
    let mut random = [0; 32];
    random[..4].copy_from_slice(&slot.to_le_bytes());
    Secret::agent_token(tenant, random)
}

/// All four limits, so high that nothing reaches them.
pub fn high_limits() -> serde_json::Value {
    let most = 1_000_000_000_000_u64;
    json!({
        "maxCallsPerDay": most, "maxCallsPerMonth": most, "maxTokensCostPerDay": most, "maxTokensCostPerMonth": most,
    })
}

/// Exact permissions for real tools; beyond the fixture's end, for these tools on single repositories.
pub fn permissions(count: usize) -> Vec<PermissionSpec> {
    (0..count).map(permission).collect()
}

/// The permission at that place among them.
pub fn permission(n: usize) -> PermissionSpec {
    let tools = tools();
    let tool = &tools[n % tools.len()];
    let resource = match n / tools.len() {
        0 => tool.resource(),
        round => format!("{}:service-{round}", tool.resource()),
    };
    PermissionSpec { resource, actions: vec![tool.action().to_owned()], constraints: None }
}

/// A call that the permission grants, with the tool's own arguments.
pub fn call(permission: &PermissionSpec, n: usize) -> Request {
    let tool = tools().iter().find(|tool| permission.resource.starts_with(&tool.resource()));
    let arguments = tool.map_or_else(|| "{}".to_owned(), |tool| tool.sample_arguments(n));
    let request = Request::new(&permission.actions[0], &permission.resource).unwrap();
    request.with_arguments(&arguments).unwrap().with_user_agent(Some("kavach-bench/1.0"))
}

pub fn new_agent(permissions: Vec<PermissionSpec>) -> NewAgent {
    NewAgent {
        tenant_id: None,
        owner_id: "user-1".to_owned(),
        name: "repo-reader".to_owned(),
        kind: AgentType::Autonomous,
        permissions,
        expires_at: None,
        metadata: None,
        labels: None,
    }
}

/// The permissions of a busy agent: its servers, single tools, one of them with a rate.
pub fn usual_permissions(n: usize) -> Vec<PermissionSpec> {
    let mut all = permissions(4);
    all.rotate_left(n % 4);
    all[0].constraints = Some(ConstraintsSpec { max_calls_per_hour: Some(1_000_000), ..ConstraintsSpec::default() });
    let wide =
        PermissionSpec { resource: "mcp:github:*".to_owned(), actions: vec!["read".to_owned()], constraints: None };
    all.push(wide);
    all
}

/// Roles of agents in a large tenant.
pub const ROLES: usize = 20;

/// One agent of a large tenant: its own name and owner, one of the roles, which hold 4 to 8 permissions each, and for
/// every third one metadata.
pub fn usual_agent(n: usize) -> NewAgent {
    let role = n % ROLES;
    let mut permissions: Vec<_> = (role * 8..).take(4 + role % 5).map(permission).collect();
    permissions[0].constraints =
        Some(ConstraintsSpec { max_calls_per_hour: Some(1_000), ..ConstraintsSpec::default() });
    let metadata = format!(r#"{{"team":"payments-{}","model":"large-3","region":"eu-west-1"}}"#, n % 50);
    NewAgent {
        owner_id: format!("user-{}", n / 10),
        name: format!("repo-reader-{n}"),
        metadata: n.is_multiple_of(3).then(|| RawValue::from_string(metadata).unwrap()),
        ..new_agent(permissions)
    }
}

/// A call that agents with that role may make.
pub fn usual_request(role: usize) -> Request {
    call(&usual_agent(role).permissions[1], 7)
}

pub struct World {
    pub tenant: Tenant,
    /// Its encoded events since they were last taken.
    pub events: Vec<Vec<u8>>,
}

impl World {
    pub fn new() -> Self {
        Self::of(0)
    }

    /// The tenant with that number.
    pub fn of(number: u32) -> Self {
        let new = NewTenant { name: "Acme".to_owned(), slug: format!("acme-{number}"), settings: None };
        let mut world = Self { tenant: Tenant::default(), events: Vec::new() };
        world.change(TenantSpec::parse(new).unwrap().created(tenant_id(number)));
        world
    }

    fn change(&mut self, change: Change) {
        let moment = self.tenant.next_moment(now());
        let event = Event::Changed(ChangeRecord::new(By::Operator, change));
        let event = self.tenant.complete(moment, &event).into_owned();
        let mut bytes = Vec::new();
        codec::encode_event(moment, &event, &mut bytes).unwrap();
        self.events.push(bytes);
        self.tenant.apply(moment, &event);
    }

    /// Runs an operator's command.
    pub fn execute<C: Command>(&mut self, command: C) -> C::Subject {
        let moment = self.tenant.next_moment(now());
        let (change, subject) = command.decide(&self.tenant, By::Operator, moment).unwrap();
        self.change(change.unwrap());
        subject
    }

    /// Adds an agent with these permissions; returns it as a caller by its token.
    pub fn add_agent(&mut self, permissions: Vec<PermissionSpec>) -> Caller {
        self.add(new_agent(permissions))
    }

    /// Adds an agent; returns it as a caller by its token.
    pub fn add(&mut self, agent: NewAgent) -> Caller {
        let slot = self.tenant.agents().len() as u32;
        let token = token(self.tenant.id(), slot).hash();
        self.execute(CreateAgent::parse(agent, token).unwrap());
        Caller::Agent(slot)
    }

    /// The id of the agent added `slot` agents after the first.
    pub fn agent_id(&self, slot: u32) -> AgentId {
        self.tenant.agent_in(slot).unwrap().profile.id
    }

    /// Adds a blocking policy with these limits (as JSON) for the agents that the other fields name.
    pub fn add_policy(&mut self, mut about: serde_json::Value, limits: serde_json::Value) {
        about["limits"] = limits;
        let new: NewPolicy = serde_json::from_str(&about.to_string()).unwrap();
        self.execute(CreatePolicy::parse(new).unwrap());
    }

    /// Decides a call and applies its event; the event's bytes are appended to the buffer.
    pub fn decide(&mut self, caller: &Caller, request: &Request, buffer: &mut Vec<u8>) -> Decision {
        let moment = self.tenant.next_moment(now());
        let key = request.key.as_deref().map(|key| self.tenant.check_new(caller, key, moment.at).unwrap());
        let verdict = self.tenant.decide(caller, request, moment, &mut ());
        let mut record = verdict.record(request, 12);
        if let Some(key) = key {
            verdict.remember(key, &mut record);
        }
        let event = Event::Decided(record);
        let event = self.tenant.complete(moment, &event);
        codec::encode_event(moment, &event, buffer).unwrap();
        self.tenant.apply(moment, &event);
        verdict.answer(None)
    }
}

/// Creates the folder of the tenant with that number, with these events in its journal.
pub fn create_folder(data: &DataDir, number: u32, events: &[Vec<u8>]) -> Journal {
    let id = tenant_id(number).to_string();
    let label = FolderLabel { id: id.clone(), slug: Some(format!("acme-{number}")), name: "Acme".to_owned() };
    let new = journal::NewFolder {
        name: &id,
        label: &serde_json::to_vec_pretty(&label).unwrap(),
        tenant: tenant_id(number).bytes(),
        now_ms: now().millis(),
        events,
        options: JournalOptions::default(),
    };
    data.create_tenant(new).unwrap()
}

/// A tenant's folder in a data directory, both deleted when this is dropped.
pub struct OnDisk {
    pub journal: Option<Journal>,
    pub folder: Folder,
    _data: DataDir,
    _root: TempDir,
}

impl OnDisk {
    pub fn new(events: &[Vec<u8>]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        let journal = Some(create_folder(&data, 0, events));
        let folder = data.folder(&tenant_id(0).to_string()).unwrap();
        Self { journal, folder, _data: data, _root: root }
    }
}
