//! The permissions of a load's agents, and calls that they grant or deny. One table has both, since the outcome of a
//! call follows from the permissions.

use std::net::IpAddr;

use fastrand::Rng;
use serde_json::{Value, json};

use kavach_fixture::{Tool, tools};

/// A rate that no load reaches. The server still keeps and checks the window with every call.
const MANY_CALLS_PER_HOUR: u32 = 4_000_000_000;
/// Every fourth call names a cost.
const CALLS_PER_COST: u64 = 4;
/// The cost that they name.
const TOKENS_COST: &str = "0.002";

/// A permission, and the tools that it grants when they are called with sample arguments.
struct HeldPermission {
    resource: &'static str,
    action: &'static str,
    constraints: Option<Value>,
    grants: fn(&Tool) -> bool,
}

/// `own_ip` is the address that the server sees, if it is known.
fn held(own_ip: Option<IpAddr>) -> [HeldPermission; 8] {
    let mut addresses = vec!["127.0.0.0/8".to_owned(), "::1".to_owned()];
    addresses.extend(own_ip.filter(|ip| !ip.is_loopback()).map(|ip| ip.to_string()));
    let rate = json!({ "maxCallsPerHour": MANY_CALLS_PER_HOUR });
    [
        HeldPermission {
            resource: "mcp:github:*",
            action: "read",
            constraints: None,
            grants: |tool| tool.server == "github" && tool.read_only,
        },
        HeldPermission {
            resource: "mcp:github:create_issue",
            action: "execute",
            constraints: Some(rate.clone()),
            grants: |tool| tool.tool == "create_issue",
        },
        HeldPermission {
            resource: "mcp:github:add_issue_comment",
            action: "*",
            constraints: None,
            grants: |tool| tool.tool == "add_issue_comment",
        },
        HeldPermission {
            resource: "mcp:filesystem:*",
            action: "read",
            constraints: Some(json!({ "allowedArgPatterns": ["/srv/data/**", "/tmp/*"] })),
            grants: reads_one_path,
        },
        HeldPermission {
            resource: "mcp:git:*",
            action: "*",
            constraints: Some(json!({ "ipAllowlist": addresses })),
            grants: |tool| tool.server == "git",
        },
        HeldPermission {
            resource: "mcp:*:search_nodes",
            action: "read",
            constraints: None,
            grants: |tool| tool.tool == "search_nodes",
        },
        HeldPermission {
            resource: "mcp:fetch:fetch",
            action: "read",
            constraints: Some(rate),
            grants: |tool| tool.server == "fetch",
        },
        // Nothing asks for it: an agent holds more than it uses.
        HeldPermission { resource: "reports:*:summary", action: "export", constraints: None, grants: |_| false },
    ]
}

/// Whether the tool takes one path and nothing else, so that the argument patterns decide.
fn reads_one_path(tool: &Tool) -> bool {
    tool.server == "filesystem" && tool.read_only && tool.arguments == ["path"]
}

/// The permissions of an agent, as the API spells them.
pub fn permissions(own_ip: Option<IpAddr>) -> Value {
    let spell = |held: HeldPermission| json!({ "resource": held.resource, "actions": [held.action], "constraints": held.constraints });
    held(own_ip).into_iter().map(spell).collect()
}

/// An endless series of calls. The server has to deny a fixed share of them.
pub struct CallSeries {
    granted: Vec<&'static Tool>,
    unpermitted: Vec<&'static Tool>,
    readers: Vec<&'static Tool>,
    deny_share: f64,
    rng: Rng,
    made: u64,
}

impl CallSeries {
    /// A series of calls; equal seeds make equal series.
    pub fn new(deny_share: f64, seed: u64) -> Self {
        let held = held(None);
        let is_granted = |tool: &&Tool| held.iter().any(|held| (held.grants)(tool));
        Self {
            granted: tools().iter().filter(is_granted).collect(),
            // None of the permissions for one action of a whole server is for this one.
            unpermitted: tools().iter().filter(|tool| !tool.read_only && !is_granted(tool)).collect(),
            readers: tools().iter().filter(|tool| reads_one_path(tool)).collect(),
            deny_share,
            rng: Rng::with_seed(seed),
            made: 0,
        }
    }

    /// The body of the next call.
    pub fn next(&mut self) -> String {
        let n = self.made;
        self.made += 1;
        // Spread evenly, so that any run of calls has this share as nearly as it can. Every other one is denied by its
        // argument.
        #[expect(clippy::cast_precision_loss, reason = "a series is far shorter than 2^52 calls")]
        let denied_before = |n: u64| (n as f64 * self.deny_share).floor();
        let denied = denied_before(n + 1) > denied_before(n);
        let by_argument = denied && denied_before(n) % 2.0 > 0.0;
        let choices = match (denied, by_argument) {
            (false, _) => &self.granted,
            (true, false) => &self.unpermitted,
            (true, true) => &self.readers,
        };
        let Some(tool) = self.rng.choice(choices) else { return "{}".to_owned() };
        let arguments = match by_argument {
            true => format!("{{\"path\":\"/etc/app/{}.conf\"}}", self.rng.u16(..)),
            false => tool.sample_arguments(usize::from(self.rng.u16(..))),
        };
        let (action, resource) = (tool.action(), tool.resource());
        let cost =
            if n.is_multiple_of(CALLS_PER_COST) { format!(",\"tokensCost\":{TOKENS_COST}") } else { String::new() };
        format!("{{\"action\":\"{action}\",\"resource\":\"{resource}\",\"arguments\":{arguments}{cost}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(deny_share: f64, seed: u64, count: usize) -> Vec<String> {
        let mut calls = CallSeries::new(deny_share, seed);
        (0..count).map(|_| calls.next()).collect()
    }

    #[test]
    fn a_seed_makes_the_same_calls_each_time() {
        assert_eq!(first(0.1, 7, 100), first(0.1, 7, 100));
        assert_ne!(first(0.1, 7, 100), first(0.1, 8, 100));
    }

    #[test]
    fn calls_are_what_the_api_takes() {
        for call in first(0.5, 1, 500) {
            let call: Value = serde_json::from_str(&call).unwrap();
            assert!(call["resource"].as_str().unwrap().starts_with("mcp:"), "{call}");
            assert!(call["arguments"].is_object(), "{call}");
        }
    }

    #[test]
    fn as_many_calls_are_meant_to_be_denied_as_were_asked_for() {
        for (share, denied) in [(0.0, 0), (0.1, 100), (0.25, 250), (0.5, 500), (1.0, 1000)] {
            let calls = first(share, 3, 1000);
            let by_argument = calls.iter().filter(|call| call.contains("\"/etc/app/")).count();
            assert_eq!(by_argument, denied / 2, "{share}");
        }
    }

    #[test]
    fn the_agents_own_address_is_on_the_list() {
        let spelled = permissions(Some([192, 0, 2, 7].into())).to_string();
        assert!(spelled.contains(r#"["127.0.0.0/8","::1","192.0.2.7"]"#), "{spelled}");
        assert!(permissions(Some([127, 0, 0, 1].into())).to_string().contains(r#"["127.0.0.0/8","::1"]"#));
    }
}
