//! Commands about delegations.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::agent::commands::unknown_agent;
use crate::agent::{Agent, AgentStatus};
use crate::author::By;
use crate::delegation::graph::Standing;
use crate::delegation::index::Links;
use crate::delegation::search::{EffectivePermission, Search};
use crate::delegation::{Delegation, DelegationSpec, DelegationStatus};
use crate::error::{Code, Error};
use crate::event::Change;
use crate::id::{AgentId, DelegationId, TenantId};
use crate::limits::{
    MAX_COVER_STEPS, MAX_DELEGATION_DEPTH, MAX_DELEGATION_WEIGHT, MAX_DELEGATIONS, MAX_DELEGATIONS_FROM_AGENT,
    MAX_STANDS_ON,
};
use crate::moment::Moment;
use crate::permission::{PermissionSet, PermissionSpec};
use crate::tenant::{Command, Creates, Tenant};
use crate::text::quote;
use crate::time::Timestamp;

/// Links of a chain if the request sets no limit.
const DEFAULT_MAX_DEPTH: u32 = 3;

/// A delegation to make, as a request spells it.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDelegation {
    /// The agents' tenant, where the request names it: id, slug, or `null` for the default one.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::TenantName>"))]
    pub tenant_id: Option<String>,
    /// The grantor.
    #[cfg_attr(feature = "schema", schemars(with = "AgentId"))]
    pub from_agent: String,
    /// The agent that may use the grantor's permissions.
    #[cfg_attr(feature = "schema", schemars(with = "AgentId"))]
    pub to_agent: String,
    /// The lent permissions: each must lie within a single one that the grantor holds.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::limits::MAX_PERMISSIONS)))]
    pub permissions: Vec<PermissionSpec>,
    /// When it expires, RFC 3339.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Time>"))]
    pub expires_at: Option<String>,
    /// Links that a chain through it may have, counting itself and those before it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_DELEGATION_DEPTH)))]
    pub max_depth: Option<u32>,
}

/// A delegation as an answer shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct DelegationView {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The delegation.
    pub delegation: Delegation,
    /// Whether it is live now.
    pub status: DelegationStatus,
}

/// Which delegations a list wants. `None` does not restrict.
#[derive(Clone, Copy, Debug, Default)]
pub struct DelegationFilter {
    /// Delegations from that agent.
    pub from: Option<AgentId>,
    /// Delegations to that agent.
    pub to: Option<AgentId>,
    /// Delegations that have this status now.
    pub status: Option<DelegationStatus>,
}

impl DelegationView {
    /// The delegation with that id.
    ///
    /// # Errors
    /// `DELEGATION_NOT_FOUND`.
    pub fn find(tenant: &Tenant, id: DelegationId, now: Timestamp) -> Result<Self, Error> {
        let (_, link) = existing(tenant, id)?;
        let status = Standing::default().shown(tenant, link, now);
        Ok(Self { tenant: tenant.id(), delegation: link.clone(), status })
    }

    /// At most `most` delegations after `after`, oldest first.
    pub fn list<'t>(
        tenant: &'t Tenant,
        filter: DelegationFilter,
        now: Timestamp,
        after: Option<DelegationId>,
        most: usize,
    ) -> Vec<Self> {
        let DelegationFilter { from, to, status: wanted } = filter;
        // Ids are in the order of places, so we find the page's start without searching from the first link on.
        let is_before = |link: &Delegation| after.is_some_and(|after| link.profile.id <= after);
        let listed = |links: Option<&'t Links>| {
            let places = links.map(Links::all).unwrap_or_default();
            let start = places.partition_point(|place| tenant.delegation_at(*place).is_some_and(is_before));
            places.iter().skip(start).filter_map(|place| tenant.delegation_at(*place))
        };
        let links: Box<dyn Iterator<Item = &Delegation>> = match (from, to) {
            (Some(from), _) => Box::new(listed(tenant.links().leaving(from))),
            (None, Some(to)) => Box::new(listed(tenant.links().arriving(to))),
            (None, None) => {
                let all = tenant.delegations();
                Box::new(all.iter().skip(all.partition_point(is_before)))
            }
        };
        let mut standing = Standing::default();
        links
            .filter(|link| to.is_none_or(|to| link.profile.spec.to == to))
            .map(|link| (link, standing.shown(tenant, link, now)))
            .filter(|(_, status)| wanted.is_none_or(|wanted| *status == wanted))
            .take(most)
            .map(|(link, status)| Self { tenant: tenant.id(), delegation: link.clone(), status })
            .collect()
    }
}

/// What the agent with that id can use now, and where each permission comes from.
///
/// # Errors
/// `AGENT_NOT_FOUND`.
pub fn effective_permissions(tenant: &Tenant, id: AgentId, now: Timestamp) -> Result<Vec<EffectivePermission>, Error> {
    let agent = tenant.agent(id).ok_or_else(|| unknown_agent(&id.to_string()))?;
    Ok(tenant.effective_permissions(agent, now, MAX_COVER_STEPS))
}

