//! What a permission demands besides a match: a time of day, an address, arguments, approval, a rate.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decision::arguments::each_string;
use crate::error::{Code, Error};
use crate::limits::{MAX_ARG_PATTERN_BYTES, MAX_ARG_PATTERNS, MAX_IP_NETS, MAX_MATCHED_BYTES};
use crate::permission::arg_pattern::{ArgPattern, Value, first_fit};
use crate::permission::glob::Fit;
use crate::permission::oddity::Oddity;
use crate::permission::regexes::RegexCache;
use crate::permission::steps::Steps;
use crate::text::check_no_secret;
use crate::text::quote;
use crate::time::Timestamp;

/// Constraints as a request and the journal spell them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(
    feature = "schema",
    schemars(rename = "NewConstraints", description = "What must hold besides a match: all that is given.")
)]
pub struct ConstraintsSpec {
    /// Granted calls in a sliding hour.
    pub max_calls_per_hour: Option<u32>,
    /// Globs, or regular expressions that start with `^`, of which every string argument must match one as a whole. In a
    /// glob `*` stops at `/` and `**` does not; `?`, `[a-z]`, `[!a]` and `{a,b}` mean what they usually do, and `\\` takes
    /// the meaning from the character after it. A glob never matches a value with a segment `.` or `..` or a control
    /// character, percent-encoded or not; one with a `/` in it none with `//` or a backslash either. One with `://`
    /// is held against the scheme, the host, the port and the path of a URL, each by itself.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<crate::schema::ArgPattern>>", length(min = 1, max = MAX_ARG_PATTERNS)))]
    pub allowed_arg_patterns: Option<Vec<String>>,
    /// A time of day in UTC.
    pub time_window: Option<TimeWindowSpec>,
    /// IPv4 and IPv6 addresses or networks in CIDR notation (RFC 4632, RFC 4291).
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<crate::schema::AddressOrNetwork>>", length(min = 1, max = MAX_IP_NETS)))]
    pub ip_allowlist: Option<Vec<String>>,
    /// Whether a person has to approve, which this server answers with a denial.
    pub require_approval: Option<bool>,
}

/// A time of day, `HH:MM` in UTC; the start counts, the end does not, and it may wrap midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "TimeWindow"))]
pub struct TimeWindowSpec {
    /// First minute.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Clock"))]
    pub start: String,
    /// First minute after it.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Clock"))]
    pub end: String,
}

/// Checked constraints. All that are there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Constraints {
    max_calls_per_hour: Option<u32>,
    arg_patterns: Option<Box<[ArgPattern]>>,
    time_window: Option<(u16, u16)>,
    ip_allowlist: Option<Box<[IpNet]>>,
    require_approval: Option<bool>,
}

/// Where constraints come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A request: all is checked.
    Request,
    /// The journal or a snapshot, whose content was a request once. It is not held against today's limits, and no
    /// regular expression is compiled before a call needs it.
    Stored,
}

/// The facts of a call that constraints look at.
pub struct Facts<'a> {
    /// The call's arguments as JSON.
    pub arguments: Option<&'a str>,
    /// The caller's address, where it is known.
    pub ip: Option<IpAddr>,
    /// When the call is decided.
    pub at: Timestamp,
    /// What may still be done to match the arguments, and to look at what was delegated.
    pub steps: Steps,
}

