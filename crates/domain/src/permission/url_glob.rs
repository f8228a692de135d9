//! Globs for URLs: those with `://` in them.
//!
//! Scheme, host, port and path are each matched against their own part of the glob, as the WHATWG URL standard parses
//! them, so no part reaches into another. A glob without a port stands for the scheme's default. A value with a query
//! matches if the glob has a query too, after a `\?`, or ends with `**`. A fragment stays with the client and is
//! ignored. A value with a user name or password never matches.

use std::borrow::Cow;
use std::cell::OnceCell;

use url::Url;

use crate::limits::URL_STEPS_PER_BYTE;
use crate::permission::glob::{Fit, matches, part, parts, sample};
use crate::permission::oddity::{Form, Oddity};

/// Marks a glob for URLs.
const MARK: &str = "://";

/// Whether a glob is for URLs.
pub fn is_one(glob: &str) -> bool {
    glob.contains(MARK)
}

/// A glob for URLs, cut into parts.
struct Parts<'g> {
    scheme: &'g str,
    host: &'g str,
    port: Option<&'g str>,
    path: &'g str,
    query: Option<&'g str>,
}

fn cut(glob: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = glob.split_once(MARK)?;
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
    let (path, query) = match path.split_once(r"\?") {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    // The colons of an IPv6 address are in brackets.
    let name = authority.rfind(r"\]").map_or(0, |at| at + 2);
    let colon = authority.get(name..)?.rfind(':').map(|at| name + at);
    let (host, port) = match colon {
        Some(at) => (authority.get(..at)?, authority.get(at + 1..)),
        None => (authority, None),
    };
    Some(Parts { scheme, host, port, path: if path.is_empty() { "/" } else { path }, query })
}

/// Checks a glob for URLs without braces.
///
/// # Errors
/// What is wrong with it, to follow the field's name in a sentence.
pub fn check(glob: &str) -> Result<(), &'static str> {
    if !glob.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "is a glob for URLs and must be ASCII without spaces: write a host as xn--... and a path percent-encoded",
        );
    }
    let Some(Parts { scheme, host, port, path, query }) = cut(glob) else { return Err("is not a glob for URLs") };
    if parts(path).any(|part| part == Ok("?")) || parts(query.unwrap_or_default()).any(|part| part == Ok("?")) {
        return Err(r"is a glob for URLs and has a '?': write '\?' where the query begins");
    }
    if glob.contains('#') {
        return Err("is a glob for URLs and has a '#': a fragment is never matched");
    }
    for text in [scheme, host, port.unwrap_or_default()] {
        if text.contains('@') {
            return Err("is a glob for URLs and has an '@': a user name or password never matches");
        }
        if text.contains("**") || text.contains('?') {
            return Err(
                "is a glob for URLs and has a '**' or a '?' before its path: write '/**' after the host, or '*' for any",
            );
        }
        part_by_part(text)?;
    }
    if scheme.is_empty() || port == Some("") {
        return Err("is a glob for URLs without a scheme, or with an empty port");
    }
    part_by_part(path)?;
    part_by_part(query.unwrap_or_default())?;
    let odd_in = |glob: &str| sample(glob).map(|sample| Form::of(&sample).odd_in_path());
    let odd = Form::of(&sample(glob)?).odd().or(odd_in(host)?).or(odd_in(path)?);
    odd.map_or(Ok(()), |_| {
        Err("never matches: it has a '.' or '..' segment, a '//' or a character that URLs don't have there")
    })
}

fn part_by_part(glob: &str) -> Result<(), &'static str> {
    parts(glob).try_for_each(|part| part.map(|_| ()))
}

/// A value to match against globs for URLs. It is parsed once.
#[derive(Default)]
pub struct Address(OnceCell<Option<ParsedUrl>>);

/// A URL, and the oddity of its path.
struct ParsedUrl {
    url: Url,
    odd: Option<Oddity>,
}

impl Address {
    /// How a glob for URLs fits the value. `form` is the whole value's.
    pub fn fits(&self, glob: &str, value: &str, form: impl FnOnce() -> Form, left: &mut usize) -> Fit {
        let read = self.0.get_or_init(|| {
            let enough = left.checked_sub(value.len() * URL_STEPS_PER_BYTE);
            *left = enough.unwrap_or(0);
            enough.and_then(|_| read(value))
        });
        let (Some(ParsedUrl { url, odd }), Some(glob)) = (read, cut(glob)) else { return Fit::Differs };
        if !url_matches(&glob, url, left) {
            return Fit::Differs;
        }
        form().odd().or(*odd).map_or(Fit::Matches, Fit::Refuses)
    }
}