fn existing(tenant: &Tenant, id: DelegationId) -> Result<(u32, &Delegation), Error> {
    tenant.delegation(id).ok_or_else(|| unknown_delegation(&id.to_string()))
}

/// The error for a delegation that doesn't exist or isn't the caller's.
pub fn unknown_delegation(id: &str) -> Error {
    Error::new(Code::DelegationNotFound, format!("delegation '{}' not found", quote(id)))
}

/// The error for a field that names no agent, or somebody else's.
pub fn unknown_agent_in(field: &str, id: &str) -> Error {
    Error::field(Code::AgentNotFound, field, format!("must be the id of an agent: agent '{}' not found", quote(id)))
}

/// Lets an agent delegate to another.
pub struct CreateDelegation {
    from: AgentId,
    to: AgentId,
    permissions: PermissionSet,
    expires_at: Option<Timestamp>,
    max_depth: u32,
}

impl CreateDelegation {
    /// Reads a new delegation. The caller has settled which tenant it belongs to.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `INVALID_PATTERN` or `AGENT_NOT_FOUND`, naming the field.
    pub fn parse(new: NewDelegation) -> Result<Self, Error> {
        let NewDelegation { tenant_id: _, from_agent, to_agent, permissions, expires_at, max_depth } = new;
        let agent = |field, text: &str| AgentId::parse(text).ok_or_else(|| unknown_agent_in(field, text));
        let permissions = PermissionSet::parse(permissions)?;
        if permissions.as_slice().is_empty() {
            return Err(Error::field(Code::InvalidField, "permissions", "must contain at least one permission"));
        }
        let max_depth = max_depth.unwrap_or(DEFAULT_MAX_DEPTH);
        if !(1..=MAX_DELEGATION_DEPTH).contains(&max_depth) {
            let problem = format!("must be from 1 to {MAX_DELEGATION_DEPTH}, not {max_depth}");
            return Err(Error::field(Code::InvalidField, "maxDepth", problem));
        }
        Ok(Self {
            from: agent("fromAgent", &from_agent)?,
            to: agent("toAgent", &to_agent)?,
            permissions,
            expires_at: expires_at.map(|text| Timestamp::parse("expiresAt", &text)).transpose()?,
            max_depth,
        })
    }

    /// The agent that delegates; the link belongs to its tenant.
    pub fn grantor(&self) -> AgentId {
        self.from
    }

    /// Finds the grantor, if these two agents may be linked at all.
    fn check_agents<'t>(&self, tenant: &'t Tenant, at: Timestamp) -> Result<&'t Agent, Error> {
        let find = |field, id: AgentId| tenant.agent(id).ok_or_else(|| unknown_agent_in(field, &id.to_string()));
        let (from, to) = (find("fromAgent", self.from)?, find("toAgent", self.to)?);
        if self.from == self.to {
            return Err(Error::new(Code::DelegationSelf, "fromAgent and toAgent are the same agent"));
        }
        let inactive = |what| Err(Error::field(Code::DelegationGrantorInactive, "fromAgent", what));
        match from.status(at) {
            AgentStatus::Revoked => return inactive("names an agent that was revoked"),
            AgentStatus::Suspended => return inactive("names an agent that is suspended"),
            AgentStatus::Expired => return inactive("names an agent that has expired"),
            AgentStatus::Active => {}
        }
        if to.profile.revoked {
            let problem = "names an agent that was revoked, which is final";
            return Err(Error::field(Code::AgentIsRevoked, "toAgent", problem));
        }
        match tenant.would_close_circle(self.from, self.to, at) {
            Ok(false) => Ok(from),
            Ok(true) => {
                let message = format!("agent {} holds permissions through agent {}", self.from, self.to);
                Err(Error::new(Code::DelegationCycle, message))
            }
            Err(_) => Err(limit("too many delegations lead to fromAgent to check them for a cycle".to_owned())),
        }
    }

    fn check_coverage(&self, tenant: &Tenant, grantor: &Agent, at: Timestamp) -> Result<(), Error> {
        let (mut search, mut left) = (Search::new(tenant, at), MAX_COVER_STEPS);
        for (position, permission) in self.permissions.as_slice().iter().enumerate() {
            if search.covers(grantor, permission, &mut left) {
                continue;
            }
            if left == 0 {
                return Err(limit(
                    "it takes too much work to check whether fromAgent holds all of these permissions".to_owned(),
                ));
            }
            let problem = format!(
                "must be a subset of a permission of the grantor: no single permission that agent {} holds grants all of these actions on '{}'",
                self.from,
                quote(permission.resource())
            );
            return Err(Error::field(Code::InsufficientPermissions, &format!("permissions[{position}]"), problem));
        }
        Ok(())
    }

    fn check_room(&self, tenant: &Tenant, stands_on: &[u32], at: Timestamp) -> Result<(), Error> {
        if tenant.next_place().is_none() {
            return Err(limit("the tenant has no numbers left for delegations".to_owned()));
        }
        let leaving = tenant.links().leaving(self.from);
        let over = |open: usize, most| open >= most;
        // The lists hold some links that are over: we count exactly only if it could matter.
        if over(tenant.open_links_at_most(at), MAX_DELEGATIONS) && over(tenant.open_links_count(at), MAX_DELEGATIONS) {
            return Err(limit(format!("the tenant has {MAX_DELEGATIONS} delegations, the maximum; revoke one first")));
        }
        if over(leaving.map_or(0, |links| links.open(at).len()), MAX_DELEGATIONS_FROM_AGENT)
            && over(tenant.open_links(leaving, at).count(), MAX_DELEGATIONS_FROM_AGENT)
        {
            let message = format!("fromAgent has made {MAX_DELEGATIONS_FROM_AGENT} delegations, the maximum");
            return Err(limit(message));
        }
        if stands_on.len() > MAX_STANDS_ON {
            let message = format!(
                "fromAgent holds permissions through {} delegations; a delegation may rest on at most {MAX_STANDS_ON}",
                stands_on.len()
            );
            return Err(limit(message));
        }
        let mut bearing: Vec<u32> =
            tenant.open_links(tenant.links().arriving(self.to), at).map(|(place, _)| place).collect();
        bearing.extend(stands_on);
        bearing.sort_unstable();
        bearing.dedup();
        let weight = tenant.weight_of(bearing) + self.permissions.as_slice().len() + stands_on.len();
        if weight > MAX_DELEGATION_WEIGHT {
            let message = format!(
                "toAgent would depend on {weight} delegated permissions and links; the maximum is {MAX_DELEGATION_WEIGHT}"
            );
            return Err(limit(message));
        }
        Ok(())
    }
}

