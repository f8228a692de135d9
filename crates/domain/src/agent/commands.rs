//! Commands about agents.

use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::agent::labels::{Labels, LabelsSpec};
use crate::agent::{Agent, AgentSpec, AgentStatus, AgentType};
use crate::author::By;
use crate::decision::arguments::compact;
use crate::error::{Code, Error};
use crate::event::{Change, ChangeRecord};
use crate::id::{AgentId, TenantId};
use crate::idempotency::kept_reply::KeptReply;
use crate::limits::{MAX_ALL_AGENTS, MAX_GRACE_SECONDS, MAX_GRACED_TOKENS, MAX_METADATA_BYTES};
use crate::moment::Moment;
use crate::permission::{PermissionSet, PermissionSpec};
use crate::secret::SecretHash;
use crate::tenant::if_unchanged::Versioned;
use crate::tenant::settings::given;
use crate::tenant::{Command, Creates, Repeatable, Tenant};
use crate::text::check_no_secret;
use crate::text::{parse_name, parse_owner};
use crate::time::Timestamp;
use crate::version::Version;

/// An agent to create, as a request spells it.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAgent {
    /// The tenant it belongs to: id, slug, or `null` for the default one. With a tenant key, that key's.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::TenantName>"))]
    pub tenant_id: Option<String>,
    /// The user it belongs to, in the client's own words. `userId` is accepted as well.
    #[serde(alias = "userId")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Name"))]
    pub owner_id: String,
    /// A name for people to read.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Name"))]
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: AgentType,
    /// Its permissions.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = crate::limits::MAX_PERMISSIONS)))]
    pub permissions: Vec<PermissionSpec>,
    /// When it expires, RFC 3339.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Time>"))]
    pub expires_at: Option<String>,
    /// The client's own facts, a JSON object.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::AnyObject>"))]
    pub metadata: Option<Box<RawValue>>,
    /// Its labels, by which budgets and lists select agents.
    #[serde(default)]
    pub labels: Option<LabelsSpec>,
}

/// A change of an agent: an omitted field keeps its value, `null` clears `expiresAt`, `metadata` and `labels`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentPatch {
    /// The new owner. `userId` is accepted as well.
    #[serde(default, alias = "userId")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Name>"))]
    pub owner_id: Option<String>,
    /// A new name.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Name>"))]
    pub name: Option<String>,
    /// A new type.
    #[serde(default, rename = "type")]
    pub kind: Option<AgentType>,
    /// The new permissions, in place of all the old ones.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = crate::limits::MAX_PERMISSIONS)))]
    pub permissions: Option<Vec<PermissionSpec>>,
    /// When it expires, RFC 3339; `null` is never.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Time>"))]
    pub expires_at: Option<Option<String>>,
    /// The client's own facts, in place of the old ones; `null` clears them.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::AnyObject>"))]
    pub metadata: Option<Option<Box<RawValue>>>,
    /// Its labels, in place of all the old ones; `null` clears them.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<LabelsSpec>"))]
    pub labels: Option<Option<LabelsSpec>>,
}

/// An agent as an answer shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentView {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The agent.
    pub agent: Agent,
    /// Whether it may work now.
    pub status: AgentStatus,
}

impl AgentView {
    /// The agent's state at `now`.
    pub fn of(tenant: &Tenant, agent: &Agent, now: Timestamp) -> Self {
        Self { tenant: tenant.id(), agent: agent.clone(), status: agent.status(now) }
    }

    /// The agent with that id.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    pub fn find(tenant: &Tenant, id: AgentId, now: Timestamp) -> Result<Self, Error> {
        existing(tenant, id).map(|agent| Self::of(tenant, agent, now))
    }
}

fn existing(tenant: &Tenant, id: AgentId) -> Result<&Agent, Error> {
    tenant.agent(id).ok_or_else(|| unknown_agent(&id.to_string()))
}

/// The error for an agent that doesn't exist or isn't the caller's.
pub fn unknown_agent(id: &str) -> Error {
    Error::new(Code::AgentNotFound, format!("agent '{}' not found", crate::text::quote(id)))
}

