//! Events: the only thing that changes a tenant's state, and all that its journal holds.
//!
//! Both kinds are durable data. A [`Change`] is written with named fields; a [`Record`], of which there is one per
//! call, as a bare array in the layout of format version 1. A field is never removed or reordered.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::agent::AgentSpec;
use crate::author::{Author, By};
use crate::budget::cost::Cost;
use crate::budget::counts::{Cleared, Period};
use crate::budget::crossed::Crossed;
use crate::budget::opening::Opened;
use crate::budget::policy::{PolicyAction, PolicyTerms};
use crate::budget::policy_limits::Limits;
use crate::budget::settlement::UsageRecord;
use crate::decision::kept_answer::KeptAnswer;
use crate::delegation::DelegationSpec;
use crate::error::Code;
use crate::id::{AgentId, DelegationId, KeyId, MessageId, PolicyId, TenantId, WebhookId};
use crate::idempotency::kept_reply::KeptReply;
use crate::idempotency::key::UsedKey;
use crate::instance::lease::LeaseRecord;
use crate::secret::SecretHash;
use crate::tenant::key::is_default;
use crate::tenant::role::{KeyRole, OperatorRole};
use crate::tenant::settings::TenantSettings;
use crate::text::Slug;
use crate::time::Timestamp;
use crate::trace_id::TraceId;
use crate::webhook::outbox::DeliveryRecord;
use crate::webhook::spec::WebhookSpec;

/// One event. Its time and sequence number are stored beside it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// A call was decided.
    Decided(Record<'a>),
    /// Somebody changed the tenant or what is in it.
    Changed(ChangeRecord),
    /// Somebody reported what a call, or something else, really cost.
    Used(UsageRecord),
    /// A message to a webhook was delivered or given up.
    Delivered(DeliveryRecord),
    /// A slice of an instance policy was granted, taken or returned.
    Leased(LeaseRecord),
}

impl Event<'_> {
    /// The idempotency key of the request behind it.
    pub fn key(&self) -> Option<UsedKey> {
        match self {
            Self::Decided(record) => record.extras.as_ref().and_then(|extras| extras.key),
            Self::Changed(record) => record.key,
            Self::Used(record) => record.key,
            Self::Delivered(_) | Self::Leased(_) => None,
        }
    }

    /// Whether the audit trail shows it. Slices of instance policies say what several tenants use, and the calls that spend
    /// them are there.
    pub fn is_entry(&self) -> bool {
        !matches!(self, Self::Leased(_))
    }
}

/// A change and its author. Unknown fields take no byte, and older versions wrote none of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRecord {
    /// The author.
    pub by: By,
    /// The author's reason, if given. Without one it takes no byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
    /// What else we know about the author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Box<Author>>,
    /// The change itself.
    pub change: Change,
    /// The old values of what it changed or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Before>>,
    /// The request's idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<UsedKey>,
    /// The windows that it opens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opens: Vec<Opened>,
    /// What a repeat of the request is told beyond what the change says. Only a request with a key has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptReply>,
}

impl ChangeRecord {
    /// A change about which nothing else is known.
    pub fn new(by: By, change: Change) -> Self {
        Self { by, reason: None, author: None, change, before: None, opens: Vec::new(), key: None, kept: None }
    }
}

