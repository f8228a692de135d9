//! Plays a history against the tenant and the model, and compares after every step.

use std::io::Write;

use kavach_domain::agent::commands::{
    AgentPatch, AgentView, CreateAgent, NewAgent, RevokeAgent, RotateToken, SetSuspended, UpdateAgent,
};
use kavach_domain::author::By;
use kavach_domain::decision::explain::Steps as Explained;
use kavach_domain::decision::request::Asked;
use kavach_domain::event::ChangeRecord;
use kavach_domain::idempotency::key::IdempotencyKey;
use kavach_domain::tenant::commands::{NewTenant, SetStatus, TenantPatch, TenantSpec, UpdateTenant};
use kavach_domain::tenant::key_commands::CreateKey;
use kavach_domain::tenant::key_commands::RevokeKey;
use kavach_domain::tenant::{Caller, KeyRole, TenantStatus};
use kavach_domain::webhook::commands::{
    CreateWebhook, DeleteWebhook, Redeliver, RotateWebhook, TestWebhook, UpdateWebhook,
};
use kavach_domain::webhook::outbox::{DeliveryRecord, MessageState, Outcome, WaitingMessage};
use kavach_domain::webhook::{Webhook, WebhookSpec};
use kavach_domain::{
    AgentId, AgentStatus, AgentType, AuditId, Code, Command, Credential, Error, Event, KeyId, MessageId, Moment,
    Request, Secret, Tenant, TenantId, TenantRef, TenantTag, Timestamp, TraceId, WebhookId,
};
use kavach_journal::{self as journal, DataDir, Folder, Journal, JournalOptions, Tail};
use kavach_store::codec;
use kavach_store::loader::load;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::hooks::{Hook, Message};
use super::naive::{self, AgentKind, Call, Model, Permission, Settings, Status};
use super::steps::{Ask, Draft, DraftPatch, HistoryStep, JournalJob, Replacement, Who, histories};

/// 2023-11-14T22:13:20Z: near the end of a day and the edges of several time windows.
const START: i64 = 1_700_000_000_000;