/// The error for an agent named in a body that doesn't exist or isn't the caller's.
pub fn no_such_agent(id: &str) -> Error {
    Error::field(Code::AgentNotFound, "agentId", format!("must be the id of an agent: {}", unknown_agent(id).message()))
}

fn unrevoked(tenant: &Tenant, id: AgentId) -> Result<&Agent, Error> {
    let agent = existing(tenant, id)?;
    if agent.profile.revoked {
        return Err(Error::new(Code::AgentIsRevoked, format!("agent {id} was revoked, which is final")));
    }
    Ok(agent)
}

fn check_type(tenant: &Tenant, kind: AgentType) -> Result<(), Error> {
    match &tenant.profile().settings.allowed_agent_types {
        Some(allowed) if !allowed.contains(&kind) => {
            let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
            let message = format!("type '{kind}' is not one that the tenant allows: {}", allowed.join(", "));
            Err(Error::new(Code::AgentTypeNotAllowed, message).with_details(json!({ "allowedAgentTypes": allowed })))
        }
        _ => Ok(()),
    }
}

fn check_room(tenant: &Tenant, now: Timestamp) -> Result<(), Error> {
    match tenant.profile().settings.max_agents {
        Some(most) if tenant.active_agents(now) >= most as usize => {
            let message = format!(
                "the tenant has {} active agents, and its maximum is {most} (maxAgents)",
                tenant.active_agents(now)
            );
            Err(Error::new(Code::AgentLimitExceeded, message).with_details(json!({ "maxAgents": most })))
        }
        _ => Ok(()),
    }
}

fn check_total(agents: usize) -> Result<(), Error> {
    if agents < MAX_ALL_AGENTS {
        return Ok(());
    }
    let message =
        format!("the tenant has {agents} agents, counting revoked and expired ones; the maximum is {MAX_ALL_AGENTS}");
    Err(Error::new(Code::AgentLimitExceeded, message))
}

fn parse_metadata(json: Option<&RawValue>) -> Result<Option<Box<str>>, Error> {
    let Some(json) = json else { return Ok(None) };
    let compacted = compact("metadata", json.get(), MAX_METADATA_BYTES)?;
    check_no_secret("metadata", &compacted)?;
    if !compacted.starts_with('{') {
        return Err(Error::field(Code::InvalidField, "metadata", "must be a JSON object"));
    }
    Ok(Some(compacted.into()))
}

fn parse_expiry(text: Option<&str>) -> Result<Option<Timestamp>, Error> {
    text.map(|text| Timestamp::parse("expiresAt", text)).transpose()
}

/// Creates an agent.
pub struct CreateAgent {
    spec: Box<AgentSpec>,
    token: SecretHash,
}

impl CreateAgent {
    /// Reads a new agent. The caller has settled which tenant it belongs to.
    ///
    /// # Errors
    /// `INVALID_FIELD` or `INVALID_PATTERN`, naming the field.
    pub fn parse(new: NewAgent, token: SecretHash) -> Result<Self, Error> {
        let NewAgent { tenant_id: _, owner_id, name, kind, permissions, expires_at, metadata, labels } = new;
        let spec = AgentSpec {
            owner: parse_owner("ownerId", &owner_id)?.into(),
            name: parse_name("name", &name)?,
            kind,
            permissions: PermissionSet::parse(permissions)?.into(),
            expires_at: parse_expiry(expires_at.as_deref())?,
            metadata: parse_metadata(metadata.as_deref())?,
            labels: Labels::parse("labels", labels.unwrap_or_default())?,
        };
        Ok(Self { spec: Box::new(spec), token })
    }
}

impl Command for CreateAgent {
    type Subject = AgentId;
    type Reply = Option<AgentView>;

    fn decide(self, tenant: &Tenant, _: By, moment: Moment) -> Result<(Option<Change>, AgentId), Error> {
        check_type(tenant, self.spec.kind)?;
        check_total(tenant.agents().len())?;
        if self.spec.expires_at.is_none_or(|expires| expires > moment.wall) {
            check_room(tenant, moment.wall)?;
        }
        let agent = AgentId::derive(moment.at, moment.seq, tenant.id().tag());
        Ok((Some(Change::AgentCreated { agent, spec: self.spec, token: self.token }), agent))
    }