/// What a change replaced or ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Before {
    /// The tenant.
    Tenant {
        /// The tenant's name.
        name: Box<str>,
        /// The tenant's slug; the default tenant has none.
        slug: Option<Slug>,
        /// The tenant's settings.
        settings: TenantSettings,
        /// Whether its agents were stopped.
        suspended: bool,
    },
    /// A tenant key.
    #[serde(rename_all = "camelCase")]
    Key {
        /// The key's name.
        name: Box<str>,
        /// The first characters of the key.
        prefix: Box<str>,
        /// The key's role.
        #[serde(default, skip_serializing_if = "is_default")]
        role: KeyRole,
        /// When it was to end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    /// An operator key.
    #[serde(rename_all = "camelCase")]
    OperatorKey {
        /// The key's name.
        name: Box<str>,
        /// The first characters of the key.
        prefix: Box<str>,
        /// The key's role.
        role: OperatorRole,
        /// When it was to end.
        expires_at: Option<Timestamp>,
    },
    /// An agent.
    Agent(Box<AgentSpec>),
    /// A budget policy.
    Policy {
        /// The only agent it applied to.
        agent: Option<AgentId>,
        /// The only owner whose agents it applied to.
        owner: Option<Arc<str>>,
        /// The policy's limits.
        limits: Limits,
        /// What happened when one was exceeded.
        action: PolicyAction,
        /// Whether it was switched off.
        disabled: bool,
        /// What only some policies have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Box<PolicyTerms>>,
    },
    /// The usage of a budget policy.
    Used(Box<Cleared>),
    /// A delegation.
    Delegation(Box<DelegationSpec>),
    /// A webhook.
    Webhook(Box<WebhookSpec>),
}

