//! What we record with a change: its author, and the old values.

use std::net::IpAddr;

use crate::author::Author;
use crate::author::By;
use crate::budget::policy::Policy;
use crate::decision::request::kept_user_agent;
use crate::event::{Before, Change, ChangeRecord};
use crate::secret_scan::hide_secrets;
use crate::tenant::{Tenant, TenantStatus};
use crate::time::Timestamp;

impl Author {
    /// A caller at that address with that `User-Agent`, which is cut to the kept length.
    pub fn calling(ip: Option<IpAddr>, user_agent: Option<&str>) -> Self {
        let user_agent = kept_user_agent(user_agent).map(|text| hide_secrets(text).as_ref().into());
        Self { key_name: None, ip, user_agent }
    }
}

impl Before {
    /// The tenant as it is now.
    pub fn tenant(tenant: &Tenant) -> Self {
        let profile = tenant.profile();
        Self::Tenant {
            name: profile.name.clone(),
            slug: profile.slug.clone(),
            settings: profile.settings.clone(),
            suspended: profile.status == TenantStatus::Suspended,
        }
    }

    /// The old values of what the change replaces or ends. Of a secret there is nothing to show.
    pub fn of(tenant: &Tenant, change: &Change, at: Timestamp) -> Option<Self> {
        let policy = |id| tenant.policies().iter().find(|policy| policy.profile.id == id);
        match change {
            Change::TenantUpdated { .. } | Change::TenantSuspended | Change::TenantActivated => {
                Some(Self::tenant(tenant))
            }
            Change::KeyRevoked { key } | Change::KeyUpdated { key, .. } => {
                let key = tenant.keys().iter().find(|known| known.id == *key)?;
                let (name, prefix) = (key.name.clone(), key.prefix.clone());
                Some(Self::Key { name, prefix, role: key.role, expires_at: key.expires_at })
            }
            Change::OperatorKeyRevoked { key } | Change::OperatorKeyUpdated { key, .. } => {
                let key = tenant.operator_keys().iter().find(|known| known.id == *key)?;
                let (name, prefix) = (key.name.clone(), key.prefix.clone());
                Some(Self::OperatorKey { name, prefix, role: key.role, expires_at: key.expires_at })
            }
            Change::AgentUpdated { agent, .. } | Change::AgentRevoked { agent } => {
                tenant.agent(*agent).map(|agent| Self::Agent(Box::new(agent.profile.spec.clone())))
            }
            Change::PolicyUpdated { policy: id, .. } | Change::PolicyDeleted { policy: id } => {
                policy(*id).map(Self::policy)
            }
            Change::PolicyReset { policy: id, .. } => {
                let policies = tenant.policies_at(at);
                // What all tenants used of an instance policy is not for the keys of the one whose trail has the entry.
                let mut own = policies.iter().filter(|policy| !policy.profile.terms.instance);
                let policy = own.find(|policy| policy.profile.id == *id);
                policy.map(|policy| Self::Used(Box::new((&*policy.used(at)).into())))
            }
            Change::DelegationRevoked { delegation, .. } => {
                let (_, link) = tenant.delegation(*delegation)?;
                Some(Self::Delegation(Box::new(link.profile.spec.clone())))
            }
            Change::WebhookUpdated { webhook, .. } | Change::WebhookDeleted { webhook } => {
                tenant.webhook(*webhook).map(|webhook| Self::Webhook(Box::new(webhook.profile.spec.clone())))
            }
            Change::TenantCreated { .. }
            | Change::TenantDeleted { .. }
            | Change::TenantRequested { .. }
            | Change::KeyCreated { .. }
            | Change::OperatorKeyCreated { .. }
            | Change::AgentCreated { .. }
            | Change::AgentSuspended { .. }
            | Change::AgentActivated { .. }
            | Change::TokenRotated { .. }
            | Change::PolicyCreated { .. }
            | Change::PoliciesReset { .. }
            | Change::DelegationCreated { .. }
            | Change::WebhookCreated { .. }
            | Change::WebhookRotated { .. }
            | Change::WebhookTested { .. }
            | Change::WebhookRedelivered { .. } => None,
        }
    }

    fn policy(policy: &Policy) -> Self {
        let profile = &policy.profile;
        Self::Policy {
            agent: profile.agent,
            owner: profile.owner.clone(),
            limits: profile.limits.clone(),
            action: profile.action,
            disabled: profile.disabled,
            terms: profile.terms.stored(),
        }
    }
}

impl Tenant {
    /// The change with all that is known before it happens.
    pub fn describe(&self, by: By, author: Option<Author>, change: Change, at: Timestamp) -> ChangeRecord {
        let key_name = match by {
            By::Key(id) => self.keys().iter().find(|key| key.id == id).map(|key| key.name.clone()),
            // Another tenant keeps the names of operators' keys, so the caller's side tells.
            By::Operator | By::OperatorKey(_) | By::Time => None,
        };
        let author = match key_name {
            Some(_) => Some(Author { key_name, ..author.unwrap_or_default() }),
            None => author,
        };
        let before = Before::of(self, &change, at).map(Box::new);
        ChangeRecord { author: author.map(Box::new), before, ..ChangeRecord::new(by, change) }
    }
}
