//! What callers do with holds: look at them, release them, prolong them. A settlement is a usage report.

use std::sync::Arc;

use crate::author::By;
use crate::budget::cost::Cost;
use crate::budget::hold::{EndedHold, Hold, HoldEnd, HoldTime};
use crate::budget::settlement::{HoldChange, UsageRecord};
use crate::budget::usage::{UsageAnswer, settled_otherwise};
use crate::error::{Code, Error};
use crate::id::{AgentId, AuditId, TenantId};
use crate::moment::Moment;
use crate::tenant::Tenant;
use crate::text::quote;
use crate::time::Timestamp;

/// An open hold as an answer shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldView {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The audit entry of its decision, which names the hold.
    pub id: AuditId,
    /// The hold.
    pub hold: Hold,
}

impl HoldView {
    fn of(tenant: &Tenant, hold: &Hold) -> Self {
        Self { tenant: tenant.id(), id: tenant.id_of_hold(hold), hold: hold.clone() }
    }

    /// The open hold of that decision.
    ///
    /// # Errors
    /// `HOLD_NOT_FOUND`; of one that has ended, the sentence says how.
    pub fn find(tenant: &Tenant, id: AuditId, now: Timestamp) -> Result<Self, Error> {
        let found = tenant.open_hold_of(id, now).map(|hold| Self::of(tenant, hold));
        found.map_err(|gone| match gone {
            NoHold::Unknown => unknown_hold(&id.to_string()),
            ended => Error::new(Code::HoldNotFound, format!("open hold not found: {}", ended.message(id))),
        })
    }

    /// The hold as the answer to its prolongation showed it; `None` for another record.
    pub fn of_extension(tenant: TenantId, record: &UsageRecord) -> Option<Self> {
        let Some(HoldChange::Extended { decision, until }) = &record.hold else { return None };
        let hold = Hold {
            decision: decision.clone(),
            agent: record.agent,
            owner: Arc::clone(&record.owner),
            scoped: Box::default(),
            instance: Box::default(),
            ends_at: *until,
        };
        Some(Self { tenant, id: AuditId::derive(decision.at, decision.seq, tenant.tag()), hold })
    }

    /// The hold that a settlement of that decision ends: an open one, due or not.
    pub fn settleable(tenant: &Tenant, decision: AuditId) -> Option<Hold> {
        let hold = tenant.holds().open().get(decision.seq())?;
        (tenant.id_of_hold(hold) == decision).then(|| hold.clone())
    }

    /// Open holds past `after`, oldest first, at most `most`: all, or those of one agent.
    pub fn list(
        tenant: &Tenant,
        agent: Option<AgentId>,
        after: Option<AuditId>,
        most: usize,
        now: Timestamp,
    ) -> Vec<Self> {
        let wanted = tenant.holds().open().iter().filter(|hold| {
            hold.ends_at > now
                && agent.is_none_or(|agent| hold.agent == agent)
                && after.is_none_or(|after| tenant.id_of_hold(hold) > after)
        });
        wanted.take(most).map(|hold| Self::of(tenant, hold)).collect()
    }
}

/// Why a decision has no open hold.
pub(crate) enum NoHold {
    /// It never had one, or it is not this tenant's, or its end is forgotten.
    Unknown,
    /// Its hold has ended.
    Ended(EndedHold),
    /// Its time is over, and its end is not recorded yet.
    Due,
}

impl NoHold {
    fn message(&self, id: AuditId) -> String {
        match self {
            Self::Unknown => no_hold(&id.to_string()),
            Self::Ended(ended) => format!("the hold of {id} {}", how_it_ended(ended.end)),
            Self::Due => format!("the hold of {id} {}", how_it_ended(HoldEnd::Expired)),
        }
    }

    /// The error for somebody who wants to change the hold.
    fn error(&self, id: AuditId) -> Error {
        let code = if let Self::Unknown = self { Code::HoldNotFound } else { Code::HoldEnded };
        Error::new(code, self.message(id))
    }
}

fn no_hold(id: &str) -> String {
    format!("hold of a decision '{}' not found", quote(id))
}

/// What became of a hold, to follow the words that name it.
fn how_it_ended(end: HoldEnd) -> String {
    match end {
        HoldEnd::Settled(cost) => format!("was settled at {cost}"),
        HoldEnd::Released => "was released".to_owned(),
        HoldEnd::Expired => "ended by itself: nobody settled it in time".to_owned(),
    }
}

/// The error for a hold that doesn't exist or isn't the caller's.
pub fn unknown_hold(id: &str) -> Error {
    Error::new(Code::HoldNotFound, no_hold(id))
}

impl Tenant {
    fn id_of_hold(&self, hold: &Hold) -> AuditId {
        AuditId::derive(hold.decision.at, hold.decision.seq, self.id().tag())
    }