/// A change, with the whole new value of what it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// The tenant was created. Always its first event.
    #[serde(rename_all = "camelCase")]
    TenantCreated {
        /// The tenant's id.
        id: TenantId,
        /// The tenant's name.
        name: Box<str>,
        /// The tenant's slug; the default tenant has none.
        slug: Option<Slug>,
        /// The tenant's settings.
        settings: TenantSettings,
    },
    /// The tenant's name or settings changed.
    TenantUpdated {
        /// The new name.
        name: Box<str>,
        /// The new settings.
        settings: TenantSettings,
    },
    /// The tenant's agents were stopped.
    TenantSuspended,
    /// The tenant's agents may work again.
    TenantActivated,
    /// A tenant key was created.
    #[serde(rename_all = "camelCase")]
    KeyCreated {
        /// The key's id.
        key: KeyId,
        /// The key's name.
        name: Box<str>,
        /// The key's hash.
        hash: SecretHash,
        /// The first characters of the key.
        prefix: Box<str>,
        /// What it may do.
        #[serde(default, skip_serializing_if = "is_default")]
        role: KeyRole,
        /// When it ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    /// A tenant key was revoked.
    KeyRevoked {
        /// The key's id.
        key: KeyId,
    },
    /// A tenant key got another name or another end.
    #[serde(rename_all = "camelCase")]
    KeyUpdated {
        /// The key's id.
        key: KeyId,
        /// The name that it has now.
        name: Box<str>,
        /// When it ends now.
        expires_at: Option<Timestamp>,
    },
    /// An operator key was created. Only the default tenant's journal has this.
    #[serde(rename_all = "camelCase")]
    OperatorKeyCreated {
        /// The key's id.
        key: KeyId,
        /// The key's name.
        name: Box<str>,
        /// The key's hash.
        hash: SecretHash,
        /// The first characters of the key.
        prefix: Box<str>,
        /// What it may do.
        role: OperatorRole,
        /// When it ends.
        expires_at: Option<Timestamp>,
    },
    /// An operator key was revoked. Only the default tenant's journal has this.
    OperatorKeyRevoked {
        /// The key's id.
        key: KeyId,
    },
    /// An operator key got another name or another end. Only the default tenant's journal has this.
    #[serde(rename_all = "camelCase")]
    OperatorKeyUpdated {
        /// The key's id.
        key: KeyId,
        /// The name that it has now.
        name: Box<str>,
        /// When it ends now.
        expires_at: Option<Timestamp>,
    },
    /// An agent was created.
    AgentCreated {
        /// The agent's id.
        agent: AgentId,
        /// The agent's spec.
        spec: Box<AgentSpec>,
        /// The token's hash.
        token: SecretHash,
    },
    /// An agent was changed.
    AgentUpdated {
        /// The agent's id.
        agent: AgentId,
        /// The agent's new spec.
        spec: Box<AgentSpec>,
    },
    /// A budget policy was created.
    PolicyCreated {
        /// The policy's id.
        policy: PolicyId,
        /// The only agent it applies to.
        agent: Option<AgentId>,
        /// The only owner whose agents it applies to.
        owner: Option<Arc<str>>,
        /// The policy's limits.
        limits: Limits,
        /// What happens when one is exceeded.
        action: PolicyAction,
        /// What only some policies have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Box<PolicyTerms>>,
    },
    /// A policy was changed.
    PolicyUpdated {
        /// The policy's id.
        policy: PolicyId,
        /// The new limits.
        limits: Limits,
        /// What happens when one is exceeded.
        action: PolicyAction,
        /// Whether it is now switched off.
        disabled: bool,
        /// What only some policies have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Box<PolicyTerms>>,
    },
    /// A policy was deleted.
    PolicyDeleted {
        /// The policy's id.
        policy: PolicyId,
    },
    /// A policy's usage was reset.
    PolicyReset {
        /// The policy's id.
        policy: PolicyId,
        /// The counts that were reset.
        period: Period,
    },
    /// The usage of all policies was reset that the author may change.
    PoliciesReset {
        /// The counts that were reset.
        period: Period,
    },
    /// An agent delegated to another.
    DelegationCreated {
        /// The link's id.
        delegation: DelegationId,
        /// The link's spec.
        spec: Box<DelegationSpec>,
    },
    /// A link was revoked, with all links that stand on it.
    DelegationRevoked {
        /// The link's id.
        delegation: DelegationId,
        /// The grantor.
        from: AgentId,
        /// The agent it lent to.
        to: AgentId,
    },
    /// An agent was revoked, with its links in both directions and all that stand on them.
    AgentRevoked {
        /// The agent's id.
        agent: AgentId,
    },
    /// An agent was suspended, until somebody activates it.
    AgentSuspended {
        /// The agent's id.
        agent: AgentId,
    },
    /// A suspended agent may work again.
    AgentActivated {
        /// The agent's id.
        agent: AgentId,
    },
    /// A webhook was created.
    WebhookCreated {
        /// The webhook's id.
        webhook: WebhookId,
        /// What it was told to be.
        spec: Box<WebhookSpec>,
    },
    /// A webhook was changed.
    WebhookUpdated {
        /// The webhook's id.
        webhook: WebhookId,
        /// What it is now.
        spec: Box<WebhookSpec>,
    },
    /// A webhook was deleted, with what waited for it.
    WebhookDeleted {
        /// The webhook's id.
        webhook: WebhookId,
    },
    /// A webhook got a new secret.
    WebhookRotated {
        /// The webhook's id.
        webhook: WebhookId,
    },
    /// A webhook is sent a test message.
    WebhookTested {
        /// The webhook's id.
        webhook: WebhookId,
    },
    /// A message that was delivered or given up is sent again.
    WebhookRedelivered {
        /// The webhook's id.
        webhook: WebhookId,
        /// The message.
        message: MessageId,
    },
    /// Another tenant is about to be erased, with its journal. Only the default tenant's journal has this.
    TenantDeleted {
        /// That tenant's id.
        tenant: TenantId,
        /// That tenant's slug; `None` if its label was lost.
        slug: Option<Slug>,
    },
    /// A tenant was asked for, with an idempotency key, and is about to be created. Only the default tenant's journal has
    /// this, so that it knows the key whatever the tenants are called.
    TenantRequested {
        /// That tenant's id.
        tenant: TenantId,
        /// That tenant's slug.
        slug: Option<Slug>,
    },
    /// An agent got a new token.
    #[serde(rename_all = "camelCase")]
    TokenRotated {
        /// The agent's id.
        agent: AgentId,
        /// The new token's hash.
        token: SecretHash,
        /// Until when the old token stays valid; `None` if it ended at once.
        grace_until: Option<Timestamp>,
    },
}

impl Change {
    /// Whether it makes, changes or revokes an operator's key.
    pub fn is_of_operator_keys(&self) -> bool {
        matches!(
            self,
            Self::OperatorKeyCreated { .. } | Self::OperatorKeyRevoked { .. } | Self::OperatorKeyUpdated { .. }
        )
    }
}

