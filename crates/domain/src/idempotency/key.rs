//! A key as a client sends it, and what we keep of it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::error::{Code, Error};
use crate::id::AgentId;
use crate::limits::MAX_IDEMPOTENCY_KEY_CHARS;

/// A client's name for one request: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// Reads a key. Errors name `field`, and never repeat the text.
    ///
    /// # Errors
    /// `INVALID_FIELD` for an empty or long text, or one with other characters.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_visible && (1..=MAX_IDEMPOTENCY_KEY_CHARS).contains(&text.len()) {
            return Ok(Self(text.into()));
        }
        let problem = format!("must be 1 to {MAX_IDEMPOTENCY_KEY_CHARS} visible ASCII characters, without spaces");
        Err(Error::field(Code::InvalidField, field, problem))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Bytes that stand for a request.
const REQUEST_BYTES: usize = 8;
/// Bytes that stand for a key and its owner. Nobody can find two keys with the same ones.
const KEY_BYTES: usize = 16;

/// A key together with the request that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    key: IdempotencyKey,
    request: [u8; REQUEST_BYTES],
}

/// Whose a key is. Others may use the same text for their own requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOwner {
    /// All operators together.
    Operators,
    /// All keys of the tenant together: a service that changes its key can still repeat its requests.
    TenantKeys,
    /// One agent.
    Agent(AgentId),
}

impl RequestKey {
    /// The key of the request that these parts make: all that decides what the request does, in a fixed order.
    pub fn new(key: IdempotencyKey, parts: &[&[u8]]) -> Self {
        Self { key, request: first_bytes(parts) }
    }

    /// Adds a part to the request.
    pub fn add(&mut self, part: &[u8]) {
        self.request = first_bytes(&[&self.request, part]);
    }

    /// What we keep of the key, if it is that owner's.
    pub fn used_by(&self, owner: KeyOwner) -> UsedKey {
        let text = self.key.as_str().as_bytes();
        let hash: [u8; KEY_BYTES] = match owner {
            KeyOwner::Operators => first_bytes(&[b"operator", text]),
            KeyOwner::TenantKeys => first_bytes(&[b"key", text]),
            KeyOwner::Agent(id) => first_bytes(&[b"agent", &id.bytes(), text]),
        };
        let mut bytes = [0; UsedKey::BYTES];
        let (head, tail) = bytes.split_at_mut(KEY_BYTES);
        head.copy_from_slice(&hash);
        tail.copy_from_slice(&self.request);
        UsedKey(bytes)
    }
}

/// The first bytes of the SHA-256 of all parts, each after its length.
fn first_bytes<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let hash: [u8; 32] = hasher.finalize().into();
    const { assert!(N <= 32) };
    hash.first_chunk().copied().unwrap_or([0; N])
}

/// What we keep of a key: the hash of its text and its owner, and the hash of the request that it came with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UsedKey([u8; UsedKey::BYTES]);

impl UsedKey {
    const BYTES: usize = KEY_BYTES + REQUEST_BYTES;

    /// What stands for the key's text and its owner.
    pub fn hash(&self) -> &[u8] {
        self.0.split_at(KEY_BYTES).0
    }

    /// What stands for the request.
    pub fn request(&self) -> &[u8] {
        self.0.split_at(KEY_BYTES).1
    }
}

impl fmt::Debug for UsedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UsedKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl Serialize for UsedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for UsedKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = UsedKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a used key")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<UsedKey, E> {
                bytes.try_into().map(UsedKey).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TenantTag;
    use crate::time::Timestamp;

    #[test]
    fn a_key_is_1_to_255_visible_ascii_characters() {
        let parse = |text: &str| IdempotencyKey::parse("Idempotency-Key", text);
        for good in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "\"quoted\"", "!~", &"k".repeat(255)] {
            assert_eq!(parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a\tb", "\u{7f}", "é", "a\n", &"k".repeat(256)] {
            let error = parse(bad).unwrap_err();
            assert_eq!((error.code(), &error.details()["field"]), (Code::InvalidField, &"Idempotency-Key".into()));
        }
    }

    #[test]
    fn keys_of_other_owners_and_other_requests_differ() {
        let agent = |seq| KeyOwner::Agent(AgentId::derive(Timestamp::from_millis(1), seq, TenantTag(7)));
        let owners = [KeyOwner::Operators, KeyOwner::TenantKeys, agent(1), agent(2)];
        let of = |text: &str, request: &[&[u8]]| {
            RequestKey::new(IdempotencyKey::parse("key", text).unwrap(), request).used_by(KeyOwner::Operators)
        };
        let key = RequestKey::new(IdempotencyKey::parse("key", "a").unwrap(), &[b"x", b"y"]);
        for (at, one) in owners.iter().enumerate() {
            for other in owners.iter().skip(at + 1) {
                assert_ne!(key.used_by(*one).hash(), key.used_by(*other).hash());
            }
            assert_eq!(key.used_by(*one).request(), key.used_by(KeyOwner::Operators).request());
        }
        // A part can't pass into its neighbour.
        assert_ne!(of("a", &[b"x", b"y"]).request(), of("a", &[b"xy", b""]).request());
        assert_ne!(of("a", &[b"x", b"y"]).request(), of("a", &[b"x", b"y", b""]).request());
        assert_ne!(of("a", &[b"x"]).hash(), of("b", &[b"x"]).hash());
        assert_eq!(of("a", &[b"x"]), of("a", &[b"x"]));
    }
}
