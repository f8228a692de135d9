//! Delegation by example, and the small world of its tests.

use crate::agent::commands::{AgentPatch, CreateAgent, NewAgent, RevokeAgent, UpdateAgent};
use crate::author::By;
use crate::decision::explain::{Step, Steps, Trace};
use crate::delegation::commands::*;
use crate::event::ChangeRecord;
use crate::permission::PermissionSpec;
use crate::tenant::settings::TenantSettings;
use crate::tenant::{Caller, Command};
use crate::*;

/// A tenant and the bytes of all its events.
pub(crate) struct World {
    pub tenant: Tenant,
    pub now: Timestamp,
    journal: Vec<(Moment, (u8, Vec<u8>))>,
}

/// An event's kind and its body as bytes, so that replay sees what serde keeps of it, as in production.
fn encode(event: &Event<'_>) -> (u8, Vec<u8>) {
    match event {
        Event::Decided(record) => (0, rmp_serde::to_vec(record).unwrap()),
        Event::Changed(record) => (1, rmp_serde::to_vec_named(record).unwrap()),
        Event::Used(record) => (2, rmp_serde::to_vec_named(record).unwrap()),
        Event::Delivered(record) => (3, rmp_serde::to_vec_named(record).unwrap()),
        Event::Leased(record) => (4, rmp_serde::to_vec_named(record).unwrap()),
    }
}

fn decode(kind: u8, bytes: &[u8]) -> Event<'_> {
    match kind {
        0 => Event::Decided(rmp_serde::from_slice(bytes).unwrap()),
        1 => Event::Changed(rmp_serde::from_slice(bytes).unwrap()),
        2 => Event::Used(rmp_serde::from_slice(bytes).unwrap()),
        3 => Event::Delivered(rmp_serde::from_slice(bytes).unwrap()),
        _ => Event::Leased(rmp_serde::from_slice(bytes).unwrap()),
    }
}

pub(crate) fn permissions(json: &str) -> Vec<PermissionSpec> {
    serde_json::from_str(json).unwrap()
}

impl World {
    pub(crate) fn new(max_delegation_depth: Option<u32>) -> Self {
        let now = Timestamp::parse("now", "2026-03-01T10:00:00Z").unwrap();
        let mut world = Self { tenant: Tenant::default(), now, journal: Vec::new() };
        let settings = TenantSettings { max_delegation_depth, ..TenantSettings::default() };
        let id = TenantId::generate(now, [7; 10]).unwrap();
        let change = Change::TenantCreated { id, name: "Test".into(), slug: None, settings };
        world.happen(world.tenant.next_moment(now), &Event::Changed(ChangeRecord::new(By::Operator, change)));
        world
    }

    pub(crate) fn happen(&mut self, moment: Moment, event: &Event<'_>) {
        let event = self.tenant.complete(moment, event).into_owned();
        self.journal.push((moment, encode(&event)));
        self.tenant.apply(moment, &event);
    }

    pub(crate) fn run<C: Command>(&mut self, command: C) -> Result<C::Reply, Error> {
        let moment = self.tenant.next_moment(self.now);
        let (change, subject) = command.decide(&self.tenant, By::Operator, moment)?;
        if let Some(change) = change {
            self.happen(moment, &Event::Changed(ChangeRecord::new(By::Operator, change)));
        }
        Ok(C::reply(&self.tenant, subject, moment.at))
    }

    pub(crate) fn agent(&mut self, own: Vec<PermissionSpec>) -> AgentId {
        let new = NewAgent {
            tenant_id: None,
            owner_id: "user-1".into(),
            name: "agent".into(),
            kind: AgentType::Service,
            permissions: own,
            expires_at: None,
            metadata: None,
            labels: None,
        };
        let mut random = [0; 32];
        random[..8].copy_from_slice(&self.tenant.seq().to_le_bytes());
        let token = Secret::agent_token(self.tenant.id(), random);
        let view = self.run(CreateAgent::parse(new, token.hash()).unwrap()).unwrap().unwrap();
        view.agent.profile.id
    }

    pub(crate) fn patch(&mut self, agent: AgentId, patch: AgentPatch) -> Result<(), Error> {
        self.run(UpdateAgent::parse(agent, patch).unwrap()).map(|_| ())
    }

    pub(crate) fn revoke_agent(&mut self, agent: AgentId) {
        self.run(RevokeAgent(agent)).unwrap();
    }