/// A decided call: all that its audit entry shows and all that it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// The agent that the request named, known or not.
    pub agent: Option<AgentId>,
    /// The agent's owner at that time, if the agent is known.
    pub owner: Option<Arc<str>>,
    /// The action.
    pub action: &'a str,
    /// The resource.
    pub resource: &'a str,
    /// The call's arguments as compact JSON.
    #[serde(borrow)]
    pub arguments: Option<&'a str>,
    /// What granted it; absent for a denial.
    pub granted_by: Option<Grant>,
    /// The code of a denial; absent if allowed.
    pub code: Option<Code>,
    /// The reason of a denial, in words.
    #[serde(borrow)]
    pub reason: Option<Cow<'a, str>>,
    /// Whether a rate caused the denial, which passes by itself.
    pub rate_limited: bool,
    /// Whether the denial revoked the agent.
    pub revokes: bool,
    /// The policy that denied it.
    pub policy: Option<PolicyId>,
    /// The call's estimated cost.
    pub cost: Option<Cost>,
    /// The caller's address, if known.
    pub ip: Option<IpAddr>,
    /// The caller's `User-Agent`.
    #[serde(borrow)]
    pub user_agent: Option<&'a str>,
    /// Microseconds from the request's arrival to the decision.
    pub micros: u32,
    /// The trace that the call is part of. It is not in the array: an event with a trace is written as another kind, so
    /// that the others take no extra byte.
    #[serde(skip)]
    pub trace: Option<TraceId>,
    /// What only some calls have. It is not in the array either: an event with it is written as another kind.
    #[serde(skip)]
    pub extras: Option<Box<Extras>>,
}

/// An event as far as a spend report needs it. The rest is passed over, which takes a fraction of the time.
#[derive(Clone, Debug, PartialEq)]
pub enum BriefEvent<'a> {
    /// A call was decided.
    Decided(BriefRecord<'a>),
    /// Somebody changed something.
    Changed,
    /// Somebody reported what was used.
    Used(UsageRecord),
}

/// A decided call as far as a spend report needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BriefRecord<'a> {
    /// The agent that the request named, known or not.
    pub agent: Option<AgentId>,
    /// The agent's owner at that time, if the agent is known.
    pub owner: Option<&'a str>,
    /// The action.
    pub action: &'a str,
    /// The resource.
    pub resource: &'a str,
    /// Whether the call was allowed.
    pub allowed: bool,
    /// The call's estimated cost.
    pub cost: Option<Cost>,
    /// Whether the estimate was held. It is among the extras, not in the array.
    pub held: bool,
}

/// What only some calls have. A part that a call lacks takes no byte.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extras {
    /// When the hold on the call's cost ends, if the caller asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Timestamp>,
    /// The call's idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<UsedKey>,
    /// What a repeat of the call is told beyond what the record says. Only a call with a key has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<KeptAnswer>>,
    /// The scoped policies that it charged, by the numbers of the events that created them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scoped: Vec<u64>,
    /// The windows that it opens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opens: Vec<Opened>,
    /// The thresholds that it reaches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crossed: Vec<Crossed>,
    /// The instance policies whose slices it charged, by the numbers of the events in the default tenant that created them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance: Vec<u64>,
}

/// What granted a call: the agent's own permission, or a delegated one. Every permission on the way counts the call in
/// its window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The links from the calling agent to the agent that owns the permission; empty if it is the caller's own.
    pub links: Vec<LinkUse>,
    /// Position of that permission among its agent's own.
    pub permission: u32,
}

/// A delegated permission that a call used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkUse {
    /// The link's place among the tenant's.
    pub link: u32,
    /// Position of the permission in the link.
    pub permission: u32,
}

impl Record<'_> {
    /// Whether the call was allowed.
    pub fn allowed(&self) -> bool {
        self.code.is_none()
    }
}
