//! What happened to a tenant: the only thing that changes its state, and all that its journal holds.
//!
//! Both kinds are durable data. A [`Change`] is written with named fields; a [`Record`], of which there is one a
//! call, as a bare array whose layout is version 1 of the format. A field is never removed or reordered.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::agent::AgentSpec;
use crate::author::{Author, By};
use crate::budget::cost::Cost;
use crate::budget::policy::{Limits, Period, PolicyAction, Usage};
use crate::budget::settlement::UsageRecord;
use crate::delegation::DelegationSpec;
use crate::error::Code;
use crate::id::{AgentId, DelegationId, KeyId, PolicyId, TenantId};
use crate::secret::SecretHash;
use crate::tenant::settings::Settings;
use crate::text::Slug;
use crate::time::Timestamp;
use crate::trace_id::TraceId;

/// One event. Its time and sequence number stand beside it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// A call was decided.
    Decided(Record<'a>),
    /// Somebody changed the tenant or what is in it.
    Changed(ChangeRecord),
    /// Somebody reported what a call, or something else, really cost.
    Used(UsageRecord),
}

/// A change and who made it. What is not known takes no byte, and older versions wrote none of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRecord {
    /// Who made it.
    pub by: By,
    /// Why, where who made it said so. One without takes no byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
    /// What else is known of who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Box<Author>>,
    /// What it is.
    pub change: Change,
    /// What was there before it, of what it changed or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Before>>,
}

impl ChangeRecord {
    /// A change of which no more is known.
    pub fn new(by: By, change: Change) -> Self {
        Self { by, reason: None, author: None, change, before: None }
    }
}

/// What a change replaced or ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Before {
    /// The tenant.
    Tenant {
        /// Its name.
        name: Box<str>,
        /// Its slug; the default tenant has none.
        slug: Option<Slug>,
        /// Its settings.
        settings: Settings,
        /// Whether its agents were stopped.
        suspended: bool,
    },
    /// A tenant key.
    Key {
        /// Its name.
        name: Box<str>,
        /// The start of its text.
        prefix: Box<str>,
    },
    /// An agent.
    Agent(Box<AgentSpec>),
    /// A budget policy.
    Policy {
        /// The only agent it was about.
        agent: Option<AgentId>,
        /// The only owner whose agents it was about.
        owner: Option<Arc<str>>,
        /// Its limits.
        limits: Limits,
        /// What happened when one was exceeded.
        action: PolicyAction,
        /// Whether it was switched off.
        disabled: bool,
    },
    /// What was used of a budget policy.
    Used(Usage),
    /// A delegation.
    Delegation(Box<DelegationSpec>),
}

