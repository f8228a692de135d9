//! The OpenAPI document (3.1), made from the route table and the types that handlers read and answer.
//!
//! To document a new route, write a function in [`docs`] that answers its [`Docs`] and name it in the route table beside
//! the handler; its method, path, parameters, body, credentials and the errors of all of these are taken from the table,
//! from its guard and from its input. A type that is new in a body or an answer derives [`schemars::JsonSchema`] and has
//! an example in [`examples`]; what a path's new `{name}` means is told in `inputs::path_parameter`.
//!
//! | to find | look in |
//! | --- | --- |
//! | what is told of each route | [`docs`] |
//! | what a handler's input says of itself | [`inputs`] |
//! | schemas of types | [`schemas`] |
//! | examples of bodies and answers | [`examples`] |
//! | errors, with an example of each code | [`problems`] |
//! | how it becomes one document | [`document`] |
//!
//! Schemas come by `schemars`, which reads the same serde attributes as the code that reads and writes the JSON. The
//! usual macros for OpenAPI say a handler's method, path and parameters a second time; here nothing is said twice.

#![expect(
    clippy::indexing_slicing,
    reason = "the document is made of JSON objects alone and of nothing that a client sends, so a test sees all of it"
)]

pub mod docs;
pub mod document;
pub mod examples;
pub mod inputs;
pub mod problems;
pub mod schemas;

use serde_json::{Value, json};

use self::examples::{Example, Examples};
use self::schemas::Schemas;
use crate::domain::Code;

/// What a route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Decisions.
    Decisions,
    /// Tenants and their keys.
    Tenants,
    /// Agents.
    Agents,
    /// Delegations.
    Delegations,
    /// Budgets and usage.
    Budgets,
    /// The audit trail.
    Audit,
    /// Decisions as AuthZEN has them.
    Authzen,
    /// The server itself.
    Server,
}

impl Tag {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Decisions,
        Self::Tenants,
        Self::Agents,
        Self::Delegations,
        Self::Budgets,
        Self::Audit,
        Self::Authzen,
        Self::Server,
    ];

    /// Its name, and what it is about.
    pub fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Decisions => ("Decisions", "May this agent do this action on this resource now?"),
            Self::Tenants => {
                ("Tenants", "Organizations, each with its own agents, budgets and audit trail, and their keys.")
            }
            Self::Agents => ("Agents", "Who asks: what each may do, and its token."),
            Self::Delegations => ("Delegations", "Permissions that one agent lends another."),
            Self::Budgets => ("Budgets", "Policies that limit calls and costs, and what was used."),
            Self::Audit => ("Audit", "Every decision, usage report and change, once and for good."),
            Self::Authzen => ("AuthZEN", "The same decisions by the OpenID Foundation's Authorization API 1.0."),
            Self::Server => ("Server", "The process itself, and what it says of itself."),
        }
    }
}

/// What is told of a route besides what its types say.
pub struct Docs {
    tag: Tag,
    /// The operation's name for programs, unique among all.
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    answers: Vec<Answered>,
    codes: Vec<Code>,
    /// Denials that are answered as errors, with their status.
    refusals: Vec<(u16, Code)>,
    headers: Vec<Header>,
    without: &'static [&'static str],
}

/// An answer that is no error.
struct Answered {
    status: u16,
    description: &'static str,
    /// Names of [`document::HEADERS`].
    headers: Vec<&'static str>,
    content: Vec<Content>,
}

/// What an answer can hold.
struct Content {
    media: &'static str,
    schema: fn(&mut Schemas) -> Value,
    examples: fn() -> Examples,
}

/// A header that a route reads.
struct Header {
    name: &'static str,
    description: &'static str,
    schema: fn(&mut Schemas) -> Value,
}

/// Codes of what can go wrong wherever something is written.
const OF_CHANGES: [Code; 2] = [Code::StorageUnavailable, Code::OutcomeUnknown];

impl Docs {
    /// A route, by the name programs give it and by what it does.
    pub fn new(tag: Tag, id: &'static str, summary: &'static str) -> Self {
        Self {
            tag,
            id,
            summary,
            description: "",
            answers: Vec::new(),
            codes: Vec::new(),
            refusals: Vec::new(),
            headers: Vec::new(),
            without: &[],
        }
    }

