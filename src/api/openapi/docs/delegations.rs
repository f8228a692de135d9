//! Delegations.

use crate::api::openapi::{Docs, Tag};
use crate::api::responses::{DelegationJson, EffectivePermissionJson};
use crate::domain::Code::{
    AgentIsRevoked, AgentNotFound, DelegationCycle, DelegationDepthExceeded, DelegationGrantorInactive,
    DelegationLimitExceeded, DelegationNotFound, DelegationSelf, InsufficientPermissions, InvalidField, InvalidPattern,
    TenantMismatch, TenantNotFound,
};

fn docs(id: &'static str, summary: &'static str) -> Docs {
    Docs::new(Tag::Delegations, id, summary)
}

/// `POST /v1/delegations`
pub fn create() -> Docs {
    docs("createDelegation", "Lend permissions to another agent")
        .about(
            "Each permission has to lie within a single one that the grantor holds, and may add constraints. What \
             constrains the grantor constrains the delegate too.",
        )
        .created::<DelegationJson>("The new delegation.")
        .fails(&[
            InvalidField,
            InvalidPattern,
            TenantMismatch,
            TenantNotFound,
            AgentNotFound,
            AgentIsRevoked,
            InsufficientPermissions,
            DelegationSelf,
            DelegationCycle,
            DelegationDepthExceeded,
            DelegationGrantorInactive,
            DelegationLimitExceeded,
        ])
        .writes()
        .once()
}

/// `GET /v1/delegations`
pub fn list() -> Docs {
    docs("listDelegations", "List delegations")
        .about("Oldest first. Of ended delegations only the newest are kept.")
        .list::<DelegationJson>("The delegations.")
        .fails(&[TenantMismatch, TenantNotFound])
}

/// `GET /v1/delegations/{id}`
pub fn get() -> Docs {
    docs("getDelegation", "Get a delegation, or those that leave an agent")
        .about("The id's prefix decides which.")
        .one_or_list::<DelegationJson>("The delegation, or a list of them.")
        .fails(&[AgentNotFound, DelegationNotFound])
}

/// `GET /v1/delegations/{id}/permissions`
pub fn permissions() -> Docs {
    docs("listEffectivePermissions", "List what an agent can make use of")
        .about("Its own permissions, and those that reach it by delegations that count.")
        .answers::<Vec<EffectivePermissionJson>>(200, "The permissions, and where each comes from.")
        .fails(&[AgentNotFound])
}

/// `DELETE /v1/delegations/{id}`
pub fn revoke() -> Docs {
    docs("revokeDelegation", "Revoke a delegation")
        .about("It is final, and ends all delegations that stand on it.")
        .nothing("It is revoked.")
        .fails(&[InvalidField, DelegationNotFound])
        .writes()
}
