//! The commands that create and revoke keys: a tenant's, and in the default tenant also operators'.

use crate::author::By;
use crate::error::{Code, Error};
use crate::event::Change;
use crate::id::KeyId;
use crate::limits::{MAX_OPERATOR_KEYS, MAX_TENANT_KEYS};
use crate::moment::Moment;
use crate::secret::{Secret, SecretHash};
use crate::tenant::key::{ApiKey, find_key};
use crate::tenant::role::{KeyRole, OperatorRole};
use crate::tenant::{Command, Creates, Tenant};
use crate::text::parse_name;
use crate::time::Timestamp;

/// What a new key is to be.
struct NewKey<R> {
    name: Box<str>,
    hash: SecretHash,
    prefix: Box<str>,
    role: R,
    expires_at: Option<Timestamp>,
}

impl<R: Default> NewKey<R> {
    fn parse(name: &str, secret: &Secret, prefix: Box<str>) -> Result<Self, Error> {
        let name = parse_name("name", name)?;
        Ok(Self { name, hash: secret.hash(), prefix, role: R::default(), expires_at: None })
    }
}

/// Checks that a key's end is in the future: a key that is to end now is revoked.
pub(super) fn check_end(expires_at: Option<Timestamp>, moment: Moment) -> Result<(), Error> {
    match expires_at {
        Some(end) if end <= moment.wall => Err(Error::field(Code::InvalidField, "expiresAt", "must be in the future")),
        _ => Ok(()),
    }
}

/// Creates a tenant key. The reply is the stored form.
pub struct CreateKey(NewKey<KeyRole>);

impl CreateKey {
    /// A key with that name, with the role `admin` and without an end.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a bad name.
    pub fn new(name: &str, secret: &Secret) -> Result<Self, Error> {
        NewKey::parse(name, secret, secret.prefix()).map(Self)
    }

    /// The same with that role.
    #[must_use]
    pub fn with_role(self, role: KeyRole) -> Self {
        Self(NewKey { role, ..self.0 })
    }

    /// The same with that end, which must be in the future.
    #[must_use]
    pub fn until(self, expires_at: Option<Timestamp>) -> Self {
        Self(NewKey { expires_at, ..self.0 })
    }
}

impl Command for CreateKey {
    type Subject = KeyId;
    type Reply = Option<ApiKey>;

    fn decide(self, tenant: &Tenant, _: By, moment: Moment) -> Result<(Option<Change>, KeyId), Error> {
        if tenant.keys().len() >= MAX_TENANT_KEYS {
            let message = format!("the tenant has {MAX_TENANT_KEYS} API keys, the maximum; revoke one first");
            return Err(Error::new(Code::KeyLimitExceeded, message));
        }
        check_end(self.0.expires_at, moment)?;
        let key = KeyId::derive(moment.at, moment.seq, tenant.id().tag());
        let NewKey { name, hash, prefix, role, expires_at } = self.0;
        Ok((Some(Change::KeyCreated { key, name, hash, prefix, role, expires_at }), key))
    }

    fn reply(tenant: &Tenant, key: KeyId, _: Timestamp) -> Option<ApiKey> {
        find_key(tenant.keys(), key).cloned()
    }
}

impl Creates for CreateKey {
    fn made(tenant: &Tenant, change: &Change, now: Timestamp) -> Option<Self::Reply> {
        let Change::KeyCreated { key, .. } = change else { return None };
        Some(Self::reply(tenant, *key, now))
    }
}

/// Revokes a tenant key at once.
pub struct RevokeKey(
    /// The key.
    pub KeyId,
);

impl Command for RevokeKey {
    type Subject = ();
    type Reply = ();

    fn decide(self, tenant: &Tenant, _: By, _: Moment) -> Result<(Option<Change>, ()), Error> {
        if find_key(tenant.keys(), self.0).is_none() {
            return Err(unknown_key(&self.0.to_string()));
        }
        Ok((Some(Change::KeyRevoked { key: self.0 }), ()))
    }

