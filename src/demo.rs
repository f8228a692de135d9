//! `--demo`: fills an empty data directory with a tenant, agents and traffic to look at.

use crate::domain::agent_commands::NewAgent;
use crate::domain::constraint::{ConstraintsSpec, TimeWindowSpec};
use crate::domain::permission::PermissionSpec;
use crate::domain::settings::SettingsPatch;
use crate::domain::tenant_commands::NewTenant;
use crate::domain::{AgentId, AgentType, Code, Error, Request, Secret};
use crate::fixture::tools;
use crate::service::{Kavach, PageRequest};

/// Calls of the demo's traffic.
const CALLS: usize = 400;

/// What the demo made.
pub struct Demo {
    /// The token of an agent that may read from GitHub.
    pub token: Secret,
}

/// Makes the demo's tenant, agents and traffic. `None` where a tenant is there already: nothing is touched then.
///
/// # Errors
/// What kept it from being made.
pub async fn fill(kavach: &Kavach) -> Result<Option<Demo>, Error> {
    if !kavach.tenants().list(PageRequest { limit: Some(1), cursor: None }).await?.items.is_empty() {
        return Ok(None);
    }
    let settings = SettingsPatch {
        max_agents: Some(Some(200)),
        audit_retention_days: Some(Some(365)),
        ..SettingsPatch::default()
    };
    let new = NewTenant { name: "Acme".to_owned(), slug: "acme".to_owned(), settings: Some(settings) };
    kavach.tenants().create(new).await?;

    let reader = agent("repo-reader", "ana", AgentType::Autonomous, vec![permission("mcp:github:*", "read", None)]);
    let files =
        ConstraintsSpec { allowed_arg_patterns: Some(vec!["/srv/data/**".to_owned()]), ..ConstraintsSpec::default() };
    let writer = ConstraintsSpec { max_calls_per_hour: Some(20), ..ConstraintsSpec::default() };
    let filer = agent(
        "report-filer",
        "ben",
        AgentType::Service,
        vec![
            permission("mcp:filesystem:read_text_file", "read", Some(files)),
            permission("mcp:github:create_issue", "execute", Some(writer)),
        ],
    );
    let night = ConstraintsSpec {
        time_window: Some(TimeWindowSpec { start: "22:00".to_owned(), end: "06:00".to_owned() }),
        ..ConstraintsSpec::default()
    };
    let approved = ConstraintsSpec { require_approval: Some(true), ..ConstraintsSpec::default() };
    let keeper = agent(
        "night-keeper",
        "ana",
        AgentType::Delegated,
        vec![
            permission("mcp:git:*", "*", Some(night)),
            permission("mcp:memory:*", "read", None),
            permission("mcp:*:delete_entities", "execute", Some(approved)),
        ],
    );
    let (reader, token) = kavach.agents().create(reader).await?;
    let mut agents: Vec<AgentId> = vec![reader.agent.profile.id];
    for new in [filer, keeper] {
        agents.push(kavach.agents().create(new).await?.0.agent.profile.id);
    }

    for (n, (tool, agent)) in tools().iter().cycle().zip(agents.iter().cycle()).take(CALLS).enumerate() {
        let request = Request::new(tool.action(), &tool.resource())?
            .for_agent(*agent)
            .with_arguments(&tool.sample_arguments(n))?
            .with_user_agent(Some("kavach-demo"));
        kavach.authorize(request).await?;
    }
    Ok(Some(Demo { token }))
}

fn agent(name: &str, owner: &str, kind: AgentType, permissions: Vec<PermissionSpec>) -> NewAgent {
    NewAgent {
        tenant_id: Some("acme".to_owned()),
        owner_id: owner.to_owned(),
        name: name.to_owned(),
        kind,
        permissions,
        expires_at: None,
        metadata: None,
    }
}

fn permission(resource: &str, action: &str, constraints: Option<ConstraintsSpec>) -> PermissionSpec {
    PermissionSpec { resource: resource.to_owned(), actions: vec![action.to_owned()], constraints }
}

/// A command line that authorizes a real call of the demo's first agent.
///
/// # Errors
/// None, as long as the fixture holds a tool of GitHub's that only reads.
pub fn sample_command(base_url: &str, demo: &Demo) -> Result<String, Error> {
    let tool = tools().iter().find(|tool| tool.server == "github" && tool.tool == "list_issues" && tool.read_only);
    let tool = tool.ok_or_else(|| Error::new(Code::InternalError, "the fixture has no such tool"))?;
    Ok(format!(
        "curl -s {base_url}/v1/authorize -H 'Authorization: Bearer {}' \
         -d '{{\"action\":\"{}\",\"resource\":\"{}\",\"arguments\":{{\"owner\":\"acme\",\"repo\":\"service-1\"}}}}'",
        demo.token.reveal(),
        tool.action(),
        tool.resource(),
    ))
}
