//! Faults that tests inject: a panic, a stall, a jump of the clock; and what happens every hour. No route reaches them.

use std::sync::Arc;

use super::kavach::Kavach;
use super::tenant_calls::unreachable;
use crate::actors::Visit;
use crate::actors::messages::{InjectPanic, InjectStall};
use crate::domain::{Error, TenantRef};

impl Kavach {
    /// Makes a tenant's actor panic, so that tests can check that no other tenant notices.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, or the reason that the tenant is down.
    #[doc(hidden)]
    pub fn inject_panic(&self, tenant: impl Into<TenantRef>) -> Result<(), Error> {
        let route = self.core.directory.find(&tenant.into())?;
        let sent = self.core.reach(route.id, Visit::Call, |resident| resident.mailbox.do_send(InjectPanic));
        sent.map_err(|problem| unreachable(route.id, problem))
    }

    /// Stalls a tenant's actor until the channel's other end sends or is dropped, so that tests can watch its mailbox
    /// fill.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, or the reason that the tenant is down.
    #[doc(hidden)]
    pub fn inject_stall(
        &self,
        tenant: impl Into<TenantRef>,
        until: std::sync::mpsc::Receiver<()>,
    ) -> Result<(), Error> {
        let route = self.core.directory.find(&tenant.into())?;
        let sent = self.core.reach(route.id, Visit::Call, |resident| resident.mailbox.do_send(InjectStall(until)));
        sent.map_err(|problem| unreachable(route.id, problem))
    }

    /// Shifts the system's clock by `millis`, so that tests can see what a jump does.
    #[doc(hidden)]
    pub fn inject_clock_step(&self, millis: i64) {
        self.core.clock.step(millis);
    }

    /// Has tenants remove what is past their retention, as they do every hour.
    #[doc(hidden)]
    pub async fn inject_retention_round(&self) {
        crate::actors::registry::remove_old_segments(Arc::clone(&self.core)).await;
    }
}
