//! From a request that a gateway stopped to ask about, to the action and the resource to decide on.
//!
//! A gateway (nginx, Traefik, Envoy) asks before it lets a request through. Rules (`rules.rs`) make an action and a resource
//! of the request's method, host, path and headers. The sender of the request chooses all of these, so nothing is guessed:
//! what two programs may read differently is refused (`path.rs`), and each part of a request becomes no more than the one
//! segment or the one action that the rule makes of it.

mod path;
mod rules;

use std::borrow::Cow;
use std::io;
use std::path::Path;

pub use path::segments;
pub use rules::Rules;

use path::host_name;
use rules::{MAX_METHOD_BYTES, Rule, TemplatePart};

/// The gateway that asks. It decides where the original request is read from; nothing else is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum GatewayKind {
    /// `X-Original-Method`, `X-Original-URI` and `X-Original-Host`, which its configuration sets. It understands 200, 401
    /// and 403 only.
    Nginx,
    /// `X-Forwarded-Method`, `X-Forwarded-Uri` and `X-Forwarded-Host`.
    Traefik,
    /// The request itself: its method, its path after `/v1/forward-auth`, and its host.
    #[default]
    Envoy,
}

/// A kind of gateway, and the rules for what it asks about.
#[derive(Debug)]
pub struct Gateway {
    /// Which one.
    pub kind: GatewayKind,
    rules: Rules,
}

/// A request as the gateway got it.
pub struct Original<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path with its query.
    pub target: &'a str,
    /// Its host.
    pub host: &'a str,
    /// Its headers of that name.
    pub headers: &'a dyn Fn(&str) -> Vec<&'a [u8]>,
}

/// What to decide on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The action.
    pub action: String,
    /// The resource.
    pub resource: String,
}

impl Gateway {
    /// A gateway with the rules of a file, or the default ones.
    ///
    /// # Errors
    /// A sentence that names the file, the rule and the field.
    pub fn open(kind: GatewayKind, file: Option<&Path>) -> io::Result<Self> {
        let rules = match file {
            Some(file) => Rules::read(file)?,
            None => Rules::default_rules().map_err(io::Error::other)?,
        };
        Ok(Self { kind, rules })
    }

    /// The action and the resource that the first matching rule makes of a request.
    ///
    /// # Errors
    /// A sentence that says why there is nothing to decide.
    pub fn map(&self, original: &Original<'_>) -> Result<Mapped, String> {
        let Original { method, target, host, .. } = original;
        let is_method = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if method.is_empty() || method.len() > MAX_METHOD_BYTES || !method.bytes().all(is_method) {
            return Err("the method must be in upper case".to_owned());
        }
        let path = segments(target)?;
        for rule in self.rules.as_slice() {
            if !rule.takes_method(method) {
                continue;
            }
            let Some(captured) = rule.path.captures(&path) else { continue };
            if let Some(wanted) = &rule.host
                && host_name(host)? != **wanted
            {
                continue;
            }
            let filled = PlaceholderValues { original, path: &path, captured };
            return filled.mapped(rule);
        }
        Err("no rule matches this method and path".to_owned())
    }
}

/// The values of a rule's placeholders.
struct PlaceholderValues<'f, 'a> {
    original: &'f Original<'a>,
    path: &'f [Cow<'a, str>],
    /// Where each captured segment is.
    captured: Vec<usize>,
}

impl<'a> PlaceholderValues<'_, 'a> {
    fn mapped(&self, rule: &Rule) -> Result<Mapped, String> {
        let mut resource = String::new();
        for piece in &rule.resource {
            if !resource.is_empty() {
                resource.push(':');
            }
            self.put(piece, &mut resource)?;
        }
        let mut action = String::new();
        self.put(&rule.action, &mut action)?;
        Ok(Mapped { action, resource })
    }

    fn put(&self, piece: &TemplatePart, into: &mut String) -> Result<(), String> {
        let method = self.original.method;
        match piece {
            TemplatePart::Literal(text) => into.push_str(text),
            TemplatePart::Method => into.push_str(&method.to_ascii_lowercase()),
            TemplatePart::Crud => {
                into.push_str(crud(method).ok_or("the method is none of create, read, update and delete")?)
            }
            TemplatePart::Host => into.push_str(&host_name(self.original.host)?),
            TemplatePart::Segment(number) => {
                let at = self.captured.get(*number);
                into.push_str(at.and_then(|at| self.path.get(*at)).ok_or("the path has no such segment")?);
            }
            TemplatePart::Rest(start) => into.push_str(&self.path.get(*start..).unwrap_or_default().join(":")),
            TemplatePart::Header { name, whole } => into.push_str(self.header(name, *whole)?),
        }
        Ok(())
    }

    /// A header's value: one segment, or, of a whole, several.
    fn header(&self, name: &str, whole: bool) -> Result<&'a str, String> {
        let values = (self.original.headers)(name);
        let [value] = values.as_slice() else {
            return Err(format!("the request must have exactly one '{name}' header, not {}", values.len()));
        };
        let text = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        let mut parts = text.into_iter().flat_map(|text| text.split(':'));
        let is_good = parts.clone().all(|part| !part.is_empty() && !part.contains('*'));
        let is_whole = whole || parts.nth(1).is_none();
        text.filter(|_| is_good && is_whole).ok_or_else(|| {
            let what = if whole { "segments without '*', separated by ':'" } else { "text without ':' and '*'" };
            format!("the header '{name}' must be {what}, of visible ASCII characters")
        })
    }
}

/// What a method does, in four words.
fn crud(method: &str) -> Option<&'static str> {
    match method {
        "GET" | "HEAD" => Some("read"),
        "POST" => Some("create"),
        "PUT" | "PATCH" => Some("update"),
        "DELETE" => Some("delete"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
