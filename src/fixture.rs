//! Real tool calls, for the demo, the load, the tests and the benches: tools of public Model Context Protocol servers
//! with the names of their arguments (`fixtures/mcp-tools.json`).

use std::fmt::Write as _;
use std::sync::LazyLock;

use serde::Deserialize;

/// A tool as its server describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// The server that has it.
    pub server: String,
    /// Its name.
    pub tool: String,
    /// Whether it changes nothing.
    pub read_only: bool,
    /// Whether it may destroy something.
    pub destructive: bool,
    /// The names of its arguments.
    pub arguments: Vec<String>,
}

/// All tools of the fixture.
pub fn tools() -> &'static [Tool] {
    static TOOLS: LazyLock<Vec<Tool>> =
        LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/mcp-tools.json")).unwrap_or_default());
    &TOOLS
}

impl Tool {
    /// What an agent that calls it asks for.
    pub fn resource(&self) -> String {
        format!("mcp:{}:{}", self.server, self.tool)
    }

    /// `read` for a tool that changes nothing, else `execute`.
    pub fn action(&self) -> &'static str {
        if self.read_only { "read" } else { "execute" }
    }

    /// Arguments of a call as JSON: likely values under the tool's own names, different for each `n`.
    pub fn sample_arguments(&self, n: usize) -> String {
        let mut json = String::from("{");
        for name in &self.arguments {
            if json.len() > 1 {
                json.push(',');
            }
            // Writing to a string does not fail.
            let _ = write!(json, "\"{name}\":{}", sample_value(name, n));
        }
        json + "}"
    }
}

fn sample_value(name: &str, n: usize) -> String {
    match name {
        "owner" => "\"acme\"".to_owned(),
        "repo" | "repo_path" => format!("\"service-{}\"", n % 7),
        "path" | "source" | "destination" => format!("\"/srv/data/reports/{n}.csv\""),
        "branch" | "ref" | "from_branch" | "base" => "\"main\"".to_owned(),
        "page" | "perPage" | "per_page" | "limit" | "max_count" => format!("{}", 1 + n % 50),
        "url" => format!("\"https://example.com/docs/{n}\""),
        name if name.ends_with("umber") || name.ends_with("_id") || name.ends_with("Id") => format!("{}", 1 + n),
        _ => format!("\"{name} {n}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixture_holds_real_tools() {
        assert_eq!(tools().len(), 153);
        for tool in tools() {
            let arguments: serde_json::Value = serde_json::from_str(&tool.sample_arguments(3)).unwrap();
            assert_eq!(arguments.as_object().unwrap().len(), tool.arguments.len());
            crate::domain::Request::new(tool.action(), &tool.resource()).unwrap();
        }
    }
}