    fn reply(tenant: &Tenant, id: AgentId, now: Timestamp) -> Option<AgentView> {
        AgentView::find(tenant, id, now).ok()
    }
}

impl Creates for CreateAgent {
    fn made(tenant: &Tenant, change: &Change, now: Timestamp) -> Option<Self::Reply> {
        let Change::AgentCreated { agent, .. } = change else { return None };
        Some(Self::reply(tenant, *agent, now))
    }
}

/// Changes an agent.
pub struct UpdateAgent {
    id: AgentId,
    owner: Option<Box<str>>,
    name: Option<Box<str>>,
    kind: Option<AgentType>,
    permissions: Option<PermissionSet>,
    expires_at: Option<Option<Timestamp>>,
    metadata: Option<Option<Box<str>>>,
    labels: Option<Labels>,
}

impl UpdateAgent {
    /// Reads a change.
    ///
    /// # Errors
    /// `INVALID_FIELD` or `INVALID_PATTERN`, naming the field.
    pub fn parse(id: AgentId, patch: AgentPatch) -> Result<Self, Error> {
        let AgentPatch { owner_id, name, kind, permissions, expires_at, metadata, labels } = patch;
        Ok(Self {
            id,
            owner: owner_id.map(|text| parse_owner("ownerId", &text)).transpose()?,
            name: name.map(|text| parse_name("name", &text)).transpose()?,
            kind,
            permissions: permissions.map(PermissionSet::parse).transpose()?,
            expires_at: expires_at.map(|text| parse_expiry(text.as_deref())).transpose()?,
            metadata: metadata.map(|json| parse_metadata(json.as_deref())).transpose()?,
            labels: labels.map(|spec| Labels::parse("labels", spec.unwrap_or_default())).transpose()?,
        })
    }
}

impl Command for UpdateAgent {
    type Subject = AgentId;
    type Reply = Option<AgentView>;

    fn decide(self, tenant: &Tenant, _: By, moment: Moment) -> Result<(Option<Change>, AgentId), Error> {
        let Self { id, owner, name, kind, permissions, expires_at, metadata, labels } = self;
        let agent = unrevoked(tenant, id)?;
        if let Some(kind) = kind.filter(|kind| *kind != agent.profile.spec.kind) {
            check_type(tenant, kind)?;
        }
        let old = &agent.profile.spec;
        let spec = AgentSpec {
            owner: owner.map_or_else(|| old.owner.clone(), Into::into),
            name: name.unwrap_or_else(|| old.name.clone()),
            kind: kind.unwrap_or(old.kind),
            permissions: permissions.map_or_else(|| Arc::clone(&old.permissions), Into::into),
            expires_at: expires_at.unwrap_or(old.expires_at),
            metadata: metadata.unwrap_or_else(|| old.metadata.clone()),
            labels: labels.unwrap_or_else(|| old.labels.clone()),
        };
        // Suspended or not: an agent that is not expired keeps a place.
        let revives =
            agent.profile.is_expired(moment.wall) && spec.expires_at.is_none_or(|expires| expires > moment.wall);
        if revives {
            check_room(tenant, moment.wall)?;
        }
        let changed = spec != *old;
        Ok((changed.then(|| Change::AgentUpdated { agent: id, spec: Box::new(spec) }), id))
    }

    fn reply(tenant: &Tenant, id: AgentId, now: Timestamp) -> Option<AgentView> {
        AgentView::find(tenant, id, now).ok()
    }
}

impl Versioned for UpdateAgent {
    fn version(&self, tenant: &Tenant) -> Option<Version> {
        version(tenant, self.id)
    }
}

fn version(tenant: &Tenant, id: AgentId) -> Option<Version> {
    tenant.agent(id).map(|agent| agent.profile.version())
}

/// Revokes an agent for good. We keep its token, so that its calls are still recorded as those of a revoked agent.
pub struct RevokeAgent(
    /// The agent.
    pub AgentId,
);

impl Command for RevokeAgent {
    type Subject = ();
    type Reply = ();

