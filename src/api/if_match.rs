//! `If-Match` (RFC 9110, 13.1.1): a change is made only to the version that its author has seen.
//!
//! A route takes the header if its handler reads [`IfMatch`], and gives the version by [`versioned`]; its
//! [`Docs::tagged`](super::openapi::Docs::tagged) say so. The version is that of what changes set: a tag stays the same
//! while calls are counted.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{ETAG, HeaderMap, IF_MATCH};
use actix_web::{FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder};

use super::error::Problem;
use crate::domain::{Code, Error, SeenVersions, Version};
use crate::service::Kavach;

/// The header's name, as errors spell it.
pub const IF_MATCH_NAME: &str = "If-Match";

/// The versions that a request names. `None` is any, which is also what `*` says: what is not there can't be changed.
pub struct IfMatch(Option<SeenVersions>);

impl IfMatch {
    /// The caller, which changes only those.
    pub fn of(self, caller: Kavach) -> Kavach {
        caller.having_seen(self.0)
    }
}

impl FromRequest for IfMatch {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read(request.headers()).map(Self).map_err(Problem))
    }
}

/// A 200 with the version of what it shows.
pub fn versioned(version: Version) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header((ETAG, format!("\"{version}\"")));
    response
}

fn read(headers: &HeaderMap) -> Result<Option<SeenVersions>, Error> {
    let bad = || {
        let problem = "must be * or ETags in double quotes, separated by commas";
        Error::field(Code::InvalidField, IF_MATCH_NAME, problem)
    };
    let mut lines = Vec::new();
    for value in headers.get_all(IF_MATCH) {
        lines.push(value.to_str().map_err(|_| bad())?);
    }
    if lines.is_empty() {
        return Ok(None);
    }
    // Several lines are one list (RFC 9110, 5.3).
    let text = lines.join(",");
    if text.trim() == "*" {
        return Ok(None);
    }
    let mut seen = Vec::new();
    let mut rest = text.as_str();
    loop {
        // A list may have empty items (RFC 9110, 5.6.1.2).
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            break;
        }
        let weak = rest.strip_prefix("W/");
        let (tag, after) =
            weak.unwrap_or(rest).strip_prefix('"').and_then(|tag| tag.split_once('"')).ok_or_else(bad)?;
        if !tag.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad());
        }
        // A weak tag matches nothing here (RFC 9110, 8.8.3.2), and neither does text that is nobody's version.
        if weak.is_none() {
            seen.extend(Version::parse(tag));
        }
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(bad());
        }
    }
    Ok(Some(SeenVersions(seen)))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use actix_web::test::TestRequest;

    use super::*;

    fn read_lines(lines: &[&[u8]]) -> Result<Option<SeenVersions>, Code> {
        let mut request = TestRequest::default();
        for line in lines {
            request = request.append_header((IF_MATCH, HeaderValue::from_bytes(line).unwrap()));
        }
        read(request.to_http_request().headers()).map_err(|error| error.code())
    }

    #[test]
    fn tags_are_read_as_a_list() {
        let [one, two] = ["one", "two"].map(|text| Version::of(&text));
        let seen = |versions: &[Version]| Ok(Some(SeenVersions(versions.to_vec())));
        let read = |text: String| read_lines(&[text.as_bytes()]);
        assert_eq!(read_lines(&[]), Ok(None));
        assert_eq!(read(" * ".to_owned()), Ok(None));
        assert_eq!(read(format!("\"{one}\"")), seen(&[one]));
        assert_eq!(read(format!("\"{one}\" ,\t, \"x\", \"a,b\",W/\"{one}\",\"{two}\",")), seen(&[one, two]));
        assert_eq!(read_lines(&[format!("\"{one}\"").as_bytes(), format!("\"{two}\"").as_bytes()]), seen(&[one, two]));
        assert_eq!(read("\"\"".to_owned()), seen(&[]));
        // Nothing that is named is nothing that matches.
        assert_eq!(read(String::new()), seen(&[]));
        for bad in [
            one.to_string(),
            format!("\"{one}"),
            format!("\"{one}\"\"{two}\""),
            format!("*, \"{one}\""),
            "w/\"x\"".to_owned(),
            "\"a b\"".to_owned(),
        ] {
            assert_eq!(read(bad.clone()), Err(Code::InvalidField), "{bad}");
        }
        assert_eq!(read_lines(&[b"\"\xff\""]), Err(Code::InvalidField));
        assert_eq!(read_lines(&[b"*", b"*"]), Err(Code::InvalidField));
    }
}
