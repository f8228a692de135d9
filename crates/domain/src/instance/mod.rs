//! Instance policies: one limit over all tenants, shared out in slices.
//!
//! An instance policy belongs to the default tenant, the *lender*. A tenant whose call it matches spends from a *slice*
//! that the lender gave it before. What is lent out counts as held at the lender, so at all times, for every window,
//! `max = left + spent + held`, and the limit is never exceeded, whatever is lost between the two.
//!
//! **Totals, not leases.** The lender keeps what it granted to each tenant in all, the tenant what it returned and spent
//! in all. Every message carries totals, so a message that comes twice or not at all does no harm: a grant that a tenant
//! never heard of is in the next answer, and a return that the lender never heard of is in the next report. Each side
//! records before it tells. A report carries the number of the tenant's last event, so an old one that comes late is
//! known for old.
//!
//! **A slice ends** with the shortest window that the policy counts, and with its temporary limits. So all that a slice
//! spends belongs to one set of windows. What was left of it is returned before there is another.
//!
//! **Nobody hoards.** If less is left at the lender than a call needs, it recalls what others have not spent. So exactly as
//! much is allowed as the limit says, once everybody asks.
//!
//! | to find | look in |
//! | --- | --- |
//! | what both sides tell each other, and what they record | [`lease`] |
//! | a tenant's slice; how it takes and returns, and what charges it | [`mod@slice`]; [`taking`] |
//! | what is lent to a tenant; how the lender decides | [`lent`]; [`lending`] |
//! | the policies as all tenants see them | [`published`] |
//! | whether a call's slices suffice | [`slice_check`] |
//! | whether a call would get what it lacks, without asking | [`prospect`] |

pub mod amounts;
pub mod lease;
pub mod lending;
#[cfg(test)]
mod lending_tests;
pub mod lent;
pub mod prospect;
#[cfg(test)]
mod prospect_tests;
#[cfg(test)]
mod protocol_tests;
pub mod published;
pub mod slice;
pub mod slice_check;
pub mod taking;
