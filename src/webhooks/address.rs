//! Which addresses a webhook may reach: public ones, by TLS, and those that the server's operator allows.
//!
//! A tenant's admin names the URL, and the server connects to it from within its network. So without this rule a webhook
//! could call whatever else is in there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

use crate::domain::{Code, Error};

/// Whether a webhook may connect to that address, with TLS or without. An IPv4 address within an IPv6 one is the IPv4
/// address.
pub fn may_reach(address: IpAddr, with_tls: bool, allowed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    allowed.iter().any(|net| net.contains(&address)) || with_tls && is_public(address)
}

/// Refuses what can be seen of a URL without a look into DNS: the scheme, and an address in place of a name.
///
/// # Errors
/// `INVALID_FIELD`, naming `url`.
pub fn check_url(url: &Url, allowed: &[IpNet]) -> Result<(), Error> {
    let with_tls = url.scheme() == "https";
    if !with_tls && allowed.is_empty() {
        return Err(Error::field(Code::InvalidField, "url", "must begin with https://"));
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    if may_reach(address, with_tls, allowed) {
        return Ok(());
    }
    let problem = if may_reach(address, true, allowed) {
        "must begin with https://, unless its address is one that the server allows with --webhook-allow"
    } else {
        "must lead to a public address, or to one that the server allows with --webhook-allow"
    };
    Err(Error::field(Code::InvalidField, "url", problem))
}

/// Whether anybody on the internet could have that address. Where it is not clear, the answer is no.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By IANA's registry of special IPv4 addresses (RFC 6890).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match (a, b) {
        // This network, private, loopback, and from multicast (224) to the broadcast address.
        (0 | 10 | 127 | 224.., _) => true,
        // Shared by providers (CGNAT).
        (100, 64..=127) => true,
        (169, 254) | (192, 168) => true,
        (172, 16..=31) => true,
        // Assigned by the IETF, and for documents.
        (192, 0) => c == 0 || c == 2,
        // Once relays for 6to4.
        (192, 88) => c == 99,
        // For measurements.
        (198, 18 | 19) => true,
        (198, 51) => c == 100,
        (203, 0) => c == 113,
        _ => false,
    };
    !is_special
}

/// Only 2000::/3 is given out, and within it some blocks lead elsewhere. All of loopback, link-local, unique local,
/// multicast and NAT64 is outside of it.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let is_given_out = first & 0xe000 == 0x2000;
    let is_special = match (first, second) {
        // Teredo, ORCHID and other special uses; documents.
        (0x2001, 0..=0x01ff | 0x0db8) => true,
        // 6to4 has an IPv4 address in it, of any kind.
        (0x2002, _) => true,
        // For documents.
        (0x3fff, 0..=0x0fff) => true,
        _ => false,
    };
    is_given_out && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaches(text: &str, with_tls: bool, allowed: &[&str]) -> bool {
        let allowed: Vec<IpNet> = allowed.iter().map(|net| net.parse().unwrap()).collect();
        may_reach(text.parse().unwrap(), with_tls, &allowed)
    }

    #[test]
    fn only_public_addresses_are_reached() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2001:10::1",
            "2001:20::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(!reaches(text, true, &[]), "{text}");
        }
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.254",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
        ] {
            assert!(reaches(text, true, &[]), "{text}");
            assert!(!reaches(text, false, &[]), "{text} without TLS");
        }
    }

    #[test]
    fn what_the_operator_allows_is_reached_in_every_spelling_and_without_tls() {
        for text in ["10.1.2.3", "::ffff:10.1.2.3", "fd00::7"] {
            assert!(
                reaches(text, true, &["10.0.0.0/8", "fd00::/16"]) && reaches(text, false, &["10.0.0.0/8", "fd00::/16"])
            );
        }
        assert!(!reaches("11.1.2.3", false, &["10.0.0.0/8"]) && !reaches("127.0.0.1", true, &["10.0.0.0/8"]));
    }

    #[test]
    fn urls_are_checked_in_every_spelling_of_an_address() {
        let check = |text: &str, allowed: &[&str]| {
            let allowed: Vec<IpNet> = allowed.iter().map(|net| net.parse().unwrap()).collect();
            check_url(&crate::domain::webhook::target::parse_url(text).unwrap(), &allowed)
        };
        for text in [
            "http://example.com/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://127.0.0.1./",
            "https://[::1]/",
            "https://[::ffff:a00:1]/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(check(text, &[]).is_err(), "{text}");
        }
        assert!(check("https://example.com/", &[]).is_ok() && check("https://8.8.8.8/", &[]).is_ok());
        assert!(
            check("http://127.1:8080/", &["127.0.0.0/8"]).is_ok()
                && check("http://8.8.8.8/", &["127.0.0.0/8"]).is_err()
        );
        // Its address is known only when it is looked up.
        assert!(check("http://inside.example/", &["10.0.0.0/8"]).is_ok());
    }
}
