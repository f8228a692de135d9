//! The files that browsers get: the dashboard at `/` and the API's documentation at `/docs`. The binary holds this folder's
//! plain HTML, CSS and ES modules. There is no build step, and nothing comes from another host.

/// What a page may load and do (W3C Content Security Policy Level 3): files and calls of its own host, and no inline
/// scripts or styles, so that an agent's name can never become a script.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file that is served unchanged.
pub struct Asset {
    /// The path that it is served at.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub content: &'static str,
}

/// One line of the table: a file of this folder under `/assets/`.
macro_rules! asset {
    ($content_type:expr, $name:literal) => {
        Asset { content_type: $content_type, path: concat!("/assets/", $name), content: include_str!($name) }
    };
    ($content_type:expr, $name:literal in $folder:literal) => {
        Asset {
            content_type: $content_type,
            path: concat!("/assets/", $name),
            content: include_str!(concat!($folder, "/", $name)),
        }
    };
}

/// All files.
pub const ASSETS: &[Asset] = &[
    Asset { content_type: HTML, path: "/", content: include_str!("index.html") },
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
    asset!(JS, "tenant-filter.js"),
    asset!(JS, "tenants.js"),
    asset!(JS, "tenant.js"),
    asset!(JS, "policies.js"),
    asset!(JS, "delegations.js"),
    asset!(JS, "webhooks.js"),
    asset!(JS, "keys.js"),
    asset!(JS, "agents.js"),
    asset!(JS, "agent.js"),
    asset!(JS, "audit.js"),
    asset!(JS, "spend-report.js"),
    asset!(JS, "spend.js"),
    asset!(JS, "invoice.js"),
    asset!(JS, "why.js"),
    Asset { content_type: HTML, path: "/docs", content: include_str!("docs/index.html") },
    asset!(CSS, "docs.css" in "docs"),
    asset!(JS, "docs.js" in "docs"),
    asset!(JS, "docs-prose.js" in "docs"),
    asset!(JS, "docs-schema.js" in "docs"),
    asset!(JS, "docs-try.js" in "docs"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::permission::constraint::Constraints;

    /// Names in quotes that follow that text.
    fn named(text: &'static str, before: &str) -> Vec<&'static str> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    fn is_served(path: &str) -> bool {
        ASSETS.iter().any(|asset| asset.path == path)
    }

    #[test]
    fn all_that_a_file_names_is_served() {
        for file in ASSETS.iter() {
            for name in named(file.content, "from \"./").into_iter().chain(named(file.content, "import(\"./")) {
                assert!(is_served(&format!("/assets/{name}")), "{} imports {name}", file.path);
            }
            for path in
                named(file.content, "src=\"").into_iter().chain(named(file.content, "<link rel=\"stylesheet\" href=\""))
            {
                assert!(is_served(path), "{} names {path}", file.path);
            }
        }
    }

    /// The dashboard shows and edits permissions whole: what its table lacks, it would drop.
    #[test]
    fn the_table_of_constraints_has_all_of_them() {
        let (_, table) = include_str!("permissions.js").split_once("CONSTRAINTS = {\n").unwrap();
        let (table, _) = table.split_once("\n};\n").unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("  ")?.strip_suffix(": {"));
        let rows: BTreeSet<_> = rows.filter(|row| !row.starts_with(' ')).collect();
        assert_eq!(rows, Constraints::NAMES.iter().copied().collect(), "the rows of CONSTRAINTS in permissions.js");
    }

    #[test]
    fn nothing_is_put_into_a_page_as_markup() {
        for file in ASSETS.iter().filter(|file| file.content_type == JS) {
            for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!file.content.contains(way), "{} uses {way}", file.path);
            }
        }
    }
}
