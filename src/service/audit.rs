//! Reading the audit trail. All reading happens on threads that serve no calls.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use actix_rt::task::spawn_blocking;
use tracing::error;

use super::{Kavach, Page, answer, ask, bad_cursor, send};
use crate::actors::messages::{AuditTrail, OpenAudit};
use crate::domain::limits::DEFAULT_AUDIT_PAGE;
use crate::domain::tenant::Moment;
use crate::domain::text::quote;
use crate::domain::{AuditEntry, AuditFilter, AuditId, Code, Error, Event, TenantRef, Timestamp};
use crate::journal::codec;

/// Calls about the audit trail.
pub struct Audit<'a>(pub(super) &'a Kavach);

/// Which part of the trail is asked for.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Entries of that tenant; `None` is all the caller may see.
    pub tenant: Option<TenantRef>,
    /// Which entries.
    pub filter: AuditFilter,
    /// At most so many; `None` is a hundred.
    pub limit: Option<usize>,
    /// Skip so many first.
    pub offset: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

impl Audit<'_> {
    /// Entries that the filter asks for, newest first.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_QUERY`, or that the trail can't be read.
    pub async fn query(&self, query: AuditQuery) -> Result<Page<AuditEntry>, Error> {
        let AuditQuery { tenant, filter, limit, offset, cursor } = query;
        let before = match &cursor {
            Some(cursor) => Some(AuditId::parse(cursor).ok_or_else(|| bad_cursor(cursor))?),
            None => None,
        };
        let routes = self.0.tenants_in_filter(tenant.as_ref())?;
        let credential = self.0.credential;
        let asked: Vec<_> = routes.iter().map(|route| send(route, |reply| OpenAudit { credential, reply })).collect();
        let mut trails = Vec::with_capacity(asked.len());
        for receiver in asked {
            trails.push(answer(receiver?).await?);
        }
        let limit = limit.unwrap_or(DEFAULT_AUDIT_PAGE);
        // One more than asked for tells whether there is a next page.
        let wanted = offset.saturating_add(limit).saturating_add(1);
        let read = spawn_blocking(move || {
            let mut entries = Vec::new();
            for trail in trails {
                trail.newest_first(&filter, before, wanted, &mut entries)?;
                entries.sort_by_key(|entry| Reverse(entry.id));
                entries.truncate(wanted);
            }
            Ok::<_, std::io::Error>(entries)
        });
        let mut entries = read.await.map_err(unreadable)?.map_err(unreadable)?;
        let more = entries.len() >= wanted;
        entries.truncate(offset.saturating_add(limit));
        entries.drain(..offset.min(entries.len()));
        let next = entries.last().filter(|_| more).map(|entry| entry.id.to_string());
        Ok(Page { items: entries, next })
    }

    /// One entry.
    ///
    /// # Errors
    /// `UNKNOWN_AUDIT_ENTRY`.
    pub async fn get(&self, id: &str) -> Result<AuditEntry, Error> {
        let unknown = || Error::new(Code::UnknownAuditEntry, format!("there is no audit entry '{}'", quote(id)));
        let wanted = AuditId::parse(id).ok_or_else(unknown)?;
        let route = self.0.tenant_of_id(wanted.tag(), unknown)?;
        let credential = self.0.credential;
        let trail = ask(&route, |reply| OpenAudit { credential, reply }).await?;
        let found = spawn_blocking(move || trail.get(wanted)).await.map_err(unreadable)?.map_err(unreadable)?;
        found.ok_or_else(unknown)
    }
}

pub(super) fn unreadable(problem: impl std::fmt::Display) -> Error {
    error!(%problem, "an audit trail could not be read");
    Error::new(Code::TenantUnavailable, "the audit trail can't be read; the server's log says why")
}

fn undecodable(problem: codec::CodecError) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, problem)
}

impl AuditTrail {
    /// Adds up to `most` entries of this tenant to the list, the newest of those before that id.
    fn newest_first(
        &self,
        filter: &AuditFilter,
        before: Option<AuditId>,
        most: usize,
        entries: &mut Vec<AuditEntry>,
    ) -> std::io::Result<()> {
        let tag = self.tenant.tag();
        // A cursor of this tenant says where to start; one of another is compared entry by entry.
        let before_seq = before.filter(|id| id.tag() == tag).map(AuditId::seq);
        let oldest = self.horizon.max(filter.since);
        let enough = entries.len().saturating_add(most);
        let mut failed = Ok(());
        self.reader.newest_first(before_seq, &mut |seq, bytes| {
            let (at, event) = match codec::decode_event(bytes) {
                Ok(decoded) => decoded,
                Err(problem) => {
                    failed = Err(undecodable(problem));
                    return ControlFlow::Break(());
                }
            };
            if oldest.is_some_and(|oldest| at < oldest) {
                return ControlFlow::Break(());
            }
            let id = AuditId::derive(at, seq, tag);
            if before.is_none_or(|before| id < before) && filter.matches(at, &event) {
                entries.push(AuditEntry::of(self.tenant, Moment { at, seq }, &event));
            }
            if entries.len() >= enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        failed
    }

    /// The entry with that id.
    fn get(&self, id: AuditId) -> std::io::Result<Option<AuditEntry>> {
        self.look_up(id, |at, event| AuditEntry::of(self.tenant, Moment { at, seq: id.seq() }, event))
    }

    /// Looks at the event whose entry has that id; `None` where there is none, or it is past the retention.
    pub(super) fn look_up<T>(
        &self,
        id: AuditId,
        look: impl FnOnce(Timestamp, &Event<'_>) -> T,
    ) -> std::io::Result<Option<T>> {
        let Some(bytes) = self.reader.get(id.seq())? else { return Ok(None) };
        let (at, event) = codec::decode_event(&bytes).map_err(undecodable)?;
        // The whole id has to be right: a number alone names an event of any tenant.
        let is_it = AuditId::derive(at, id.seq(), self.tenant.tag()) == id;
        let is_kept = self.horizon.is_none_or(|horizon| at >= horizon);
        Ok((is_it && is_kept).then(|| look(at, &event)))
    }
}
