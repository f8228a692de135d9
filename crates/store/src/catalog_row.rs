//! A tenant's row in the catalog: what the server says about a tenant that is not in memory.

use kavach_domain::agent::AgentCounts;
use kavach_domain::tenant::{Profile, TenantStatus};
use kavach_domain::text::Slug;
use kavach_domain::time::DAY_MS;
use kavach_domain::{Tenant, TenantId, TenantSettings, Timestamp};
use serde::{Deserialize, Serialize};

/// What holds of a tenant as of its last event.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogRow {
    /// Its id, name, slug, settings and status.
    pub profile: Profile,
    /// Its agents.
    pub agents: AgentCounts,
    /// When an agent expires, so that the numbers above change without an event.
    pub agents_hold_until: Option<Timestamp>,
    /// How many policies it has.
    pub policies: usize,
    /// How many delegations it has, those that are over too.
    pub delegations: usize,
    /// How many holds were open.
    pub holds: usize,
    /// Whether a policy was near its limit, or denied a call that day.
    pub is_near_limit: bool,
    /// The time of its last event.
    pub last_event_at: Timestamp,
    /// How many events no snapshot covers.
    pub since_snapshot: u64,
    /// When its oldest segment is past its retention; `None` if it has no such segment, or keeps everything.
    pub retention_due: Option<Timestamp>,
    /// How many of its webhooks have a message to send.
    pub due_webhooks: usize,
    /// How many of its policies are about all tenants.
    pub instance_policies: usize,
    /// How many operators' keys it has, which only the default tenant can.
    pub operator_keys: usize,
}

