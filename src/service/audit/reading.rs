//! Who may read an audit trail, and when: reads run in short steps on threads that serve no calls.
//!
//! Each step holds one of a few permits ([`AuditLimits::readers`]), which are handed out fairly. However far back
//! someone reads, and however often, decisions keep their cores and everyone else's short reads get through. The threads
//! have a lower priority ([`ReaderThreads`]).
//!
//! [`AuditLimits::readers`]: crate::actors::audit_limits::AuditLimits::readers
//! [`ReaderThreads`]: crate::actors::reader_threads::ReaderThreads

use std::io;

use tracing::error;

use crate::actors::fair_semaphore::Party;
use crate::actors::messages::Verify;
use crate::actors::tenant_directory::unknown_tenant;
use crate::domain::{Code, Credential, Error, Right, TenantId, TenantRef, Timestamp};
use crate::service::kavach::Kavach;

impl Kavach {
    /// Runs one step of reading a tenant's trail; `None` means all tenants.
    pub(in crate::service) async fn read_trail<T: Send + 'static>(
        &self,
        tenant: Option<TenantId>,
        step: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.core.audit.readers.take(self.party(tenant)).await.map_err(unreadable)?;
        let read = self.core.audit.threads.run(move || {
            let read = step();
            // Only now: the caller may have gone away while this thread is still reading.
            drop(permit);
            read
        });
        read.await.map_err(unreadable)?.map_err(unreadable)
    }

    /// Checks that the caller may still read a tenant's trail. An open trail is a view of files that outlives both the
    /// key and the tenant, so long reads must check again.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_TOKEN`, or the tenant can't answer.
    pub(super) async fn check_reader(&self, tenant: TenantId) -> Result<(), Error> {
        let route = self.core.directory.living(tenant).ok_or_else(|| unknown_tenant(&TenantRef::Id(tenant)))?;
        match self.credential {
            // An operator may read the files even while the tenant has no actor.
            Credential::Operator(_) => self.check_operator(Right::Read),
            credential @ (Credential::TenantKey(..) | Credential::AgentToken(..)) => self
                .ask(&route, |reply| Verify { credential, reply })
                .await
                .and_then(|caller| caller.check(Right::Read)),
        }
    }

    /// When the caller's key ends by itself, if it is an operator's; `None` if it does not.
    pub(super) fn operator_until(&self) -> Option<Timestamp> {
        let Credential::Operator(operator) = self.credential else { return None };
        operator.key.and_then(|_| self.core.operators.stored(&operator.hash)?.expires_at)
    }

    /// The party whose permits a read of this tenant's trail uses.
    pub(in crate::service) fn party(&self, tenant: Option<TenantId>) -> Party {
        Party { operator: matches!(self.credential, Credential::Operator(_)), tenant }
    }

    /// Whether the tenant exists and is not being erased.
    pub(super) fn is_there(&self, tenant: TenantId) -> bool {
        self.core.directory.living(tenant).is_some()
    }
}

/// Logs why a trail could not be read; callers get an error that leaves the details out.
pub(super) fn unreadable(problem: impl std::fmt::Display) -> Error {
    error!(%problem, "could not read an audit trail");
    Error::new(Code::TenantUnavailable, "the audit trail can't be read; the server's log says why")
}
