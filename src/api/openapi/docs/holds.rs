//! Holds.

use crate::api::openapi::{Docs, Tag};
use crate::api::responses::HoldJson;
use crate::domain::Code::{HoldEnded, HoldNotFound, InvalidField, TenantMismatch, TenantNotFound};
use crate::domain::budget::usage::UsageAnswer;

fn docs(id: &'static str, summary: &'static str) -> Docs {
    Docs::new(Tag::Budgets, id, summary)
}

/// `GET /v1/holds`
pub fn list() -> Docs {
    docs("listHolds", "List open holds")
        .about(
            "Oldest first. `POST /v1/authorize` with `hold` makes one; `POST /v1/usage` with its `auditId` settles it, once. A hold whose end has come is not \
             listed any more.",
        )
        .list::<HoldJson>("The holds.")
        .fails(&[TenantMismatch, TenantNotFound])
}

/// `GET /v1/holds/{id}`
pub fn get() -> Docs {
    docs("getHold", "Get an open hold")
        .about("If it was settled or released or has ended by itself, the error says so.")
        .answers::<HoldJson>(200, "The hold.")
        .fails(&[HoldNotFound])
}

/// `POST /v1/holds/{id}/release`
pub fn release() -> Docs {
    docs("releaseHold", "Give a hold back")
        .about(
            "Nothing was spent: the whole cost is left again. The call stays counted. Repeating it gives the same answer and changes nothing; \
             a hold that ended in another way is a 409.",
        )
        .answers::<UsageAnswer>(200, "What counts now.")
        .fails(&[HoldNotFound, HoldEnded])
        .once()
        .writes()
}

/// `POST /v1/holds/{id}/extend`
pub fn extend() -> Docs {
    docs("extendHold", "Prolong a hold")
        .about("Its new end is `ttlSeconds` from now, earlier or later than before. It can be repeated until the hold ends.")
        .answers::<HoldJson>(200, "The hold as it is now.")
        .fails(&[InvalidField, HoldNotFound, HoldEnded])
        .once()
        .writes()
}
