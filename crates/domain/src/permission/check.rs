//! Which permission grants a call: the agent's own, or a delegated one.

use crate::agent::Agent;
use crate::decision::arguments::Strings;
use crate::decision::explain::{Step, Trace};
use crate::decision::request::Request;
use crate::decision::{Denial, stop};
use crate::delegation::index::Links;
use crate::delegation::search::{Question, Search};
use crate::delegation::{Delegation, DelegationStatus};
use crate::error::Code;
use crate::event::Grant;
use crate::limits::MAX_EXPLAINED_LINKS;
use crate::permission::constraint::Failure;
use crate::permission::constraint::kind::Facts;
use crate::permission::pattern::Segments;
use crate::permission::rate_window::RateWindow;
use crate::permission::warnings::is_restricted;
use crate::permission::work_budget::WorkBudget;
use crate::permission::{Permission, PermissionSet};
use crate::tenant::Tenant;
use crate::text::quote;
use crate::time::Timestamp;

/// The owner of the permissions at hand.
#[derive(Clone, Copy)]
enum Holder<'a> {
    /// The calling agent.
    Caller(&'a Agent),
    /// An agent that delegated something.
    Grantor(&'a Agent),
    /// A link that lends them.
    Link(&'a Delegation),
}

impl<'a> Holder<'a> {
    fn permissions(self) -> &'a PermissionSet {
        match self {
            Self::Caller(agent) | Self::Grantor(agent) => &agent.profile.spec.permissions,
            Self::Link(link) => &link.profile.spec.permissions,
        }
    }

    fn window(self, permission: u32) -> Option<&'a RateWindow> {
        match self {
            Self::Caller(agent) | Self::Grantor(agent) => agent.window(permission),
            Self::Link(link) => link.window(permission),
        }
    }

    fn step(self, check: &'static str, passed: bool, permission: u32, detail: String) -> Step {
        let (agent, delegation) = match self {
            Self::Caller(_) => (None, None),
            Self::Grantor(agent) => (Some(agent.profile.id), None),
            Self::Link(link) => (None, Some(link.profile.id)),
        };
        Step { check, passed, permission: Some(permission), agent, delegation, detail, ..Step::default() }
    }
}

/// A call, to be checked against one set of permissions after another.
struct Call<'c, T> {
    request: &'c Request,
    segments: Segments<'c>,
    facts: Facts<'c>,
    trace: &'c mut T,
    /// Why the first permission that matched failed.
    first_failure: Option<Denial>,
    /// Whether there was more to look at than one decision may.
    cut_off: bool,
}

impl<T: Trace> Call<'_, T> {
    /// The first permission that matches and meets all its constraints. Looking at permissions other than the caller's
    /// own takes steps, since there may be any number.
    fn first_granting<const LENT: bool>(&mut self, tenant: &Tenant, holder: Holder<'_>) -> Option<u32> {
        let permissions = holder.permissions();
        if LENT && !self.affords(permissions.search_steps()) {
            return None;
        }
        for position in permissions.matching(&self.segments, self.request.action()) {
            let Some(permission) = permissions.as_slice().get(position as usize) else { continue };
            if LENT && !self.affords(permission.steps()) {
                return None;
            }
            self.trace.step(|| {
                let detail = format!("'{}' matches the resource and the action", permission.resource());
                holder.step("permission", true, position, detail)
            });
            if self.constraints_hold(tenant, holder, permission, position) {
                if T::KEPT && !is_restricted(permission) {
                    self.explain_moot_constraints(holder, permission, position);
                }
                return Some(position);
            }
        }
        None
    }

    /// Explains which narrower permissions' constraints have no effect, because this permission grants the call.
    fn explain_moot_constraints(&mut self, holder: Holder<'_>, granting: &Permission, position: u32) {
        let permissions = holder.permissions();
        for other in permissions.matching(&self.segments, self.request.action()) {
            let Some(moot) = permissions.as_slice().get(other as usize) else { continue };
            if other != position && is_restricted(moot) && granting.makes_moot(moot) {
                self.trace.step(|| {
                    let detail = format!(
                        "'{}' matches too, but its constraints have no effect here: '{}' grants the call without any, and a \
                         permission never restricts another one",
                        moot.resource(),
                        granting.resource()
                    );
                    holder.step("note", true, other, detail)
                });
            }
        }
    }

    fn affords(&mut self, steps: usize) -> bool {
        if self.facts.work.take(steps) {
            return true;
        }
        if !self.cut_off {
            self.cut_off = true;
            let detail = "The search ends here: it takes more work than one decision may do".to_owned();
            self.trace.step(|| Step { check: "delegation", detail, ..Step::default() });
        }
        false
    }

    fn constraints_hold(
        &mut self,
        tenant: &Tenant,
        holder: Holder<'_>,
        permission: &Permission,
        position: u32,
    ) -> bool {
        let Some(constraints) = permission.constraints() else { return true };
        let (facts, trace) = (&self.facts, &mut *self.trace);
        let checked = constraints.check(facts, tenant.regexes(), |check, failure| {
            trace.step(|| {
                let detail = failure.map_or_else(|| "The constraint holds".into(), Failure::reason).into_owned();
                holder.step(check, failure.is_none(), position, detail)
            });
        });
        if let Err(failure) = checked {
            self.first_failure.get_or_insert_with(|| Denial::new(failure.code(), failure.reason()));
            return false;
        }
        if let (Some(max), Some(window)) = (constraints.max_calls_per_hour(), holder.window(position)) {
            let used = window.used(facts.at);
            trace.step(|| {
                let detail = format!("{used} of {max} calls of the last hour are used");
                holder.step("maxCallsPerHour", used < max, position, detail)
            });
            if used >= max {
                self.first_failure.get_or_insert_with(|| {
                    let pattern = quote(permission.resource());
                    let reason = format!("Rate limit exceeded: {used}/{max} calls per hour for permission '{pattern}'");
                    let retry_after = window.retry_after(facts.at, max);
                    Denial { retry_after, ..Denial::new(Code::RateLimited, reason) }
                });
                return false;
            }
        }
        true
    }

    fn link_fails(&mut self, link: &Delegation, detail: impl FnOnce() -> String) {
        let delegation = Some(link.profile.id);
        self.trace.step(|| Step {
            check: "delegation",
            passed: false,
            delegation,
            detail: detail(),
            ..Step::default()
        });
    }

    fn searched_too_long(&self) -> String {
        format!("{}: searching the delegations takes more work than one decision may do", self.no_permission())
    }

    fn no_permission(&self) -> String {
        let (action, resource) = (quote(self.request.action()), quote(self.request.resource()));
        format!("No permission for action '{action}' on resource '{resource}'")
    }
}