    fn reply(_: &Tenant, (): (), _: Timestamp) {}
}

/// Creates an operator key, in the default tenant. The reply is the stored form.
pub struct CreateOperatorKey(NewKey<OperatorRole>);

impl CreateOperatorKey {
    /// A key with that name, role and end, which must be in the future.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a bad name.
    pub fn new(name: &str, role: OperatorRole, expires_at: Option<Timestamp>, secret: &Secret) -> Result<Self, Error> {
        let new = NewKey::parse(name, secret, secret.operator_prefix())?;
        Ok(Self(NewKey { role, expires_at, ..new }))
    }
}

impl Command for CreateOperatorKey {
    type Subject = KeyId;
    type Reply = Option<ApiKey<OperatorRole>>;

    fn decide(self, tenant: &Tenant, by: By, moment: Moment) -> Result<(Option<Change>, KeyId), Error> {
        check_home(tenant, by)?;
        if tenant.operator_keys().len() >= MAX_OPERATOR_KEYS {
            let message = format!("there are {MAX_OPERATOR_KEYS} operator keys already; revoke one first");
            return Err(Error::new(Code::KeyLimitExceeded, message));
        }
        check_end(self.0.expires_at, moment)?;
        let key = KeyId::derive(moment.at, moment.seq, tenant.id().tag());
        let NewKey { name, hash, prefix, role, expires_at } = self.0;
        Ok((Some(Change::OperatorKeyCreated { key, name, hash, prefix, role, expires_at }), key))
    }

    fn reply(tenant: &Tenant, key: KeyId, _: Timestamp) -> Option<ApiKey<OperatorRole>> {
        find_key(tenant.operator_keys(), key).cloned()
    }
}

impl Creates for CreateOperatorKey {
    fn made(tenant: &Tenant, change: &Change, now: Timestamp) -> Option<Self::Reply> {
        let Change::OperatorKeyCreated { key, .. } = change else { return None };
        Some(Self::reply(tenant, *key, now))
    }
}

/// Revokes an operator key at once.
pub struct RevokeOperatorKey(
    /// The key.
    pub KeyId,
);

impl Command for RevokeOperatorKey {
    type Subject = ();
    type Reply = ();

    fn decide(self, tenant: &Tenant, by: By, _: Moment) -> Result<(Option<Change>, ()), Error> {
        check_home(tenant, by)?;
        if find_key(tenant.operator_keys(), self.0).is_none() {
            return Err(unknown_key(&self.0.to_string()));
        }
        Ok((Some(Change::OperatorKeyRevoked { key: self.0 }), ()))
    }

    fn reply(_: &Tenant, (): (), _: Timestamp) {}
}

/// Operators' keys are the default tenant's, and no tenant key touches them.
pub(super) fn check_home(tenant: &Tenant, by: By) -> Result<(), Error> {
    if tenant.id().is_default() && by.is_operator() {
        return Ok(());
    }
    Err(Error::new(Code::Forbidden, "this requires an operator key"))
}