fn config() -> ProptestConfig {
    let cases = std::env::var("KAVACH_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    // A failing history is printed in full, which helps more than a seed.
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn the_tenant_agrees_with_the_model((is_default, history) in histories()) {
        let mut run = Run::start(is_default);
        for step in &history {
            run.step(step);
            run.compare();
        }
        run.finish();
    }
}

struct Run {
    tenant: Tenant,
    model: Model,
    clock: i64,
    /// Every encoded event, oldest first.
    events: Vec<Vec<u8>>,
    /// A snapshot's bytes, and the number of its events.
    snapshots: Vec<(usize, Vec<u8>)>,
    journal: Option<Journal>,
    folder: Folder,
    secrets: u8,
    _data: DataDir,
    _root: TempDir,
}

impl Run {
    fn start(is_default: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        let id = if is_default {
            TenantId::DEFAULT
        } else {
            TenantId::generate(Timestamp::from_millis(START), [7; 10]).unwrap()
        };
        let (spec, names, name) = if is_default {
            (TenantSpec::default_tenant(), vec!["default".to_owned()], "Default")
        } else {
            let new = NewTenant { name: "Acme".to_owned(), slug: "acme".to_owned(), settings: None };
            (TenantSpec::parse(new).unwrap(), vec![id.to_string(), "acme".to_owned()], "Acme")
        };
        let mut tenant = Tenant::default();
        let moment = tenant.next_moment(Timestamp::from_millis(START));
        let event = Event::Changed(ChangeRecord::new(By::Operator, spec.created(id)));
        let mut first = Vec::new();
        codec::encode_event(moment, &event, &mut first).unwrap();
        tenant.apply(moment, &event);
        let new = journal::NewFolder {
            name: &id.folder_name(),
            label: b"{}",
            tenant: id.bytes(),
            now_ms: START,
            events: std::slice::from_ref(&first),
            // Small ones, so that histories meet rotation and sealing.
            options: JournalOptions { segment_bytes: 4_000 },
        };
        let journal = Some(data.create_tenant(new).unwrap());
        Self {
            tenant,
            model: Model::new(names, is_default, id.tag().0, name, Settings::default(), START),
            clock: START,
            events: vec![first],
            snapshots: Vec::new(),
            journal,
            folder: data.folder(&id.folder_name()).unwrap(),
            secrets: 0,
            _data: data,
            _root: root,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock)
    }

    fn secret(&mut self, make: fn(TenantId, [u8; 32]) -> Secret) -> Secret {
        self.secrets = self.secrets.checked_add(1).unwrap();
        make(self.tenant.id(), [self.secrets; 32])
    }

    /// The agent with that number: an existing one, or one more that does not exist.
    fn agent_id(&self, index: usize) -> AgentId {
        let id = self.model.agents.get(index).map(|agent| AgentId::parse(&agent.id).unwrap());
        id.unwrap_or_else(|| AgentId::derive(self.now(), 9_999_999, self.tenant.id().tag()))
    }

    /// The webhook with that number: an existing one, or one more that does not exist.
    fn hook_id(&self, index: usize) -> WebhookId {
        let id = self.model.hooks.get(index).map(|hook| WebhookId::parse(&hook.id).unwrap());
        id.unwrap_or_else(|| WebhookId::derive(self.now(), 9_999_999, self.tenant.id().tag()))
    }

    /// Records an event as the actor does.
    fn record(&mut self, moment: Moment, event: &Event<'_>) {
        let event = &self.tenant.complete(moment, event).into_owned();
        let mut bytes = Vec::new();
        codec::encode_event(moment, event, &mut bytes).unwrap();
        let journal = self.journal.as_mut().unwrap();
        journal.append(moment.seq, |buffer| buffer.extend_from_slice(&bytes)).unwrap();
        self.events.push(bytes);
        self.tenant.apply(moment, event);
    }

    /// Runs a command as the actor does; returns whether it changed anything.
    fn execute<C: Command>(&mut self, command: Result<C, Error>) -> Result<(bool, C::Reply), Code> {
        let moment = self.tenant.next_moment(self.now());
        let (change, subject) = command
            .and_then(|command| command.decide(&self.tenant, By::Operator, moment))
            .map_err(|error| error.code())?;
        let changed = change.is_some();
        if let Some(change) = change {
            let by = match self.model.keys.last() {
                Some(key) if !key.revoked => By::Key(KeyId::parse(&key.id).unwrap()),
                _ => By::Operator,
            };
            self.record(moment, &Event::Changed(ChangeRecord::new(by, change)));
        }
        Ok((changed, C::reply(&self.tenant, subject, moment.wall)))
    }

    fn step(&mut self, step: &HistoryStep) {
        let index = |index: usize, count: usize| index % (count + 1);
        let agents = self.model.agents.len();
        match step {
            HistoryStep::Clock(by) => self.clock = (self.clock + by).max(START / 2),
            HistoryStep::Create(draft) => self.create(draft),
            HistoryStep::Update(agent, patch) => self.update(index(*agent, agents), patch),
            HistoryStep::Revoke(agent) => {
                let agent = index(*agent, agents);
                let found = self.execute(Ok(RevokeAgent(self.agent_id(agent))));
                agree(found.map(|(changed, ())| changed), self.model.revoke_agent(agent, self.clock));
            }
            HistoryStep::SuspendAgent(agent, suspended) => {
                let agent = index(*agent, agents);
                let found = self.execute(Ok(SetSuspended { id: self.agent_id(agent), suspended: *suspended }));
                agree(found.map(|(changed, _)| changed), self.model.suspend_agent(agent, *suspended, self.clock));
            }
            HistoryStep::Rotate { agent, grace, times } => {
                for _ in 0..*times {
                    self.rotate(index(*agent, agents), *grace);
                }
            }
            HistoryStep::Tenant(name, patch) => {
                let json = settings_json(patch);
                let command =
                    serde_json::from_str::<TenantPatch>(&json!({ "name": name, "settings": json }).to_string());
                let found = self.execute(Ok(UpdateTenant(command.unwrap())));
                let expected = self.model.update_tenant(*name, patch.clone(), self.clock);
                if let Some((changed, profile)) = agree_on(found, expected, |found, expected| found.0 == *expected) {
                    assert_eq!(profile, *self.tenant.profile(), "{changed}");
                }
            }
            HistoryStep::Suspend(suspended) => {
                let status = if *suspended { TenantStatus::Suspended } else { TenantStatus::Active };
                let found = self.execute(Ok(SetStatus(status)));
                let found = found.map(|(changed, profile)| {
                    assert_eq!(profile, *self.tenant.profile());
                    changed
                });
                agree(found, self.model.set_suspended(*suspended, self.clock));
            }
            HistoryStep::CreateKey => {
                let secret = self.secret(Secret::tenant_key);
                let (_, key) = self.execute(CreateKey::new("ci", &secret)).unwrap();
                self.model.create_key("ci", secret.reveal(), self.clock);
                assert_eq!(key.as_ref(), self.tenant.keys().last());
            }
            HistoryStep::RevokeKey(key) => {
                let key = index(*key, self.model.keys.len());
                let id = self.model.keys.get(key).map(|key| KeyId::parse(&key.id).unwrap());
                let id = id.unwrap_or_else(|| KeyId::derive(self.now(), 9_999_999, TenantTag(1)));
                let found = self.execute(Ok(RevokeKey(id))).map(|(_, ())| ());
                agree(found, self.model.revoke_key(key, self.clock));
            }
            HistoryStep::CreateHook(events) => {
                let new = json!({ "url": "https://hooks.example.com/", "events": events });
                let found = self.execute(CreateWebhook::parse(serde_json::from_value(new).unwrap()));
                agree(found.map(|_| ()), self.model.create_hook(events.clone(), self.clock));
            }
            HistoryStep::UpdateHook { hook, events, disabled, description } => {
                let hook = index(*hook, self.model.hooks.len());
                let mut patch = json!({});
                let status = |disabled: &bool| json!(if *disabled { "disabled" } else { "active" });
                for (member, value) in [
                    ("events", events.as_ref().map(|events| json!(events))),
                    ("status", disabled.as_ref().map(status)),
                    ("description", description.map(|text| json!(text))),
                ] {
                    patch.as_object_mut().unwrap().extend(value.map(|value| (member.to_owned(), value)));
                }
                let patch = serde_json::from_value(patch).unwrap();
                let found = self.execute(Ok(UpdateWebhook { id: self.hook_id(hook), patch }));
                let expected = self.model.update_hook(hook, events.clone(), *disabled, *description, self.clock);
                agree(found.map(|(changed, _)| changed), expected);
            }
            HistoryStep::DeleteHook(hook) => {
                let hook = index(*hook, self.model.hooks.len());
                let found = self.execute(Ok(DeleteWebhook(self.hook_id(hook))));
                agree(found.map(|_| ()), self.model.delete_hook(hook, self.clock));
            }
            HistoryStep::RotateHook(hook) => {
                let hook = index(*hook, self.model.hooks.len());
                let found = self.execute(Ok(RotateWebhook(self.hook_id(hook))));
                agree(found.map(|_| ()), self.model.rotate_hook(hook, self.clock));
            }
            HistoryStep::TestHook(hook) => {
                let hook = index(*hook, self.model.hooks.len());
                let found = self.execute(Ok(TestWebhook(self.hook_id(hook))));
                agree(found.map(|_| ()), self.model.test_hook(hook, self.clock));
            }
            HistoryStep::Redeliver(hook, message) => {
                let hook = index(*hook, self.model.hooks.len());
                let messages = self.model.hooks.get(hook).map(|hook| hook.messages().copied().collect::<Vec<_>>());
                let known = messages.and_then(|all| all.get(index(*message, all.len())).copied());
                let (seq, at) =
                    known.map_or((9_999_999, self.now()), |known| (known.seq, Timestamp::from_millis(known.at)));
                let message = MessageId::derive(at, seq, self.tenant.id().tag());
                let found = self.execute(Ok(Redeliver { webhook: self.hook_id(hook), message }));
                let expected = self.model.redeliver(hook, known.map(|known| known.seq), self.clock);
                agree(found.map(|(changed, _)| changed), expected);
            }
            HistoryStep::Deliver(hook, taken) => {
                let hook = index(*hook, self.model.hooks.len());
                let due = self.model.hooks.get(hook).filter(|hook| !hook.disabled && !hook.waiting.is_empty());
                let found = self.tenant.webhook(self.hook_id(hook)).and_then(|webhook| webhook.due()).copied();
                assert_eq!(found.is_some(), due.is_some());
                let Some(WaitingMessage { seq, at, kind, .. }) = found else { return };
                let record = DeliveryRecord {
                    webhook: self.hook_id(hook),
                    seq,
                    at,
                    kind,
                    outcome: if *taken { Outcome::Delivered } else { Outcome::Dead },
                    attempts: 2,
                    status: taken.then_some(204),
                    problem: (!taken).then(|| "it answered 500".into()),
                };
                self.record(self.tenant.next_moment(self.now()), &Event::Delivered(record));
                self.model.delivered(hook, *taken, self.clock);
            }
            HistoryStep::Call { who, ask, times } => {
                for _ in 0..*times {
                    self.call(*who, ask);
                }
            }
            HistoryStep::JournalJob(disk) => self.disk(*disk),
            HistoryStep::Restore => self.tenant = restored(&codec::encode_state(&self.tenant.state()).unwrap()),
            HistoryStep::Reopen => {
                self.probe();
                self.reopen();
            }
        }
    }

    fn create(&mut self, draft: &Draft) {
        let token = self.secret(Secret::agent_token);
        let Draft { kind, permissions, expires_in, metadata } = draft.clone();
        let spec = naive::Spec {
            owner: "user-1".to_owned(),
            name: "bot".to_owned(),
            kind,
            permissions,
            expires_at: expires_in.map(|ms| self.clock + ms),
            metadata,
        };
        let json = json!({
            "ownerId": spec.owner,
            "name": spec.name,
            "type": spec.kind,
            "permissions": spec.permissions,
            "expiresAt": spec.expires_at.map(text_of),
            "metadata": spec.metadata,
        });
        let new: NewAgent = serde_json::from_str(&json.to_string()).unwrap();
        let found = self.execute(CreateAgent::parse(new, token.hash()));
        let expected = self.model.create_agent(spec, token.reveal(), self.clock);
        if let Some((_, view)) = agree_on(found, expected, |_, _| true) {
            self.same_view(&view.unwrap(), self.model.agents.len() - 1);
        }
    }

    fn update(&mut self, agent: usize, draft: &DraftPatch) {
        let DraftPatch { name, kind, permissions, expires_in, metadata } = draft.clone();
        let permissions = permissions.map(|Replacement { kept, added }| {
            let old: &[Permission] = self.model.agents.get(agent).map_or(&[], |agent| &agent.spec.permissions);
            let kept = kept.into_iter().filter_map(|at| old.get(at % old.len().max(1)).cloned());
            kept.chain(added).collect::<Vec<_>>()
        });
        let patch = naive::Patch {
            owner: None,
            name: name.map(str::to_owned),
            kind,
            permissions,
            expires_at: expires_in.map(|expires| expires.map(|ms| self.clock + ms)),
            metadata,
        };
        let mut json = serde_json::Map::new();
        let mut give = |name: &str, value: Option<serde_json::Value>| {
            json.extend(value.map(|value| (name.to_owned(), value)));
        };
        give("name", patch.name.as_ref().map(|name| json!(name)));
        give("type", patch.kind.map(|kind| json!(kind)));
        give("permissions", patch.permissions.as_ref().map(|all| json!(all)));
        give("expiresAt", patch.expires_at.map(|expires| json!(expires.map(text_of))));
        give("metadata", patch.metadata.as_ref().map(|metadata| json!(metadata)));
        let json: AgentPatch = serde_json::from_str(&serde_json::Value::from(json).to_string()).unwrap();
        let found = self.execute(UpdateAgent::parse(self.agent_id(agent), json));
        let expected = self.model.update_agent(agent, patch, self.clock);
        if let Some((_, view)) = agree_on(found, expected, |found, expected| found.0 == *expected) {
            self.same_view(&view.unwrap(), agent);
        }
    }

    fn rotate(&mut self, agent: usize, grace: u64) {
        let token = self.secret(Secret::agent_token);
        let found = self.execute(RotateToken::new(self.agent_id(agent), token.hash(), grace));
        let expected = self.model.rotate(agent, token.reveal(), grace, self.clock);
        if let Some((_, view)) = agree_on(found, expected, |_, ()| true) {
            self.same_view(&view.unwrap(), agent);
        }
    }

    fn call(&mut self, who: Who, ask: &Ask) {
        let Some((caller, own)) = self.authenticate(who) else { return };
        let asked = own.unwrap_or(ask.agent % (self.model.agents.len() + 1));
        let known = (asked < self.model.agents.len()).then_some(asked);
        let aim = ask.aim.and_then(|at| self.model.agents.get(asked)?.spec.permissions.get(at));
        let (action, resource) = aim.map_or_else(|| (ask.action.to_owned(), ask.resource.clone()), aimed_at);
        let names = ask.own_names.iter().filter_map(|at| self.model.names.get(*at).cloned());
        let call = Call {
            agent: known,
            action,
            resource,
            tenants: names.chain(ask.other_name.map(str::to_owned)).collect(),
            arguments: ask.arguments.clone(),
            ip: ask.ip.map(str::to_owned),
        };
        let made = Request::new(&call.action, &call.resource);
        let outer = [call.resource.split(':').next(), call.resource.split(':').next_back()];
        if outer.contains(&Some("")) {
            assert_eq!(made.unwrap_err().code(), Code::InvalidField);
            return;
        }
        let mut request = made.unwrap();
        if let Some(arguments) = &call.arguments {
            request = request.with_arguments(&arguments.to_string()).unwrap();
        }
        request.agent = match own {
            Some(_) => Asked::Caller,
            None if known.is_none() && ask.agent.is_multiple_of(2) => Asked::Nobody,
            None => Asked::Agent(self.agent_id(asked)),
        };
        request.tenants = call.tenants.iter().map(|name| TenantRef::parse(name)).collect();
        request.ip = call.ip.as_ref().map(|ip| ip.parse().unwrap());
        request.trace = TraceId::from_bytes([ask.trace; 16]);

        let moment = self.tenant.next_moment(self.now());
        let mut used = None;
        if let Some(number) = ask.once {
            let key = IdempotencyKey::parse("key", &format!("key-{number}")).unwrap();
            request = request.with_key(key, false);
            let key = request.key.as_deref().cloned().unwrap();
            let owner = match caller {
                Caller::Operator | Caller::OperatorKey(..) => "operators".to_owned(),
                Caller::Key(..) => "keys".to_owned(),
                Caller::Agent(slot) => format!("agent {slot}"),
            };
            let asked = (request.agent, &call.action, &call.resource, &call.tenants, &call.arguments, &call.ip);
            let asked = format!("{asked:?}");
            let new = self.tenant.check_new(&caller, &key, moment.at);
            let first = self.tenant.first_use(&caller, &key, moment.at);
            match self.model.first_use(&owner, number, &asked, self.clock) {
                Ok(None) => {
                    assert_eq!(first, Ok(None));
                    used = Some((new.unwrap(), owner, number, asked));
                }
                Ok(Some(seq)) => {
                    assert_eq!(new.unwrap_err().code(), Code::IdempotencyKeyInUse);
                    assert_eq!(first.unwrap().map(AuditId::seq), Some(seq));
                    return;
                }
                Err(code) => {
                    assert_eq!((new.unwrap_err().code(), first.unwrap_err().code()), (code, code));
                    return;
                }
            }
        }
        // An explanation decides as the call does.
        let mut steps = Explained::default();
        let explained = self.tenant.decide(&caller, &request, moment, &mut steps).answer(None);
        let verdict = self.tenant.decide(&caller, &request, moment, &mut ());
        assert_eq!(verdict.knows_agent(), known.is_some());
        let expected = self.model.decide(&call, moment.wall.millis());
        let mut record = verdict.record(&request, 5);
        if let Some((key, ..)) = &used {
            verdict.remember(*key, &mut record);
        }
        assert_eq!(record.trace.is_some(), ask.trace != 0);
        assert_eq!(record.granted_by.as_ref().map(|grant| grant.permission as usize), expected.granted_by, "{call:?}");
        assert_eq!(record.agent, if let Asked::Nobody = request.agent { None } else { Some(self.agent_id(asked)) });
        self.record(moment, &Event::Decided(record));
        self.model.record(&call, &expected, moment.wall.millis());
        if let Some((_, owner, number, asked)) = used {
            self.model.remember(owner, number, asked);
        }

        let id = AuditId::derive(moment.at, moment.seq, self.tenant.id().tag());
        let decision = verdict.answer(Some(id));
        let found = (decision.allowed, decision.code, decision.retry_after);
        assert_eq!(found, (expected.code.is_none(), expected.code, expected.retry_after), "{call:?}");
        let reason = decision.reason.clone().unwrap_or_default();
        assert!(reason.contains(&expected.says), "{reason} should say {}", expected.says);
        assert_eq!(decision.audit_id, Some(id));
        assert_eq!(explained, kavach_domain::Decision { audit_id: None, ..decision });
        assert!(!steps.shown.is_empty());
    }

    /// The caller, and the agent if it is one; `None` if the credential is rightly refused.
    fn authenticate(&self, who: Who) -> Option<(Caller, Option<usize>)> {
        let id = self.tenant.id();
        match who {
            Who::Operator => Some((Caller::Operator, None)),
            Who::Key(key) => {
                let key = self.model.keys.get(key % self.model.keys.len().max(1))?;
                let credential = Credential::TenantKey(id, kavach_domain::SecretHash::of(&key.text));
                assert_eq!(Credential::parse(&key.text), credential);
                let found = self.tenant.authenticate(&credential, self.now());
                let expected = self
                    .model
                    .authenticate_key(&key.text)
                    .map(|id| Caller::Key(KeyId::parse(id).unwrap(), KeyRole::Admin));
                assert_eq!(found.as_ref().ok(), expected.as_ref());
                expected.map(|caller| (caller, None))
            }
            Who::Token(token) => {
                let text = &self.model.tokens.get(token % self.model.tokens.len().max(1))?.text;
                let found = self.tenant.authenticate(&Credential::parse(text), self.now());
                let agent = self.model.authenticate(text, self.clock);
                assert_eq!(found.ok(), agent.map(|agent| Caller::Agent(agent as u32)));
                agent.map(|agent| (Caller::Agent(agent as u32), Some(agent)))
            }
        }
    }

    fn disk(&mut self, disk: JournalJob) {
        let at = self.tenant.next_moment(self.now()).at.millis();
        let journal = self.journal.as_mut().unwrap();
        journal.flush().unwrap();
        journal.rotate_if_due(at).unwrap();
        match disk {
            JournalJob::Flush => {}
            JournalJob::Sync => {
                let point = journal.begin_sync().run().unwrap();
                journal.finish_sync(point, at).unwrap();
                journal.take_compression_jobs().into_iter().for_each(|job| job.run().unwrap());
            }
            JournalJob::Snapshot => {
                let state = codec::encode_state(&self.tenant.state()).unwrap();
                journal.begin_snapshot(journal.written_seq()).run(|file| file.write_all(&state)).unwrap();
                self.snapshots.push((self.events.len(), state));
            }
        }
    }

    /// Continues with what is in the folder, all of it flushed and nothing closed.
    fn reopen(&mut self) {
        let mut journal = self.journal.take().unwrap();
        journal.flush().unwrap();
        drop(journal);
        let loaded =
            load(&self.folder, &Tail::default(), self.tenant.id(), self.now(), JournalOptions::default()).unwrap();
        same_tenant(&loaded.tenant, &self.tenant);
        self.tenant = loaded.tenant;
        self.journal = Some(loaded.journal);
    }

    /// Decides calls at each permission's critical moments, and records none.
    fn probe(&self) {
        let arguments = [
            None,
            Some(json!({ "path": "/srv/data/a.csv" })),
            Some(json!({ "/srv/data/key": 5 })),
            Some(json!({ "x": [{ "main": ["main"] }] })),
            Some(json!({ "path": "/srv/data/x/y.csv", "repo": "repo-17" })),
        ];
        let ips = [Some("10.1.2.3"), None, Some("::ffff:192.0.2.7"), Some("2001:db8::1")];
        let (now, day) = (self.model.time(self.clock), 24 * 60 * 60_000);
        let mut facts = arguments.iter().flat_map(|arguments| ips.map(|ip| (arguments, ip))).cycle();
        for (index, agent) in self.model.agents.iter().enumerate() {
            for permission in &agent.spec.permissions {
                let (action, resource) = aimed_at(permission);
                let window = permission.constraints.as_ref().and_then(|limits| limits.time_window.as_ref());
                let clocks = window.into_iter().flat_map(|window| [&window.start, &window.end]);
                let edges = clocks.map(|clock| {
                    let (hours, minutes) = clock.split_once(':').unwrap();
                    let minute = hours.parse::<i64>().unwrap() * 60 + minutes.parse::<i64>().unwrap();
                    (now / day + 1) * day + minute * 60_000
                });
                let hours = [0, 3_000_000, 3_300_000, 3_600_000].map(|ms| now + ms);
                for time in edges.flat_map(|edge| [edge - 1, edge, edge + 59_999, edge + 60_000]).chain(hours) {
                    let (arguments, ip) = facts.next().unwrap();
                    let mut call = Call {
                        agent: Some(index),
                        action: action.clone(),
                        resource: resource.clone(),
                        tenants: Vec::new(),
                        arguments: arguments.clone(),
                        ip: ip.map(str::to_owned),
                    };
                    // Once more with everything that the permission requires, so that its other limits decide.
                    for _ in 0..2 {
                        let Ok(mut request) = Request::new(&call.action, &call.resource) else { continue };
                        if let Some(arguments) = &call.arguments {
                            request = request.with_arguments(&arguments.to_string()).unwrap();
                        }
                        request.ip = call.ip.as_ref().map(|ip| ip.parse().unwrap());
                        let request = request.for_agent(self.agent_id(index));
                        let moment = Moment::new(Timestamp::from_millis(time), self.tenant.seq() + 1);
                        let found = self.tenant.decide(&Caller::Operator, &request, moment, &mut ()).answer(None);
                        let expected = self.model.decide(&call, time);
                        assert_eq!((found.code, found.retry_after), (expected.code, expected.retry_after), "{call:?}");
                        call.arguments = Some(json!({ "path": "/srv/data/a.csv" }));
                        call.ip = Some("10.1.2.3".to_owned());
                    }
                }
            }
        }
    }

    fn finish(mut self) {
        self.probe();
        // From the events alone.
        same_tenant(&replayed(Tenant::default(), &self.events), &self.tenant);
        // From each snapshot and the events after it.
        for (held, bytes) in &self.snapshots {
            let tenant = restored(bytes);
            assert_eq!(codec::encode_state(&tenant.state()).unwrap(), *bytes);
            assert_eq!(tenant.seq() as usize, *held);
            same_tenant(&replayed(tenant, &self.events[*held..]), &self.tenant);
        }
        self.tenant = restored(&codec::encode_state(&self.tenant.state()).unwrap());
        self.compare();
        // From the disk.
        self.reopen();
        self.compare();
        let journal = self.journal.take().unwrap();
        let reader = journal.reader();
        let mut read = Vec::new();
        let each = &mut |_, payload: &[u8]| {
            read.push(payload.to_vec());
            std::ops::ControlFlow::Continue(())
        };
        reader.oldest_first(0, each).unwrap();
        assert_eq!(read, self.events);
        reader.verify().unwrap();
    }

    fn compare(&self) {
        let (tenant, model) = (&self.tenant, &self.model);
        let state = tenant.state();
        assert_eq!((state.seq, state.at.millis()), (model.seq, model.at));
        assert_eq!(model.seq as usize, self.events.len());
        let profile = &state.profile;
        assert_eq!(*profile.name, *model.name);
        assert_eq!((profile.created_at.millis(), profile.updated_at.millis()), (model.created, model.updated));
        assert_eq!(profile.status == TenantStatus::Suspended, model.suspended);
        assert_eq!(tenant.is_suspended(), model.suspended);
        same_settings(&profile.settings, &model.settings);

        let keys: Vec<_> = model.keys.iter().filter(|key| !key.revoked).collect();
        assert_eq!(state.keys.len(), keys.len());
        for (found, key) in state.keys.iter().zip(keys) {
            assert_eq!((found.id.to_string(), &*found.name), (key.id.clone(), &*key.name));
            assert_eq!((&*found.prefix, found.created_at.millis()), (&key.text[..32], key.created));
        }

        assert_eq!(state.webhooks.len(), model.hooks.len());
        for (found, hook) in state.webhooks.iter().zip(&model.hooks) {
            same_hook(found, hook, tenant.id().tag());
        }

        assert_eq!(state.agents.len(), model.agents.len());
        let now = model.time(self.clock);
        for (index, found) in state.agents.iter().enumerate() {
            let at = tenant.next_moment(self.now()).wall;
            let view = AgentView::of(tenant, found, at);
            self.same_view(&view, index);
            assert_eq!(tenant.agent(found.profile.id), Some(found));
            assert_eq!(AgentView::find(tenant, found.profile.id, at), Ok(view));
        }
        // The moments at which something ends, and those around them.
        let expiries = model.agents.iter().filter_map(|agent| agent.spec.expires_at);
        let ends: Vec<i64> = expiries.chain(model.tokens.iter().filter_map(|token| token.until)).collect();
        let around = ends.iter().flat_map(|end| [end - 1, *end, end + 1]).filter(|time| *time >= model.at);
        let mut times: Vec<i64> = around.chain([now]).collect();
        times.sort_unstable();
        times.dedup();
        for time in times {
            let at = Timestamp::from_millis(time);
            assert_eq!(tenant.active_agents(at), model.active_agents(time), "at {at}");
            for token in &model.tokens {
                let found = tenant.authenticate(&Credential::parse(&token.text), at).ok();
                let expected = model.authenticate(&token.text, time).map(|agent| Caller::Agent(agent as u32));
                assert_eq!(found, expected, "at {at}");
            }
        }
        // A small step back wakes no token.
        for token in &model.tokens {
            let found = tenant.authenticate(&Credential::parse(&token.text), self.now()).ok();
            let expected = model.authenticate(&token.text, self.clock).map(|agent| Caller::Agent(agent as u32));
            assert_eq!(found, expected, "at {}", self.now());
        }
    }

    fn same_view(&self, view: &AgentView, index: usize) {
        let (model, expected) = (&self.model, &self.model.agents[index]);
        let now = model.time(self.clock);
        let status = match model.status(index, now) {
            Status::Active => AgentStatus::Active,
            Status::Revoked => AgentStatus::Revoked,
            Status::Suspended => AgentStatus::Suspended,
            Status::Expired => AgentStatus::Expired,
        };
        assert_eq!((view.tenant, view.status), (self.tenant.id(), status));
        let found = &view.agent;
        let profile = &found.profile;
        let spec = &profile.spec;
        assert_eq!(profile.id.to_string(), expected.id);
        assert_eq!((&*spec.owner, &*spec.name), (&*expected.spec.owner, &*expected.spec.name));
        assert_eq!(spec.kind, kind_of(expected.spec.kind));
        assert_eq!(spec.expires_at.map(Timestamp::millis), expected.spec.expires_at);
        let metadata = expected.spec.metadata.as_ref().map(ToString::to_string);
        assert_eq!(spec.metadata.as_deref(), metadata.as_deref());
        assert_eq!(profile.revoked, expected.revoked);
        let times =
            (profile.created_at.millis(), profile.updated_at.millis(), found.last_active_at.map(Timestamp::millis));
        assert_eq!(times, (expected.created, expected.updated, expected.last_active));
        assert_eq!(spec.permissions.as_slice().len(), expected.spec.permissions.len());
        for (at, permission) in expected.spec.permissions.iter().enumerate() {
            let max = permission.constraints.as_ref().and_then(|limits| limits.max_calls_per_hour);
            // Now, and as the hour goes by.
            for time in [0, 300, 3_000, 3_300, 3_600].map(|seconds| now + seconds * 1_000) {
                let used = found.window(at as u32).map(|window| window.used(Timestamp::from_millis(time)) as usize);
                assert_eq!(used, max.map(|_| model.used(expected.places[at], time)));
            }
            assert_eq!(spec.permissions.as_slice()[at].resource(), permission.resource);
        }
    }
}

/// Expects an equal outcome, or another code that the model allows.
#[track_caller]
fn agree<T: PartialEq + std::fmt::Debug>(found: Result<T, Code>, expected: Result<T, Vec<Code>>) {
    agree_on(found, expected, |found, expected| found == expected);
}

#[track_caller]
fn agree_on<T, E: std::fmt::Debug>(
    found: Result<T, Code>,
    expected: Result<E, Vec<Code>>,
    same: impl Fn(&T, &E) -> bool,
) -> Option<T> {
    match (found, expected) {
        (Ok(found), Ok(expected)) => {
            assert!(same(&found, &expected), "the outcome is not {expected:?}");
            Some(found)
        }
        (Err(found), Err(expected)) => {
            assert!(expected.contains(&found), "{found} is none of {expected:?}");
            None
        }
        (Ok(_), Err(expected)) => panic!("done, and not refused with {expected:?}"),
        (Err(found), Ok(expected)) => panic!("refused with {found}, and not {expected:?}"),
    }
}

fn replayed(mut tenant: Tenant, events: &[Vec<u8>]) -> Tenant {
    for bytes in events {
        let (moment, event) = codec::decode_event(tenant.seq() + 1, bytes).unwrap();
        let mut again = Vec::new();
        codec::encode_event(moment, &event, &mut again).unwrap();
        assert_eq!(again, *bytes);
        tenant.apply(moment, &event);
    }
    tenant
}

fn restored(bytes: &[u8]) -> Tenant {
    Tenant::restore(codec::decode_state(bytes).unwrap())
}

/// Compares bit for bit.
#[track_caller]
fn same_tenant(found: &Tenant, expected: &Tenant) {
    let (found, expected) = (found.state(), expected.state());
    assert_eq!(found, expected);
    assert_eq!(codec::encode_state(&found).unwrap(), codec::encode_state(&expected).unwrap());
}

#[track_caller]
fn same_hook(found: &Webhook, hook: &Hook, tag: TenantTag) {
    let Webhook { profile, outbox } = found;
    let WebhookSpec { events, description, disabled, .. } = &profile.spec;
    assert_eq!((profile.id.to_string(), profile.rotation), (hook.id.clone(), hook.rotation));
    assert!(events.iter().map(|name| &**name).eq(hook.events.iter().copied()));
    assert_eq!((description.as_deref(), *disabled), (hook.description, hook.disabled));
    assert_eq!(matches!(profile.by, By::Key(_)), hook.by_key);
    assert_eq!((profile.created_at.millis(), profile.updated_at.millis()), (hook.created, hook.updated));
    assert_eq!((outbox.waiting(), outbox.dead()), (hook.waiting.len(), hook.dead.len()));
    let shown = |message: MessageState<'_>| {
        let (at, kind) = match message {
            MessageState::Waiting(message) => (message.at, message.kind),
            MessageState::Delivered(delivery) | MessageState::Dead(delivery) => (delivery.at, delivery.kind),
        };
        assert_eq!(message.id(tag), MessageId::derive(at, message.seq(), tag));
        Message { seq: message.seq(), at: at.millis(), kind: kind.as_str() }
    };
    // Those that wait, in the order in which they are sent; then the delivered, then the dead ones.
    let found: Vec<_> = outbox.messages().map(shown).collect();
    assert_eq!(found, hook.messages().copied().collect::<Vec<_>>());
}