impl<T: Trace> Question for Call<'_, T> {
    fn own(&mut self, tenant: &Tenant, agent: &Agent) -> Option<u32> {
        self.first_granting::<true>(tenant, Holder::Grantor(agent))
    }

    fn delegated(&mut self, tenant: &Tenant, link: &Delegation) -> Option<u32> {
        self.first_granting::<true>(tenant, Holder::Link(link))
    }

    fn dead(&mut self, link: &Delegation, status: DelegationStatus) {
        self.link_fails(link, || {
            match status {
                DelegationStatus::Active => "The delegation counts",
                DelegationStatus::Revoked => "The delegation, its grantor, or one that it stands on was revoked",
                DelegationStatus::Suspended => "The delegation rests: a grantor on the way is suspended",
                DelegationStatus::Expired => "The delegation, a grantor, or one that it stands on has expired",
            }
            .to_owned()
        });
    }

    fn unheld(&mut self, link: &Delegation) {
        self.link_fails(link, || format!("Agent {} may not make this call itself now", link.profile.spec.from));
        if self.first_failure.is_none() {
            let reason = format!("{}: the agent that delegated it may not do it itself", self.no_permission());
            self.first_failure = Some(Denial::new(Code::PermissionDenied, reason));
        }
    }
}

impl Tenant {
    /// Returns the first permission that matches and meets all its constraints, else the failure of the first that
    /// matches: the agent's own in declared order, then delegated ones, oldest link first.
    pub(crate) fn check_permissions<T: Trace>(
        &self,
        agent: &Agent,
        request: &Request,
        at: Timestamp,
        trace: &mut T,
    ) -> Result<Grant, Denial> {
        let mut call = Call {
            request,
            segments: Segments::of(request.resource()),
            facts: Facts {
                arguments: Strings::of(request.arguments().unwrap_or("{}")),
                ip: request.ip,
                at,
                work: WorkBudget::default(),
            },
            trace,
            first_failure: None,
            cut_off: false,
        };
        if let Some(permission) = call.first_granting::<false>(self, Holder::Caller(agent)) {
            return Ok(Grant { links: Vec::new(), permission });
        }
        let fails_itself = call.first_failure.is_some();
        if let Some(arriving) = self.links().arriving(agent.profile.id)
            && let Some(grant) = self.granted_by_delegation(arriving, &mut call)
        {
            return Ok(grant);
        }
        match call.first_failure.take() {
            // A permission that was not looked at may have granted the call, so no other failure is the reason.
            _ if call.cut_off && !fails_itself => Err(Denial::new(Code::PermissionDenied, call.searched_too_long())),
            Some(denial) => Err(denial),
            None => {
                let reason = call.no_permission();
                Err(stop(call.trace, "permission", Denial::new(Code::PermissionDenied, reason)))
            }
        }
    }

    fn granted_by_delegation<T: Trace>(&self, arriving: &Links, call: &mut Call<'_, T>) -> Option<Grant> {
        let open = arriving.open(call.facts.at);
        if T::KEPT {
            // A decision skips links that are over, but a caller who asks why may look for one.
            let unseen = arriving.all().iter().rev().filter(|place| open.binary_search(place).is_err());
            for link in unseen.take(MAX_EXPLAINED_LINKS).filter_map(|place| self.delegation_at(*place)) {
                let status = if link.revoked { DelegationStatus::Revoked } else { DelegationStatus::Expired };
                call.dead(link, status);
            }
        }
        let mut search = Search::new(self, call.facts.at);
        let place = search.first(open, call)?;
        search.grant(place)
    }
}
