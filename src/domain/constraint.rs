//! What a permission demands besides a match: a time of day, an address, arguments, approval, a rate.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::arguments::each_string;
use super::error::{Code, Error};
use super::glob;
use super::limits::{MAX_ARG_PATTERN_BYTES, MAX_ARG_PATTERNS, MAX_CACHED_REGEXES, MAX_IP_NETS, MAX_REGEX_BYTES};
use super::text::quote;
use super::time::Timestamp;

/// Constraints as a request and the journal spell them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConstraintsSpec {
    /// Granted calls in a sliding hour.
    pub max_calls_per_hour: Option<u32>,
    /// Globs, or regular expressions that start with `^`, of which every string argument must match one.
    pub allowed_arg_patterns: Option<Vec<String>>,
    /// A time of day in UTC.
    pub time_window: Option<TimeWindowSpec>,
    /// IPv4 and IPv6 addresses or networks in CIDR notation (RFC 4632, RFC 4291).
    pub ip_allowlist: Option<Vec<String>>,
    /// Whether a person has to approve, which this server answers with a denial.
    pub require_approval: Option<bool>,
}

/// A time of day, `HH:MM` in UTC; the start counts, the end does not, and it may wrap midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeWindowSpec {
    /// First minute.
    pub start: String,
    /// First minute after it.
    pub end: String,
}

/// Checked constraints. All that are there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    max_calls_per_hour: Option<u32>,
    arg_patterns: Option<Box<[Box<str>]>>,
    time_window: Option<(u16, u16)>,
    ip_allowlist: Option<Box<[IpNet]>>,
    require_approval: Option<bool>,
}

/// The facts of a call that constraints look at.
pub struct Facts<'a> {
    /// The call's arguments as JSON.
    pub arguments: Option<&'a str>,
    /// The caller's address, where it is known.
    pub ip: Option<IpAddr>,
    /// When the call is decided.
    pub at: Timestamp,
}

/// A constraint that does not hold.
pub struct Failure {
    /// Which code says so.
    pub code: Code,
    /// The sentence for people.
    pub reason: String,
}

impl Constraints {
    /// Reads constraints. `field` is the path of the object that holds them.
    ///
    /// # Errors
    /// `INVALID_PATTERN` or `INVALID_FIELD`, naming the constraint.
    pub fn parse(field: &str, spec: ConstraintsSpec) -> Result<Self, Error> {
        let ConstraintsSpec { max_calls_per_hour, allowed_arg_patterns, time_window, ip_allowlist, require_approval } =
            spec;
        Ok(Self {
            max_calls_per_hour,
            arg_patterns: allowed_arg_patterns
                .map(|patterns| parse_arg_patterns(&format!("{field}.allowedArgPatterns"), patterns))
                .transpose()?,
            time_window: time_window
                .map(|window| parse_time_window(&format!("{field}.timeWindow"), &window))
                .transpose()?,
            ip_allowlist: ip_allowlist.map(|nets| parse_nets(&format!("{field}.ipAllowlist"), &nets)).transpose()?,
            require_approval,
        })
    }

    /// The constraints as they are spelled, addresses in their shortest form.
    pub fn spec(&self) -> ConstraintsSpec {
        let Self { max_calls_per_hour, arg_patterns, time_window, ip_allowlist, require_approval } = self;
        ConstraintsSpec {
            max_calls_per_hour: *max_calls_per_hour,
            allowed_arg_patterns: arg_patterns.as_ref().map(|all| all.iter().map(|text| text.to_string()).collect()),
            time_window: time_window
                .map(|(start, end)| TimeWindowSpec { start: clock_text(start), end: clock_text(end) }),
            ip_allowlist: ip_allowlist.as_ref().map(|all| all.iter().map(net_text).collect()),
            require_approval: *require_approval,
        }
    }

    /// Calls allowed in a sliding hour, where that is limited.
    pub fn max_calls_per_hour(&self) -> Option<u32> {
        self.max_calls_per_hour
    }

