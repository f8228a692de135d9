//! Live streams of audit entries: each entry once, in its tenant's order, as soon as its caller was answered.
//!
//! A waiting stream holds no thread and no part of a journal. When it hears of new events it opens the trail again and
//! reads on from where it was, so a slow client slows down only itself.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::error;

use super::oldest_first::{OldestFirst, StartPoint};
use super::resume_points::ResumePoints;
use crate::actors::Route;
use crate::actors::audit_limits::Slot;
use crate::actors::journal_watch::Follower;
use crate::actors::messages::{AuditTrail, OpenAudit};
use crate::actors::operator_keys::KeyTable;
use crate::domain::{AuditEntry, AuditFilter, AuditId, Code, Credential, Error, Right, TenantId, TenantTag, Timestamp};
use crate::service::kavach::Kavach;
use crate::service::tenant_counts::off_thread;

/// Silence after which a stream sends a sign of life: less than the minute after which proxies give up.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The least time between two reads of new entries. Under load, one read covers many turns.
const PAUSE: Duration = Duration::from_millis(25);
/// Pause before retrying a tenant that can't answer.
const RETRY: Duration = Duration::from_millis(500);
/// Bytes produced at a time. A stream that is far behind reads a whole segment again for each chunk. At a sixteenth of
/// a segment it still gets tens of megabytes a second.
const CHUNK_BYTES: usize = 512 * 1024;
/// How long a stream goes on after its `until`: earlier decisions may still be on their way to the disk.
const GRACE_MS: i64 = 2_000;

/// Writes an entry. The last argument says whether a client can resume after this entry, by its id, if the stream
/// breaks off. If not, it resumes after the last one that it could.
pub type WriteEntry = fn(&mut Vec<u8>, &AuditEntry, bool) -> io::Result<()>;

/// A live stream of audit entries.
pub struct AuditStream {
    kavach: Kavach,
    filter: Arc<AuditFilter>,
    write: WriteEntry,
    follower: Follower,
    /// The only tenant it follows; `None` for all, in which case it goes on without one that is erased.
    only: Option<TenantId>,
    resume: ResumePoints,
    /// The last event read, for each tenant that had any.
    reached: HashMap<TenantTag, u64>,
    /// Tenants with something to read, and where to start if nothing was read yet.
    waiting: BTreeMap<TenantTag, StartPoint>,
    /// Tenants that could not answer, to be retried. The others don't wait for them.
    postponed: BTreeMap<TenantTag, StartPoint>,
    next_try: Instant,
    reading: Option<(TenantTag, OldestFirst)>,
    next_look: Instant,
    keep_alive: Duration,
    last_sign: Instant,
    /// When the caller's key ends by itself, as far as we heard. A change of it wakes the stream.
    key_ends_at: Option<Timestamp>,
    /// Wakes the stream when an operator's key was changed or revoked.
    operator_keys: watch::Receiver<Arc<KeyTable>>,
    _slot: Slot,
}

/// What a stream yields.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamItem {
    /// Entries, as `WriteEntry` wrote them.
    Entries(Vec<u8>),
    /// A sign of life after a time of silence.
    StillHere,
}

impl AuditStream {
    pub(super) async fn open(
        kavach: Kavach,
        only: Option<&Route>,
        filter: AuditFilter,
        resume: Option<AuditId>,
        write: WriteEntry,
        slot: Slot,
    ) -> Result<Self, Error> {
        // Before anything else, so that no event goes unnoticed.
        let follower = kavach.core.audit.watch.follow(only.map(|route| route.id.tag()));
        kavach.check_phase()?;
        let operator_keys = kavach.core.operators.follow();
        // A tenant says with its trail when its own key ends.
        let key_ends_at = kavach.operator_until();
        let start = Instant::now();
        let mut stream = Self {
            filter: Arc::new(filter),
            write,
            follower,
            only: only.map(|route| route.id),
            resume: ResumePoints::in_order(),
            reached: HashMap::new(),
            waiting: BTreeMap::new(),
            postponed: BTreeMap::new(),
            next_try: start,
            reading: None,
            next_look: start,
            keep_alive: KEEP_ALIVE,
            last_sign: start,
            key_ends_at,
            operator_keys,
            _slot: slot,
            kavach,
        };
        match only {
            Some(route) => stream.start_one(route, resume).await?,
            None => stream.start_all(resume).await?,
        }
        Ok(stream)
    }

