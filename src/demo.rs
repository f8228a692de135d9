//! `--demo`: fills an empty data directory with tenants, agents, budgets, delegations and traffic to look at.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::domain::budget::cost::Cost;
use crate::domain::limits::MAX_HOLD_SECONDS;
use crate::domain::{AgentId, Code, Error, Request, Secret};
use crate::service::{Kavach, PageRequest};
use kavach_fixture::{Tool, tools};

/// Calls made for each tenant.
const CALLS: usize = 600;

/// One call in `STRAY` is for an arbitrary tool instead of one that the agent works with.
const STRAY: usize = 7;

/// Of one allowed call in `SETTLED` the real cost is reported.
const SETTLED: usize = 4;

/// What the demo created.
pub struct Demo {
    /// The token of an agent that may read from GitHub.
    pub token: Secret,
}

/// A tenant of the demo, spelled as API bodies. Agents are referred to by name, since they have no ids yet.
struct Scene {
    tenant: Value,
    /// Each agent, with the tool servers it works with.
    agents: Vec<(Value, &'static [&'static str])>,
    delegations: Vec<Value>,
    policies: Vec<Value>,
    /// An agent to revoke once everything else exists.
    revoked: Option<&'static str>,
}

fn scenes() -> [Scene; 2] {
    let reads = |resource: &str| json!({ "resource": resource, "actions": ["read"] });
    let agent = |name: &str, owner: &str, kind: &str, permissions: Value| json!({ "name": name, "ownerId": owner, "type": kind, "permissions": permissions });
    let lends = |from: &str, to: &str, permissions: Value| json!({ "fromAgent": from, "toAgent": to, "permissions": permissions });
    let acme = Scene {
        tenant: json!({ "name": "Acme", "slug": "acme", "settings": { "maxAgents": 200, "auditRetentionDays": 365 } }),
        agents: vec![
            (agent("repo-reader", "ana", "autonomous", json!([reads("mcp:github:*")])), &["github"]),
            (
                agent(
                    "report-filer",
                    "ben",
                    "service",
                    json!([
                        { "resource": "mcp:filesystem:*", "actions": ["read"], "constraints": { "allowedArgPatterns": ["/srv/data/**"] } },
                        { "resource": "mcp:github:create_issue", "actions": ["execute"], "constraints": { "maxCallsPerHour": 20 } },
                    ]),
                ),
                &["filesystem"],
            ),
            (
                agent(
                    "night-keeper",
                    "ana",
                    "delegated",
                    json!([
                        { "resource": "mcp:git:*", "actions": ["*"], "constraints": { "timeWindow": { "start": "22:00", "end": "06:00" } } },
                        reads("mcp:memory:*"),
                        { "resource": "mcp:*:delete_entities", "actions": ["execute"], "constraints": { "requireApproval": true } },
                    ]),
                ),
                &["memory", "git"],
            ),
            (
                agent(
                    "research-lead",
                    "chen",
                    "autonomous",
                    json!([reads("mcp:*"), { "resource": "mcp:memory:*", "actions": ["*"] }]),
                ),
                &["memory", "fetch"],
            ),
            (agent("web-researcher", "chen", "delegated", json!([])), &["fetch", "github"]),
            (agent("summarizer", "chen", "delegated", json!([])), &["fetch"]),
            (agent("note-taker", "dora", "delegated", json!([])), &["memory"]),
            (
                agent(
                    "release-bot",
                    "ops",
                    "service",
                    json!([{ "resource": "mcp:git:*", "actions": ["read", "execute"] }, reads("mcp:github:*")]),
                ),
                &["git", "github"],
            ),
            (agent("old-importer", "ben", "service", json!([reads("mcp:filesystem:*")])), &["filesystem"]),
        ],
        delegations: vec![
            lends("research-lead", "web-researcher", json!([reads("mcp:fetch:*"), reads("mcp:github:*")])),
            lends("research-lead", "note-taker", json!([{ "resource": "mcp:memory:*", "actions": ["*"] }])),
            lends("web-researcher", "summarizer", json!([reads("mcp:fetch:*")])),
            lends(
                "release-bot",
                "summarizer",
                json!([{ "resource": "mcp:github:*", "actions": ["read"], "constraints": { "maxCallsPerHour": 30 } }]),
            ),
        ],
        policies: vec![
            json!({ "limits": { "maxCallsPerMonth": 100_000, "maxTokensCostPerMonth": 500 }, "action": "warn" }),
            json!({ "userId": "chen", "limits": { "maxCallsPerDay": 180, "maxTokensCostPerDay": 2.5 }, "action": "throttle" }),
            json!({ "agentId": "report-filer", "limits": { "maxTokensCostPerDay": 0.15 }, "action": "block" }),
            json!({ "agentId": "release-bot", "limits": { "maxCallsPerDay": 30 }, "action": "block" }),
        ],
        revoked: Some("old-importer"),
    };
    let globex = Scene {
        tenant: json!({ "name": "Globex", "slug": "globex", "settings": { "maxAgents": 20, "allowedAgentTypes": ["autonomous", "service"] } }),
        agents: vec![
            (
                agent(
                    "support-triage",
                    "eve",
                    "autonomous",
                    json!([reads("mcp:github:*"), { "resource": "mcp:memory:*", "actions": ["*"] }]),
                ),
                &["github", "memory"],
            ),
            (
                agent("docs-crawler", "eve", "service", json!([reads("mcp:fetch:*"), reads("mcp:filesystem:*")])),
                &["fetch", "filesystem"],
            ),
        ],
        delegations: vec![],
        policies: vec![json!({ "limits": { "maxCallsPerDay": 20_000 }, "action": "block" })],
        revoked: None,
    };
    [acme, globex]
}

