//! An authorize request, checked.

use std::net::IpAddr;

use crate::budget::cost::Cost;
use crate::budget::hold::HoldTime;
use crate::decision::arguments::{Arguments, Compact};
use crate::error::{Code, Error};
use crate::id::{AgentId, TenantRef};
use crate::idempotency::key::{IdempotencyKey, RequestKey};
use crate::limits::{MAX_ACTION_BYTES, MAX_ARGUMENTS_BYTES, MAX_JSON_DEPTH, MAX_RESOURCE_BYTES, MAX_USER_AGENT_BYTES};
use crate::permission::check_action;
use crate::permission::pattern::check_resource;
use crate::secret::SecretHash;
use crate::secret_scan::hide_secrets;
use crate::secret_scan::holds_secret;
use crate::text::{quote, shown_within};
use crate::time::Timestamp;
use crate::trace_id::TraceId;

/// Which agent a request asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The agent that sent its token.
    Caller,
    /// This one.
    Agent(AgentId),
    /// Text that is not an agent's id, so it names no agent.
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
    /// The agent it asks about.
    pub agent: Asked,
    /// Every name that the request gives the agent's tenant, in its path or its body.
    pub tenants: Vec<TenantRef>,
    /// What we record instead of arguments that are too large or too deep to record whole.
    digest: Option<Box<str>>,
    /// Why the form of the call rules out any permission.
    problem: Option<Box<str>>,
    /// What the request names as its agent, if that is no agent's id.
    nobody: Option<Box<str>>,
    /// Estimated cost of the call.
    pub cost: Option<Cost>,
    /// How long to hold that cost, instead of charging it for good.
    hold: Option<HoldTime>,
    /// Whether the caller's cost was finer than a millionth, and so was rounded up.
    pub is_cost_rounded: bool,
    /// The caller's address, if known.
    pub ip: Option<IpAddr>,
    /// The trace that the call is part of.
    pub trace: Option<TraceId>,
    /// The call's idempotency key.
    pub key: Option<Box<RequestKey>>,
}

