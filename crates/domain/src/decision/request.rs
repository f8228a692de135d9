//! An authorize request, checked.

use std::net::IpAddr;

use crate::budget::cost::Cost;
use crate::decision::arguments::Arguments;
use crate::error::Error;
use crate::id::{AgentId, TenantRef};
use crate::limits::MAX_USER_AGENT_BYTES;
use crate::permission::check_action;
use crate::permission::pattern::check_resource;
use crate::secret::{hide_secrets, holds_secret};
use crate::trace_id::TraceId;

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
    texts: Texts,
    /// Which agent.
    pub agent: Asked,
    /// Every name the request gives the agent's tenant, in its path or its body.
    pub tenants: Vec<TenantRef>,
    /// Estimated cost of the call.
    pub cost: Option<Cost>,
    /// The caller's address, where it is known.
    pub ip: Option<IpAddr>,
    /// The trace that the call is part of.
    pub trace: Option<TraceId>,
}

/// All text of a request in one piece of memory: action, resource, arguments, `User-Agent`, where they end, and
/// whether the last two are there.
#[derive(Clone, Debug, PartialEq)]
struct Texts {
    joined: Box<str>,
    action_end: u32,
    resource_end: u32,
    arguments_end: u32,
    has_arguments: bool,
    has_user_agent: bool,
}

impl Texts {
    fn join(action: &str, resource: &str, arguments: Option<&str>, user_agent: Option<&str>) -> Self {
        let parts = [action, resource, arguments.unwrap_or_default(), user_agent.unwrap_or_default()];
        let texts = Self::of(parts, arguments.is_some(), user_agent.is_some());
        if !holds_secret(&texts.joined) {
            return texts;
        }
        // What a client sent in a wrong place is neither recorded nor shown.
        let hidden = parts.map(hide_secrets);
        Self::of(hidden.each_ref().map(|part| &**part), arguments.is_some(), user_agent.is_some())
    }

    fn of(parts: [&str; 4], has_arguments: bool, has_user_agent: bool) -> Self {
        let mut joined = String::with_capacity(parts.iter().map(|part| part.len()).sum());
        // Each part has its limit, far below four gigabytes.
        let ends = parts.map(|part| {
            joined.push_str(part);
            joined.len() as u32
        });
        let [action_end, resource_end, arguments_end, _] = ends;
        Self { joined: joined.into(), action_end, resource_end, arguments_end, has_arguments, has_user_agent }
    }

    fn part(&self, start: u32, end: u32) -> &str {
        self.joined.get(start as usize..end as usize).unwrap_or_default()
    }
}

impl Request {
    /// A request about the agent whose token asks, with nothing but what is needed.
    ///
    /// # Errors
    /// `INVALID_FIELD` where the action or the resource is none.
    pub fn new(action: &str, resource: &str) -> Result<Self, Error> {
        Self::of(action, resource, None, None)
    }

    /// The same with arguments and the caller's `User-Agent`, of which the start is
    /// kept.
    ///
    /// # Errors
    /// `INVALID_FIELD` where the action or the resource is none, or the arguments are too large or too deeply nested.
    pub fn of(
        action: &str,
        resource: &str,
        arguments: Option<Arguments<'_>>,
        user_agent: Option<&str>,
    ) -> Result<Self, Error> {
        check_action("action", action)?;
        check_resource("resource", resource)?;
        let arguments = arguments.map(Arguments::compact).transpose()?;
        Ok(Self {
            texts: Texts::join(action, resource, arguments.as_deref(), kept_user_agent(user_agent)),
            agent: Asked::Caller,
            tenants: Vec::new(),
            cost: None,
            ip: None,
            trace: None,
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
    pub fn with_arguments(self, json: &str) -> Result<Self, Error> {
        let texts = Self::of(self.action(), self.resource(), Some(Arguments::Any(json)), self.user_agent())?.texts;
        Ok(Self { texts, ..self })
    }

    /// The same request with the caller's `User-Agent`, cut to what is kept.
    #[must_use]
    pub fn with_user_agent(self, text: Option<&str>) -> Self {
        let texts = Texts::join(self.action(), self.resource(), self.arguments(), kept_user_agent(text));
        Self { texts, ..self }
    }

    /// The same request about another action or resource.
    ///
    /// # Errors
    /// `INVALID_FIELD` where the action or the resource is none.
    pub fn about(&self, action: &str, resource: &str) -> Result<Self, Error> {
        check_action("action", action)?;
        check_resource("resource", resource)?;
        let texts = Texts::join(action, resource, self.arguments(), self.user_agent());
        Ok(Self { texts, tenants: self.tenants.clone(), ..*self })
    }

    /// The action.
    pub fn action(&self) -> &str {
        self.texts.part(0, self.texts.action_end)
    }

    /// The resource.
    pub fn resource(&self) -> &str {
        self.texts.part(self.texts.action_end, self.texts.resource_end)
    }

    /// The arguments as compact JSON.
    pub fn arguments(&self) -> Option<&str> {
        let Texts { resource_end, arguments_end, has_arguments, .. } = self.texts;
        has_arguments.then(|| self.texts.part(resource_end, arguments_end))
    }

    /// The caller's `User-Agent`.
    pub fn user_agent(&self) -> Option<&str> {
        let Texts { arguments_end, has_user_agent, .. } = self.texts;
        has_user_agent.then(|| self.texts.part(arguments_end, self.texts.joined.len() as u32))
    }
}

pub(crate) fn kept_user_agent(text: Option<&str>) -> Option<&str> {
    text.map(|text| text.get(..text.floor_char_boundary(MAX_USER_AGENT_BYTES)).unwrap_or_default())
}