/// Parses a URL that every program reads alike: it starts with its scheme and `://`, and parsers need not strip
/// anything.
fn read(value: &str) -> Option<ParsedUrl> {
    let url = Url::parse(value).ok()?;
    let (scheme, rest) = value.split_once(MARK)?;
    let behind = |marks: &[char]| rest.split_at_checked(rest.find(marks).unwrap_or(rest.len()));
    let (authority, _) = behind(&['/', '\\', '?', '#'])?;
    let (place, _) = behind(&['?', '#'])?;
    let host_is_elsewhere = authority.is_empty() && url.has_host() && url.host_str() != Some("");
    if !scheme.eq_ignore_ascii_case(url.scheme()) || value.trim() != value || host_is_elsewhere {
        return None;
    }
    let has_user = authority.contains('@') || !url.username().is_empty() || url.password().is_some();
    let odd = if has_user { Some(Oddity::UserInfo) } else { Form::of(place).odd_in_path() };
    Some(ParsedUrl { url, odd })
}

fn url_matches(glob: &Parts<'_>, url: &Url, left: &mut usize) -> bool {
    let mut fits = |glob: &str, text: &str| matches(glob, text, left);
    // The standard lowercases the hosts of the schemes it knows.
    let host = if url.is_special() { Cow::Owned(glob.host.to_ascii_lowercase()) } else { Cow::Borrowed(glob.host) };
    let port_fits = match glob.port {
        Some(glob) => fits(glob, &url.port_or_known_default().map(|port| port.to_string()).unwrap_or_default()),
        None => url.port().is_none(),
    };
    port_fits
        && fits(&glob.scheme.to_ascii_lowercase(), url.scheme())
        && fits(&host, url.host_str().unwrap_or_default())
        && fits(glob.path, if url.path().is_empty() { "/" } else { url.path() })
        && match (glob.query, url.query()) {
            (None, None) => true,
            (None, Some(_)) => ends_open(glob.path),
            (Some(glob), Some(query)) => fits(glob, query),
            (Some(_), None) => false,
        }
}