/// The error for a key that does not exist.
pub fn unknown_key(id: &str) -> Error {
    Error::new(Code::KeyNotFound, format!("API key '{}' not found", crate::text::quote(id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ChangeRecord, Event};
    use crate::id::TenantId;
    use crate::secret::Credential;
    use crate::tenant::commands::TenantSpec;
    use crate::tenant::{Caller, State};

    const START: i64 = 1_700_000_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(START + seconds * 1_000)
    }

    /// The default tenant, to which a test makes things happen.
    struct World(Tenant);

    impl World {
        fn new() -> Self {
            let mut world = Self(Tenant::default());
            world.happen(0, TenantSpec::default_tenant().created(TenantId::DEFAULT));
            world
        }

        fn happen(&mut self, seconds: i64, change: Change) {
            let moment = self.0.next_moment(at(seconds));
            self.0.apply(moment, &Event::Changed(ChangeRecord::new(By::Operator, change)));
        }

        fn execute<C: Command>(&mut self, seconds: i64, command: C) -> Result<C::Reply, Error> {
            let moment = self.0.next_moment(at(seconds));
            let (change, subject) = command.decide(&self.0, By::Operator, moment)?;
            change.into_iter().for_each(|change| self.happen(seconds, change));
            Ok(C::reply(&self.0, subject, moment.wall))
        }
    }

    #[test]
    fn a_key_is_good_until_its_end_by_the_time_of_events() {
        let mut world = World::new();
        let secret = Secret::tenant_key(TenantId::DEFAULT, [7; 32]);
        let new = || CreateKey::new("ci", &secret).unwrap().with_role(KeyRole::Caller);
        for past in [-1, 10] {
            let refused = world.execute(10, new().until(Some(at(past)))).unwrap_err();
            assert_eq!((refused.code(), refused.message()), (Code::InvalidField, "expiresAt must be in the future"));
        }
        let key = world.execute(10, new().until(Some(at(60)))).unwrap().unwrap();
        assert_eq!((key.role, key.expires_at), (KeyRole::Caller, Some(at(60))));
        let credential = Credential::parse(secret.reveal());
        let seen = |tenant: &Tenant, seconds| tenant.authenticate(&credential, at(seconds)).map_err(|e| e.code());
        assert_eq!(seen(&world.0, 59), Ok(Caller::Key(key.id, KeyRole::Caller)));
        assert_eq!(seen(&world.0, 60), Err(Code::InvalidToken));
        // A clock that is set back a little wakes no key that had ended for an earlier event.
        world.happen(61, Change::TenantSuspended);
        assert_eq!(seen(&world.0, 59), Err(Code::InvalidToken));
        // It stays until it is revoked, so that one sees which keys have ended.
        assert_eq!(world.0.keys().len(), 1);
        world.execute(62, RevokeKey(key.id)).unwrap();
        assert_eq!(world.0.keys(), []);
    }

    #[test]
    fn operators_keys_are_the_default_tenants_and_operators_make_them() {
        let mut world = World::new();
        let secret = Secret::operator_key([9; 32]);
        let new = || CreateOperatorKey::new("ada", OperatorRole::Auditor, None, &secret).unwrap();
        let key = world.execute(1, new()).unwrap().unwrap();
        assert_eq!((&*key.name, key.role), ("ada", OperatorRole::Auditor));
        assert!(secret.reveal().starts_with(&*key.prefix) && key.prefix.len() < 16, "{}", key.prefix);
        let moment = world.0.next_moment(at(2));
        let by_key = new().decide(&world.0, By::Key(key.id), moment).unwrap_err();
        assert_eq!(by_key.code(), Code::Forbidden);
        assert_eq!(RevokeOperatorKey(key.id).decide(&world.0, By::Key(key.id), moment).unwrap_err(), by_key);
        let other = TenantId::generate(at(0), [5; 10]).unwrap();
        let profile = crate::tenant::Profile { id: other, ..Default::default() };
        let other = Tenant::restore(State { profile, ..State::default() });
        assert_eq!(new().decide(&other, By::Operator, moment).unwrap_err(), by_key);
        let unknown = KeyId::derive(at(0), 99, TenantId::DEFAULT.tag());
        assert_eq!(world.execute(2, RevokeOperatorKey(unknown)).unwrap_err().code(), Code::KeyNotFound);
        world.execute(2, RevokeOperatorKey(key.id)).unwrap();
        assert_eq!(world.0.operator_keys(), []);
        for _ in 0..MAX_OPERATOR_KEYS {
            world.execute(3, new()).unwrap();
        }
        assert_eq!(world.execute(3, new()).unwrap_err().code(), Code::KeyLimitExceeded);
    }
}