/// Creates the demo's tenants. `None` if there is a tenant already; then nothing is touched.
///
/// # Errors
/// The first call that failed.
pub async fn fill(kavach: &Kavach) -> Result<Option<Demo>, Error> {
    if !kavach.tenants().list(PageRequest { limit: Some(1), cursor: None }).await?.items.is_empty() {
        return Ok(None);
    }
    let mut first = None;
    for scene in scenes() {
        let token = play(kavach, scene).await?;
        first = first.or(token);
    }
    Ok(first.map(|token| Demo { token }))
}

/// Creates one tenant and its traffic. Returns its first agent's token.
async fn play(kavach: &Kavach, scene: Scene) -> Result<Option<Secret>, Error> {
    let tenant = kavach.tenants().create(read(scene.tenant)?).await?;
    let (mut ids, mut work, mut token) = (HashMap::new(), Vec::new(), None);
    for (mut body, servers) in scene.agents {
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        set(&mut body, "tenantId", tenant.id.to_string());
        let (made, secret) = kavach.agents().create(read(body)?).await?;
        let id = made.agent.profile.id;
        token.get_or_insert(secret);
        work.push((id, tools().iter().filter(|tool| servers.contains(&&*tool.server)).collect::<Vec<_>>()));
        ids.insert(name, id);
    }
    for body in scene.delegations {
        kavach.delegations().create(read(with_ids(body, &ids))?).await?;
    }
    for mut body in scene.policies {
        set(&mut body, "tenantId", tenant.id.to_string());
        kavach.policies().create(read(with_ids(body, &ids))?).await?;
    }
    if let Some(id) = scene.revoked.and_then(|name| ids.get(name)) {
        kavach.agents().revoke(&id.to_string()).await?;
    }
    traffic(kavach, &work).await?;
    Ok(token)
}

/// Makes calls for all agents in turn.
async fn traffic(kavach: &Kavach, work: &[(AgentId, Vec<&Tool>)]) -> Result<(), Error> {
    for (n, (agent, own)) in work.iter().cycle().take(CALLS).enumerate() {
        let stray = n % STRAY == 0 || own.is_empty();
        let tool = if stray { tools().iter().cycle().nth(n) } else { own.iter().cycle().nth(n / work.len()).copied() };
        let Some(tool) = tool else { continue };
        let mut request = Request::new(tool.action(), &tool.resource())?
            .for_agent(*agent)
            .with_arguments(&tool.sample_arguments(n))?
            .with_user_agent(Some("kavach-demo"));
        // Between 0.004 and 0.016 units of cost.
        let estimate = 4_000 + 3_000 * (n as u64 % 5);
        request.cost = Some(Cost::from_millionths(estimate));
        // The last ones of each agent are still under way.
        let is_held = n + 2 * work.len() >= CALLS;
        if is_held {
            request = request.holding(MAX_HOLD_SECONDS.into())?;
        }
        let decision = kavach.authorize(request).await?;
        if let Some(id) = decision.audit_id.filter(|_| decision.allowed && !is_held && n % SETTLED == 0) {
            let cost = Cost::from_millionths(estimate * 5 / 6);
            kavach.report_usage(&agent.to_string(), cost, 0, Some(&id.to_string())).await?;
        }
    }
    // What nobody asked about before: training, say.
    if let Some((agent, _)) = work.first() {
        kavach.report_usage(&agent.to_string(), Cost::from_millionths(250_000), 0, None).await?;
    }
    Ok(())
}

/// Parses a body as the API would.
fn read<T: DeserializeOwned>(body: Value) -> Result<T, Error> {
    // Through text, since a cost is parsed from the text of a number.
    serde_json::from_str(&body.to_string())
        .map_err(|problem| Error::new(Code::InternalError, format!("the demo's data is malformed: {problem}")))
}

fn set(body: &mut Value, field: &str, text: String) {
    if let Some(object) = body.as_object_mut() {
        object.insert(field.to_owned(), text.into());
    }
}

/// The body with agents' names replaced by their ids.
fn with_ids(mut body: Value, ids: &HashMap<String, AgentId>) -> Value {
    for field in ["fromAgent", "toAgent", "agentId"] {
        let id = body.get(field).and_then(Value::as_str).and_then(|name| ids.get(name)).map(ToString::to_string);
        if let Some(id) = id {
            set(&mut body, field, id);
        }
    }
    body
}

/// A command line that authorizes a real call of the demo's first agent.
///
/// # Errors
/// `INTERNAL_ERROR` if the fixture has no `list_issues` tool of GitHub's.
pub fn sample_command(base_url: &str, demo: &Demo) -> Result<String, Error> {
    let tool = tools().iter().find(|tool| tool.server == "github" && tool.tool == "list_issues" && tool.read_only);
    let tool = tool.ok_or_else(|| Error::new(Code::InternalError, "the fixture has no tool github/list_issues"))?;
    Ok(format!(
        "curl -s {base_url}/v1/authorize -H 'Authorization: Bearer {}' \
         -d '{{\"action\":\"{}\",\"resource\":\"{}\",\"arguments\":{{\"owner\":\"acme\",\"repo\":\"service-1\"}}}}'",
        demo.token.reveal(),
        tool.action(),
        tool.resource(),
    ))
}
