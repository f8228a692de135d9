//! The documentation of a route: what its types can't say.

use serde_json::{Value, json};

use super::example::{Example, Examples};
use super::schemas::Schemas;
use crate::api::idempotency::IDEMPOTENCY_KEY;
use crate::domain::Code;
use crate::domain::schema::IdempotencyKeyText;

/// The topic of a route.
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
    /// Webhooks.
    Webhooks,
    /// The audit trail.
    Audit,
    /// Decisions as AuthZEN has them.
    Authzen,
    /// The server itself.
    Server,
}

impl Tag {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Decisions,
        Self::Tenants,
        Self::Agents,
        Self::Delegations,
        Self::Budgets,
        Self::Webhooks,
        Self::Audit,
        Self::Authzen,
        Self::Server,
    ];

    /// The tag's name and description.
    pub fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Decisions => ("Decisions", "May this agent do this action on this resource now?"),
            Self::Tenants => {
                ("Tenants", "Organizations, each with its own agents, budgets and audit trail, and their keys.")
            }
            Self::Agents => ("Agents", "Who asks: what each may do, and its token."),
            Self::Delegations => ("Delegations", "Permissions that one agent lends another."),
            Self::Budgets => ("Budgets", "Policies that limit calls and costs, and what was used."),
            Self::Webhooks => {
                ("Webhooks", "Endpoints that are told what happens in a tenant, and what became of each message.")
            }
            Self::Audit => ("Audit", "Every decision, usage report and change, once and for good."),
            Self::Authzen => ("AuthZEN", "The same decisions by the OpenID Foundation's Authorization API 1.0."),
            Self::Server => ("Server", "The process itself, and what it says of itself."),
        }
    }
}

/// The documentation of a route, beyond what its types say.
pub struct Docs {
    pub(super) tag: Tag,
    /// The operation's name for programs, unique among all.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    pub(super) answers: Vec<AnswerDocs>,
    pub(super) codes: Vec<Code>,
    /// Denials that are answered as errors, with their status.
    pub(super) refusals: Vec<(u16, Code)>,
    pub(super) headers: Vec<HeaderDocs>,
    pub(super) without: &'static [&'static str],
}

/// An answer that is no error.
pub(super) struct AnswerDocs {
    pub(super) status: u16,
    pub(super) description: &'static str,
    /// Names of [`super::document::HEADERS`].
    pub(super) headers: Vec<&'static str>,
    pub(super) content: Vec<ContentDocs>,
}

/// What an answer can hold.
pub(super) struct ContentDocs {
    pub(super) media: &'static str,
    pub(super) schema: fn(&mut Schemas) -> Value,
    pub(super) examples: fn() -> Examples,
}

/// A header that a route reads.
pub(super) struct HeaderDocs {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) schema: fn(&mut Schemas) -> Value,
}

/// Codes of routes that write.
const OF_CHANGES: [Code; 2] = [Code::StorageUnavailable, Code::OutcomeUnknown];

impl Docs {
    /// The documentation of a route with this operation id and summary.
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
        let content = ContentDocs { media: "application/json", schema: Schemas::answer::<T>, examples: T::examples };
        self.answered(status, description, &[], vec![content])
    }

    /// It answers 201 with JSON of that type and a `Location`.
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
        let content = ContentDocs { media: "application/json", schema, examples: T::examples };
        self.answered(200, description, &["Link", "Kavach-Unavailable-Tenants"], vec![content])
    }

    /// It answers 200 with an object of that media type. Its members are documented elsewhere.
    #[must_use]
    pub fn object(self, media: &'static str, description: &'static str, examples: fn() -> Examples) -> Self {
        let content = ContentDocs { media, schema: |_| json!({ "type": "object" }), examples };
        self.answered(200, description, &[], vec![content])
    }

    /// It answers with an `ETag`, or 304 without a body if the client has the current version.
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

    /// Its last answer has an `ETag` for `If-Match`.
    #[must_use]
    pub fn tagged(self) -> Self {
        self.with(&["ETag"])
    }

    /// It answers 200 without a body.
    #[must_use]
    pub fn empty(self, description: &'static str) -> Self {
        self.answered(200, description, &[], Vec::new())
    }

    /// It answers denials as problems, 403 or, for rates, 429, with the reason in headers.
    #[must_use]
    pub fn denies(mut self) -> Self {
        let denials = Code::ALL.iter().filter(|code| crate::api::status::status(**code) == 200);
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

    /// It can answer 200 with text of that media type, besides the media types named before.
    #[must_use]
    pub fn text(mut self, media: &'static str, description: &'static str, examples: fn() -> Examples) -> Self {
        let content = ContentDocs { media, schema: |_| json!({ "type": "string" }), examples };
        match self.answers.iter_mut().find(|answer| answer.status == 200) {
            Some(answer) => {
                answer.content.push(content);
                self
            }
            None => self.answered(200, description, &[], vec![content]),
        }
    }

    /// Its last answer also has these headers of [`super::document::HEADERS`].
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

    /// It writes, so it can fail with the codes of storage.
    #[must_use]
    pub fn writes(self) -> Self {
        self.fails(&OF_CHANGES)
    }

    /// It takes an idempotency key, as its last answer says.
    #[must_use]
    pub fn once(self) -> Self {
        let key = "A name that the client gives this request. Sent again within 24 hours with the same key and body, it gets \
                   the first answer again and does nothing. Another body with the key is refused.";
        self.with(&["Idempotent-Replayed"]).header::<IdempotencyKeyText>(IDEMPOTENCY_KEY, key).fails(&[
            Code::InvalidField,
            Code::IdempotencyKeyInUse,
            Code::IdempotencyKeyReused,
        ])
    }

    /// It reads that header.
    #[must_use]
    pub fn header<T: schemars::JsonSchema>(mut self, name: &'static str, description: &'static str) -> Self {
        self.headers.push(HeaderDocs { name, description, schema: Schemas::request::<T> });
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
        content: Vec<ContentDocs>,
    ) -> Self {
        self.answers.push(AnswerDocs { status, description, headers: headers.to_vec(), content });
        self
    }
}