    /// Checks all that needs no counter, in the order in which failures are reported. Each result is shown to
    /// `looked_at` (the constraint's name and what came of it).
    pub fn check(
        &self,
        facts: &Facts<'_>,
        regexes: &RegexCache,
        mut looked_at: impl FnMut(&'static str, Option<&Failure>),
    ) -> Result<(), Failure> {
        let Self { max_calls_per_hour: _, arg_patterns, time_window, ip_allowlist, require_approval } = self;
        let mut step = |name, failure: Option<Failure>| {
            looked_at(name, failure.as_ref());
            failure.map_or(Ok(()), Err)
        };
        if let Some((start, end)) = time_window {
            step("timeWindow", outside_window(*start, *end, facts.at))?;
        }
        if let Some(nets) = ip_allowlist {
            step("ipAllowlist", not_allowed_ip(nets, facts.ip))?;
        }
        if let Some(patterns) = arg_patterns {
            step("allowedArgPatterns", unmatched_argument(patterns, facts.arguments, regexes))?;
        }
        if *require_approval == Some(true) {
            let reason = "This call requires approval by a person".to_owned();
            step("requireApproval", Some(Failure { code: Code::RequiresApproval, reason }))?;
        }
        Ok(())
    }
}

fn outside_window(start: u16, end: u16, at: Timestamp) -> Option<Failure> {
    let minute = at.minute_of_day();
    let inside = if start < end { (start..end).contains(&minute) } else { minute >= start || minute < end };
    (!inside).then(|| Failure {
        code: Code::OutsideTimeWindow,
        reason: format!("Outside the permission's time window {}-{} UTC", clock_text(start), clock_text(end)),
    })
}

fn not_allowed_ip(nets: &[IpNet], ip: Option<IpAddr>) -> Option<Failure> {
    let reason = match ip.map(|ip| ip.to_canonical()) {
        Some(ip) if nets.iter().any(|net| net.contains(&ip)) => return None,
        Some(ip) => format!("IP address {ip} is not in the permission's allowlist"),
        None => "The caller's IP address is unknown, and the permission has an allowlist".to_owned(),
    };
    Some(Failure { code: Code::IpNotAllowed, reason })
}

fn unmatched_argument(patterns: &[Box<str>], arguments: Option<&str>, regexes: &RegexCache) -> Option<Failure> {
    let mut unmatched = None;
    let (shown, all_match) = each_string(arguments.unwrap_or("{}"), |value| {
        let matches = patterns.iter().any(|pattern| arg_matches(pattern, value, regexes));
        if !matches {
            unmatched = Some(quote(value));
        }
        matches
    });
    if shown > 0 && all_match {
        return None;
    }
    let wanted: Vec<_> = patterns.iter().take(3).map(|pattern| format!("'{pattern}'")).collect();
    let more = patterns.len().saturating_sub(wanted.len());
    let wanted =
        if more == 0 { wanted.join(" or ") } else { format!("{} or {more} other patterns", wanted.join(" or ")) };
    let reason = match unmatched {
        Some(value) => format!("Argument value '{value}' does not match pattern {wanted}"),
        None => format!("The call has no string argument, so it does not match pattern {wanted}"),
    };
    Some(Failure { code: Code::ArgumentNotAllowed, reason })
}

fn arg_matches(pattern: &str, value: &str, regexes: &RegexCache) -> bool {
    if pattern.starts_with('^') {
        regexes.get(pattern).is_some_and(|regex| regex.is_match(value))
    } else {
        glob::matches(pattern, value)
    }
}

fn parse_arg_patterns(field: &str, patterns: Vec<String>) -> Result<Box<[Box<str>]>, Error> {
    list_size(field, patterns.len(), MAX_ARG_PATTERNS)?;
    for (at, pattern) in patterns.iter().enumerate() {
        let field = format!("{field}[{at}]");
        if pattern.is_empty() || pattern.len() > MAX_ARG_PATTERN_BYTES {
            let problem = format!("must have 1 to {MAX_ARG_PATTERN_BYTES} bytes");
            return Err(Error::field(Code::InvalidPattern, &field, problem));
        }
        if pattern.starts_with('^') {
            compile(pattern).map_err(|error| {
                let problem = match error {
                    regex::Error::CompiledTooBig(_) => {
                        format!("is a regular expression that takes over {MAX_REGEX_BYTES} bytes when compiled")
                    }
                    // The parser's message draws the place over several lines; its last one says what is wrong.
                    other => {
                        let text = other.to_string();
                        let cause = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                        format!("is no regular expression: {cause}")
                    }
                };
                Error::field(Code::InvalidPattern, &field, problem)
            })?;
        }
    }
    Ok(patterns.into_iter().map(String::into_boxed_str).collect())
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build()
}

fn parse_time_window(field: &str, spec: &TimeWindowSpec) -> Result<(u16, u16), Error> {
    let start = parse_clock(&format!("{field}.start"), &spec.start)?;
    let end = parse_clock(&format!("{field}.end"), &spec.end)?;
    if start == end {
        let problem = "must not start and end at the same minute; leave it out to allow every time";
        return Err(Error::field(Code::InvalidPattern, field, problem));
    }
    Ok((start, end))
}

fn parse_clock(field: &str, text: &str) -> Result<u16, Error> {
    let number = |digits: &str, below: u16| {
        let value = digits.parse::<u16>().ok()?;
        (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) && value < below).then_some(value)
    };
    text.split_once(':').and_then(|(hours, minutes)| Some(number(hours, 24)? * 60 + number(minutes, 60)?)).ok_or_else(
        || {
            let problem = format!("must be HH:MM from 00:00 to 23:59 in UTC, not '{}'", quote(text));
            Error::field(Code::InvalidPattern, field, problem)
        },
    )
}

