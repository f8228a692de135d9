//! Identifiers. Every id is a prefix and a UUIDv7 (RFC 9562) as 32 hex digits, and says which tenant it belongs to.
//!
//! A tenant's UUID is made from the time and random bits; its last 32 bits are the tenant's [`TenantTag`], unique among
//! the tenants of a server. Every other id is made from facts instead of random bits:
//!
//! ```text
//! | 48 bits   | 4 bits | 12 bits     | 2 bits  | 30 bits    | 32 bits    |
//! | time (ms) | 7      | seq, high   | variant | seq, low   | tenant tag |
//! ```
//!
//! where `seq` is the sequence number of the event that made the thing. So ids sort by time, no two events can make one
//! id, replaying a journal makes equal ids, and we need no table of all ids to know which actor to ask.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;
use uuid::fmt::Simple;

use crate::schema::inline_schema;
use crate::text::{DEFAULT_TENANT_NAME, is_lower_hex, is_slug};
use crate::time::Timestamp;

/// The last 32 bits of a tenant's UUID, which every id of that tenant ends with. Zero is the default tenant's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantTag(pub u32);

const SEQ_BITS: u32 = 42;

/// Bytes of an id as text: a prefix of four and 32 digits.
const TEXT_BYTES: usize = 4 + Simple::LENGTH;

fn derive(at: Timestamp, seq: u64, tag: TenantTag) -> Uuid {
    let millis = u128::from(at.millis().unsigned_abs()) & 0xffff_ffff_ffff;
    let seq = u128::from(seq) & ((1 << SEQ_BITS) - 1);
    Uuid::from_u128(
        millis << 80 | 7 << 76 | (seq >> 30) << 64 | 0b10 << 62 | (seq & 0x3fff_ffff) << 32 | u128::from(tag.0),
    )
}

fn tag_of(uuid: Uuid) -> TenantTag {
    TenantTag(uuid.as_u128() as u32)
}

fn parse_hex(prefix: &str, text: &str) -> Option<Uuid> {
    let hex = text.strip_prefix(prefix)?;
    // Each id has one spelling: `Uuid` itself would also take hyphens, braces and capitals.
    let is_plain = is_lower_hex(hex, 32);
    is_plain.then(|| Uuid::try_parse(hex).ok()).flatten()
}

fn uuid_to_bytes<S: Serializer>(uuid: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(uuid.as_bytes())
}

/// Writes an id's text without the cost of `Display`: an audit id is in every answer.
fn serialize_text<S: Serializer>(prefix: &str, uuid: Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = [0; TEXT_BYTES];
    let (head, digits) = text.split_at_mut(prefix.len());
    head.copy_from_slice(prefix.as_bytes());
    uuid.simple().encode_lower(digits);
    serializer.serialize_str(std::str::from_utf8(&text).unwrap_or_default())
}

struct BytesVisitor;

impl de::Visitor<'_> for BytesVisitor {
    type Value = Uuid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the 16 bytes of a UUID")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Uuid, E> {
        Uuid::from_slice(bytes).map_err(E::custom)
    }
}

macro_rules! derived_id {
    ($name:ident $prefix:literal $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the id starts with.
            pub const PREFIX: &'static str = $prefix;

            /// The id of what the tenant's event `seq` made at that time.
            pub fn derive(at: Timestamp, seq: u64, tag: TenantTag) -> Self {
                Self(derive(at, seq, tag))
            }

            /// Reads an id; `None` if the text is not one of this kind.
            pub fn parse(text: &str) -> Option<Self> {
                parse_hex($prefix, text).map(Self)
            }

            /// The 16 bytes of the UUID.
            pub fn bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// The tenant that it claims to belong to. Only that tenant knows whether it exists.
            pub fn tag(self) -> TenantTag {
                tag_of(self.0)
            }

            /// When it was made.
            pub fn time(self) -> Timestamp {
                Timestamp::from_millis(i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX))
            }

            /// The sequence number of the event that made it.
            pub fn seq(self) -> u64 {
                let bits = self.0.as_u128();
                ((bits >> 64 & 0xfff) << 30 | bits >> 32 & 0x3fff_ffff) as u64
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0.simple())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serialize_text($prefix, self.0, serializer)
                } else {
                    uuid_to_bytes(&self.0, serializer)
                }
            }
        }

        inline_schema!($name { "type": "string", "pattern": concat!("^", $prefix, "[0-9a-f]{32}$") });

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_bytes(BytesVisitor).map(Self)
            }
        }
    };
}

