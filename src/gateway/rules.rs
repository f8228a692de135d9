//! The file of rules: JSON, read once at the start.
//!
//! ```json
//! {"rules": [
//!   {"host": "api.example.com", "methods": ["GET", "HEAD"], "path": "/api/{repo}/issues/{id}",
//!    "action": "read", "resource": "repo:{repo}:issue:{id}"}
//! ]}
//! ```

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;

use super::path::{check_segment, host_name};
use crate::domain::permission::check_action;
use crate::domain::permission::pattern::check_resource;
use crate::domain::text::quote;

/// The most rules in a file. Every request tries them in order.
const MAX_RULES: usize = 1_000;
/// Bytes of the file: a kilobyte a rule.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Bytes of a method. The longest registered one has 17.
pub(super) const MAX_METHOD_BYTES: usize = 32;

/// The rules without a file.
const DEFAULT: &str = r#"{"rules": [
    {"path": "/", "resource": "http:/"},
    {"path": "/{path...}", "resource": "http:{path...}"}
]}"#;

/// The rules of a gateway, in their order.
#[derive(Debug)]
pub struct Rules(Vec<Rule>);

/// The requests that a rule matches, and what it makes of them.
#[derive(Debug)]
pub(super) struct Rule {
    pub host: Option<Box<str>>,
    methods: Option<Vec<String>>,
    pub path: PathPattern,
    pub action: TemplatePart,
    pub resource: Vec<TemplatePart>,
}

/// The paths that a rule matches.
#[derive(Debug)]
pub(super) struct PathPattern {
    /// `None` takes any segment.
    segments: Vec<Option<Box<str>>>,
    /// Whether one or more segments follow.
    open: bool,
}

/// A part of an action or a resource.
#[derive(Debug)]
pub(super) enum TemplatePart {
    Literal(Box<str>),
    /// The method in lowercase.
    Method,
    /// The method as create, read, update or delete.
    Crud,
    Host,
    /// The path's captured segment of that number.
    Segment(usize),
    /// The path from that segment on.
    Rest(usize),
    /// A header's value: one segment, or as many as it has.
    Header {
        name: Box<str>,
        whole: bool,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    rules: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    host: Option<String>,
    methods: Option<Vec<String>>,
    path: String,
    #[serde(default = "by_method")]
    action: String,
    resource: String,
}

fn by_method() -> String {
    "{method}".to_owned()
}

impl Rules {
    /// Reads a file of rules.
    ///
    /// # Errors
    /// It can't be read, or is wrong: a sentence that names the file, the rule and the field.
    pub fn read(file: &Path) -> io::Result<Self> {
        let in_file = |problem: &dyn std::fmt::Display| format!("{}: {problem}", file.display());
        let mut text = String::new();
        let opened = std::fs::File::open(file);
        let read = opened.and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
        read.map_err(|problem| io::Error::new(problem.kind(), in_file(&problem)))?;
        let wrong = |problem: String| io::Error::new(io::ErrorKind::InvalidData, in_file(&problem));
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(wrong(format!("must have at most {MAX_FILE_BYTES} bytes")));
        }
        Self::parse(&text).map_err(wrong)
    }

    /// The rules without a file: `http:` and the path's segments, the action is the method in lowercase.
    pub(super) fn default_rules() -> Result<Self, String> {
        Self::parse(DEFAULT)
    }

    /// Reads the text of a file of rules.
    ///
    /// # Errors
    /// A sentence that names the rule and the field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = serde_json::Deserializer::from_str(text);
        let file: RulesFile = serde_path_to_error::deserialize(&mut parser)
            .map_err(|problem| format!("{}: {}", problem.path(), problem.inner()))?;
        parser.end().map_err(|problem| problem.to_string())?;
        if file.rules.is_empty() || file.rules.len() > MAX_RULES {
            return Err(format!("rules: must contain 1 to {MAX_RULES} rules, not {}", file.rules.len()));
        }
        let rules = file.rules.into_iter().enumerate();
        rules
            .map(|(at, rule)| rule.check().map_err(|problem| format!("rules[{at}].{problem}")))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn as_slice(&self) -> &[Rule] {
        &self.0
    }
}

impl Rule {
    pub(super) fn takes_method(&self, method: &str) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.iter().any(|taken| taken == method))
    }
}