    /// The open hold of that decision.
    pub(crate) fn open_hold_of(&self, id: AuditId, now: Timestamp) -> Result<&Hold, NoHold> {
        if let Some(hold) = self.holds().open().get(id.seq()) {
            return match self.id_of_hold(hold) == id {
                true if hold.ends_at > now => Ok(hold),
                true => Err(NoHold::Due),
                false => Err(NoHold::Unknown),
            };
        }
        let ended = self.holds().ended_one(id.seq());
        let is_own = |ended: &&EndedHold| AuditId::derive(ended.decided_at, ended.decision, self.id().tag()) == id;
        Err(ended.filter(is_own).map_or(NoHold::Unknown, |ended| NoHold::Ended(*ended)))
    }

    /// Checks the release of a hold. Returns the answer, and the record to keep unless it was released before.
    ///
    /// # Errors
    /// `HOLD_NOT_FOUND`; `HOLD_ENDED` if it was settled or has expired.
    pub fn decide_release(
        &self,
        by: By,
        id: AuditId,
        moment: Moment,
    ) -> Result<(Option<UsageRecord>, UsageAnswer), Error> {
        let tag = self.id().tag();
        let answer = |entry, agent_id| UsageAnswer {
            audit_id: entry,
            r#ref: Some(id),
            agent_id,
            tokens_cost: Cost::default(),
            calls: 0,
        };
        match self.open_hold_of(id, moment.wall) {
            Ok(hold) => {
                let record = end_record(by, hold, HoldChange::Released);
                Ok((Some(record), answer(AuditId::derive(moment.at, moment.seq, tag), hold.agent)))
            }
            Err(NoHold::Ended(EndedHold { end: HoldEnd::Released, at, seq, agent, .. })) => {
                Ok((None, answer(AuditId::derive(at, seq, tag), agent)))
            }
            Err(gone) => Err(gone.error(id)),
        }
    }

    /// Checks a usage report that settles a hold. `answer` is the one to a new settlement.
    ///
    /// # Errors
    /// `ALREADY_SETTLED`; `HOLD_ENDED`; `NOT_SETTLEABLE` if it ended so long ago that nobody knows how.
    pub(crate) fn decide_hold_settlement(
        &self,
        by: By,
        cost: Cost,
        moment: Moment,
        mut answer: UsageAnswer,
    ) -> Result<(Option<UsageRecord>, UsageAnswer), Error> {
        let Some(id) = answer.r#ref else { return Err(unknown_hold("")) };
        match self.open_hold_of(id, moment.wall) {
            Ok(hold) => Ok((Some(UsageRecord { cost, ..settlement(by, hold) }), answer)),
            Err(NoHold::Ended(EndedHold { end: HoldEnd::Settled(settled), at, seq, .. })) => {
                if settled != cost {
                    return Err(settled_otherwise(settled, cost));
                }
                answer.audit_id = AuditId::derive(at, seq, self.id().tag());
                Ok((None, answer))
            }
            Err(NoHold::Unknown) => {
                let problem = "names a decision whose hold ended too long ago; report its cost without auditId";
                Err(Error::field(Code::NotSettleable, "auditId", problem))
            }
            Err(NoHold::Ended(ended)) => Err(too_late(ended.end)),
            Err(NoHold::Due) => Err(too_late(HoldEnd::Expired)),
        }
    }

    /// Checks the prolongation of a hold, which then ends `time` after `moment`. Returns the hold with its new end, and
    /// the record to keep.
    ///
    /// # Errors
    /// `HOLD_NOT_FOUND`; `HOLD_ENDED` if it has ended.
    pub fn decide_extension(
        &self,
        by: By,
        id: AuditId,
        time: HoldTime,
        moment: Moment,
    ) -> Result<(UsageRecord, HoldView), Error> {
        let hold = self.open_hold_of(id, moment.wall).map_err(|gone| gone.error(id))?;
        let until = time.end_from(moment.wall);
        let change = HoldChange::Extended { decision: hold.decision.clone(), until };
        // It charges nothing.
        let record =
            UsageRecord { settles: None, scoped: Vec::new(), instance: Vec::new(), ..end_record(by, hold, change) };
        let mut view = HoldView::of(self, hold);
        view.hold.ends_at = until;
        Ok((record, view))
    }

    /// The record that ends the hold that has been due longest at `now`. Nobody asks for it: see
    /// [`hold`](crate::budget::hold).
    pub fn due_hold(&self, now: Timestamp) -> Option<UsageRecord> {
        self.first_due_hold(now).map(|hold| end_record(By::Time, hold, HoldChange::Expired))
    }
}

/// The error for a settlement after the hold's end. Its cost is left again, so what was spent has to be charged anew.
fn too_late(end: HoldEnd) -> Error {
    let problem = format!("names a decision whose hold {}; report its cost without auditId", how_it_ended(end));
    Error::field(Code::HoldEnded, "auditId", problem)
}

fn end_record(by: By, hold: &Hold, change: HoldChange) -> UsageRecord {
    UsageRecord { hold: Some(change), ..settlement(by, hold) }
}

/// A settlement of a hold at nothing, charged where the hold was.
fn settlement(by: By, hold: &Hold) -> UsageRecord {
    UsageRecord {
        settles: Some(hold.decision.clone()),
        scoped: hold.scoped.to_vec(),
        instance: hold.instance.to_vec(),
        ..UsageRecord::new(by, hold.agent, Arc::clone(&hold.owner))
    }
}
