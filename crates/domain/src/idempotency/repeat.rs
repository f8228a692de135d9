//! Whether a request with a key is new.

use crate::error::{Code, Error};
use crate::id::AuditId;
use crate::idempotency::key::{KeyOwner, RequestKey, UsedKey};
use crate::tenant::{Caller, Tenant};
use crate::time::Timestamp;

impl Tenant {
    /// What to record of the key of a request that the next event, at `at`, is to carry out.
    ///
    /// # Errors
    /// `IDEMPOTENCY_KEY_IN_USE` if the request is a repeat: [`Tenant::first_use`] names the event to answer it from.
    /// `IDEMPOTENCY_KEY_REUSED` if the key came with another request.
    pub fn check_new(&self, caller: &Caller, key: &RequestKey, at: Timestamp) -> Result<UsedKey, Error> {
        self.check_anew(caller, key, None, at)
    }

    /// [`Tenant::check_new`] for a request that may be carried out anew if its first event is `failed`: nothing came of
    /// that one.
    ///
    /// # Errors
    /// As for [`Tenant::check_new`].
    pub fn check_anew(
        &self,
        caller: &Caller,
        key: &RequestKey,
        failed: Option<AuditId>,
        at: Timestamp,
    ) -> Result<UsedKey, Error> {
        let used = key.used_by(self.owner(caller)?);
        match self.recall(&used, at)? {
            first if first == failed => Ok(used),
            None => Ok(used),
            Some(_) => {
                let message = "a request with this idempotency key is being answered; send it again in a moment";
                Err(Error::new(Code::IdempotencyKeyInUse, message))
            }
        }
    }

    /// The entry of the event that the request made when it came first; `None` if it is new.
    ///
    /// # Errors
    /// `IDEMPOTENCY_KEY_REUSED` if the key came with another request.
    pub fn first_use(&self, caller: &Caller, key: &RequestKey, at: Timestamp) -> Result<Option<AuditId>, Error> {
        self.recall(&key.used_by(self.owner(caller)?), at)
    }

    fn recall(&self, used: &UsedKey, at: Timestamp) -> Result<Option<AuditId>, Error> {
        let (memory, index) = self.used_keys();
        let Some(first) = index.find(memory, used).filter(|first| !first.is_old(at)) else { return Ok(None) };
        if first.key.request() != used.request() {
            let message = "the idempotency key came with another request in the last 24 hours; a new request needs a \
                           new key, and a repeat has to be the same in every part";
            return Err(Error::new(Code::IdempotencyKeyReused, message));
        }
        Ok(Some(AuditId::derive(first.at, first.seq, self.id().tag())))
    }

    fn owner(&self, caller: &Caller) -> Result<KeyOwner, Error> {
        Ok(match caller {
            Caller::Operator | Caller::OperatorKey(..) => KeyOwner::Operators,
            Caller::Key(..) => KeyOwner::TenantKeys,
            Caller::Agent(slot) => {
                let agent = self.agent_in(*slot);
                let unknown = || Error::new(Code::InvalidToken, "the key or token is not valid");
                KeyOwner::Agent(agent.ok_or_else(unknown)?.profile.id)
            }
        })
    }
}