/// A constraint that does not hold. The sentence for people is made only where somebody reads it: a decision may look at
/// many that fail, and tells of one.
pub enum Failure<'c> {
    /// It is not the time of day: minutes since midnight of the window's start and end.
    OutsideTimeWindow(u16, u16),
    /// The address is not in the allowlist, or is unknown.
    IpNotAllowed(Option<IpAddr>),
    /// There is no argument that could match one of these patterns.
    NoArgument(&'c [ArgPattern]),
    /// An argument matches none of these patterns; it is quoted, with what keeps it from matching one that it fits.
    Unmatched(String, &'c [ArgPattern], Option<Oddity>),
    /// An argument is too long to be matched; it is quoted, with its length in bytes.
    TooLong(String, usize),
    /// No steps are left to match the arguments.
    TooMuchWork,
    /// A person has to approve.
    RequiresApproval,
}

impl Failure<'_> {
    /// Which code says so.
    pub fn code(&self) -> Code {
        match self {
            Self::OutsideTimeWindow(..) => Code::OutsideTimeWindow,
            Self::IpNotAllowed(_) => Code::IpNotAllowed,
            Self::NoArgument(_) | Self::Unmatched(..) | Self::TooLong(..) | Self::TooMuchWork => {
                Code::ArgumentNotAllowed
            }
            Self::RequiresApproval => Code::RequiresApproval,
        }
    }

    /// The sentence for people.
    pub fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::OutsideTimeWindow(start, end) => {
                let (start, end) = (clock_text(*start), clock_text(*end));
                format!("Outside the permission's time window {start}-{end} UTC").into()
            }
            Self::IpNotAllowed(Some(ip)) => format!("IP address {ip} is not in the permission's allowlist").into(),
            Self::IpNotAllowed(None) => "The caller's IP address is unknown, and the permission has an allowlist".into(),
            Self::NoArgument(patterns) => {
                let patterns = any_of(patterns);
                format!("The call has no string argument, so it does not match pattern {patterns}").into()
            }
            Self::Unmatched(quoted, patterns, odd) => {
                let why = odd.map(|odd| format!(": {}", odd.what())).unwrap_or_default();
                format!("Argument value '{quoted}' does not match pattern {}{why}", any_of(patterns)).into()
            }
            Self::TooLong(quoted, bytes) => format!(
                "Argument value '{quoted}' has {bytes} bytes, and one that has to match a pattern may have {MAX_MATCHED_BYTES}"
            )
            .into(),
            Self::TooMuchWork => {
                "The arguments take more work to match against the patterns than one decision may".into()
            }
            Self::RequiresApproval => "This call requires approval by a person".into(),
        }
    }
}

impl Constraints {
    /// Reads constraints. `field` is the path of the object that holds them.
    ///
    /// # Errors
    /// `INVALID_PATTERN` or `INVALID_FIELD`, naming the constraint.
    pub fn parse(field: &str, spec: ConstraintsSpec, source: Source) -> Result<Self, Error> {
        let ConstraintsSpec { max_calls_per_hour, allowed_arg_patterns, time_window, ip_allowlist, require_approval } =
            spec;
        Ok(Self {
            max_calls_per_hour,
            arg_patterns: allowed_arg_patterns
                .map(|patterns| match source {
                    Source::Request => parse_arg_patterns(&format!("{field}.allowedArgPatterns"), patterns),
                    Source::Stored => Ok(patterns.into_iter().map(ArgPattern::stored).collect()),
                })
                .transpose()?,
            time_window: time_window
                .map(|window| parse_time_window(&format!("{field}.timeWindow"), &window))
                .transpose()?,
            ip_allowlist: ip_allowlist
                .map(|nets| parse_nets(&format!("{field}.ipAllowlist"), &nets, source))
                .transpose()?,
            require_approval,
        })
    }

    /// The constraints as they are spelled, addresses in their shortest form.
    pub fn spec(&self) -> ConstraintsSpec {
        let Self { max_calls_per_hour, arg_patterns, time_window, ip_allowlist, require_approval } = self;
        ConstraintsSpec {
            max_calls_per_hour: *max_calls_per_hour,
            allowed_arg_patterns: arg_patterns
                .as_ref()
                .map(|all| all.iter().map(|one| one.as_str().to_owned()).collect()),
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

    /// The patterns for arguments.
    pub fn arg_patterns(&self) -> &[ArgPattern] {
        self.arg_patterns.as_deref().unwrap_or_default()
    }

    /// Whether there is a call that they deny.
    pub fn restrict(&self) -> bool {
        let Self { max_calls_per_hour, arg_patterns, time_window, ip_allowlist, require_approval } = self;
        max_calls_per_hour.is_some()
            || arg_patterns.is_some()
            || time_window.is_some()
            || ip_allowlist.is_some()
            || *require_approval == Some(true)
    }

    /// Addresses and networks of the allowlist: a check may look at all of them.
    pub fn addresses(&self) -> usize {
        self.ip_allowlist.as_ref().map_or(0, |nets| nets.len())
    }

    /// Checks all that needs no counter, in the order in which failures are reported. Each result is shown to
    /// `looked_at` (the constraint's name and what came of it).
    ///
    /// # Errors
    /// The first constraint that does not hold.
    pub fn check<'c>(
        &'c self,
        facts: &Facts<'_>,
        regexes: &RegexCache,
        mut looked_at: impl FnMut(&'static str, Option<&Failure<'_>>),
    ) -> Result<(), Failure<'c>> {
        let Self { max_calls_per_hour: _, arg_patterns, time_window, ip_allowlist, require_approval } = self;
        let mut step = |name, checked: Result<(), Failure<'c>>| {
            looked_at(name, checked.as_ref().err());
            checked
        };
        if let Some((start, end)) = time_window {
            step("timeWindow", check_window(*start, *end, facts.at))?;
        }
        if let Some(nets) = ip_allowlist {
            step("ipAllowlist", check_ip(nets, facts.ip))?;
        }
        if let Some(patterns) = arg_patterns {
            step("allowedArgPatterns", check_arguments(patterns, facts, regexes))?;
        }
        if *require_approval == Some(true) {
            step("requireApproval", Err(Failure::RequiresApproval))?;
        }
        Ok(())
    }
}