derived_id!(AgentId "agt_" "An agent's id.");
derived_id!(KeyId "key_" "A tenant API key's id. It names the key and is no secret.");
derived_id!(PolicyId "pol_" "A budget policy's id.");
derived_id!(DelegationId "dlg_" "A delegation's id.");
derived_id!(WebhookId "whk_" "A webhook's id.");
derived_id!(MessageId "msg_" "The id of a message to webhooks: the time and number of the event that it tells of.");
derived_id!(AuditId "aud_" "An audit entry's id: the time and number of the event it shows.");

/// A tenant's id. The default tenant's is the nil UUID, which JSON shows as `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Uuid);

impl TenantId {
    /// What a tenant's id starts with.
    pub const PREFIX: &'static str = "tnt_";
    /// The default tenant.
    pub const DEFAULT: TenantId = TenantId(Uuid::nil());

    /// A new id from the time and random bits; `None` if the bits make the default tenant's tag.
    pub fn generate(at: Timestamp, random: [u8; 10]) -> Option<Self> {
        let millis = at.millis().unsigned_abs();
        let id = Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid());
        (id.tag() != TenantTag::default()).then_some(id)
    }

    /// The id with these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the UUID.
    pub fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// Reads `tnt_` and 32 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(Self::PREFIX, text).map(Self)
    }

    /// Whether this is the default tenant.
    pub fn is_default(self) -> bool {
        self.0.is_nil()
    }

    /// The bits that every id of this tenant ends with.
    pub fn tag(self) -> TenantTag {
        tag_of(self.0)
    }

    /// The name of the tenant's folder: its id, or `default`.
    pub fn folder_name(self) -> String {
        if self.is_default() { DEFAULT_TENANT_NAME.to_owned() } else { self.to_string() }
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0.simple())
    }
}

impl Serialize for TenantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true if self.is_default() => serializer.serialize_none(),
            true => serialize_text(Self::PREFIX, self.0, serializer),
            false => uuid_to_bytes(&self.0, serializer),
        }
    }
}

inline_schema!(TenantId { "type": ["string", "null"], "pattern": "^tnt_[0-9a-f]{32}$" });

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor).map(Self)
    }
}

/// How a request names a tenant: by id, by slug, or as the default one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TenantRef {
    /// The default tenant: `null` in a body, `default` in a path.
    Default,
    /// `tnt_...`
    Id(TenantId),
    /// A slug: text with the form of one.
    Slug(Box<str>),
    /// Text that can't be any tenant's name.
    Impossible,
}

impl TenantRef {
    /// Reads the name in a path, filter or body.
    pub fn parse(text: &str) -> Self {
        if text == DEFAULT_TENANT_NAME {
            Self::Default
        } else if let Some(id) = TenantId::parse(text) {
            Self::Id(id)
        } else if is_slug(text) {
            Self::Slug(text.into())
        } else {
            Self::Impossible
        }
    }
}

impl From<TenantId> for TenantRef {
    fn from(id: TenantId) -> Self {
        if id.is_default() { Self::Default } else { Self::Id(id) }
    }
}

impl From<&str> for TenantRef {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_derived_id_holds_its_facts(millis in 0i64..253_402_300_799_999, seq in 0u64..1 << SEQ_BITS, tag: u32) {
            let id = AuditId::derive(Timestamp::from_millis(millis), seq, TenantTag(tag));
            prop_assert_eq!(id.seq(), seq);
            prop_assert_eq!(id.tag(), TenantTag(tag));
            prop_assert_eq!(id.time().millis(), millis);
            prop_assert_eq!(id.0.get_version_num(), 7);
            prop_assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
            prop_assert_eq!(AuditId::parse(&id.to_string()), Some(id));
        }
    }

    #[test]
    fn ids_have_one_spelling() {
        let id = AgentId::derive(Timestamp::from_millis(1_700_000_000_000), 7, TenantTag(9)).to_string();
        assert!(AgentId::parse(&id).is_some());
        assert!(AgentId::parse(&id.to_uppercase()).is_none());
        assert!(AgentId::parse(&id.replace("agt_", "key_")).is_none());
        assert!(AgentId::parse(&id[..35]).is_none());
    }

    #[test]
    fn a_tenant_is_named_by_id_slug_or_default() {
        let id = TenantId::generate(Timestamp::from_millis(1_700_000_000_000), [3; 10]).unwrap();
        assert_eq!(TenantRef::parse(&id.to_string()), TenantRef::Id(id));
        assert_eq!(TenantRef::parse("default"), TenantRef::Default);
        assert_eq!(TenantRef::parse("acme"), TenantRef::Slug("acme".into()));
        assert_eq!(TenantRef::parse("Acme!"), TenantRef::Impossible);
        assert_eq!(TenantId::generate(Timestamp::default(), [0; 10]), None);
    }
}