    pub(crate) fn delegate(
        &mut self,
        from: AgentId,
        to: AgentId,
        lent: Vec<PermissionSpec>,
        expires_at: Option<Timestamp>,
        max_depth: Option<u32>,
    ) -> Result<DelegationView, Error> {
        let new = NewDelegation {
            tenant_id: None,
            from_agent: from.to_string(),
            to_agent: to.to_string(),
            permissions: lent,
            expires_at: expires_at.map(|time| time.to_string()),
            max_depth,
        };
        self.run(CreateDelegation::parse(new)?).map(|view| view.unwrap())
    }

    pub(crate) fn link(&mut self, from: AgentId, to: AgentId, lent: &str) -> DelegationId {
        self.delegate(from, to, permissions(lent), None, None).unwrap().delegation.profile.id
    }

    pub(crate) fn refusal(&mut self, from: AgentId, to: AgentId, lent: &str) -> Code {
        self.delegate(from, to, permissions(lent), None, None).unwrap_err().code()
    }

    /// What the server would answer the agent now; nothing is counted.
    pub(crate) fn peek(&self, agent: AgentId, request: &Request) -> Decision {
        let request = request.clone().for_agent(agent);
        self.tenant.decide(&Caller::Operator, &request, self.tenant.next_moment(self.now), &mut ()).answer(None)
    }

    pub(crate) fn ask(&mut self, agent: AgentId, request: &Request) -> Decision {
        let request = request.clone().for_agent(agent);
        let moment = self.tenant.next_moment(self.now);
        let verdict = self.tenant.decide(&Caller::Operator, &request, moment, &mut ());
        self.happen(moment, &Event::Decided(verdict.record(&request, 0)));
        verdict.answer(None)
    }

    pub(crate) fn call(&mut self, agent: AgentId, action: &str, resource: &str) -> Decision {
        self.ask(agent, &Request::new(action, resource).unwrap())
    }

    pub(crate) fn may(&mut self, agent: AgentId, action: &str, resource: &str) -> bool {
        self.call(agent, action, resource).allowed
    }

    pub(crate) fn watch(&self, agent: AgentId, action: &str, resource: &str, trace: &mut impl Trace) -> Decision {
        let request = Request::new(action, resource).unwrap().for_agent(agent);
        self.tenant.decide(&Caller::Operator, &request, self.tenant.next_moment(self.now), trace).answer(None)
    }

    pub(crate) fn explain(&self, agent: AgentId, action: &str, resource: &str) -> Vec<Step> {
        let mut steps = Steps::default();
        self.watch(agent, action, resource, &mut steps);
        assert_eq!(steps.more, 0);
        steps.shown
    }

    pub(crate) fn status(&self, link: DelegationId) -> DelegationStatus {
        DelegationView::find(&self.tenant, link, self.tenant.next_moment(self.now).wall).unwrap().status
    }

    /// Restarts from a snapshot as another version would have written it.
    pub(crate) fn restart_with(&mut self, change: impl FnOnce(&mut tenant::State)) {
        let mut state = self.tenant.state();
        change(&mut state);
        let bytes = rmp_serde::to_vec_named(&state).unwrap();
        self.tenant = Tenant::restore(rmp_serde::from_slice(&bytes).unwrap());
    }

    pub(crate) fn later(&mut self, seconds: i64) {
        self.now = self.now.plus_millis(seconds * 1_000);
    }

    /// The tenant that its journal replays to.
    pub(crate) fn replayed(&self) -> Tenant {
        let mut tenant = Tenant::default();
        for (moment, (kind, bytes)) in &self.journal {
            tenant.apply(*moment, &decode(*kind, bytes));
        }
        tenant
    }

    /// Restarts from a snapshot of the tenant.
    pub(crate) fn restart(&mut self) {
        self.restart_with(|_| {});
    }
}

pub(crate) const READ_ALL: &str = r#"[{"resource":"mcp:*","actions":["read"]}]"#;
pub(crate) const READ_GITHUB: &str = r#"[{"resource":"mcp:github:*","actions":["read"]}]"#;

#[test]
fn a_delegate_may_do_what_the_link_grants_and_no_more() {
    let mut world = World::new(None);
    let (root, worker) = (world.agent(permissions(READ_ALL)), world.agent(vec![]));
    assert!(!world.may(worker, "read", "mcp:github:issues"));
    let link = world.link(root, worker, READ_GITHUB);
    assert!(world.may(worker, "read", "mcp:github:issues"));
    assert!(!world.may(worker, "read", "mcp:slack:channels"));
    assert!(!world.may(worker, "write", "mcp:github:issues"));
    world.run(RevokeDelegation(link)).unwrap();
    let denied = world.call(worker, "read", "mcp:github:issues");
    assert_eq!(denied.code, Some(Code::PermissionDenied));
    assert!(denied.reason.unwrap().starts_with("No permission for action 'read'"));
    let seq = world.tenant.seq();
    world.run(RevokeDelegation(link)).unwrap();
    assert_eq!(world.tenant.seq(), seq, "revoking twice changes nothing");
}

