//! Real tool calls: every tool of the fixture, called by agents that hold a whole server or single tools of it.

use kavach_fixture::{Tool, tools};
use serde_json::{Value, json};

use crate::harness::Server;
use crate::world::permits;

fn asked(tool: &Tool, n: usize) -> Value {
    let arguments: Value = serde_json::from_str(&tool.sample_arguments(n)).unwrap();
    json!({ "action": tool.action(), "resource": tool.resource(), "arguments": arguments })
}

#[test]
fn every_tool_gets_the_answer_its_agents_permissions_give() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let all = tools();
    assert!(all.len() > 100);
    // One agent that may read all of GitHub, one that may do anything there, one that holds every third tool.
    let held = |n: usize| n.is_multiple_of(3);
    let single: Vec<Value> = (0..)
        .zip(all)
        .filter(|(n, _)| held(*n))
        .map(|(_, tool)| json!({ "resource": tool.resource(), "actions": [tool.action()] }))
        .collect();
    let reader = operator.agent("acme", permits("mcp:github:*", &["read"]));
    let master = operator.agent("acme", permits("mcp:github:*", &["*"]));
    let holder = operator.agent("acme", json!(single));
    type Expected = fn(usize, &Tool) -> bool;
    let agents: [(_, Expected); 3] = [
        (reader, |_, tool| tool.server == "github" && tool.read_only),
        (master, |_, tool| tool.server == "github"),
        (holder, |n, _| n.is_multiple_of(3)),
    ];
    for (agent, expected) in &agents {
        let client = server.with_key(&agent.token);
        let mut granted = 0;
        for (n, tool) in all.iter().enumerate() {
            if expected(n, tool) {
                client.granted(asked(tool, n));
                granted += 1;
            } else {
                let reason = client.denied(asked(tool, n), "PERMISSION_DENIED");
                assert!(reason.contains(&tool.resource()), "{reason}");
            }
        }
        assert!(granted > 0 && granted < all.len());
        // Each is in the audit trail with its arguments, newest first.
        let trail = operator.trail(&format!("agentId={}", agent.id));
        assert_eq!(trail.len(), all.len());
        for ((n, tool), entry) in all.iter().enumerate().zip(trail.iter().rev()) {
            let call = asked(tool, n);
            assert_eq!(entry["parameters"], call["arguments"]);
            assert_eq!((&entry["action"], &entry["resource"]), (&call["action"], &call["resource"]));
            assert_eq!(entry["result"], if expected(n, tool) { "allowed" } else { "denied" });
        }
    }
}

#[test]
fn a_batch_of_all_tools_answers_as_single_calls_do() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let reader = operator.agent("acme", permits("mcp:github:*", &["read"]));
    let calls: Vec<Value> = tools().iter().enumerate().map(|(n, tool)| asked(tool, n)).collect();
    let answer = server.with_key(&reader.token).post("/v1/authorize/batch", json!({ "requests": calls })).expect(200);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), calls.len());
    for (tool, result) in tools().iter().zip(results) {
        assert_eq!(result["allowed"], tool.server == "github" && tool.read_only, "{result}");
    }
}

#[test]
fn arguments_must_match_the_patterns_for_their_names() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let constraints = json!({ "allowedArgPatterns": ["/srv/data/**", "acme", "^service-[0-9]+$", "main"] });
    let permission = json!([{ "resource": "mcp:*", "actions": ["*"], "constraints": constraints }]);
    let agent = server.with_key(&operator.agent("acme", permission).token);
    let find = |name: &str| tools().iter().find(|tool| tool.tool == name).unwrap();
    let mut read = asked(find("read_text_file"), 1);
    read["arguments"] = json!({ "path": "/srv/data/reports/1.csv", "head": 10 });
    agent.granted(read.clone());
    read["arguments"]["path"] = json!("/etc/passwd");
    let reason = agent.denied(read, "ARGUMENT_NOT_ALLOWED");
    assert!(reason.contains("does not match pattern") && reason.contains("/etc/passwd"), "{reason}");
    let mut branches = asked(find("list_branches"), 3);
    branches["arguments"] = json!({ "owner": "acme", "repo": "service-3", "page": 1 });
    agent.granted(branches.clone());
    branches["arguments"]["repo"] = json!("service-x");
    agent.denied(branches, "ARGUMENT_NOT_ALLOWED");
    // A tool without arguments has no string to match.
    agent.denied(asked(find("get_me"), 1), "ARGUMENT_NOT_ALLOWED");
}
