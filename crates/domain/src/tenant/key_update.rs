//! The commands that change a key: its name and its end. Its role stays: what a key may do is decided when it is given to
//! somebody, so that no key gains or loses power unnoticed by whoever holds it.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Deserialize;

use crate::author::By;
use crate::error::Error;
use crate::event::Change;
use crate::id::KeyId;
use crate::moment::Moment;
use crate::tenant::key::{ApiKey, find_key};
use crate::tenant::key_commands::{check_end, check_home, unknown_key};
use crate::tenant::role::OperatorRole;
use crate::tenant::settings::given;
use crate::tenant::{Command, Tenant};
use crate::text::parse_name;
use crate::time::Timestamp;

/// A change of a key: an omitted field keeps its value, `null` clears `expiresAt`. The role is fixed.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyPatch {
    /// A new name.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Name>"))]
    pub name: Option<String>,
    /// When it ends, RFC 3339; `null` is never.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Time>"))]
    pub expires_at: Option<Option<String>>,
}

/// A key's name and end.
type NameAndEnd = (Box<str>, Option<Timestamp>);

/// A key with what is to change of it.
struct KeyUpdate {
    key: KeyId,
    name: Option<Box<str>>,
    expires_at: Option<Option<Timestamp>>,
}

impl KeyUpdate {
    fn parse(key: KeyId, patch: KeyPatch) -> Result<Self, Error> {
        let KeyPatch { name, expires_at } = patch;
        let end = |text: Option<String>| text.map(|text| Timestamp::parse("expiresAt", &text)).transpose();
        Ok(Self {
            key,
            name: name.map(|text| parse_name("name", &text)).transpose()?,
            expires_at: expires_at.map(end).transpose()?,
        })
    }

    /// The key's name and end after it; `None` if they stay as they are.
    fn decide<R>(self, keys: &[ApiKey<R>], moment: Moment) -> Result<Option<NameAndEnd>, Error> {
        let old = find_key(keys, self.key).ok_or_else(|| unknown_key(&self.key.to_string()))?;
        let name = self.name.unwrap_or_else(|| old.name.clone());
        let expires_at = self.expires_at.unwrap_or(old.expires_at);
        if expires_at != old.expires_at {
            check_end(expires_at, moment)?;
        }
        Ok((name != old.name || expires_at != old.expires_at).then_some((name, expires_at)))
    }
}

/// Changes a tenant key's name and end. The reply is the stored form.
pub struct UpdateKey(KeyUpdate);

impl UpdateKey {
    /// Reads a change.
    ///
    /// # Errors
    /// `INVALID_FIELD`, naming the field.
    pub fn parse(key: KeyId, patch: KeyPatch) -> Result<Self, Error> {
        KeyUpdate::parse(key, patch).map(Self)
    }
}

impl Command for UpdateKey {
    type Subject = KeyId;
    type Reply = Option<ApiKey>;

    fn decide(self, tenant: &Tenant, _: By, moment: Moment) -> Result<(Option<Change>, KeyId), Error> {
        let key = self.0.key;
        let changed = self.0.decide(tenant.keys(), moment)?;
        Ok((changed.map(|(name, expires_at)| Change::KeyUpdated { key, name, expires_at }), key))
    }

    fn reply(tenant: &Tenant, key: KeyId, _: Timestamp) -> Option<ApiKey> {
        find_key(tenant.keys(), key).cloned()
    }
}

/// Changes an operator key's name and end, in the default tenant. The reply is the stored form.
pub struct UpdateOperatorKey(KeyUpdate);

impl UpdateOperatorKey {
    /// Reads a change.
    ///
    /// # Errors
    /// `INVALID_FIELD`, naming the field.
    pub fn parse(key: KeyId, patch: KeyPatch) -> Result<Self, Error> {
        KeyUpdate::parse(key, patch).map(Self)
    }
}

impl Command for UpdateOperatorKey {
    type Subject = KeyId;
    type Reply = Option<ApiKey<OperatorRole>>;

    fn decide(self, tenant: &Tenant, by: By, moment: Moment) -> Result<(Option<Change>, KeyId), Error> {
        check_home(tenant, by)?;
        let key = self.0.key;
        let changed = self.0.decide(tenant.operator_keys(), moment)?;
        Ok((changed.map(|(name, expires_at)| Change::OperatorKeyUpdated { key, name, expires_at }), key))
    }

