//! Keys and tokens: how they are built, recognised and compared. Only their SHA-256 is ever kept.

use std::fmt;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::id::{KeyId, TenantId};
use crate::secret_scan::{OPERATOR_KEY_PREFIX, TENANT_KEY_PREFIX, TOKEN_PREFIX};
use crate::tenant::role::OperatorRole;

/// Characters of 48 bytes (tenant UUID and 32 random bytes) in base64url.
const TENANT_SECRET_CHARS: usize = 64;
/// The first of them, which hold the tenant's UUID and two more bytes.
const TENANT_CHARS: usize = 24;
/// Characters in a tenant key's prefix: the tag, the tenant's part and six of its own.
const SHOWN_CHARS: usize = 32;
/// Characters in an operator key's prefix: the tag and six of its own.
const SHOWN_OPERATOR_CHARS: usize = 10;

/// The SHA-256 of a secret (FIPS 180-4), the only form in which we store or look up one.
#[derive(Clone, Copy, Eq)]
pub struct SecretHash([u8; 32]);

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

impl Hash for SecretHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl SecretHash {
    /// The hash of a secret's text.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// The hash as 64 hex digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut hash = [0; 32];
        if pairs.len() != hash.len() || !rest.is_empty() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(pairs) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(hash))
    }

    /// Compares without branching on the content.
    pub fn matches(&self, other: &SecretHash) -> bool {
        // By words, which 32 bytes split into evenly: a quarter of the instructions.
        const { assert!(size_of::<SecretHash>() == 4 * size_of::<u64>()) };
        let ((ours, _), (theirs, _)) = (self.0.as_chunks::<8>(), other.0.as_chunks::<8>());
        let words = ours.iter().zip(theirs).map(|(a, b)| (u64::from_ne_bytes(*a), u64::from_ne_bytes(*b)));
        words.fold(Choice::from(1), |same, (a, b)| same & a.ct_eq(&b)).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = SecretHash;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the 32 bytes of a SHA-256")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<SecretHash, E> {
                bytes.try_into().map(SecretHash).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// A key or token in clear. It exists only until the one answer that shows it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// An agent's token: `kv_`, then the tenant's UUID and 32 random bytes in base64url.
    pub fn agent_token(tenant: TenantId, random: [u8; 32]) -> Self {
        Self::of_tenant(TOKEN_PREFIX, tenant, random)
    }

    /// A tenant's API key: `kvt_`, then the tenant's UUID and 32 random bytes in base64url.
    pub fn tenant_key(tenant: TenantId, random: [u8; 32]) -> Self {
        Self::of_tenant(TENANT_KEY_PREFIX, tenant, random)
    }

    /// An operator's key: `kvo_` and 32 random bytes in base64url.
    pub fn operator_key(random: [u8; 32]) -> Self {
        Self(format!("{OPERATOR_KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// Nothing, in place of a secret that was shown before.
    pub fn withheld() -> Self {
        Self(String::new())
    }

    fn of_tenant(prefix: &str, tenant: TenantId, random: [u8; 32]) -> Self {
        let mut bytes = [0; 48];
        let (head, tail) = bytes.split_at_mut(16);
        head.copy_from_slice(&tenant.bytes());
        tail.copy_from_slice(&random);
        Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The text, for the answer to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The hash to keep.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(&self.0)
    }

    /// The start of a tenant key, which people tell keys apart by.
    pub fn prefix(&self) -> Box<str> {
        self.0.chars().take(SHOWN_CHARS).collect::<String>().into()
    }

    /// The start of an operator key.
    pub fn operator_prefix(&self) -> Box<str> {
        self.0.chars().take(SHOWN_OPERATOR_CHARS).collect::<String>().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a caller presents, judged by its form. Only the tenant (or the operator's hash) can say whether it is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Anything without the form of a tenant's secret: valid only if it is an operator key.
    Operator(OperatorCredential),
    /// A tenant's API key.
    TenantKey(TenantId, SecretHash),
    /// An agent's token.
    AgentToken(TenantId, SecretHash),
}

/// What an operator presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorCredential {
    /// The key's hash.
    pub hash: SecretHash,
    /// Which of the keys that were made over the API it is, once that was found out; `None` for the first key.
    pub key: Option<(KeyId, OperatorRole)>,
}

impl OperatorCredential {
    /// The key with that hash, of which nothing else is known.
    pub fn of(hash: SecretHash) -> Self {
        Self { hash, key: None }
    }
}

impl Credential {
    /// Reads the text of a key or token.
    pub fn parse(text: &str) -> Self {
        let hash = SecretHash::of(text);
        if let Some(tenant) = tenant_behind(TOKEN_PREFIX, text) {
            Self::AgentToken(tenant, hash)
        } else if let Some(tenant) = tenant_behind(TENANT_KEY_PREFIX, text) {
            Self::TenantKey(tenant, hash)
        } else {
            Self::Operator(OperatorCredential::of(hash))
        }
    }
}

/// The tenant in a secret of that form. We don't check that the rest is base64url: its hash will not be found.
fn tenant_behind(prefix: &str, text: &str) -> Option<TenantId> {
    let encoded = text.strip_prefix(prefix).filter(|rest| rest.len() == TENANT_SECRET_CHARS)?;
    let (head, _) = encoded.as_bytes().split_first_chunk::<TENANT_CHARS>()?;
    let mut bytes = [0; TENANT_CHARS / 4 * 3];
    URL_SAFE_NO_PAD.decode_slice(head, &mut bytes).ok()?;
    let (tenant, _) = bytes.split_first_chunk::<16>()?;
    Some(TenantId::from_bytes(*tenant))
}

/// An operator key that somebody chose. `Debug` does not show it.
#[derive(Clone)]
pub struct OperatorKey(String);

impl OperatorKey {
    /// The key's text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OperatorKey(..)")
    }
}

impl std::str::FromStr for OperatorKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A file with a key often ends with a line break, of either kind.
        let text = text.trim();
        if !(32..=256).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "an operator key has 32 to 256 visible ASCII characters; without one the server makes one".into()
            );
        }
        if text.starts_with("kv_") || text.starts_with("kvt_") {
            return Err("an operator key does not start with kv_ or kvt_, which mark tokens and tenant keys".into());
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::error::Code;
    use crate::secret_scan::{HIDDEN, hide_secrets, holds_secret};
    use crate::text::check_no_secret;
    use crate::time::Timestamp;

    #[test]
    fn an_operator_key_is_read_without_the_white_space_around_it() {
        let key = "0123456789-0123456789-0123456789";
        for text in [format!("{key}\r\n"), format!("{key} "), format!("\t{key}"), key.to_owned()] {
            assert_eq!(text.parse::<OperatorKey>().unwrap().reveal(), key);
        }
        for text in [key.replace("-0", " 0"), format!("{key}\u{200b}"), " ".repeat(40)] {
            assert!(!text.parse::<OperatorKey>().unwrap_err().contains("0123"));
        }
    }

    #[test]
    fn a_secret_finds_its_tenant() {
        let tenant = TenantId::generate(Timestamp::from_millis(1_700_000_000_000), [5; 10]).unwrap();
        let token = Secret::agent_token(tenant, [7; 32]);
        assert_eq!(token.reveal().len(), 3 + 64);
        assert_eq!(Credential::parse(token.reveal()), Credential::AgentToken(tenant, token.hash()));
        let key = Secret::tenant_key(tenant, [7; 32]);
        assert_eq!(key.reveal().len(), 4 + 64);
        assert_eq!(Credential::parse(key.reveal()), Credential::TenantKey(tenant, key.hash()));
        let operator = Secret::operator_key([7; 32]);
        assert_eq!(operator.reveal().len(), 4 + 43);
        let presented = OperatorCredential::of(operator.hash());
        assert_eq!(Credential::parse(operator.reveal()), Credential::Operator(presented));
        assert_eq!(SecretHash::from_hex(&token.hash().to_hex()), Some(token.hash()));
        assert_eq!(SecretHash::from_hex(&"é".repeat(32)), None);
        assert!(!format!("{token:?}{key:?}{:?}", key.hash()).contains("kv"));
    }

    #[test]
    fn secrets_in_a_text_are_hidden_and_other_names_are_not() {
        let tenant = TenantId::generate(Timestamp::from_millis(1_700_000_000_000), [5; 10]).unwrap();
        let random = |n: u8| std::array::from_fn(|at| (at as u8).wrapping_mul(73).wrapping_add(n));
        let (token, key) = (Secret::agent_token(tenant, random(1)), Secret::tenant_key(tenant, random(2)));
        let operator = Secret::operator_key(random(3));
        let text = format!("{{\"a\":\"{}\"}} x{}:{}é", token.reveal(), key.reveal(), operator.reveal());
        assert_eq!(hide_secrets(&text), "{\"a\":\"kv_(hidden)\"} xkvt_(hidden):kvo_(hidden)é");
        let cut = &token.reveal()[..50];
        assert_eq!(hide_secrets(&format!("{cut} {}x", token.reveal())), "kv_(hidden) kv_(hidden)");
        let names = ["kv_", "kv_production_settings_of_the_database_in_the_cellar_1", "kv_Ab", "_", "", "kvt_x kvo_y"];
        for name in names {
            assert!(matches!(hide_secrets(name), Cow::Borrowed(same) if same == name));
            assert!(check_no_secret("name", name).is_ok());
        }
        // Text that looks like keys all over takes no more time: this test ends.
        for text in ["kv_".repeat(1 << 16), format!("{} ", token.reveal()).repeat(1 << 10)] {
            assert_eq!(hide_secrets(&text).contains(HIDDEN), holds_secret(&text));
        }
        assert_eq!(check_no_secret("name", key.reveal()).unwrap_err().code(), Code::InvalidField);
    }

    #[test]
    fn anything_else_is_at_most_an_operator_key() {
        for text in ["", "kv_", "kvt_short", "kv_!!!", "Bearer", &format!("kv_{}", "é".repeat(32))] {
            assert!(matches!(Credential::parse(text), Credential::Operator(_)), "{text}");
        }
    }
}
