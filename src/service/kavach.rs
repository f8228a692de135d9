//! [`Kavach`]: the server, acting for one caller.

use std::sync::Arc;

use super::once_key::OnceKey;
use crate::actors::Core;
use crate::domain::author::{Author, By};
use crate::domain::idempotency::key::RequestKey;
use crate::domain::tenant::if_unchanged::{IfUnchanged, Versioned};
use crate::domain::text::parse_name;
use crate::domain::{Code, Credential, Error, OperatorCredential, Secret, SeenVersions};
use crate::measure::Measures;

/// The server, acting for one caller. Clones are cheap.
#[derive(Clone)]
pub struct Kavach {
    pub(super) core: Arc<Core>,
    pub(super) credential: Credential,
    /// Why the caller makes its changes, if it gave a reason.
    pub(super) reason: Option<Arc<str>>,
    /// What else is known about the caller, for the audit trail of its changes.
    author: Option<Arc<Author>>,
    /// The idempotency key of the caller's request.
    pub(super) once: Option<Arc<OnceKey>>,
    /// What the caller has seen of what it changes.
    seen: Option<Arc<SeenVersions>>,
}

impl Kavach {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let credential = Credential::Operator(OperatorCredential::of(core.operator));
        Self { core, credential, reason: None, author: None, once: None, seen: None }
    }

    /// This server, acting for whoever presents `credential`. The credential is checked on every call, not here.
    #[must_use]
    pub fn acting_for(&self, credential: Credential) -> Self {
        let credential = match credential {
            Credential::Operator(operator) => Credential::Operator(self.identified(operator)),
            other => other,
        };
        Self { core: Arc::clone(&self.core), credential, reason: None, author: None, once: None, seen: None }
    }

    /// This caller with a reason, which is recorded with every change it makes.
    ///
    /// # Errors
    /// `INVALID_FIELD` if the text would not be valid as a name.
    pub fn because(&self, reason: &str) -> Result<Self, Error> {
        self.because_of("reason", reason)
    }

    /// The same with a reason that stands in that field.
    pub(crate) fn because_of(&self, field: &str, reason: &str) -> Result<Self, Error> {
        let reason = parse_name(field, reason)?;
        Ok(Self { reason: Some(reason.into()), ..self.clone() })
    }

    /// This caller, with the details that the audit trail shows next to its changes.
    #[must_use]
    pub fn known_as(self, author: Author) -> Self {
        Self { author: Some(Arc::new(author)), ..self }
    }

    /// This caller with the idempotency key of a request: the one call that makes something or reports usage. If the
    /// same caller made it before with the key, it changes nothing and gets the first answer again, without the secret
    /// in it. The key of a decision is in its [`Request`](crate::domain::Request).
    #[must_use]
    pub fn once(self, key: Option<RequestKey>) -> Self {
        Self { once: key.map(|key| Arc::new(OnceKey::new(key))), ..self }
    }

    /// This caller, which changes or ends an agent, a policy, a webhook or a tenant only if that still has one of these
    /// versions; of several callers with the same one, only the first does. `None` is any version.
    #[must_use]
    pub fn having_seen(self, seen: Option<SeenVersions>) -> Self {
        Self { seen: seen.map(Arc::new), ..self }
    }

    /// The command, to be carried out only if what it is about is still as the caller saw it.
    pub(super) fn if_unchanged<C: Versioned>(&self, command: C) -> IfUnchanged<C> {
        IfUnchanged { command, seen: self.seen() }
    }

    pub(super) fn seen(&self) -> Option<SeenVersions> {
        self.seen.as_deref().cloned()
    }

    /// Whether the answer to the request with the key had been given before.
    pub fn repeated(&self) -> bool {
        self.once.as_ref().is_some_and(|once| once.is_repeat())
    }

    /// What the audit trail shows of the caller. A tenant knows the names of its own keys, and not of operators'.
    pub(super) fn author(&self) -> Option<Author> {
        let author = self.author.as_deref().cloned();
        let Credential::Operator(OperatorCredential { hash, key: Some(_) }) = &self.credential else { return author };
        let key_name = self.core.operators.stored(hash).map(|key| key.name);
        Some(Author { key_name, ..author.unwrap_or_default() })
    }

    /// Who makes the caller's changes, if it is an operator.
    pub(super) fn operator(&self) -> By {
        match self.credential {
            Credential::Operator(OperatorCredential { key: Some((key, _)), .. }) => By::OperatorKey(key),
            _ => By::Operator,
        }
    }

    /// What the process measures about itself.
    pub(crate) fn measures(&self) -> &Measures {
        &self.core.measures
    }
}

/// Makes a secret from 32 random bytes.
///
/// # Errors
/// `INTERNAL_ERROR` if the system has no random bytes.
pub(super) fn make_secret(make: impl FnOnce([u8; 32]) -> Secret) -> Result<Secret, Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|_| Error::new(Code::InternalError, "the system gave no random bytes"))?;
    Ok(make(random))
}