    fn reply(tenant: &Tenant, key: KeyId, _: Timestamp) -> Option<ApiKey<OperatorRole>> {
        find_key(tenant.operator_keys(), key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::event::{ChangeRecord, Event};
    use crate::id::TenantId;
    use crate::secret::Secret;
    use crate::tenant::commands::TenantSpec;
    use crate::tenant::key_commands::{CreateKey, CreateOperatorKey};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000)
    }

    /// Runs a command, and says whether it changed anything.
    fn execute<C: Command>(tenant: &mut Tenant, seconds: i64, command: C) -> Result<(bool, C::Reply), Error> {
        let moment = tenant.next_moment(at(seconds));
        let (change, subject) = command.decide(tenant, By::Operator, moment)?;
        let changed = change.is_some();
        if let Some(change) = change {
            tenant.apply(moment, &Event::Changed(ChangeRecord::new(By::Operator, change)));
        }
        Ok((changed, C::reply(tenant, subject, moment.wall)))
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let mut tenant = Tenant::default();
        let moment = tenant.next_moment(at(0));
        let created = TenantSpec::default_tenant().created(TenantId::DEFAULT);
        tenant.apply(moment, &Event::Changed(ChangeRecord::new(By::Operator, created)));
        let secret = Secret::tenant_key(TenantId::DEFAULT, [7; 32]);
        let (_, key) = execute(&mut tenant, 1, CreateKey::new("ci", &secret).unwrap().until(Some(at(60)))).unwrap();
        let id = key.unwrap().id;
        let mut update = |seconds, patch: &str| -> Result<(bool, NameAndEnd), Error> {
            let command = UpdateKey::parse(id, serde_json::from_str(patch).unwrap());
            let (changed, key) = command.and_then(|command| execute(&mut tenant, seconds, command))?;
            Ok(key.map(|key| (changed, (key.name, key.expires_at))).unwrap())
        };
        let end = |seconds| format!("{{\"expiresAt\":\"{}\"}}", at(seconds));
        assert_eq!(update(2, "{}"), Ok((false, ("ci".into(), Some(at(60))))));
        assert_eq!(update(2, "{\"name\":\"ci 2\"}"), Ok((true, ("ci 2".into(), Some(at(60))))));
        assert_eq!(update(3, &end(90)), Ok((true, ("ci 2".into(), Some(at(90))))));
        assert_eq!(update(3, "{\"expiresAt\":null}"), Ok((true, ("ci 2".into(), None))));
        // An end that has come may stay, and a new one must be in the future.
        assert_eq!(update(4, &end(5)), Ok((true, ("ci 2".into(), Some(at(5))))));
        assert_eq!(update(6, &end(5)), Ok((false, ("ci 2".into(), Some(at(5))))));
        assert_eq!(update(6, &end(6)).unwrap_err().message(), "expiresAt must be in the future");
        assert_eq!(update(7, &end(80)), Ok((true, ("ci 2".into(), Some(at(80))))));
        let unknown = KeyId::derive(at(0), 99, TenantId::DEFAULT.tag());
        let refused = execute(&mut tenant, 8, UpdateKey::parse(unknown, KeyPatch::default()).unwrap());
        assert_eq!(refused.unwrap_err().code(), Code::KeyNotFound);
    }

    #[test]
    fn an_operators_key_is_changed_by_operators_alone() {
        let mut tenant = Tenant::default();
        let moment = tenant.next_moment(at(0));
        let created = TenantSpec::default_tenant().created(TenantId::DEFAULT);
        tenant.apply(moment, &Event::Changed(ChangeRecord::new(By::Operator, created)));
        let secret = Secret::operator_key([9; 32]);
        let new = CreateOperatorKey::new("ada", OperatorRole::Auditor, None, &secret).unwrap();
        let id = execute(&mut tenant, 1, new).unwrap().1.unwrap().id;
        let patch = KeyPatch { name: Some("Ada".to_owned()), expires_at: Some(Some(at(60).to_string())) };
        let update = || UpdateOperatorKey::parse(id, patch.clone()).unwrap();
        let moment = tenant.next_moment(at(2));
        assert_eq!(update().decide(&tenant, By::Key(id), moment).unwrap_err().code(), Code::Forbidden);
        let (changed, key) = execute(&mut tenant, 2, update()).unwrap();
        let key = key.unwrap();
        assert_eq!((changed, &*key.name, key.expires_at), (true, "Ada", Some(at(60))));
        assert_eq!((key.role, key.hash), (OperatorRole::Auditor, secret.hash()));
    }
}