    fn decide(self, tenant: &Tenant, _: By, _: Moment) -> Result<(Option<Change>, ()), Error> {
        let revoked = existing(tenant, self.0)?.profile.revoked;
        Ok(((!revoked).then_some(Change::AgentRevoked { agent: self.0 }), ()))
    }

    fn reply(_: &Tenant, (): (), _: Timestamp) {}
}

impl Versioned for RevokeAgent {
    fn version(&self, tenant: &Tenant) -> Option<Version> {
        version(tenant, self.0)
    }
}

/// Suspends an agent, or lets it work again. It keeps its tokens, its delegations and its counts.
pub struct SetSuspended {
    /// The agent.
    pub id: AgentId,
    /// Whether it is suspended from now on.
    pub suspended: bool,
}

impl Command for SetSuspended {
    type Subject = AgentId;
    type Reply = Option<AgentView>;

    fn decide(self, tenant: &Tenant, _: By, _: Moment) -> Result<(Option<Change>, AgentId), Error> {
        let Self { id: agent, suspended } = self;
        let changes = unrevoked(tenant, agent)?.profile.suspended != suspended;
        let change = if suspended { Change::AgentSuspended { agent } } else { Change::AgentActivated { agent } };
        Ok((changes.then_some(change), agent))
    }

    fn reply(tenant: &Tenant, id: AgentId, now: Timestamp) -> Option<AgentView> {
        AgentView::find(tenant, id, now).ok()
    }
}

impl Versioned for SetSuspended {
    fn version(&self, tenant: &Tenant) -> Option<Version> {
        version(tenant, self.id)
    }
}

/// Replaces an agent's token.
pub struct RotateToken {
    id: AgentId,
    token: SecretHash,
    grace_seconds: u64,
}

impl RotateToken {
    /// A rotation that keeps the old token valid for `grace_seconds` more.
    ///
    /// # Errors
    /// `INVALID_FIELD` for more than 30 days.
    pub fn new(id: AgentId, token: SecretHash, grace_seconds: u64) -> Result<Self, Error> {
        if grace_seconds > MAX_GRACE_SECONDS {
            let problem = format!("must be at most {MAX_GRACE_SECONDS}, not {grace_seconds}");
            return Err(Error::field(Code::InvalidField, "graceSeconds", problem));
        }
        Ok(Self { id, token, grace_seconds })
    }
}

impl Command for RotateToken {
    type Subject = AgentId;
    type Reply = Option<AgentView>;

    fn decide(self, tenant: &Tenant, _: By, moment: Moment) -> Result<(Option<Change>, AgentId), Error> {
        let agent = unrevoked(tenant, self.id)?;
        let grace_until = (self.grace_seconds > 0)
            .then(|| moment.wall.plus_millis(i64::try_from(self.grace_seconds * 1_000).unwrap_or(i64::MAX)));
        let in_grace = agent.profile.graced.iter().filter(|graced| graced.until > moment.wall).count();
        if grace_until.is_some() && in_grace >= MAX_GRACED_TOKENS {
            let message =
                format!("{MAX_GRACED_TOKENS} old tokens are still in their grace period; rotate without graceSeconds");
            return Err(Error::new(Code::RotationLimitExceeded, message));
        }
        Ok((Some(Change::TokenRotated { agent: self.id, token: self.token, grace_until }), self.id))
    }

    fn reply(tenant: &Tenant, id: AgentId, now: Timestamp) -> Option<AgentView> {
        AgentView::find(tenant, id, now).ok()
    }
}

impl Repeatable for RotateToken {
    fn first_answer(alone: &Tenant, record: &ChangeRecord, now: Timestamp) -> Option<Self::Reply> {
        let (Change::TokenRotated { .. }, Some(KeptReply::Agent(agent))) = (&record.change, &record.kept) else {
            return None;
        };
        Some(Some(AgentView::of(alone, agent, now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_agents_in_all_holds() {
        assert!(check_total(MAX_ALL_AGENTS - 1).is_ok());
        assert_eq!(check_total(MAX_ALL_AGENTS).unwrap_err().code(), Code::AgentLimitExceeded);
    }
}