    async fn start_one(&mut self, route: &Route, resume: Option<AuditId>) -> Result<(), Error> {
        let tag = route.id.tag();
        if resume.is_some_and(|id| id.tag() != tag) {
            return Err(no_resume_point());
        }
        let credential = self.kavach.credential;
        let mut trail = self.kavach.ask(route, |reply| OpenAudit { credential, right: Right::Read, reply }).await?;
        self.note_end_of_key(&trail);
        let start = match (resume, self.filter.since) {
            (Some(id), _) => {
                trail = self.check_entry(trail, id).await?;
                StartPoint::After(id.seq())
            }
            (None, Some(since)) => StartPoint::At(since),
            (None, None) => StartPoint::After(trail.reader.last_seq()),
        };
        self.reading = Some((tag, self.read_from(trail, start)));
        Ok(())
    }

    /// Returns the trail if a client can resume after entry `id` of it.
    async fn check_entry(&self, trail: AuditTrail, id: AuditId) -> Result<AuditTrail, Error> {
        let look = move || Ok((trail.can_resume_after(id)?, trail));
        let (goes_on, trail) = self.kavach.read_trail(self.only, look).await?;
        if goes_on { Ok(trail) } else { Err(no_resume_point()) }
    }

    fn read_from(&self, trail: AuditTrail, start: StartPoint) -> OldestFirst {
        // A client may be slow, and there may be hundreds of them.
        OldestFirst::new(trail, Arc::clone(&self.filter), start).resting()
    }

    async fn start_all(&mut self, resume: Option<AuditId>) -> Result<(), Error> {
        let start = resume.map(ResumePoints::overlap).max(self.filter.since);
        self.resume = ResumePoints::from(start.unwrap_or_default(), resume);
        if start.is_none() {
            self.resume.shown_before(self.kavach.core.clock.now());
        }
        if let Some(time) = start {
            let directory = Arc::clone(&self.kavach.core.directory);
            let select = move || {
                let mut waiting = BTreeMap::new();
                directory.each(|known| {
                    // One whose last event is older has nothing to show.
                    if known.row().is_none_or(|row| row.last_event_at >= time) {
                        waiting.insert(known.route.id.tag(), StartPoint::At(time));
                    }
                });
                waiting
            };
            self.waiting = off_thread(select).await?;
        }
        let Some(id) = resume else { return Ok(()) };
        let Some(route) = self.kavach.core.directory.route(id.tag()) else { return Ok(()) };
        let credential = self.kavach.credential;
        // If the tenant can't answer now, or was erased, it starts at the entry's time like every other.
        if let Ok(trail) = self.kavach.ask(&route, |reply| OpenAudit { credential, right: Right::Read, reply }).await {
            self.check_entry(trail, id).await?;
            self.reached.insert(id.tag(), id.seq());
        }
        Ok(())
    }