#[test]
fn what_the_grantor_loses_the_delegate_loses_at_once() {
    let mut world = World::new(None);
    let (root, worker) = (world.agent(permissions(READ_ALL)), world.agent(vec![]));
    world.link(root, worker, READ_ALL);
    let narrower = AgentPatch { permissions: Some(permissions(READ_GITHUB)), ..AgentPatch::default() };
    world.patch(root, narrower).unwrap();
    assert!(world.may(worker, "read", "mcp:github:issues"));
    let denied = world.call(worker, "read", "mcp:slack:channels");
    assert_eq!(denied.code, Some(Code::PermissionDenied));
    assert!(denied.reason.unwrap().contains("may not do it itself"));
    world.revoke_agent(root);
    assert!(!world.may(worker, "read", "mcp:github:issues"));
}

#[test]
fn constraints_of_the_whole_chain_hold_and_windows_are_shared() {
    let mut world = World::new(None);
    let root =
        world.agent(permissions(r#"[{"resource":"mcp:*","actions":["read"],"constraints":{"maxCallsPerHour":3}}]"#));
    let (a, b) = (world.agent(vec![]), world.agent(vec![]));
    world.link(root, a, r#"[{"resource":"mcp:*","actions":["read"],"constraints":{"maxCallsPerHour":2}}]"#);
    world.link(root, b, READ_ALL);
    assert!(world.may(a, "read", "mcp:x"));
    assert!(world.may(a, "read", "mcp:x"));
    let own = world.call(a, "read", "mcp:x");
    assert!(own.reason.unwrap().starts_with("Rate limit exceeded: 2/2"), "the link's own window");
    assert!(world.may(b, "read", "mcp:x"));
    for agent in [b, root, a] {
        let denied = world.call(agent, "read", "mcp:x");
        assert_eq!(denied.code, Some(Code::RateLimited));
        assert!(denied.retry_after.is_some_and(|seconds| (3_300..=3_600).contains(&seconds)));
    }
    world.later(3_601);
    assert!(world.may(root, "read", "mcp:x"));
}

#[test]
fn revoking_a_link_ends_all_that_stand_on_it() {
    let mut world = World::new(None);
    let (root, other) = (world.agent(permissions(READ_ALL)), world.agent(permissions(READ_ALL)));
    let (a, b, c) = (world.agent(permissions(READ_ALL)), world.agent(vec![]), world.agent(vec![]));
    let first = world.link(root, a, READ_GITHUB);
    // `a` holds the permission itself, and lends it while the first link exists.
    let second = world.link(a, b, READ_GITHUB);
    let third = world.link(b, c, READ_GITHUB);
    let apart = world.link(other, c, READ_GITHUB);
    assert!(world.may(c, "read", "mcp:github:x"));
    world.run(RevokeDelegation(first)).unwrap();
    for (link, status) in [
        (first, DelegationStatus::Revoked),
        (second, DelegationStatus::Revoked),
        (third, DelegationStatus::Revoked),
        (apart, DelegationStatus::Active),
    ] {
        assert_eq!(world.status(link), status);
    }
    assert!(!world.may(b, "read", "mcp:github:x"));
    assert!(world.may(c, "read", "mcp:github:x"));
    world.revoke_agent(other);
    assert_eq!(world.status(apart), DelegationStatus::Revoked);
}

#[test]
fn a_link_ends_when_it_or_its_grantor_expires() {
    let mut world = World::new(None);
    let (root, a, b) = (world.agent(permissions(READ_ALL)), world.agent(vec![]), world.agent(vec![]));
    let hour = Some(world.now.plus_millis(3_600_000));
    let first = world.delegate(root, a, permissions(READ_ALL), hour, None).unwrap().delegation.profile.id;
    let second = world.link(a, b, READ_ALL);
    let expire_at = |time: Option<Timestamp>| AgentPatch {
        expires_at: Some(time.map(|time| time.to_string())),
        ..AgentPatch::default()
    };
    world.patch(root, expire_at(Some(world.now))).unwrap();
    assert_eq!((world.status(first), world.status(second)), (DelegationStatus::Expired, DelegationStatus::Expired));
    assert!(!world.may(b, "read", "mcp:x"));
    assert_eq!(world.refusal(root, b, READ_ALL), Code::DelegationGrantorInactive);
    // A grantor that comes back brings its links back.
    world.patch(root, expire_at(None)).unwrap();
    assert_eq!(world.status(second), DelegationStatus::Active);
    assert!(world.may(b, "read", "mcp:x"));
    world.later(3_600);
    assert_eq!((world.status(first), world.status(second)), (DelegationStatus::Expired, DelegationStatus::Expired));
    assert!(!world.may(b, "read", "mcp:x"));
    // A link that is over for good closes no circle.
    world.patch(b, AgentPatch { permissions: Some(permissions(READ_ALL)), ..AgentPatch::default() }).unwrap();
    world.link(b, a, READ_ALL);
}

#[test]
fn a_link_to_a_revoked_agent_stays_over_when_the_clock_is_set_back() {
    let mut world = World::new(None);
    let (from, to) = (world.agent(permissions(READ_ALL)), world.agent(vec![]));
    let hour = Some(world.now.plus_millis(3_600_000));
    let link = world.delegate(from, to, permissions(READ_ALL), hour, None).unwrap().delegation.profile.id;
    world.later(3_600);
    world.revoke_agent(to);
    assert_eq!(world.status(link), DelegationStatus::Expired);
    world.later(-1_800);
    world.agent(vec![]);
    assert_eq!(world.status(link), DelegationStatus::Revoked);
}

#[test]
fn pages_continue_after_the_last_delegation() {
    let mut world = World::new(None);
    let agents: Vec<_> = (0..4).map(|_| world.agent(permissions(READ_ALL))).collect();
    for (from, to) in [(0, 1), (0, 2), (1, 2), (0, 1), (2, 3), (1, 3), (0, 3), (0, 1)] {
        world.link(agents[from], agents[to], READ_GITHUB);
    }
    // As if the links at some places had been forgotten.
    world.restart_with(|state| {
        state.delegations.remove(3);
        state.delegations.remove(0);
    });
    let ends = || [None, Some(agents[0]), Some(agents[1]), Some(agents[3])];
    for (from, to) in ends().into_iter().flat_map(|from| ends().map(|to| (from, to))) {
        let list = |after, most| -> Vec<_> {
            let filter = DelegationFilter { from, to, status: None };
            let page = DelegationView::list(&world.tenant, filter, world.now, after, most);
            page.into_iter().map(|view| view.delegation.profile.id).collect()
        };
        let ids: Vec<_> = world
            .tenant
            .delegations()
            .iter()
            .map(|link| &link.profile)
            .filter(|link| from.is_none_or(|from| link.spec.from == from) && to.is_none_or(|to| link.spec.to == to))
            .map(|link| link.id)
            .collect();
        assert_eq!(list(None, usize::MAX), ids);
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(list(Some(*id), 2), ids[at + 1..ids.len().min(at + 3)]);
        }
    }
}

#[test]
fn refusals_have_their_codes() {
    let mut world = World::new(Some(2));
    let (root, a, b, c) =
        (world.agent(permissions(READ_ALL)), world.agent(vec![]), world.agent(vec![]), world.agent(vec![]));
    assert_eq!(world.refusal(root, root, READ_ALL), Code::DelegationSelf);
    let write = r#"[{"resource":"mcp:x","actions":["write"]}]"#;
    let error = world.delegate(root, a, permissions(write), None, None).unwrap_err();
    assert_eq!(error.code(), Code::InsufficientPermissions);
    assert_eq!(error.details()["field"], "permissions[0]");
    world.link(root, a, READ_ALL);
    world.link(a, b, READ_ALL);
    assert_eq!(world.refusal(b, root, READ_ALL), Code::DelegationCycle);
    assert_eq!(world.refusal(b, c, READ_ALL), Code::DelegationDepthExceeded, "the tenant's own depth is 2");
    let past = Some(world.now);
    let error = world.delegate(root, c, permissions(READ_ALL), past, None).unwrap_err();
    assert_eq!((error.code(), error.details()["field"].as_str()), (Code::InvalidField, Some("expiresAt")));
    for (lent, max_depth, field) in
        [("[]", None, "permissions"), (READ_ALL, Some(0), "maxDepth"), (READ_ALL, Some(33), "maxDepth")]
    {
        let error = world.delegate(root, c, permissions(lent), None, max_depth).unwrap_err();
        assert_eq!((error.code(), error.details()["field"].as_str()), (Code::InvalidField, Some(field)));
    }
    let stranger = AgentId::derive(world.now, 999, world.tenant.id().tag());
    for (from, to, field) in [(stranger, a, "fromAgent"), (a, stranger, "toAgent")] {
        let error = world.delegate(from, to, permissions(READ_ALL), None, None).unwrap_err();
        assert_eq!((error.code(), error.details()["field"].as_str()), (Code::AgentNotFound, Some(field)));
    }
    world.revoke_agent(c);
    assert_eq!(world.refusal(root, c, READ_ALL), Code::AgentIsRevoked);
}

#[test]
fn a_link_limits_how_far_it_is_passed_on() {
    let mut world = World::new(None);
    let agents: Vec<_> = (0..5).map(|_| world.agent(permissions(READ_ALL))).collect();
    let link = |world: &mut World, from: usize, to: usize, depth| {
        let made = world.delegate(agents[from], agents[to], permissions(READ_ALL), None, depth);
        made.map(|view| view.delegation.profile.spec.depth).map_err(|error| error.code())
    };
    assert_eq!(link(&mut world, 0, 1, Some(2)), Ok(1));
    assert_eq!(link(&mut world, 1, 2, Some(9)), Ok(2));
    assert_eq!(link(&mut world, 2, 3, Some(9)), Err(Code::DelegationDepthExceeded));
    assert_eq!(link(&mut world, 3, 4, Some(1)), Ok(1));
}

/// A link carries nothing that came to its grantor later: the later link's maker limited how far it may be passed on,
/// and was not asked about this one.
#[test]
fn a_link_carries_nothing_that_came_to_its_grantor_later() {
    let mut world = World::new(None);
    let (root, a, b) = (world.agent(permissions(READ_ALL)), world.agent(permissions(READ_ALL)), world.agent(vec![]));
    world.link(a, b, READ_ALL);
    let only_to_a = world.delegate(root, a, permissions(READ_ALL), None, Some(1)).unwrap();
    assert_eq!(only_to_a.delegation.profile.spec.depth, 1);
    world.patch(a, AgentPatch { permissions: Some(vec![]), ..AgentPatch::default() }).unwrap();
    assert!(world.may(a, "read", "mcp:x"));
    assert!(!world.may(b, "read", "mcp:x"));
}

#[test]
fn explain_shows_the_links_and_why_they_do_not_count() {
    let mut world = World::new(None);
    let (root, worker) = (world.agent(permissions(READ_ALL)), world.agent(vec![]));
    let gone = world.link(root, worker, READ_ALL);
    world.run(RevokeDelegation(gone)).unwrap();
    let link = world.link(root, worker, READ_ALL);
    let steps = world.explain(worker, "read", "mcp:x");
    let seen = |check: &str, delegation| {
        steps.iter().find(|step| step.check == check && step.delegation == delegation).map(|step| step.passed)
    };
    assert_eq!(seen("delegation", Some(gone)), Some(false));
    assert_eq!(seen("permission", Some(link)), Some(true));
    assert!(steps.iter().any(|step| step.check == "permission" && step.agent == Some(root)));
    world.patch(root, AgentPatch { permissions: Some(vec![]), ..AgentPatch::default() }).unwrap();
    let steps = world.explain(worker, "read", "mcp:x");
    assert!(steps.iter().any(|step| step.delegation == Some(link) && !step.passed && step.detail.contains("may not")));
}

#[test]
fn effective_permissions_name_their_source() {
    let mut world = World::new(None);
    let (root, worker) = (world.agent(permissions(READ_ALL)), world.agent(permissions(READ_GITHUB)));
    let link = world.link(root, worker, READ_ALL);
    let seen = |world: &World| effective_permissions(&world.tenant, worker, world.now).unwrap();
    let [own, lent] = &seen(&world)[..] else { panic!() };
    assert_eq!((own.permission.resource.as_str(), &own.link), ("mcp:github:*", &None));
    let source = lent.link.as_ref().unwrap();
    assert_eq!(
        (lent.permission.resource.as_str(), source.id, source.from, source.held),
        ("mcp:*", link, root, Some(true))
    );
    world.patch(root, AgentPatch { permissions: Some(permissions(READ_GITHUB)), ..AgentPatch::default() }).unwrap();
    assert_eq!(seen(&world)[1].link.as_ref().unwrap().held, Some(false));
    world.revoke_agent(root);
    assert_eq!(seen(&world).len(), 1);
    world.revoke_agent(worker);
    assert!(seen(&world).is_empty());
}
