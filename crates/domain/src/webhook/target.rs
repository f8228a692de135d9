//! What a webhook's URL may be. Which addresses it may lead to is the server's to say, when it connects.

use url::{Host, Url};

use crate::error::{Code, Error};
use crate::limits::MAX_WEBHOOK_URL_BYTES;
use crate::text::{check_no_secret, has_unseen};

/// Reads a webhook's URL: `https` or `http`, with a host, without user name, password and fragment. The answer is its
/// normal form, in which an IPv4 address is written as four numbers however it was spelled.
///
/// # Errors
/// `INVALID_FIELD`, naming `url`.
pub fn parse_url(text: &str) -> Result<Url, Error> {
    let refuse = |problem: &str| Error::field(Code::InvalidField, "url", problem);
    if text.len() > MAX_WEBHOOK_URL_BYTES {
        return Err(refuse(&format!("must have at most {MAX_WEBHOOK_URL_BYTES} bytes")));
    }
    if has_unseen(text) || text.trim() != text {
        return Err(refuse("must not contain control or invisible characters, or spaces around it"));
    }
    let url = Url::parse(text)
        .map_err(|problem| refuse(&format!("must be a URL such as https://example.com/hook: {problem}")))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(refuse("must begin with https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("must not contain a user name or password: messages are signed instead"));
    }
    if url.fragment().is_some() {
        return Err(refuse("must not contain a fragment ('#'), which no server would see"));
    }
    match url.host() {
        Some(Host::Domain(name)) if is_name(name) => {}
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => {}
        Some(Host::Domain(_)) | None => return Err(refuse("must have the name or the address of a host")),
    }
    if url.port() == Some(0) {
        return Err(refuse("must not have port 0"));
    }
    // It is stored, and shown to whoever may change the webhook.
    check_no_secret("url", text)?;
    if url.as_str().len() > MAX_WEBHOOK_URL_BYTES {
        return Err(refuse(&format!("must have at most {MAX_WEBHOOK_URL_BYTES} bytes once it is percent-encoded")));
    }
    Ok(url)
}

/// Whether a host's name could be in DNS. A dot at its end is fine: it says that the name is whole.
fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty() && name.len() <= 253 && name.split('.').all(|label| (1..=63).contains(&label.len()))
}

/// A URL for people who may not see all of it: its path and its query may be a secret, as those of Slack's are.
pub fn shown_origin(url: &str) -> String {
    Url::parse(url).map_or_else(|_| String::new(), |url| format!("{}/...", url.origin().ascii_serialization()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_one_form() {
        let form = |text: &str| parse_url(text).map(|url| url.as_str().to_owned());
        assert_eq!(form("HTTPS://Example.COM:443/a b?c").unwrap(), "https://example.com/a%20b?c");
        assert_eq!(form("https://bücher.example/").unwrap(), "https://xn--bcher-kva.example/");
        for spelled in
            ["https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/", "https://127.0.0.1./"]
        {
            assert_eq!(form(spelled).unwrap(), "https://127.0.0.1/", "{spelled}");
        }
        assert_eq!(form("https://[::FFFF:127.0.0.1]/").unwrap(), "https://[::ffff:7f00:1]/");
        assert_eq!(form("https://example.com.:8443/x").unwrap(), "https://example.com.:8443/x");
    }

    #[test]
    fn what_is_no_target_is_refused() {
        let long = format!("https://example.com/{}", "a".repeat(MAX_WEBHOOK_URL_BYTES));
        let label = format!("https://{}.example/", "a".repeat(64));
        for bad in [
            "",
            "example.com",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://",
            "https://user@example.com/",
            "https://user:pass@example.com/",
            "https://:pass@example.com/",
            "https://example.com/#x",
            "https://example.com:0/",
            " https://example.com/",
            "https://exa\u{200b}mple.com/",
            "https://a..b/",
            "https://.../",
            "javascript:alert(1)",
            "https://[::1",
            "https://256.256.256.256/",
            &long,
            &label,
        ] {
            let error = parse_url(bad).unwrap_err();
            assert_eq!((error.code(), error.details()["field"].as_str()), (Code::InvalidField, Some("url")), "{bad}");
        }
    }

    #[test]
    fn only_the_origin_is_shown() {
        assert_eq!(
            shown_origin("https://hooks.example.com:8443/services/T0/B0/secret?x=1"),
            "https://hooks.example.com:8443/..."
        );
    }
}