    /// Changes how long the stream stays silent before it sends a sign of life.
    #[must_use]
    pub fn with_keep_alive(mut self, keep_alive: Duration) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Waits for what comes next. `None` once the stream has ended: the server is shutting down, the tenant was erased,
    /// the caller's key is no longer valid, or the filter's `until` has passed.
    ///
    /// # Errors
    /// The tenant's trail can't be read. An error is final.
    pub async fn next(&mut self) -> Option<Result<StreamItem, Error>> {
        loop {
            if self.follower.is_closed() || self.has_key_ended() {
                return None;
            }
            let silence_ends = self.last_sign + self.keep_alive;
            if Instant::now() >= silence_ends {
                self.last_sign = Instant::now();
                return Some(Ok(StreamItem::StillHere));
            }
            if let Some((tag, reading)) = self.reading.take() {
                if let Err(error) = self.kavach.check_reader(reading.tenant()).await {
                    if self.on_failure(tag, reading.rest_start(), &error) {
                        continue;
                    }
                    return None;
                }
                let (tenant, last) = (reading.tenant(), reading.last_seq());
                match self.read_on(tag, reading).await {
                    Ok(bytes) if bytes.is_empty() => continue,
                    Ok(bytes) => {
                        self.last_sign = Instant::now();
                        return Some(Ok(StreamItem::Entries(bytes)));
                    }
                    Err(_) if self.only.is_none() => {
                        error!(%tenant, last, "could not read an audit trail; a live stream skips to its end");
                        self.reached.insert(tag, last);
                        continue;
                    }
                    Err(error) => return Some(Err(error)),
                }
            }
            if Instant::now() >= self.next_try {
                self.waiting.append(&mut self.postponed);
            }
            if !self.waiting.is_empty() {
                tokio::time::sleep_until(self.next_look.min(silence_ends)).await;
                if Instant::now() >= self.next_look && !self.open_next().await {
                    return None;
                }
                continue;
            }
            let last_call = self.last_call();
            if last_call.is_some_and(|last_call| Instant::now() >= last_call) {
                return None;
            }
            let next_try = (!self.postponed.is_empty()).then_some(self.next_try);
            let key_end = self.key_ends_at.map(|end| self.instant_of(end));
            let wake = [last_call, next_try, key_end].into_iter().flatten().fold(silence_ends, Instant::min);
            let news = tokio::select! {
                news = tokio::time::timeout_at(wake, self.follower.next_news()) => news,
                _ = self.operator_keys.changed() => {
                    if self.is_operators() {
                        self.key_ends_at = self.kavach.operator_until();
                    }
                    continue;
                }
            };
            match news {
                Ok(Some((heard, since))) => {
                    if self.postponed.is_empty() {
                        self.resume.shown_before(since);
                    }
                    for (tag, last_old) in heard {
                        // A tenant that is waiting already starts at an earlier place.
                        if !self.postponed.contains_key(&tag) {
                            self.waiting.entry(tag).or_insert(StartPoint::After(last_old));
                        }
                    }
                }
                Ok(None) => return None,
                Err(_) => {}
            }
        }
    }

    /// When no more matching entries can come.
    fn last_call(&self) -> Option<Instant> {
        Some(self.instant_of(self.filter.until?.plus_millis(GRACE_MS)))
    }

    /// When the server's clock will say that time; now, if it is past.
    fn instant_of(&self, time: Timestamp) -> Instant {
        let left = time.millis() - self.kavach.core.clock.now().millis();
        Instant::now() + Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }

    /// Whether the caller's key is no longer good. A tenant's revoked key shows when the tenant is asked next, which its
    /// revocation causes, and so does another end of it.
    fn has_key_ended(&self) -> bool {
        let now = self.kavach.core.clock.read().latest();
        self.key_ends_at.is_some_and(|end| now >= end)
            || self.is_operators() && self.kavach.check_operator_key().is_err()
    }

    /// Whether the caller is an operator.
    fn is_operators(&self) -> bool {
        matches!(self.kavach.credential, Credential::Operator(_))
    }

    /// Notes when the caller's key ends, if it is one of the tenant whose trail that is.
    fn note_end_of_key(&mut self, trail: &AuditTrail) {
        if !self.is_operators() {
            self.key_ends_at = trail.caller_until;
        }
    }

