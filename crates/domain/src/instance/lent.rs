//! What the lender has lent, by policy and tenant.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::TenantId;
use crate::instance::amounts::Amounts;
use crate::time::Timestamp;

/// What is lent of a policy to one tenant: totals, and what the tenant last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lent {
    /// The tenant.
    pub tenant: TenantId,
    /// All that was granted.
    pub granted: Amounts,
    /// The first moment at which the tenant can spend nothing of it any more.
    pub until: Timestamp,
    /// Number of the tenant's event up to which its last report tells.
    pub order: u64,
    /// What it had returned by then.
    pub returned: Amounts,
    /// What it had spent from slices before the present one by then.
    #[serde(default, skip_serializing_if = "Amounts::is_zero")]
    pub before: Amounts,
    /// When the slice before the present one ended.
    #[serde(default, skip_serializing_if = "is_never")]
    pub earlier: Timestamp,
    /// What it had spent from the present one by then.
    pub spent: Amounts,
    /// What it had used without one by then.
    #[serde(default, skip_serializing_if = "Amounts::is_zero")]
    pub late: Amounts,
}

// Serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_never(time: &Timestamp) -> bool {
    *time == Timestamp::default()
}

impl Lent {
    /// Nothing was lent to that tenant yet.
    pub fn none(tenant: TenantId) -> Self {
        let (granted, returned, before, spent, late) = Default::default();
        let never = Timestamp::default();
        Self { tenant, granted, until: never, order: 0, returned, before, earlier: never, spent, late }
    }

    /// What the tenant may still have, or have spent without telling. It counts as held.
    pub fn outstanding(&self) -> Amounts {
        self.granted.minus(self.accounted())
    }

    /// What it has nothing of any more, as far as the lender knows.
    pub(crate) fn accounted(&self) -> Amounts {
        self.returned.plus(self.before).plus(self.spent)
    }

    /// What counts in the windows of its slices: spent, or held.
    pub(crate) fn charged(&self) -> Amounts {
        self.granted.minus(self.returned).max(self.before.plus(self.spent))
    }

    /// The same where a slice begins that ends then.
    pub(crate) fn begins(self, until: Timestamp) -> Self {
        if until == self.until {
            return self;
        }
        let (before, spent) = (self.before.plus(self.spent), Amounts::default());
        Self { before, spent, earlier: self.until, until, ..self }
    }

    /// Whether it counts in a window that starts then: it may still be spent there.
    pub(crate) fn is_in_window_from(&self, start: i64) -> bool {
        start < self.until.millis()
    }
}

/// All that is lent, by policy (the number of the event that created it) and tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LentOut(BTreeMap<(u64, TenantId), Lent>);

impl LentOut {
    /// Whether nothing was ever lent of a policy that is still there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is lent of that policy to that tenant.
    pub fn get(&self, policy: u64, tenant: TenantId) -> Option<&Lent> {
        self.0.get(&(policy, tenant))
    }

    /// The same; nothing if nothing ever was.
    pub fn lent(&self, policy: u64, tenant: TenantId) -> Lent {
        self.get(policy, tenant).copied().unwrap_or_else(|| Lent::none(tenant))
    }

    /// What is lent of that policy, by tenant.
    pub fn of_policy(&self, policy: u64) -> impl Iterator<Item = &Lent> {
        let (first, last) = (TenantId::from_bytes([0; 16]), TenantId::from_bytes([u8::MAX; 16]));
        self.0.range((policy, first)..=(policy, last)).map(|(_, lent)| lent)
    }

    pub(crate) fn insert(&mut self, policy: u64, lent: Lent) {
        self.0.insert((policy, lent.tenant), lent);
    }

    pub(crate) fn forget(&mut self, policy: u64) {
        self.0.retain(|(known, _), _| *known != policy);
    }
}

impl Serialize for LentOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|((policy, _), lent)| (policy, lent)))
    }
}

impl<'de> Deserialize<'de> for LentOut {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::<(u64, Lent)>::deserialize(deserializer)?;
        Ok(Self(list.into_iter().map(|(policy, lent)| ((policy, lent.tenant), lent)).collect()))
    }
}