/// All text of a request in one allocation: action, resource, arguments and `User-Agent`, where they end, and whether
/// the last two are present.
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
        // A secret that a client sent in the wrong place is neither recorded nor shown.
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
    /// A request about the agent that sends its token, with nothing optional.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a bad action or resource.
    pub fn new(action: &str, resource: &str) -> Result<Self, Error> {
        check_action("action", action)?;
        check_resource("resource", resource)?;
        Self::of(action, resource, None, None)
    }

    /// A request with arguments and the caller's `User-Agent`, which is cut to the kept length. If the form of its
    /// action, resource or arguments rules out any permission, the call is denied for that once its agent is known.
    ///
    /// # Errors
    /// `INVALID_FIELD` if some parsers could not read the arguments, or would read them differently.
    pub fn of(
        action: &str,
        resource: &str,
        arguments: Option<Arguments<'_>>,
        user_agent: Option<&str>,
    ) -> Result<Self, Error> {
        let arguments = arguments.map(Arguments::compact).transpose()?;
        let is_too_deep = arguments.as_ref().is_some_and(|arguments| arguments.is_too_deep);
        let problem = check_action("action", action).and_then(|()| check_resource("resource", resource)).err();
        let problem = problem.map(|error| error.message().into()).or_else(|| {
            is_too_deep.then(|| format!("arguments must not be nested deeper than {MAX_JSON_DEPTH}").into())
        });
        let digest = arguments.as_ref().and_then(digest);
        let arguments = arguments.as_ref().map(|arguments| &*arguments.json);
        let user_agent = kept_user_agent(user_agent);
        let texts = if problem.is_none() {
            Texts::join(action, resource, arguments, user_agent)
        } else {
            // What we record is bounded and visible.
            let (action, resource) =
                (shown_within(action, MAX_ACTION_BYTES), shown_within(resource, MAX_RESOURCE_BYTES));
            Texts::join(&action, &resource, arguments, user_agent)
        };
        Ok(Self {
            texts,
            agent: Asked::Caller,
            tenants: Vec::new(),
            digest,
            problem,
            nobody: None,
            cost: None,
            hold: None,
            is_cost_rounded: false,
            ip: None,
            trace: None,
            key: None,
        })
    }

    /// Makes the request ask about that agent.
    #[must_use]
    pub fn for_agent(mut self, agent: AgentId) -> Self {
        self.agent = Asked::Agent(agent);
        self
    }

    /// Reads the agent that the request names. Text that is no agent's id is kept for the audit trail, cut short and
    /// without secrets.
    pub fn asking_about(&mut self, id: &str) -> Asked {
        let asked = Asked::parse(id);
        self.nobody = matches!(asked, Asked::Nobody).then(|| quote(id).into());
        asked
    }

    /// What the request names as its agent, as a sentence may show it, if that is no agent's id.
    pub fn nobody(&self) -> Option<&str> {
        self.nobody.as_deref()
    }

    /// Gives the call an idempotency key, once everything else but [`Request::in_tenant`] is set: it is a repeat only if the rest is the same. The
    /// trace and the `User-Agent` may differ, and the address if it is that of the connection.
    #[must_use]
    pub fn with_key(self, key: IdempotencyKey, is_ip_of_connection: bool) -> Self {
        let agent = match self.agent {
            Asked::Caller => String::new(),
            Asked::Agent(id) => id.to_string(),
            Asked::Nobody => "nobody".to_owned(),
        };
        let tenants: Vec<_> = self.tenants.iter().map(name_of).collect();
        // A rounded cost is shown in the answer.
        let rounded = if self.is_cost_rounded { "rounded" } else { "" };
        let cost = self.cost.map_or_else(String::new, |cost| cost.millionths().to_string());
        let ip = self.ip.filter(|_| !is_ip_of_connection).map_or_else(String::new, |ip| ip.to_string());
        let hold = self.hold.map(|time| time.end_from(Timestamp::default()).millis().to_string()).unwrap_or_default();
        let arguments = self.recorded_arguments();
        let parts = [
            "authorize",
            &agent,
            &tenants.join(","),
            self.action(),
            self.resource(),
            // Arguments are never empty text.
            arguments.unwrap_or_default(),
            &cost,
            rounded,
            &hold,
            &ip,
        ];
        let key = Box::new(RequestKey::new(key, &parts.map(str::as_bytes)));
        Self { key: Some(key), ..self }
    }

    /// Makes the request name the agent's tenant once more, before all other names.
    #[must_use]
    pub fn in_tenant(mut self, name: TenantRef) -> Self {
        if let Some(key) = &mut self.key {
            key.add(name_of(&name).as_bytes());
        }
        self.tenants.insert(0, name);
        self
    }

    /// Makes an allowed call hold its cost for so many seconds: see [`hold`](crate::budget::hold). Set the cost before.
    ///
    /// # Errors
    /// `INVALID_FIELD` without a cost, or for a number of seconds that is out of range.
    pub fn holding(self, seconds: u64) -> Result<Self, Error> {
        let time = HoldTime::parse("hold.ttlSeconds", seconds)?;
        if self.cost.is_none() {
            let problem = "needs tokensCost: there is nothing to hold without an estimate";
            return Err(Error::field(Code::InvalidField, "hold", problem));
        }
        Ok(Self { hold: Some(time), ..self })
    }

    /// How long to hold the cost.
    pub fn hold(&self) -> Option<HoldTime> {
        self.hold
    }

    /// Adds arguments: the text of one valid JSON value.
    ///
    /// # Errors
    /// As for [`Self::of`].
    pub fn with_arguments(self, json: &str) -> Result<Self, Error> {
        let with = Self::of(self.action(), self.resource(), Some(Arguments::Any(json)), self.user_agent())?;
        Ok(Self { texts: with.texts, digest: with.digest, problem: self.problem.or(with.problem), ..self })
    }

    /// Adds the caller's `User-Agent`, cut to the kept length.
    #[must_use]
    pub fn with_user_agent(self, text: Option<&str>) -> Self {
        let texts = Texts::join(self.action(), self.resource(), self.arguments(), kept_user_agent(text));
        Self { texts, ..self }
    }

    /// Copies the request for another action or resource.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a bad action or resource.
    pub fn about(&self, action: &str, resource: &str) -> Result<Self, Error> {
        check_action("action", action)?;
        check_resource("resource", resource)?;
        let texts = Texts::join(action, resource, self.arguments(), self.user_agent());
        Ok(Self { texts, ..self.clone() })
    }

    /// The action.
    pub fn action(&self) -> &str {
        self.texts.part(0, self.texts.action_end)
    }

    /// The resource.
    pub fn resource(&self) -> &str {
        self.texts.part(self.texts.action_end, self.texts.resource_end)
    }

    /// Why the form of the call rules out any permission; the call is then denied.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// What we record of the arguments: their text or, if they are large, their hash and size.
    pub fn recorded_arguments(&self) -> Option<&str> {
        self.digest.as_deref().or_else(|| self.arguments())
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

/// A text for each name that a tenant may have.
fn name_of(tenant: &TenantRef) -> String {
    match tenant {
        TenantRef::Default => "default".to_owned(),
        TenantRef::Id(id) => id.to_string(),
        TenantRef::Slug(slug) => slug.to_string(),
        TenantRef::Impossible => "impossible".to_owned(),
    }
}

/// What the trail shows for arguments that are not recorded whole: SHA-256 and size of their short form.
fn digest(arguments: &Compact<'_>) -> Option<Box<str>> {
    let Compact { json, is_too_deep } = arguments;
    (*is_too_deep || json.len() > MAX_ARGUMENTS_BYTES).then(|| {
        let hash = SecretHash::of(json).to_hex();
        format!("{{\"sha256\":\"{hash}\",\"bytes\":{}}}", json.len()).into()
    })
}

pub(crate) fn kept_user_agent(text: Option<&str>) -> Option<&str> {
    text.map(|text| text.get(..text.floor_char_boundary(MAX_USER_AGENT_BYTES)).unwrap_or_default())
}
