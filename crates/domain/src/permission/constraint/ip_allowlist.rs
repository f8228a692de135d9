//! `ipAllowlist`: the addresses that a call may come from.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
#[cfg(feature = "schema")]
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::error::{Code, Error};
use crate::limits::{MAX_IP_NETS, STEPS_PER_ITEM};
use crate::permission::constraint::kind::{Checked, Constraint, Facts, Fails, check_count};
use crate::permission::regexes::RegexCache;
use crate::text::quote;

/// Addresses and networks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IpAllowlist(Box<[IpNet]>);

impl Constraint for IpAllowlist {
    type Spec = Vec<String>;
    type Stored = Vec<String>;

    #[cfg(feature = "schema")]
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "IPv4 and IPv6 addresses or networks in CIDR notation (RFC 4632, RFC 4291).",
            "type": ["array", "null"],
            "items": generator.subschema_for::<crate::schema::AddressOrNetwork>(),
            "minItems": 1,
            "maxItems": MAX_IP_NETS,
        })
    }

    fn parse(field: &str, spec: Vec<String>) -> Result<Self, Error> {
        check_count(field, spec.len(), MAX_IP_NETS)?;
        Self::restore(field, spec)
    }

    fn spec(&self) -> Vec<String> {
        self.0.iter().map(net_text).collect()
    }

    fn restore(field: &str, stored: Vec<String>) -> Result<Self, Error> {
        let parse = |(at, text): (usize, &String)| {
            parse_net(text).ok_or_else(|| {
                let problem = format!("must be an IP address or a network such as 10.0.0.0/8, not '{}'", quote(text));
                Error::field(Code::InvalidPattern, &format!("{field}[{at}]"), problem)
            })
        };
        Ok(Self(stored.iter().enumerate().map(parse).collect::<Result<_, _>>()?))
    }

    fn stored(&self) -> Vec<String> {
        self.spec()
    }

    fn restricts(&self) -> bool {
        true
    }

    fn steps(&self) -> usize {
        self.0.len() * STEPS_PER_ITEM
    }
}

impl Checked for IpAllowlist {
    type Failure<'c> = IpNotAllowed;

    fn check(&self, facts: &Facts<'_>, _: &RegexCache) -> Result<(), IpNotAllowed> {
        match facts.ip.map(|ip| ip.to_canonical()) {
            Some(ip) if self.0.iter().any(|net| net.contains(&ip)) => Ok(()),
            ip => Err(IpNotAllowed(ip)),
        }
    }
}

/// The address is not in the allowlist, or is unknown.
pub struct IpNotAllowed(Option<IpAddr>);

impl Fails for IpNotAllowed {
    fn code(&self) -> Code {
        Code::IpNotAllowed
    }

    fn reason(&self) -> Cow<'static, str> {
        match self.0 {
            Some(ip) => format!("IP_NOT_ALLOWED: IP address {ip} is not in the permission's allowlist").into(),
            None => "IP_NOT_ALLOWED: the caller's IP address is unknown, and the permission has an allowlist".into(),
        }
    }
}

/// Reads an address or a network. IPv4-mapped IPv6 (RFC 4291, 2.5.5.2) counts as IPv4.
pub fn parse_net(text: &str) -> Option<IpNet> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::new(IpAddr::V4(v4), v6.prefix_len() - 96).ok(),
            None => Some(net),
        },
        _ => Some(net),
    }
}

/// Its shortest form.
fn net_text(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::constraint::example_tests::{anywhere, denial_code, refused_fields};

    #[test]
    fn addresses_match_across_families_only_when_mapped() {
        let list = r#"{"ipAllowlist":["10.0.0.0/8","192.0.2.7","2001:db8::/32","::ffff:198.51.100.0/120"]}"#;
        let from = |ip: &str| Facts { ip: Some(ip.parse().unwrap()), ..anywhere() };
        for ip in ["10.1.2.3", "192.0.2.7", "2001:db8::1", "::ffff:10.1.2.3", "198.51.100.9"] {
            assert_eq!(denial_code(list, &from(ip)), None, "{ip}");
        }
        for ip in ["11.0.0.1", "192.0.2.8", "2001:db9::1", "::10.1.2.3"] {
            assert_eq!(denial_code(list, &from(ip)), Some(Code::IpNotAllowed), "{ip}");
        }
        assert_eq!(denial_code(list, &anywhere()), Some(Code::IpNotAllowed), "unknown is denied");
    }

    #[test]
    fn bad_lists_name_the_field() {
        refused_fields(&[
            (r#"{"ipAllowlist":["10.0.0.0/8","10.0.0.0/33"]}"#, "ipAllowlist[1]"),
            (r#"{"ipAllowlist":[]}"#, "ipAllowlist"),
        ]);
    }

    #[test]
    fn a_stored_list_is_not_held_against_the_limit() {
        let many = vec!["10.0.0.1".to_owned(); MAX_IP_NETS + 1];
        assert!(IpAllowlist::parse("ipAllowlist", many.clone()).is_err());
        assert_eq!(IpAllowlist::restore("ipAllowlist", many.clone()).unwrap().stored(), many);
    }
}