/// Whether the glob's last part is `**`.
fn ends_open(mut glob: &str) -> bool {
    let mut open = false;
    while let Ok(Some((first, rest))) = part(glob) {
        open = first.starts_with("**");
        glob = rest;
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(glob: &str, value: &str) -> Fit {
        check(glob).unwrap();
        Address::default().fits(glob, value, || Form::of(value), &mut usize::MAX.clone())
    }

    #[test]
    fn each_part_of_a_url_is_matched_by_itself() {
        for (glob, value) in [
            ("https://*.example.com/**", "https://www.example.com/a/b"),
            ("https://*.example.com/**", "HTTPS://A.B.Example.Com/"),
            ("https://*.example.com/**", "https://www.example.com/?q=1"),
            ("https://*.example.com/**", "https://www.example.com:443/a"),
            ("https://*.example.com/**", "https://www.example.com/a#/b"),
            ("https://*.example.com", "https://www.example.com"),
            ("https://*.Example.com", "https://www.example.com/"),
            ("https://example.com:*/**", "https://example.com/a"),
            ("https://example.com:443/a", "https://example.com/a"),
            ("http://localhost:*/**", "http://localhost:8080/x?u=http://b//c"),
            ("http://127.0.0.1/**", "http://0x7f.1/x"),
            (r"http://\[::1\]:80/**", "http://[::1]/x"),
            (r"http://\[::1\]/*", "http://[0::1]/x"),
            ("*://example.com/a", "ftp://example.com/a"),
            ("file:///srv/**", "file:///srv/a"),
            ("file:///srv/**", "file://localhost/srv/a"),
            ("s3://Bucket/*", "s3://Bucket/key"),
            (r"https://example.com/a\?id=*", "https://example.com/a?id=1"),
            ("https://example.com/[ab]", "https://example.com/b"),
            ("https://xn--bcher-kva.de/*", "https://b\u{fc}cher.de/x"),
        ] {
            assert_eq!(fit(glob, value), Fit::Matches, "{glob} {value}");
        }
        for (glob, value) in [
            ("https://*.example.com/**", "https://evil.com#.example.com/"),
            ("https://*.example.com/**", "https://evil.com/#.example.com/"),
            ("https://*.example.com/**", "https://evil.com?.example.com/"),
            ("https://*.example.com/**", r"https://evil.com\.example.com/"),
            ("https://*.example.com/**", "https://evil.com%2f.example.com/"),
            ("https://*.example.com/**", "https://evil.com%23.example.com/"),
            ("https://*.example.com/**", "https://evil.com\u{ff0f}.example.com/"),
            ("https://*.example.com/**", "https://example.com.evil.com/"),
            ("https://*.example.com/**", "https://www.example.com:444/"),
            ("https://*.example.com/**", "http://www.example.com/"),
            ("https://*.example.com/**", "https:www.example.com/"),
            ("https://*.example.com/**", "https:/www.example.com/"),
            ("https://*.example.com/**", "https:///www.example.com/"),
            ("https://*.example.com/**", " https://www.example.com/"),
            ("https://*.example.com/**", "https://www.example.com/ "),
            ("https://*.example.com/**", "//www.example.com/"),
            ("https://*.example.com/**", "blob:https://www.example.com/"),
            ("http://localhost:*/**", "http://localhost:80@evil.com/x"),
            ("http://localhost:*/**", "http://localhost.evil.com:80/x"),
            ("https://a.com/*/public", "https://a.com/secret?x=/public"),
            ("https://a.com/*/public", "https://a.com/secret#/public"),
            ("https://a.com/x", "https://a.com/x?y=1"),
            (r"https://a.com/x\?*", "https://a.com/x"),
            ("https://a.com/*", "https://a.com/x/y"),
        ] {
            assert_eq!(fit(glob, value), Fit::Differs, "{glob} {value}");
        }
        for (glob, value, oddity) in [
            ("https://evil.com/**", "https://me@evil.com/", Oddity::UserInfo),
            ("https://evil.com/**", "https://@evil.com/", Oddity::UserInfo),
            ("https://evil.com/**", "https://:p@evil.com/", Oddity::UserInfo),
            ("https://a.com/x/**", "https://a.com/x/y/..", Oddity::Dots),
            ("https://a.com/x/**", "https://a.com/x/y/..?z", Oddity::Dots),
            ("https://a.com/x/**", "https://a.com/x/y/..#z", Oddity::Dots),
            ("https://a.com/**", "https://a.com/x/%2e%2e/y", Oddity::Dots),
            ("https://a.com/**", "https://a.com/x%252e%252e/%252e%252e/y", Oddity::Dots),
            ("https://a.com/**", "https://a.com/x?f=/../y", Oddity::Dots),
            ("https://a.com/**", "https://a.com//x", Oddity::EmptySegment),
            ("https://a.com/**", r"https://a.com/x\y", Oddity::Backslash),
            ("https://a.com/**", r"https://a.com\x", Oddity::Backslash),
            ("https://a.com/**", "https://a.com/x%5cy", Oddity::Backslash),
            ("https://a.com/**", "https://a.com/x%2fy", Oddity::EncodedSlash),
            ("https://a.com/**", "https://a.com/x\ty", Oddity::Control),
            ("https://a.com/**", "https://a.c\nom/x", Oddity::Control),
            ("https://a.com/**", "https://a.com/%00", Oddity::Control),
        ] {
            assert_eq!(fit(glob, value), Fit::Refuses(oddity), "{glob} {value}");
        }
    }

    #[test]
    fn ambiguous_globs_and_globs_that_never_match_are_refused() {
        for bad in [
            "https://a.com/x?y=1",
            "https://a.com/x#y",
            "https://me@a.com/",
            "https://a.com**",
            "https://**/x",
            "https://a?.com/",
            "https://b\u{fc}cher.de/**",
            "https://a.com/a b",
            "https://a.com:/x",
            "://a.com/x",
            "https://a.com/../x",
            "https://a.com/x//y",
            "https://a.com/%2e%2e/y",
            r"https://a.com\\x",
            "https://[a:b]/x",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reading_a_url_takes_steps() {
        let mut left = 100;
        let value = "https://example.com/";
        assert_eq!(Address::default().fits("https://**", value, || Form::of(value), &mut left), Fit::Differs);
        assert_eq!(left, 0);
    }
}