    /// More about it, in CommonMark.
    #[must_use]
    pub fn about(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    /// It can answer JSON of that type with that status.
    #[must_use]
    pub fn answers<T: Example>(self, status: u16, description: &'static str) -> Self {
        let content = Content { media: "application/json", schema: Schemas::answer::<T>, examples: T::examples };
        self.answered(status, description, &[], vec![content])
    }

    /// It answers 201 with JSON of that type, and says where that is from now on.
    #[must_use]
    pub fn created<T: Example>(self, description: &'static str) -> Self {
        self.answers::<T>(201, description).with(&["Location"])
    }

    /// It answers a page of a list of that type.
    #[must_use]
    pub fn list<T: Example>(self, description: &'static str) -> Self
    where
        Vec<T>: Example,
    {
        self.answers::<Vec<T>>(200, description).with(&["Link", "Kavach-Unavailable-Tenants"])
    }

    /// It answers one of that type, or a page of a list of them.
    #[must_use]
    pub fn one_or_list<T: Example>(self, description: &'static str) -> Self {
        let schema = |schemas: &mut Schemas| json!({ "oneOf": [schemas.answer::<T>(), schemas.answer::<Vec<T>>()] });
        let content = Content { media: "application/json", schema, examples: T::examples };
        self.answered(200, description, &["Link", "Kavach-Unavailable-Tenants"], vec![content])
    }

    /// It answers an object of that media type with a 200 whose members are told elsewhere.
    #[must_use]
    pub fn object(self, media: &'static str, description: &'static str, examples: fn() -> Examples) -> Self {
        let content = Content { media, schema: |_| json!({ "type": "object" }), examples };
        self.answered(200, description, &[], vec![content])
    }

    /// It answers 304 without a body where the client has the version that is there, and else with its `ETag`.
    #[must_use]
    pub fn versioned(self) -> Self {
        let read = "Versions that the client has (RFC 9110).";
        self.with(&["ETag"]).header::<String>("If-None-Match", read).answered(
            304,
            "The client has it.",
            &["ETag"],
            Vec::new(),
        )
    }

    /// It answers 200 without a body.
    #[must_use]
    pub fn empty(self, description: &'static str) -> Self {
        self.answered(200, description, &[], Vec::new())
    }

    /// It answers denials as problems: 403, and 429 where it is one of a rate; and says in headers why.
    #[must_use]
    pub fn denies(mut self) -> Self {
        let denials = Code::ALL.iter().filter(|code| code.denies() && **code != Code::TenantMismatch);
        self.refusals = denials.map(|code| (403, *code)).collect();
        self.refusals.extend([(429, Code::RateLimited), (429, Code::BudgetExceeded)]);
        self.refusals.retain(|refusal| *refusal != (403, Code::RateLimited));
        self
    }

    /// It answers 204.
    #[must_use]
    pub fn nothing(self, description: &'static str) -> Self {
        self.answered(204, description, &[], Vec::new())
    }

    /// It can answer text of that media type with a 200, such as that one. Where it said so before, of that type too.
    #[must_use]
    pub fn text(mut self, media: &'static str, description: &'static str, examples: fn() -> Examples) -> Self {
        let content = Content { media, schema: |_| json!({ "type": "string" }), examples };
        match self.answers.iter_mut().find(|answer| answer.status == 200) {
            Some(answer) => {
                answer.content.push(content);
                self
            }
            None => self.answered(200, description, &[], vec![content]),
        }
    }

    /// Its last answer has these headers besides, of [`document::HEADERS`].
    #[must_use]
    pub fn with(mut self, headers: &[&'static str]) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.extend_from_slice(headers);
        }
        self
    }

    /// It can answer these errors besides those of its guard and its input.
    #[must_use]
    pub fn fails(mut self, codes: &[Code]) -> Self {
        self.codes.extend_from_slice(codes);
        self
    }

    /// It writes, which can fail too.
    #[must_use]
    pub fn writes(self) -> Self {
        self.fails(&OF_CHANGES)
    }

    /// It reads that header.
    #[must_use]
    pub fn header<T: schemars::JsonSchema>(mut self, name: &'static str, description: &'static str) -> Self {
        self.headers.push(Header { name, description, schema: Schemas::request::<T> });
        self
    }

    /// It refuses these parameters of its query's type.
    #[must_use]
    pub fn without(self, parameters: &'static [&'static str]) -> Self {
        Self { without: parameters, ..self }
    }

    fn answered(
        mut self,
        status: u16,
        description: &'static str,
        headers: &[&'static str],
        content: Vec<Content>,
    ) -> Self {
        self.answers.push(Answered { status, description, headers: headers.to_vec(), content });
        self
    }
}