fn check_window<'c>(start: u16, end: u16, at: Timestamp) -> Result<(), Failure<'c>> {
    let minute = at.minute_of_day();
    let inside = if start < end { (start..end).contains(&minute) } else { minute >= start || minute < end };
    if inside { Ok(()) } else { Err(Failure::OutsideTimeWindow(start, end)) }
}

fn check_ip<'c>(nets: &[IpNet], ip: Option<IpAddr>) -> Result<(), Failure<'c>> {
    match ip.map(|ip| ip.to_canonical()) {
        Some(ip) if nets.iter().any(|net| net.contains(&ip)) => Ok(()),
        ip => Err(Failure::IpNotAllowed(ip)),
    }
}

fn check_arguments<'c>(patterns: &'c [ArgPattern], facts: &Facts<'_>, regexes: &RegexCache) -> Result<(), Failure<'c>> {
    let Facts { arguments, steps, .. } = facts;
    let arguments = arguments.unwrap_or("{}");
    // Reading the arguments is work too.
    if !steps.take(arguments.len()) {
        return Err(Failure::TooMuchWork);
    }
    let mut checked = Ok(());
    let (shown, all_match) = each_string(arguments, |value| {
        checked = check_value(patterns, value, steps, regexes);
        checked.is_ok()
    });
    checked?;
    if shown > 0 && all_match { Ok(()) } else { Err(Failure::NoArgument(patterns)) }
}

fn check_value<'c>(
    patterns: &'c [ArgPattern],
    value: &str,
    steps: &Steps,
    regexes: &RegexCache,
) -> Result<(), Failure<'c>> {
    if value.len() > MAX_MATCHED_BYTES {
        return Err(Failure::TooLong(quote(value), value.len()));
    }
    let known = Value::new(value);
    let odd = match first_fit(patterns.iter().map(|pattern| pattern.fits(&known, steps, regexes))) {
        Fit::Matches => return Ok(()),
        Fit::Refuses(odd) => Some(odd),
        Fit::Differs => None,
    };
    if steps.are_used_up() {
        return Err(Failure::TooMuchWork);
    }
    Err(Failure::Unmatched(quote(value), patterns, odd))
}

fn any_of(patterns: &[ArgPattern]) -> String {
    let wanted: Vec<_> = patterns.iter().take(3).map(|pattern| format!("'{}'", pattern.as_str())).collect();
    let more = patterns.len().saturating_sub(wanted.len());
    if more == 0 { wanted.join(" or ") } else { format!("{} or {more} other patterns", wanted.join(" or ")) }
}