/// A change, with the whole new value of what it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// The tenant began. Always its first event.
    #[serde(rename_all = "camelCase")]
    TenantCreated {
        /// Its id.
        id: TenantId,
        /// Its name.
        name: Box<str>,
        /// Its slug; the default tenant has none.
        slug: Option<Slug>,
        /// Its settings.
        settings: Settings,
    },
    /// The tenant's name or settings are now these.
    TenantUpdated {
        /// The name.
        name: Box<str>,
        /// The settings.
        settings: Settings,
    },
    /// Its agents are stopped.
    TenantSuspended,
    /// Its agents may work again.
    TenantActivated,
    /// A tenant key was made.
    KeyCreated {
        /// Its id.
        key: KeyId,
        /// Its name.
        name: Box<str>,
        /// Its hash.
        hash: SecretHash,
        /// The start of its text.
        prefix: Box<str>,
    },
    /// A tenant key is no longer valid.
    KeyRevoked {
        /// Its id.
        key: KeyId,
    },
    /// An agent was created.
    AgentCreated {
        /// Its id.
        agent: AgentId,
        /// What it is.
        spec: Box<AgentSpec>,
        /// Its token.
        token: SecretHash,
    },
    /// An agent is now this.
    AgentUpdated {
        /// Its id.
        agent: AgentId,
        /// What it is.
        spec: Box<AgentSpec>,
    },
    /// A budget policy was created.
    PolicyCreated {
        /// Its id.
        policy: PolicyId,
        /// The only agent it is about.
        agent: Option<AgentId>,
        /// The only owner whose agents it is about.
        owner: Option<Arc<str>>,
        /// Its limits.
        limits: Limits,
        /// What happens when one is exceeded.
        action: PolicyAction,
    },
    /// A policy is now this.
    PolicyUpdated {
        /// Its id.
        policy: PolicyId,
        /// Its limits.
        limits: Limits,
        /// What happens when one is exceeded.
        action: PolicyAction,
        /// Whether it is switched off.
        disabled: bool,
    },
    /// A policy is gone.
    PolicyDeleted {
        /// Its id.
        policy: PolicyId,
    },
    /// What was used of a policy counts no more.
    PolicyReset {
        /// Its id.
        policy: PolicyId,
        /// Which counts.
        period: Period,
    },
    /// An agent delegates to another.
    DelegationCreated {
        /// The link's id.
        delegation: DelegationId,
        /// What it is.
        spec: Box<DelegationSpec>,
    },
    /// A link was revoked, and with it all that stand on it.
    DelegationRevoked {
        /// Its id.
        delegation: DelegationId,
        /// Its grantor.
        from: AgentId,
        /// The agent it lent to.
        to: AgentId,
    },
    /// An agent was revoked, and with it the links it made, those to it, and all that stand on them.
    AgentRevoked {
        /// Its id.
        agent: AgentId,
    },
    /// Another tenant is about to be erased, with all that its own journal says. In the default tenant's journal only.
    TenantDeleted {
        /// Its id.
        tenant: TenantId,
        /// Its slug; one whose label was lost has none.
        slug: Option<Slug>,
    },
    /// An agent has a new token.
    #[serde(rename_all = "camelCase")]
    TokenRotated {
        /// Its id.
        agent: AgentId,
        /// The new token.
        token: SecretHash,
        /// Until when the old one stays valid, where it does.
        grace_until: Option<Timestamp>,
    },
}

/// A decided call: all that its audit entry shows and all that it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// The agent that was asked about, known or not.
    pub agent: Option<AgentId>,
    /// The owner of the agent at that time, where the agent is known.
    pub owner: Option<Arc<str>>,
    /// The action.
    pub action: &'a str,
    /// The resource.
    pub resource: &'a str,
    /// The call's arguments as compact JSON.
    #[serde(borrow)]
    pub arguments: Option<&'a str>,
    /// What granted it; absent where it was denied.
    pub granted_by: Option<Grant>,
    /// Why it was denied; absent where it was allowed.
    pub code: Option<Code>,
    /// The same for people.
    #[serde(borrow)]
    pub reason: Option<Cow<'a, str>>,
    /// Whether the denial is one of a rate, which passes by itself.
    pub rate_limited: bool,
    /// Whether the denial revoked the agent.
    pub revokes: bool,
    /// The policy that denied it.
    pub policy: Option<PolicyId>,
    /// The estimated cost the call named.
    pub cost: Option<Cost>,
    /// The caller's address, where it is known.
    pub ip: Option<IpAddr>,
    /// The caller's `User-Agent`.
    #[serde(borrow)]
    pub user_agent: Option<&'a str>,
    /// Microseconds from the request's arrival to the decision.
    pub micros: u32,
    /// The trace that the call is part of. It is no part of the array: an event that has one is written as another kind,
    /// so that the others take no byte more.
    #[serde(skip)]
    pub trace: Option<TraceId>,
}

/// What granted a call: a permission of the agent itself, or one delegated to it. Every permission on the way counts
/// the call in its window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The links from the calling agent to the agent whose own permission it rests on; empty where that is itself.
    pub links: Vec<LinkUse>,
    /// Position of that permission among the own ones of the agent at the end of the links.
    pub permission: u32,
}

/// A delegated permission that a call made use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkUse {
    /// Place of the link among the tenant's.
    pub link: u32,
    /// Position of the permission among the link's.
    pub permission: u32,
}

impl Record<'_> {
    /// Whether the call was allowed.
    pub fn allowed(&self) -> bool {
        self.code.is_none()
    }
}
