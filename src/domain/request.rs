//! An authorize request, checked.

use std::net::IpAddr;

use super::arguments::compact;
use super::cost::Cost;
use super::error::Error;
use super::id::{AgentId, TenantRef};
use super::limits::{MAX_ARGUMENTS_BYTES, MAX_USER_AGENT_BYTES};
use super::pattern::check_resource;
use super::permission::check_action;

/// Which agent a request asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The one whose token asks.
    Caller,
    /// This one.
    Agent(AgentId),
    /// Text that is no agent's id, so no agent at all.
    Nobody,
}

impl Asked {
    /// Reads an agent id.
    pub fn parse(text: &str) -> Self {
        AgentId::parse(text).map_or(Self::Nobody, Self::Agent)
    }
}

/// May this agent do this action on this resource now?
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    action: Box<str>,
    resource: Box<str>,
    /// Which agent.
    pub agent: Asked,
    /// Every name the request gives the agent's tenant, in its path or its body.
    pub tenants: Vec<TenantRef>,
    arguments: Option<Box<str>>,
    /// Estimated cost of the call.
    pub cost: Option<Cost>,
    /// The caller's address, where it is known.
    pub ip: Option<IpAddr>,
    user_agent: Option<Box<str>>,
}

impl Request {
    /// A request about the agent whose token asks, with nothing but what is needed.
    ///
    /// # Errors
    /// `INVALID_FIELD` where the action or the resource is none.
    pub fn new(action: &str, resource: &str) -> Result<Self, Error> {
        check_action("action", action)?;
        check_resource("resource", resource)?;
        Ok(Self {
            action: action.into(),
            resource: resource.into(),
            agent: Asked::Caller,
            tenants: Vec::new(),
            arguments: None,
            cost: None,
            ip: None,
            user_agent: None,
        })
    }

    /// The same request about that agent.
    #[must_use]
    pub fn for_agent(mut self, agent: AgentId) -> Self {
        self.agent = Asked::Agent(agent);
        self
    }

    /// The same request with arguments: the text of one valid JSON value.
    ///
    /// # Errors
    /// `INVALID_FIELD` where they are too large or too deeply nested.
    pub fn with_arguments(mut self, json: &str) -> Result<Self, Error> {
        self.arguments = Some(compact("arguments", json, MAX_ARGUMENTS_BYTES)?.into());
        Ok(self)
    }

    /// The same request with the caller's `User-Agent`, cut to what is kept.
    #[must_use]
    pub fn with_user_agent(mut self, text: Option<&str>) -> Self {
        self.user_agent = text.map(|text| {
            let cut = (0..=MAX_USER_AGENT_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            text.get(..cut.unwrap_or(0)).unwrap_or_default().into()
        });
        self
    }

    /// The action.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// The resource.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The arguments as compact JSON.
    pub fn arguments(&self) -> Option<&str> {
        self.arguments.as_deref()
    }

    /// The caller's `User-Agent`.
    pub fn user_agent(&self) -> Option<&str> {
        self.user_agent.as_deref()
    }
}