fn clock_text(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn parse_nets(field: &str, texts: &[String]) -> Result<Box<[IpNet]>, Error> {
    list_size(field, texts.len(), MAX_IP_NETS)?;
    let parse = |(at, text): (usize, &String)| {
        parse_net(text).ok_or_else(|| {
            let problem = format!("must be an IP address or a network such as 10.0.0.0/8, not '{}'", quote(text));
            Error::field(Code::InvalidPattern, &format!("{field}[{at}]"), problem)
        })
    };
    texts.iter().enumerate().map(parse).collect()
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

fn net_text(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn list_size(field: &str, count: usize, most: usize) -> Result<(), Error> {
    if count == 0 || count > most {
        return Err(Error::field(Code::InvalidField, field, format!("must hold 1 to {most} items, not {count}")));
    }
    Ok(())
}

/// Compiled regular expressions by their text. They are built when first needed and forgotten when there are too
/// many, so what a tenant's patterns can take of memory is bounded. It holds no fact: a copy of it is empty.
#[derive(Debug, Default)]
pub struct RegexCache(RefCell<HashMap<Box<str>, Arc<Regex>>>);

impl RegexCache {
    fn get(&self, pattern: &str) -> Option<Arc<Regex>> {
        if let Some(regex) = self.0.borrow().get(pattern) {
            return Some(Arc::clone(regex));
        }
        // Every pattern was compiled once when it was set, so this fails for none.
        let regex = Arc::new(compile(pattern).ok()?);
        let mut known = self.0.borrow_mut();
        if known.len() >= MAX_CACHED_REGEXES {
            known.clear();
        }
        known.insert(pattern.into(), Arc::clone(&regex));
        Some(regex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Constraints, Error> {
        Constraints::parse("constraints", serde_json::from_str(json).unwrap())
    }

    fn check(constraints: &str, facts: &Facts<'_>) -> Option<Code> {
        let constraints = parse(constraints).unwrap();
        constraints.check(facts, &RegexCache::default(), |_, _| {}).err().map(|failure| failure.code)
    }

    fn with_arguments(json: &str) -> Facts<'_> {
        Facts { arguments: Some(json), ip: None, at: Timestamp::default() }
    }

    fn at_clock(clock: &str) -> Facts<'static> {
        let at = Timestamp::parse("at", &format!("2026-03-01T{clock}:30Z")).unwrap();
        Facts { arguments: None, ip: None, at }
    }

    fn from_ip(ip: &str) -> Facts<'static> {
        Facts { arguments: None, ip: Some(ip.parse().unwrap()), at: Timestamp::default() }
    }

    #[test]
    fn every_string_argument_must_match_a_pattern() {
        let globs = r#"{"allowedArgPatterns":["/srv/data/**","^repo-[0-9]+$"]}"#;
        assert_eq!(check(globs, &with_arguments(r#"{"path":"/srv/data/a/b","n":5}"#)), None);
        assert_eq!(check(globs, &with_arguments(r#"{"path":"/srv/data/a","repo":"repo-17"}"#)), None);
        let denied = Some(Code::ArgumentNotAllowed);
        assert_eq!(check(globs, &with_arguments(r#"{"path":"/srv/data/a","x":{"y":["/etc/passwd"]}}"#)), denied);
        assert_eq!(check(globs, &with_arguments(r#"{"repo":"repo-17x"}"#)), denied);
        assert_eq!(check(globs, &with_arguments(r#"{"n":5,"/srv/data/key":1}"#)), denied, "no string to match");
        assert_eq!(check(globs, &at_clock("00:00")), denied, "no arguments at all");
    }

    #[test]
    fn time_windows_wrap_midnight() {
        let day = r#"{"timeWindow":{"start":"09:00","end":"17:00"}}"#;
        let night = r#"{"timeWindow":{"start":"22:00","end":"06:00"}}"#;
        for (clock, by_day, by_night) in [
            ("08:59", false, false),
            ("09:00", true, false),
            ("16:59", true, false),
            ("17:00", false, false),
            ("22:00", false, true),
            ("00:00", false, true),
            ("05:59", false, true),
            ("06:00", false, false),
        ] {
            assert_eq!(check(day, &at_clock(clock)).is_none(), by_day, "{clock}");
            assert_eq!(check(night, &at_clock(clock)).is_none(), by_night, "{clock}");
        }
    }

    #[test]
    fn addresses_match_across_families_only_when_mapped() {
        let list = r#"{"ipAllowlist":["10.0.0.0/8","192.0.2.7","2001:db8::/32","::ffff:198.51.100.0/120"]}"#;
        for ip in ["10.1.2.3", "192.0.2.7", "2001:db8::1", "::ffff:10.1.2.3", "198.51.100.9"] {
            assert_eq!(check(list, &from_ip(ip)), None, "{ip}");
        }
        for ip in ["11.0.0.1", "192.0.2.8", "2001:db9::1", "::10.1.2.3"] {
            assert_eq!(check(list, &from_ip(ip)), Some(Code::IpNotAllowed), "{ip}");
        }
        assert_eq!(check(list, &at_clock("00:00")), Some(Code::IpNotAllowed), "unknown is denied");
    }

    #[test]
    fn approval_is_a_denial_and_false_is_none() {
        assert_eq!(check(r#"{"requireApproval":true}"#, &at_clock("00:00")), Some(Code::RequiresApproval));
        assert_eq!(check(r#"{"requireApproval":false}"#, &at_clock("00:00")), None);
    }

    #[test]
    fn bad_constraints_name_the_field() {
        for (json, field) in [
            (r#"{"timeWindow":{"start":"9:00","end":"17:00"}}"#, "constraints.timeWindow.start"),
            (r#"{"timeWindow":{"start":"09:00","end":"24:00"}}"#, "constraints.timeWindow.end"),
            (r#"{"timeWindow":{"start":"09:00","end":"+1:00"}}"#, "constraints.timeWindow.end"),
            (r#"{"timeWindow":{"start":"09:00","end":"09:00"}}"#, "constraints.timeWindow"),
            (r#"{"ipAllowlist":["10.0.0.0/8","10.0.0.0/33"]}"#, "constraints.ipAllowlist[1]"),
            (r#"{"ipAllowlist":[]}"#, "constraints.ipAllowlist"),
            (r#"{"allowedArgPatterns":[]}"#, "constraints.allowedArgPatterns"),
            (r#"{"allowedArgPatterns":["a","^("]}"#, "constraints.allowedArgPatterns[1]"),
            (r#"{"allowedArgPatterns":["^(\\pL{9}){9999}"]}"#, "constraints.allowedArgPatterns[0]"),
            (r#"{"allowedArgPatterns":[""]}"#, "constraints.allowedArgPatterns[0]"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.message().starts_with(&format!("{field} ")), "{json}: {error}");
            assert!(!error.message().contains('\n'), "{error}");
        }
        assert!(serde_json::from_str::<ConstraintsSpec>(r#"{"maxCallsPerHour":-1}"#).is_err());
        assert!(serde_json::from_str::<ConstraintsSpec>(r#"{"maxCalls":1}"#).is_err());
    }

    #[test]
    fn a_spec_survives_its_reading() {
        let json = r#"{"maxCallsPerHour":3,"allowedArgPatterns":["a*","^b"],"timeWindow":{"start":"22:00","end":"06:30"},
            "ipAllowlist":["10.0.0.0/8","192.0.2.7"],"requireApproval":false}"#;
        let spec: ConstraintsSpec = serde_json::from_str(json).unwrap();
        assert_eq!(Constraints::parse("constraints", spec.clone()).unwrap().spec(), spec);
    }
}