    async fn read_on(&mut self, tag: TenantTag, reading: OldestFirst) -> Result<Vec<u8>, Error> {
        let (write, resume) = (self.write, self.resume);
        let step = move || {
            let (mut reading, mut bytes, mut resume) = (reading, Vec::new(), resume);
            let ended = reading.step(&mut |entry| {
                write(&mut bytes, entry, resume.allows(entry.id))?;
                Ok(if bytes.len() >= CHUNK_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            Ok((ended, reading, bytes, resume))
        };
        let (ended, reading, bytes, resume) = self.kavach.read_trail(self.only, step).await?;
        self.resume = resume;
        self.reached.insert(tag, reading.reached());
        if !ended {
            self.reading = Some((tag, reading));
        }
        Ok(bytes)
    }

    /// Opens the trail of the next tenant with new events. `false` ends the stream.
    async fn open_next(&mut self) -> bool {
        let Some((tag, start)) = self.waiting.pop_first() else { return true };
        if self.waiting.is_empty() {
            self.next_look = Instant::now() + PAUSE;
        }
        let credential = self.kavach.credential;
        let route = self.kavach.core.directory.route(tag);
        let opened = match route.filter(|route| self.only.is_none_or(|only| only == route.id)) {
            Some(route) => {
                self.kavach
                    .ask_one_of(self.only, &route, |reply| OpenAudit { credential, right: Right::Read, reply })
                    .await
            }
            None => Err(Error::new(Code::TenantNotFound, "tenant not found: it was erased")),
        };
        match opened {
            Ok(trail) => {
                self.note_end_of_key(&trail);
                // The last event seen may be past the end of a trail that a restored backup has set back.
                let last = trail.reader.last_seq();
                let start = match self.reached.get(&tag) {
                    Some(reached) if *reached <= last => StartPoint::After(*reached),
                    _ => start,
                };
                self.reading = Some((tag, self.read_from(trail, start)));
                true
            }
            Err(error) => self.on_failure(tag, start, &error),
        }
    }

    /// Handles a tenant whose trail can't be read on now. `false` ends the stream.
    fn on_failure(&mut self, tag: TenantTag, start: StartPoint, error: &Error) -> bool {
        match error.code() {
            // If the whole server is shutting down, the follower hears of it and the stream ends.
            code if code.is_unavailable() => {
                self.postponed.insert(tag, start);
                self.next_try = Instant::now() + RETRY;
                true
            }
            Code::TenantNotFound if self.only.is_none() => {
                self.reached.remove(&tag);
                true
            }
            _ => false,
        }
    }
}

/// The error for an id that no stream can resume after.
fn no_resume_point() -> Error {
    let problem = "is not an entry of this trail, or is one from before a backup was restored: resume without it, \
                   with since";
    Error::field(Code::InvalidQuery, "Last-Event-ID", problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Request;
    use crate::{App, ServerSettings};

    fn write(bytes: &mut Vec<u8>, entry: &AuditEntry, _: bool) -> io::Result<()> {
        bytes.extend_from_slice(entry.action.as_bytes());
        bytes.push(b' ');
        Ok(())
    }

    #[test]
    fn a_silent_stream_sends_signs_of_life_and_until_ends_it() {
        actix_rt::System::new().block_on(silence_and_end());
    }

    async fn silence_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(&ServerSettings::new(folder.path())).await.unwrap();
        let kavach = app.kavach();
        let stream = kavach.audit().stream(None, AuditFilter::default(), None, write).await.unwrap();
        let mut stream = stream.with_keep_alive(Duration::from_millis(1));
        assert_eq!(stream.next().await, Some(Ok(StreamItem::StillHere)));
        let unknown = crate::domain::AgentId::derive(Timestamp::default(), 7, TenantTag(0));
        kavach.authorize(Request::new("read", "docs:1").unwrap().for_agent(unknown)).await.unwrap();
        let entries = loop {
            match stream.next().await.unwrap().unwrap() {
                StreamItem::StillHere => {}
                StreamItem::Entries(bytes) => break bytes,
            }
        };
        assert_eq!(entries, b"read ");
        let past = AuditFilter { until: Some(Timestamp::default()), ..AuditFilter::default() };
        let mut ended = kavach.audit().stream(None, past, None, write).await.unwrap();
        assert_eq!(ended.next().await, None);
        app.close().await;
        assert_eq!(stream.next().await, None);
        assert!(kavach.audit().stream(None, AuditFilter::default(), None, write).await.is_err());
    }
}
