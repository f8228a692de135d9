//! The Authorization API 1.0 of the OpenID Foundation.

use crate::api::authzen::discovery::Metadata;
use crate::api::authzen::evaluation::Evaluated;
use crate::api::authzen::evaluations::EvaluationsAnswer;
use crate::api::authzen::search::{ActionAnswer, EntityAnswer, SearchAnswer};
use crate::api::openapi::{Docs, Tag};
use crate::domain::Code::{Forbidden, InstanceBudgetUnavailable, InvalidField, StorageUnavailable, TenantNotFound};

fn docs(id: &'static str, summary: &'static str) -> Docs {
    Docs::new(Tag::Authzen, id, summary)
}

fn posts(docs: Docs) -> Docs {
    let read = "A name of the request, which the answer repeats.";
    docs.header::<String>("X-Request-ID", read).fails(&[InvalidField, TenantNotFound])
}

/// `POST /access/v1/evaluation`
pub fn evaluation() -> Docs {
    let docs = docs("evaluateAccess", "May this subject do this action on this resource now?")
        .about(
            "Decides, charges budgets and records, as `POST /v1/authorize` does. A subject is `agent` and an agent's id; \
             one of another type is denied. A resource is its type and its id joined by `:`; the action's properties are \
             the call's arguments. Fields that are not known are ignored; the content type has to be JSON.",
        )
        .answers::<Evaluated>(200, "The decision, yes or no.");
    posts(docs).fails(&[Forbidden, InstanceBudgetUnavailable]).writes()
}

/// `POST /access/v1/evaluations`
pub fn evaluations() -> Docs {
    let docs = docs("evaluateAccesses", "Decide many calls at once")
        .about(
            "The members at the top stand for what an evaluation lacks. One that can't be read is denied, with an `error` \
             in its context. Those after the one that ends them are neither decided nor recorded nor charged.",
        )
        .answers::<EvaluationsAnswer>(200, "The decisions, or the only one.");
    posts(docs).fails(&[Forbidden, InstanceBudgetUnavailable]).writes()
}

fn search(id: &'static str, summary: &'static str) -> Docs {
    posts(docs(id, summary).about("What is found would be permitted now. Nothing is recorded or charged."))
        .fails(&[StorageUnavailable])
}

/// `POST /access/v1/search/subject`
pub fn search_subject() -> Docs {
    search("searchSubjects", "Which agents may do this action on this resource?")
        .answers::<SearchAnswer<EntityAnswer<'_>>>(200, "A page of agents.")
}

/// `POST /access/v1/search/resource`
pub fn search_resource() -> Docs {
    search("searchResources", "On which resources of this type may this agent do this action?").answers::<SearchAnswer<
        EntityAnswer<'_>,
    >>(
        200,
        "A page of resources, in which `*` is every value.",
    )
}

/// `POST /access/v1/search/action`
pub fn search_action() -> Docs {
    search("searchActions", "Which actions may this agent do on this resource?")
        .answers::<SearchAnswer<ActionAnswer>>(200, "A page of actions, of which `*` is every one.")
}

/// `GET /.well-known/authzen-configuration`
pub fn metadata() -> Docs {
    docs("getAuthzenConfiguration", "Find out where the AuthZEN routes are")
        .about("The URL is the one that `--public-url` says, else the one that the client asked at.")
        .answers::<Metadata>(200, "Where they are.")
        .fails(&[InvalidField])
}
