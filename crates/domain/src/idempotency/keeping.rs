//! Which part of the state a change keeps for repeats of its request.

use crate::event::{Change, ChangeRecord, Event};
use crate::idempotency::kept_reply::{KeptReply, KeptWebhook};
use crate::moment::Moment;
use crate::tenant::{Profile, State, Tenant};
use crate::webhook::Webhook;
use crate::webhook::outbox::MessageState;

impl KeptReply {
    /// What to record with a change that is about to happen, so that a repeat is told the same. Mostly the change itself
    /// tells all.
    pub fn of(tenant: &Tenant, moment: Moment, record: &ChangeRecord) -> Option<Self> {
        let after = |fill: &dyn Fn(&mut State)| after(tenant, moment, record, fill);
        match &record.change {
            Change::TokenRotated { agent, .. } => {
                let agent = tenant.agent(*agent)?;
                let after = after(&|state| state.agents.push(agent.clone()));
                Some(Self::Agent(Box::new(after.agents().first()?.clone())))
            }
            Change::PolicyReset { policy, .. } => {
                let policies = tenant.policies_at(moment.wall);
                let policy = policies.iter().find(|known| known.profile.id == *policy)?;
                let after = after(&|state| state.policies.push(policy.clone()));
                Some(Self::Policy(Box::new(after.policies().first()?.clone())))
            }
            Change::PoliciesReset { .. } => {
                let reset = tenant.policies().iter().filter(|policy| policy.profile.is_reset_with_all(record.by));
                Some(Self::Policies(reset.count() as u64))
            }
            Change::WebhookRotated { webhook } => {
                let webhook = tenant.webhook(*webhook)?;
                let after = after(&|state| state.webhooks.push(webhook.clone()));
                let Webhook { profile, outbox } = after.webhooks().first()?;
                Some(Self::Webhook(Box::new(KeptWebhook {
                    profile: (**profile).clone(),
                    waiting: outbox.waiting() as u64,
                    dead: outbox.dead() as u64,
                    last: outbox.last().map(|(outcome, delivery)| (outcome, delivery.clone())),
                })))
            }
            Change::WebhookTested { webhook } | Change::WebhookRedelivered { webhook, .. } => {
                let seq = if let Change::WebhookRedelivered { message, .. } = &record.change {
                    message.seq()
                } else {
                    moment.seq
                };
                let webhook = tenant.webhook(*webhook)?;
                let after = after(&|state| state.webhooks.push(webhook.clone()));
                match after.webhooks().first()?.outbox.message(seq)? {
                    MessageState::Waiting(message) => Some(Self::Message(Box::new(*message))),
                    MessageState::Delivered(_) | MessageState::Dead(_) => None,
                }
            }
            Change::TenantCreated { .. }
            | Change::TenantUpdated { .. }
            | Change::TenantSuspended
            | Change::TenantActivated
            | Change::TenantDeleted { .. }
            | Change::TenantRequested { .. }
            | Change::KeyCreated { .. }
            | Change::KeyRevoked { .. }
            | Change::KeyUpdated { .. }
            | Change::OperatorKeyCreated { .. }
            | Change::OperatorKeyRevoked { .. }
            | Change::OperatorKeyUpdated { .. }
            | Change::AgentCreated { .. }
            | Change::AgentUpdated { .. }
            | Change::AgentRevoked { .. }
            | Change::AgentSuspended { .. }
            | Change::AgentActivated { .. }
            | Change::PolicyCreated { .. }
            | Change::PolicyUpdated { .. }
            | Change::PolicyDeleted { .. }
            | Change::DelegationCreated { .. }
            | Change::DelegationRevoked { .. }
            | Change::WebhookCreated { .. }
            | Change::WebhookUpdated { .. }
            | Change::WebhookDeleted { .. } => None,
        }
    }
}

/// A tenant that has only what `fill` puts into it, after the change.
fn after(tenant: &Tenant, moment: Moment, record: &ChangeRecord, fill: &dyn Fn(&mut State)) -> Tenant {
    let wall = Some(tenant.wall()).filter(|wall| *wall != tenant.time());
    let profile = Profile { id: tenant.id(), ..Profile::default() };
    let mut state = State { seq: tenant.seq(), at: tenant.time(), wall, profile, ..State::default() };
    fill(&mut state);
    let mut alone = Tenant::restore(state);
    alone.apply(moment, &tenant.complete(moment, &Event::Changed(record.clone())));
    alone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::By;
    use crate::budget::counts::Period;
    use crate::budget::policy_commands::{CreatePolicy, ResetPolicies};
    use crate::tenant::Command;
    use crate::tenant::commands::TenantSpec;
    use crate::{TenantId, Timestamp};

    #[test]
    fn a_reset_of_all_policies_keeps_how_many_it_reset() {
        let (mut tenant, now) = (Tenant::default(), Timestamp::from_millis(5));
        let happen = |tenant: &mut Tenant, change| {
            let (moment, record) = (tenant.next_moment(now), ChangeRecord::new(By::Operator, change));
            tenant.apply(moment, &Event::Changed(record));
        };
        happen(&mut tenant, TenantSpec::default_tenant().created(TenantId::DEFAULT));
        for about in ["", r#""scope":"instance","#, r#""labels":{"team":"a"},"#] {
            let json = format!(r#"{{{about}"limits":{{"maxCallsPerDay":9}},"action":"block"}}"#);
            let create = CreatePolicy::parse(serde_json::from_str(&json).unwrap()).unwrap();
            let (change, _) = create.decide(&tenant, By::Operator, tenant.next_moment(now)).unwrap();
            happen(&mut tenant, change.unwrap());
        }
        let moment = tenant.next_moment(now);
        let (change, count) = ResetPolicies(Period::All).decide(&tenant, By::Operator, moment).unwrap();
        let record = ChangeRecord::new(By::Operator, change.unwrap());
        assert_eq!((count, KeptReply::of(&tenant, moment, &record)), (2, Some(KeptReply::Policies(2))));
    }
}