fn text_of(millis: i64) -> String {
    Timestamp::from_millis(millis).to_string()
}

fn kind_of(kind: AgentKind) -> AgentType {
    match kind {
        AgentKind::Autonomous => AgentType::Autonomous,
        AgentKind::Delegated => AgentType::Delegated,
        AgentKind::Service => AgentType::Service,
    }
}

fn settings_json(patch: &naive::SettingsPatch) -> serde_json::Value {
    let mut json = serde_json::Map::new();
    json.extend(patch.max_agents.map(|value| ("maxAgents".to_owned(), json!(value))));
    json.extend(patch.max_delegation_depth.map(|value| ("maxDelegationDepth".to_owned(), json!(value))));
    json.extend(patch.audit_retention_days.map(|value| ("auditRetentionDays".to_owned(), json!(value))));
    json.extend(patch.allowed_agent_types.as_ref().map(|value| ("allowedAgentTypes".to_owned(), json!(value))));
    json.into()
}

fn same_settings(found: &kavach_domain::TenantSettings, expected: &Settings) {
    let Settings { max_agents, max_delegation_depth, audit_retention_days, allowed_agent_types } = expected;
    let types = allowed_agent_types.as_ref().map(|types| types.iter().map(|kind| kind_of(*kind)).collect());
    let expected = kavach_domain::TenantSettings {
        max_agents: *max_agents,
        max_delegation_depth: *max_delegation_depth,
        audit_retention_days: *audit_retention_days,
        allowed_agent_types: types,
    };
    assert_eq!(*found, expected);
}

/// A call that fits the permission.
fn aimed_at(permission: &Permission) -> (String, String) {
    let action = permission.actions.first().map_or("read", |action| if action == "*" { "read" } else { action });
    let resource = permission.resource.split(':').map(|segment| if segment == "*" { "git" } else { segment });
    (action.to_owned(), resource.collect::<Vec<_>>().join(":"))
}