fn parse_arg_patterns(field: &str, patterns: Vec<String>) -> Result<Box<[ArgPattern]>, Error> {
    list_size(field, patterns.len(), MAX_ARG_PATTERNS)?;
    let parse = |(at, pattern): (usize, String)| {
        let field = format!("{field}[{at}]");
        if pattern.is_empty() || pattern.len() > MAX_ARG_PATTERN_BYTES {
            let problem = format!("must have 1 to {MAX_ARG_PATTERN_BYTES} bytes");
            return Err(Error::field(Code::InvalidPattern, &field, problem));
        }
        check_no_secret(&field, &pattern)?;
        ArgPattern::parse(pattern).map_err(|problem| Error::field(Code::InvalidPattern, &field, problem))
    };
    patterns.into_iter().enumerate().map(parse).collect()
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

fn parse_nets(field: &str, texts: &[String], source: Source) -> Result<Box<[IpNet]>, Error> {
    if source == Source::Request {
        list_size(field, texts.len(), MAX_IP_NETS)?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Constraints, Error> {
        Constraints::parse("constraints", serde_json::from_str(json).unwrap(), Source::Request)
    }

    fn check(constraints: &str, facts: &Facts<'_>) -> Option<Code> {
        let constraints = parse(constraints).unwrap();
        constraints.check(facts, &RegexCache::default(), |_, _| {}).err().map(|failure| failure.code())
    }

    fn with_arguments(json: &str) -> Facts<'_> {
        Facts { arguments: Some(json), ip: None, at: Timestamp::default(), steps: Steps::default() }
    }

    fn at_clock(clock: &str) -> Facts<'static> {
        let at = Timestamp::parse("at", &format!("2026-03-01T{clock}:30Z")).unwrap();
        Facts { arguments: None, ip: None, at, steps: Steps::default() }
    }

    fn from_ip(ip: &str) -> Facts<'static> {
        Facts { arguments: None, ip: Some(ip.parse().unwrap()), at: Timestamp::default(), steps: Steps::default() }
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
    fn a_reason_says_what_is_odd_about_a_value() {
        let globs = parse(r#"{"allowedArgPatterns":["/srv/**","*.md"]}"#).unwrap();
        let facts = with_arguments(r#"{"n":"a.md","path":"/srv/../etc/passwd"}"#);
        let failure = globs.check(&facts, &RegexCache::default(), |_, _| {}).err().unwrap();
        assert_eq!(failure.code(), Code::ArgumentNotAllowed);
        assert_eq!(
            failure.reason(),
            "Argument value '/srv/../etc/passwd' does not match pattern '/srv/**' or '*.md': a glob never matches a value \
             with a segment '.' or '..', percent-encoded or not"
        );
    }

    #[test]
    fn a_long_argument_and_one_that_takes_too_much_work_are_denied_and_told_so() {
        let reason = |constraints: &str, arguments: &str| {
            let facts = with_arguments(arguments);
            let constraints = parse(constraints).unwrap();
            let checked = constraints.check(&facts, &RegexCache::default(), |_, _| {});
            checked.err().map(|failure| (failure.code(), failure.reason()))
        };
        let all = r#"{"allowedArgPatterns":["**"]}"#;
        assert_eq!(reason(all, &format!(r#"{{"a":"{}"}}"#, "a".repeat(MAX_MATCHED_BYTES))), None);
        let (code, told) = reason(all, &format!(r#"{{"a":"{}"}}"#, "a".repeat(MAX_MATCHED_BYTES + 1))).unwrap();
        assert_eq!(code, Code::ArgumentNotAllowed);
        assert!(told.contains("has 4097 bytes"), "{told}");

        let hostile: Vec<String> = (0..MAX_ARG_PATTERNS).map(|at| format!("*{}{at}", "a".repeat(250))).collect();
        let hostile = serde_json::json!({ "allowedArgPatterns": hostile }).to_string();
        let (code, told) = reason(&hostile, &format!(r#"["{}"]"#, "a".repeat(MAX_MATCHED_BYTES))).unwrap();
        assert_eq!(code, Code::ArgumentNotAllowed);
        assert!(told.contains("more work"), "{told}");
    }

    #[test]
    fn what_is_stored_is_not_checked_again() {
        let spec = ConstraintsSpec {
            allowed_arg_patterns: Some(vec!["^(".to_owned(); MAX_ARG_PATTERNS + 1]),
            ip_allowlist: Some(vec!["10.0.0.1".to_owned(); MAX_IP_NETS + 1]),
            ..ConstraintsSpec::default()
        };
        assert!(Constraints::parse("constraints", spec.clone(), Source::Request).is_err());
        let stored = Constraints::parse("constraints", spec.clone(), Source::Stored).unwrap();
        assert_eq!(stored.spec(), spec);
        let facts = Facts { ip: Some("10.0.0.1".parse().unwrap()), ..with_arguments(r#"["("]"#) };
        let failure = stored.check(&facts, &RegexCache::default(), |_, _| {}).err().map(|failure| failure.code());
        assert_eq!(failure, Some(Code::ArgumentNotAllowed), "one that can't be compiled matches nothing");
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
            (r#"{"allowedArgPatterns":["a","[b"]}"#, "constraints.allowedArgPatterns[1]"),
            (r#"{"allowedArgPatterns":["{a,b"]}"#, "constraints.allowedArgPatterns[0]"),
            (r#"{"allowedArgPatterns":["/srv/../x"]}"#, "constraints.allowedArgPatterns[0]"),
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
        assert_eq!(Constraints::parse("constraints", spec.clone(), Source::Request).unwrap().spec(), spec);
    }
}