impl PathPattern {
    /// Where the captured segments are, in a path that the pattern takes.
    pub(super) fn captures(&self, path: &[Cow<'_, str>]) -> Option<Vec<usize>> {
        let length = self.segments.len();
        let fits = if self.open { path.len() > length } else { path.len() == length };
        let same =
            |(wanted, found): (&Option<Box<str>>, &Cow<'_, str>)| wanted.as_deref().is_none_or(|text| text == found);
        (fits && self.segments.iter().zip(path).all(same)).then(|| {
            let places = self.segments.iter().enumerate();
            places.filter(|(_, segment)| segment.is_none()).map(|(at, _)| at).collect()
        })
    }
}

impl RuleText {
    fn check(self) -> Result<Rule, String> {
        let Self { host, methods, path, action, resource } = self;
        let host = host.map(|host| match host_name(&host) {
            Ok(name) if name == host => Ok(host.into_boxed_str()),
            _ => Err(format!("host: must be a host name in lower case without a port, not '{}'", quote(&host))),
        });
        if let Some(methods) = &methods {
            let is_good = |method: &String| {
                (1..=MAX_METHOD_BYTES).contains(&method.len())
                    && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
            };
            if methods.is_empty() || !methods.iter().all(is_good) {
                return Err("methods: must contain methods in upper case, such as [\"GET\", \"HEAD\"]".to_owned());
            }
        }
        let (path, names) = read_path(&path).map_err(|problem| format!("path: {problem}"))?;
        let piece = |text: &str| read_piece(text, &names, &path);
        let action = match piece(&action).map_err(|problem| format!("action: {problem}"))? {
            TemplatePart::Rest(_) | TemplatePart::Header { whole: true, .. } => {
                return Err("action: must be one segment, not the rest of a path".to_owned());
            }
            action => action,
        };
        if let TemplatePart::Literal(text) = &action {
            check_action("action", text).map_err(|error| error.message().replacen(' ', ": ", 1))?;
            if text.contains('*') {
                return Err("action: must not have a '*'".to_owned());
            }
        }
        let field = |problem: String| format!("resource: {problem}");
        let pieces: Vec<_> = resource.split(':').map(piece).collect::<Result<_, _>>().map_err(field)?;
        check_resource("resource", &resource).map_err(|error| error.message().replacen(' ', ": ", 1))?;
        if pieces.iter().any(|piece| matches!(piece, TemplatePart::Literal(text) if text.contains('*'))) {
            return Err(field("must not have a '*'".to_owned()));
        }
        Ok(Rule { host: host.transpose()?, methods, path, action, resource: pieces })
    }
}

/// A path pattern, and the names of what it captures.
fn read_path(text: &str) -> Result<(PathPattern, Vec<&str>), String> {
    let path = text.strip_prefix('/').ok_or("must begin with '/'")?;
    let mut pattern = PathPattern { segments: Vec::new(), open: false };
    let (mut names, mut seen) = (Vec::new(), HashSet::new());
    for part in path.split('/').filter(|_| !path.is_empty()) {
        if pattern.open {
            return Err("must end with the placeholder for the rest of the path".to_owned());
        }
        match placeholder(part)? {
            Some(name) => {
                let (plain, open) = name.strip_suffix("...").map_or((name, false), |plain| (plain, true));
                let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
                if plain.is_empty() || !plain.bytes().all(is_word) || ["method", "crud", "host"].contains(&plain) {
                    return Err(format!("'{}' can't be the name of a segment", quote(part)));
                }
                if !seen.insert(plain) {
                    return Err(format!("has '{}' twice", quote(plain)));
                }
                names.push(name);
                pattern.open = open;
                if !open {
                    pattern.segments.push(None);
                }
            }
            None => {
                check_segment(part).map_err(|problem| problem.replacen("the path ", "", 1))?;
                pattern.segments.push(Some(part.into()));
            }
        }
    }
    Ok((pattern, names))
}

/// The name in braces, if there is one: a placeholder is always a whole segment.
fn placeholder(part: &str) -> Result<Option<&str>, String> {
    let inner = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    if inner.unwrap_or(part).contains(['{', '}']) {
        return Err(format!("'{}' must be a whole segment in braces, or have no braces", quote(part)));
    }
    Ok(inner)
}

fn read_piece(text: &str, names: &[&str], path: &PathPattern) -> Result<TemplatePart, String> {
    let Some(name) = placeholder(text)? else { return Ok(TemplatePart::Literal(text.into())) };
    if let Some(header) = name.strip_prefix("header.") {
        let (header, whole) = header.strip_suffix("...").map_or((header, false), |header| (header, true));
        if header.is_empty() || !header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(format!("'{}' must name a header, such as {{header.x-tool}}", quote(text)));
        }
        return Ok(TemplatePart::Header { name: header.to_ascii_lowercase().into(), whole });
    }
    match name {
        "method" => Ok(TemplatePart::Method),
        "crud" => Ok(TemplatePart::Crud),
        "host" => Ok(TemplatePart::Host),
        _ => match names.iter().position(|known| *known == name) {
            Some(_) if name.ends_with("...") => Ok(TemplatePart::Rest(path.segments.len())),
            Some(number) => Ok(TemplatePart::Segment(number)),
            None => Err(format!("'{}' is not a placeholder in this rule's path", quote(text))),
        },
    }
}
