//! Agents.

use crate::api::openapi::{Docs, Tag};
use crate::api::responses::AgentJson;
use crate::domain::Code::{
    AgentIsRevoked, AgentLimitExceeded, AgentNotFound, AgentTypeNotAllowed, InvalidField, InvalidPattern,
    RotationLimitExceeded, TenantMismatch, TenantNotFound,
};

fn docs(id: &'static str, summary: &'static str) -> Docs {
    Docs::new(Tag::Agents, id, summary)
}

/// `POST /v1/agents`
pub fn create() -> Docs {
    docs("createAgent", "Create an agent")
        .about("Its token is in this answer only.")
        .created::<AgentJson>("The new agent, with its token.")
        .fails(&[InvalidField, InvalidPattern, TenantMismatch, TenantNotFound, AgentLimitExceeded, AgentTypeNotAllowed])
        .writes()
        .once()
}

/// `GET /v1/agents`
pub fn list() -> Docs {
    docs("listAgents", "List agents")
        .about(
            "Oldest first, including revoked, suspended and expired ones. An operator sees the agents of all tenants.",
        )
        .list::<AgentJson>("The agents.")
        .fails(&[TenantMismatch, TenantNotFound])
}

/// `GET /v1/agents/{id}`
pub fn get() -> Docs {
    docs("getAgent", "Get an agent")
        .about("Revoked and expired agents too. The token is never shown again.")
        .answers::<AgentJson>(200, "The agent.")
        .tagged()
        .fails(&[AgentNotFound])
}

/// `PATCH /v1/agents/{id}`
pub fn update() -> Docs {
    docs("updateAgent", "Change an agent")
        .about(
            "What is left out stays. Permissions are replaced as a whole; one that was there before keeps its window of \
             `maxCallsPerHour`.",
        )
        .answers::<AgentJson>(200, "The agent as it is now.")
        .tagged()
        .fails(&[InvalidField, InvalidPattern, AgentNotFound, AgentIsRevoked, AgentLimitExceeded, AgentTypeNotAllowed])
        .writes()
}

/// `DELETE /v1/agents/{id}`
pub fn revoke() -> Docs {
    docs("revokeAgent", "Revoke an agent")
        .about("It is final. The agent and its audit trail stay readable; delegations that pass through it end.")
        .nothing("It is revoked.")
        .fails(&[InvalidField, AgentNotFound])
        .writes()
}

/// `POST /v1/agents/{id}/suspend`
pub fn suspend() -> Docs {
    docs("suspendAgent", "Stop an agent until it is activated")
        .about(
            "Every call of it is denied with `AGENT_SUSPENDED`, and what it delegated rests. Its tokens, delegations and \
             counts stay as they are.",
        )
        .answers::<AgentJson>(200, "The agent as it is now.")
        .tagged()
        .fails(&[InvalidField, AgentNotFound, AgentIsRevoked])
        .writes()
}

/// `POST /v1/agents/{id}/activate`
pub fn activate() -> Docs {
    docs("activateAgent", "Let a suspended agent work again")
        .about("An agent that is not suspended stays as it is.")
        .answers::<AgentJson>(200, "The agent as it is now.")
        .tagged()
        .fails(&[InvalidField, AgentNotFound, AgentIsRevoked])
        .writes()
}

/// `POST /v1/agents/{id}/rotate`
pub fn rotate() -> Docs {
    docs("rotateAgentToken", "Give an agent a new token")
        .about("The token is in this answer only. Without `graceSeconds` every older one ends at once.")
        .answers::<AgentJson>(200, "The agent, with its new token.")
        .fails(&[InvalidField, AgentNotFound, AgentIsRevoked, RotationLimitExceeded])
        .once()
        .writes()
}