/// A row as it is in the file: an array, with times in Unix milliseconds. The tenant's uuid is beside it.
#[derive(Serialize, Deserialize)]
struct StoredRow<'a> {
    name: &'a str,
    slug: Option<&'a str>,
    settings: TenantSettings,
    suspended: bool,
    created_ms: i64,
    updated_ms: i64,
    active: usize,
    revoked: usize,
    expired: usize,
    agents_hold_until_ms: Option<i64>,
    policies: usize,
    delegations: usize,
    is_near_limit: bool,
    last_event_ms: i64,
    since_snapshot: u64,
    retention_due_ms: Option<i64>,
    /// How many holds were open. A row that has none of this and what follows ends before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holds: Option<usize>,
    /// How many webhooks have something to send. A row that has none of this and what follows ends before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_webhooks: Option<usize>,
    /// How many policies are about all tenants. A row that has none of this and what follows ends before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance_policies: Option<usize>,
    /// The last element, which only a row of the default tenant ever has, like the one before it.
    #[serde(default, skip_serializing_if = "is_zero")]
    operator_keys: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl CatalogRow {
    /// The row of a tenant at `now`. `since_snapshot` is the number of events that no snapshot covers.
    pub fn of(tenant: &Tenant, now: Timestamp, since_snapshot: u64) -> Self {
        Self {
            profile: tenant.profile().clone(),
            agents: tenant.agent_counts(now),
            agents_hold_until: tenant.next_expiry(now),
            policies: tenant.policies().len(),
            delegations: tenant.delegations().len(),
            holds: tenant.holds().open().len(),
            is_near_limit: tenant.policies_at(now).iter().any(|policy| policy.near_limit(now).is_some()),
            last_event_at: tenant.time(),
            since_snapshot,
            retention_due: None,
            due_webhooks: tenant.webhooks().iter().filter(|webhook| webhook.due().is_some()).count(),
            instance_policies: tenant.policies().iter().filter(|policy| policy.profile.terms.instance).count(),
            operator_keys: tenant.operator_keys().len(),
        }
    }

    /// Sets when the oldest of several segments, which reaches up to that time, is past the retention.
    #[must_use]
    pub fn with_oldest_end(mut self, oldest_ends_ms: Option<i64>) -> Self {
        let days = self.profile.settings.audit_retention_days;
        let due = oldest_ends_ms.zip(days);
        self.retention_due = due.map(|(end, days)| Timestamp::from_millis(end).plus_millis(i64::from(days) * DAY_MS));
        self
    }

    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let Self { profile, agents, .. } = self;
        let of_default = self.instance_policies > 0 || self.operator_keys > 0;
        let stored = StoredRow {
            name: &profile.name,
            slug: profile.slug.as_ref().map(Slug::as_str),
            settings: profile.settings.clone(),
            suspended: profile.status == TenantStatus::Suspended,
            created_ms: profile.created_at.millis(),
            updated_ms: profile.updated_at.millis(),
            active: agents.active,
            revoked: agents.revoked,
            expired: agents.expired,
            agents_hold_until_ms: self.agents_hold_until.map(Timestamp::millis),
            policies: self.policies,
            delegations: self.delegations,
            is_near_limit: self.is_near_limit,
            last_event_ms: self.last_event_at.millis(),
            since_snapshot: self.since_snapshot,
            retention_due_ms: self.retention_due.map(Timestamp::millis),
            // Each stands before the next, so it is there where that is.
            holds: (self.holds > 0 || self.due_webhooks > 0 || of_default).then_some(self.holds),
            due_webhooks: (self.due_webhooks > 0 || of_default).then_some(self.due_webhooks),
            instance_policies: of_default.then_some(self.instance_policies),
            operator_keys: self.operator_keys,
        };
        // It is plain data: numbers, strings and arrays.
        rmp_serde::to_vec(&stored).unwrap_or_default()
    }

    /// The row of a tenant.
    ///
    /// # Errors
    /// The bytes are not a row.
    pub fn decode(id: TenantId, bytes: &[u8]) -> Result<Self, String> {
        let stored: StoredRow<'_> = rmp_serde::from_slice(bytes).map_err(|problem| problem.to_string())?;
        let slug = stored.slug.map(|slug| Slug::parse("slug", slug)).transpose();
        Ok(Self {
            profile: Profile {
                id,
                name: stored.name.into(),
                slug: slug.map_err(|problem| problem.message().to_owned())?,
                settings: stored.settings,
                status: if stored.suspended { TenantStatus::Suspended } else { TenantStatus::Active },
                created_at: Timestamp::from_millis(stored.created_ms),
                updated_at: Timestamp::from_millis(stored.updated_ms),
            },
            agents: AgentCounts { active: stored.active, revoked: stored.revoked, expired: stored.expired },
            agents_hold_until: stored.agents_hold_until_ms.map(Timestamp::from_millis),
            policies: stored.policies,
            delegations: stored.delegations,
            holds: stored.holds.unwrap_or(0),
            is_near_limit: stored.is_near_limit,
            last_event_at: Timestamp::from_millis(stored.last_event_ms),
            since_snapshot: stored.since_snapshot,
            retention_due: stored.retention_due_ms.map(Timestamp::from_millis),
            due_webhooks: stored.due_webhooks.unwrap_or(0),
            instance_policies: stored.instance_policies.unwrap_or(0),
            operator_keys: stored.operator_keys,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kavach_domain::AgentType;

    fn row() -> CatalogRow {
        let at = |millis: i64| Timestamp::from_millis(1_700_000_000_000 + millis);
        let id = TenantId::generate(at(0), [7; 10]).unwrap();
        let settings = TenantSettings {
            max_agents: Some(9),
            allowed_agent_types: Some(vec![AgentType::Service]),
            ..TenantSettings::default()
        };
        let slug = Some(Slug::parse("slug", "acme").unwrap());
        let status = TenantStatus::Suspended;
        let profile =
            Profile { id, name: "Acmé".into(), slug, settings, status, created_at: at(1), updated_at: at(2) };
        CatalogRow {
            profile,
            agents: AgentCounts { active: 3, revoked: 200, expired: 70_000 },
            agents_hold_until: Some(at(3)),
            policies: 4,
            delegations: 5,
            holds: 0,
            is_near_limit: true,
            last_event_at: at(4),
            since_snapshot: 6,
            retention_due: Some(at(5)),
            due_webhooks: 0,
            instance_policies: 0,
            operator_keys: 0,
        }
    }

    #[test]
    fn a_row_survives() {
        let row = row();
        assert_eq!(CatalogRow::decode(row.profile.id, &row.encode()), Ok(row.clone()));
        let holding = CatalogRow { holds: 70_000, ..row.clone() };
        assert_eq!(CatalogRow::decode(holding.profile.id, &holding.encode()), Ok(holding));
        let due = CatalogRow { due_webhooks: 3, ..row.clone() };
        assert_eq!(CatalogRow::decode(due.profile.id, &due.encode()), Ok(due));
        let instance = CatalogRow { instance_policies: 2, ..row.clone() };
        assert_eq!(CatalogRow::decode(instance.profile.id, &instance.encode()), Ok(instance));
        let keys = CatalogRow { operator_keys: 2, ..row.clone() };
        assert_eq!(CatalogRow::decode(keys.profile.id, &keys.encode()), Ok(keys));
        let least = CatalogRow { agents_hold_until: None, retention_due: None, is_near_limit: false, ..row };
        assert_eq!(CatalogRow::decode(least.profile.id, &least.encode()), Ok(least.clone()));
        assert!(CatalogRow::decode(least.profile.id, &[]).is_err());
        assert!(CatalogRow::decode(least.profile.id, &least.encode()[..9]).is_err());
    }

    #[test]
    fn format_version_1_is_written_byte_for_byte() {
        let golden = "dc0010a541636dc3a9a461636d659409c0c091a773657276696365c3cf0000018bcfe56801cf0000018bcfe5680203ccc8ce00\
                      011170cf0000018bcfe568030405c3cf0000018bcfe5680406cf0000018bcfe56805";
        let hex = |row: CatalogRow| row.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(row()), golden);
        // One with holds has an element more.
        let holding = CatalogRow { holds: 7, ..row() };
        assert_eq!(hex(holding), format!("{}07", golden.replacen("dc0010", "dc0011", 1)));
        // One with something to send has two.
        let due = CatalogRow { due_webhooks: 3, ..row() };
        assert_eq!(hex(due), format!("{}0003", golden.replacen("dc0010", "dc0012", 1)));
        // One with instance policies has three.
        let instance = CatalogRow { instance_policies: 2, ..row() };
        assert_eq!(hex(instance), format!("{}000002", golden.replacen("dc0010", "dc0013", 1)));
        // One with operators' keys has four.
        let keys = CatalogRow { operator_keys: 2, ..row() };
        assert_eq!(hex(keys), format!("{}00000002", golden.replacen("dc0010", "dc0014", 1)));
    }
}
