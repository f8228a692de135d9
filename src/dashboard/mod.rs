//! What browsers are served: the dashboard at `/`, and the API's documentation at `/docs`. Plain HTML, CSS and ES modules, as they lie in this folder, in the
//! binary: there is no build step, and nothing comes from another host.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// What a page may load and do (W3C Content Security Policy Level 3): its own host's files and calls, and nothing that
/// stands in the page itself, so that a name of an agent can never become a script.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file that is served as it is.
pub struct File {
    /// Where.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// What is in it.
    pub content: &'static str,
    /// Names this content and no other (RFC 9110, 8.8.3), with its quotes.
    pub etag: String,
}

/// One line of the table: a file of this folder under `/assets/`.
macro_rules! asset {
    ($content_type:expr, $name:literal) => {
        ($content_type, concat!("/assets/", $name), include_str!($name))
    };
    ($content_type:expr, $name:literal in $folder:literal) => {
        ($content_type, concat!("/assets/", $name), include_str!(concat!($folder, "/", $name)))
    };
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    [
        (HTML, "/", include_str!("index.html")),
        asset!(SVG, "icon.svg"),
        asset!(CSS, "theme.css"),
        asset!(CSS, "app.css"),
        asset!(JS, "app.js"),
        asset!(JS, "keyboard.js"),
        asset!(JS, "dom.js"),
        asset!(JS, "api.js"),
        asset!(JS, "format.js"),
        asset!(JS, "ui.js"),
        asset!(JS, "forms.js"),
        asset!(JS, "charts.js"),
        asset!(JS, "names.js"),
        asset!(JS, "permissions.js"),
        asset!(JS, "overview.js"),
        asset!(JS, "tenants.js"),
        asset!(JS, "tenant.js"),
        asset!(JS, "policies.js"),
        asset!(JS, "delegations.js"),
        asset!(JS, "agents.js"),
        asset!(JS, "agent.js"),
        asset!(JS, "audit.js"),
        asset!(JS, "why.js"),
        (HTML, "/docs", include_str!("docs/index.html")),
        asset!(CSS, "docs.css" in "docs"),
        asset!(JS, "docs.js" in "docs"),
        asset!(JS, "docs-prose.js" in "docs"),
        asset!(JS, "docs-schema.js" in "docs"),
        asset!(JS, "docs-try.js" in "docs"),
    ]
    .into_iter()
    .map(|(content_type, path, content)| File { path, content_type, content, etag: etag(content) })
    .collect()
});

/// The tag of that content.
pub fn etag(content: &str) -> String {
    let hash = Sha256::digest(content.as_bytes());
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

/// The file that is served at that path.
pub fn file(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names in quotes that follow that text.
    fn named(text: &'static str, before: &str) -> Vec<&'static str> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn all_that_a_file_names_is_served() {
        for file in FILES.iter() {
            for name in named(file.content, "from \"./").into_iter().chain(named(file.content, "import(\"./")) {
                assert!(super::file(&format!("/assets/{name}")).is_some(), "{} imports {name}", file.path);
            }
            for path in
                named(file.content, "src=\"").into_iter().chain(named(file.content, "<link rel=\"stylesheet\" href=\""))
            {
                assert!(super::file(path).is_some(), "{} names {path}", file.path);
            }
        }
    }

    #[test]
    fn nothing_is_put_into_a_page_as_markup() {
        for file in FILES.iter().filter(|file| file.content_type == JS) {
            for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!file.content.contains(way), "{} uses {way}", file.path);
            }
        }
    }
}
