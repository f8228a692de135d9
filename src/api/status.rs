//! The HTTP status of each code (RFC 9110).

use crate::domain::Code;

/// The status that answers an error with this code. A decision is answered with 200 whatever its code, so codes that
/// only decisions carry have that.
pub fn status(code: Code) -> u16 {
    match code {
        Code::TenantSuspended
        | Code::AgentRevoked
        | Code::AgentSuspended
        | Code::AgentExpired
        | Code::PermissionDenied
        | Code::OutsideTimeWindow
        | Code::IpNotAllowed
        | Code::ArgumentNotAllowed
        | Code::RequiresApproval
        | Code::RateLimited
        | Code::BudgetExceeded
        | Code::HoldLimitExceeded => 200,
        Code::InvalidBody
        | Code::InvalidField
        | Code::InvalidQuery
        | Code::InvalidPattern
        | Code::ConfirmationRequired => 400,
        Code::Unauthenticated | Code::InvalidToken => 401,
        Code::TenantMismatch | Code::Forbidden | Code::UnmappedRequest => 403,
        Code::AgentNotFound
        | Code::RouteNotFound
        | Code::TenantNotFound
        | Code::KeyNotFound
        | Code::PolicyNotFound
        | Code::DelegationNotFound
        | Code::WebhookNotFound
        | Code::DeliveryNotFound
        | Code::AuditEntryNotFound
        | Code::HoldNotFound => 404,
        Code::MethodNotAllowed => 405,
        Code::RequestTimeout => 408,
        Code::SlugTaken
        | Code::AgentIsRevoked
        | Code::AlreadySettled
        | Code::NotSettleable
        | Code::HoldEnded
        | Code::IdempotencyKeyInUse
        | Code::WebhookDisabled => 409,
        Code::PreconditionFailed => 412,
        Code::PayloadTooLarge => 413,
        Code::AgentLimitExceeded
        | Code::AgentTypeNotAllowed
        | Code::DefaultTenantFixed
        | Code::KeyLimitExceeded
        | Code::PolicyLimitExceeded
        | Code::WebhookLimitExceeded
        | Code::RotationLimitExceeded
        | Code::TooManyGroups
        | Code::InsufficientPermissions
        | Code::DelegationSelf
        | Code::DelegationCycle
        | Code::DelegationDepthExceeded
        | Code::DelegationGrantorInactive
        | Code::DelegationLimitExceeded
        | Code::IdempotencyKeyReused => 422,
        Code::AuthRateLimited | Code::TooManyStreams => 429,
        Code::InternalError => 500,
        Code::NotReady
        | Code::ShuttingDown
        | Code::Overloaded
        | Code::TenantUnavailable
        | Code::InstanceBudgetUnavailable
        | Code::OutcomeUnknown
        | Code::StorageUnavailable => 503,
    }
}