fn limit(message: String) -> Error {
    Error::new(Code::DelegationLimitExceeded, message)
}

impl Command for CreateDelegation {
    type Subject = DelegationId;
    type Reply = Option<DelegationView>;

    fn decide(self, tenant: &Tenant, _: By, moment: Moment) -> Result<(Option<Change>, DelegationId), Error> {
        let at = moment.wall;
        let grantor = self.check_agents(tenant, at)?;
        if self.expires_at.is_some_and(|expires| expires <= at) {
            return Err(Error::field(Code::InvalidField, "expiresAt", format!("must be later than now, {at}")));
        }
        let mut standing = Standing::default();
        let live: Vec<(u32, &Delegation)> = tenant
            .open_links(tenant.links().arriving(self.from), at)
            .filter(|(place, _)| standing.of(tenant, *place, at) == DelegationStatus::Active)
            .collect();
        let below = || live.iter().map(|(_, link)| &link.profile.spec);
        let depth = below().map(|spec| spec.depth).max().unwrap_or(0) + 1;
        let allowed = tenant.profile().settings.max_delegation_depth.into_iter();
        let allowed = allowed.chain(below().map(|spec| spec.effective_max_depth)).chain([self.max_depth]);
        let effective_max_depth = allowed.min().unwrap_or(self.max_depth);
        if depth > effective_max_depth {
            let message = format!("the chain would have a depth of {depth}, over the maximum of {effective_max_depth}");
            let details = json!({ "depth": depth, "maxDepth": effective_max_depth });
            return Err(Error::new(Code::DelegationDepthExceeded, message).with_details(details));
        }
        self.check_coverage(tenant, grantor, at)?;
        let stands_on: Vec<u32> = live.iter().map(|(place, _)| *place).collect();
        self.check_room(tenant, &stands_on, at)?;
        let Self { from, to, permissions, expires_at, max_depth } = self;
        let delegation = DelegationId::derive(moment.at, moment.seq, tenant.id().tag());
        let spec =
            DelegationSpec { from, to, permissions, expires_at, max_depth, effective_max_depth, depth, stands_on };
        Ok((Some(Change::DelegationCreated { delegation, spec: Box::new(spec) }), delegation))
    }

    fn reply(tenant: &Tenant, id: DelegationId, now: Timestamp) -> Option<DelegationView> {
        DelegationView::find(tenant, id, now).ok()
    }
}

impl Creates for CreateDelegation {
    fn made(tenant: &Tenant, change: &Change, _: Timestamp) -> Option<Self::Reply> {
        let Change::DelegationCreated { delegation, .. } = change else { return None };
        let (_, link) = tenant.delegation(*delegation)?;
        // A new delegation is live: its grantor is active, and so are those it stands on.
        Some(Some(DelegationView { tenant: tenant.id(), delegation: link.clone(), status: DelegationStatus::Active }))
    }
}

/// Revokes a delegation for good, with all delegations that stand on it.
pub struct RevokeDelegation(
    /// The delegation.
    pub DelegationId,
);

impl Command for RevokeDelegation {
    type Subject = ();
    type Reply = ();

    fn decide(self, tenant: &Tenant, _: By, _: Moment) -> Result<(Option<Change>, ()), Error> {
        let (_, link) = existing(tenant, self.0)?;
        let DelegationSpec { from, to, .. } = link.profile.spec;
        Ok(((!link.revoked).then_some(Change::DelegationRevoked { delegation: self.0, from, to }), ()))
    }

    fn reply(_: &Tenant, (): (), _: Timestamp) {}
}
