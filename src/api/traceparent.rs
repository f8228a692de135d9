//! The `traceparent` header: which distributed trace a call is part of (W3C Trace Context, level 2).

use actix_web::http::header::{HeaderMap, HeaderName};

use crate::domain::TraceId;
use crate::domain::text::is_lower_hex;

/// The header's name.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Characters of its value in version 00. Later versions may only add to it.
const TRACEPARENT_CHARS: usize = 55;

/// The trace that a request is part of. If the header is there twice, neither counts.
pub fn trace_id(headers: &HeaderMap) -> Option<TraceId> {
    let first = headers.get(TRACEPARENT)?;
    let is_only = headers.get_all(TRACEPARENT).nth(1).is_none();
    is_only.then(|| trace_of(first.to_str().ok()?)).flatten()
}

/// The trace that a `traceparent` header names: `version-trace-parent-flags`. `None` if it is not valid, which
/// counts as absent. Of a version later than 00 we read only these four fields.
fn trace_of(text: &str) -> Option<TraceId> {
    let (known, more) = text.split_at_checked(TRACEPARENT_CHARS)?;
    let mut fields = known.split('-');
    let mut hex = |digits| fields.next().filter(|field| is_lower_hex(field, digits));
    let (version, trace, parent, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let goes_on = match version {
        "ff" => return None,
        "00" => false,
        _ => more.starts_with('-'),
    };
    let is_whole = more.is_empty() || goes_on;
    let has_parent = parent.bytes().any(|digit| digit != b'0');
    (is_whole && has_parent && fields.next().is_none()).then(|| TraceId::parse(trace)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn read(text: &str) -> Option<String> {
        trace_of(text).map(|id| id.to_string())
    }

    #[test]
    fn a_traceparent_is_read_strictly() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let version = |version: &str, more: &str| format!("{version}{}{more}", &good[2..]);
        for text in [
            good.clone(),
            version("00", "").replace("-01", "-ff"),
            version("01", ""),
            version("cc", "-what-the-future-will-be-like"),
            version("fe", "-"),
        ] {
            assert_eq!(read(&text).as_deref(), Some(TRACE), "{text}");
        }
        for text in [
            String::new(),
            good[..54].to_owned(),
            version("00", "-"),
            version("00", "-more"),
            version("00", "0"),
            version("01", "more"),
            version("ff", ""),
            version("0F", ""),
            version("0x", ""),
            good.to_uppercase(),
            good.replace("4bf9", "4Bf9"),
            good.replace("4bf9", "4bg9"),
            good.replace(TRACE, &"0".repeat(32)),
            good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            good.replace("00f067aa0ba902b7", "00F067aa0ba902b7"),
            good.replace("-01", "-0g"),
            good.replace('-', "_"),
            good.replace("-00f067aa0ba902b7-", "--0f067aa0ba902b7-"),
            good.replace(TRACE, &TRACE.replace('2', "-")),
            format!(" {good}"),
            format!("{good} "),
            good.replace("e0e4736-", "é4736-"),
        ] {
            assert_eq!(read(&text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_parsed_id_is_in_the_text(
            version in "[0-9a-f]{2}", trace: u128, parent: u64, flags: u8, more in "(-[ -~é]{0,9})?"
        ) {
            let text = format!("{version}-{trace:032x}-{parent:016x}-{flags:02x}{more}");
            let valid = version != "ff" && trace != 0 && parent != 0 && (version != "00" || more.is_empty());
            prop_assert_eq!(read(&text), valid.then(|| format!("{trace:032x}")));
        }

        #[test]
        fn no_text_panics(text in "(00-[0-9a-f-]{0,52}.{0,3}|.{0,80})") {
            if let Some(id) = trace_of(&text) {
                prop_assert!(text.contains(&id.to_string()));
                prop_assert_eq!(TraceId::parse(&id.to_string()), Some(id));
            }
        }
    }
}
