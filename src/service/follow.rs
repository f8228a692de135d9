//! Live streams of audit entries: each entry once, in its tenant's order, as soon as its caller was answered.
//!
//! A stream holds no thread and no part of a journal while it waits. When it hears of news it opens the trail again
//! and reads from where it was, so that a slow client slows down nobody but itself.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

use super::resume::Resume;
use super::trail::{Oldest, Start};
use super::{Kavach, ask};
use crate::actors::Route;
use crate::actors::desk::Slot;
use crate::actors::messages::{AuditTrail, OpenAudit};
use crate::actors::news::Follower;
use crate::domain::{AuditEntry, AuditFilter, AuditId, Code, Error, TenantId, TenantTag};

/// Silence after which a stream says that it is still there: below the minute after which proxies give up.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The least time between two looks at what is new: under load one look serves the decisions of many flushes.
const PAUSE: Duration = Duration::from_millis(25);
/// How long a tenant that can't answer is left alone.
const RETRY: Duration = Duration::from_millis(500);
/// Bytes of a stream that are made at a time. A stream far behind reads a whole segment anew for each: with a
/// sixteenth of one at a time it still gets tens of megabytes a second.
const CHUNK_BYTES: usize = 512 * 1024;
/// How long after its `until` a stream ends: what was decided before may still be on its way to the disk.
const GRACE_MS: i64 = 2_000;

/// How an entry is written. The last argument says whether a client can go on from it, by its id, once the stream has
/// broken off: where it can't, an earlier one it was told of still holds.
pub type WriteEntry = fn(&mut Vec<u8>, &AuditEntry, bool) -> io::Result<()>;

/// A live stream.
pub struct AuditStream {
    kavach: Kavach,
    filter: Arc<AuditFilter>,
    write: WriteEntry,
    follower: Follower,
    /// The only tenant it follows; `None` is all of them, and it goes on without one that is erased.
    only: Option<TenantId>,
    resume: Resume,
    /// The last event looked at, of each tenant that had any.
    reached: HashMap<TenantTag, u64>,
    /// Tenants with something to read, and where to begin where nothing was read yet.
    waiting: BTreeMap<TenantTag, Start>,
    /// The same of tenants that could not answer. They keep nobody else waiting.
    postponed: BTreeMap<TenantTag, Start>,
    next_try: Instant,
    reading: Option<(TenantTag, Oldest)>,
    next_look: Instant,
    keep_alive: Duration,
    last_sign: Instant,
    _slot: Slot,
}

/// What a stream has to say.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// Entries, as they are written.
    Entries(Vec<u8>),
    /// Nothing, for some time.
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
        // First of all, so that nothing happens unheard.
        let follower = kavach.core.audit.news.follow(only.map(|route| route.id.tag()));
        kavach.check_phase()?;
        let start = Instant::now();
        let mut stream = Self {
            filter: Arc::new(filter),
            write,
            follower,
            only: only.map(|route| route.id),
            resume: Resume::in_order(),
            reached: HashMap::new(),
            waiting: BTreeMap::new(),
            postponed: BTreeMap::new(),
            next_try: start,
            reading: None,
            next_look: start,
            keep_alive: KEEP_ALIVE,
            last_sign: start,
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
            return Err(no_entry());
        }
        let credential = self.kavach.credential;
        let mut trail = ask(route, |reply| OpenAudit { credential, reply }).await?;
        let start = match (resume, self.filter.since) {
            (Some(id), _) => {
                trail = self.check_entry(trail, id).await?;
                Start::After(id.seq())
            }
            (None, Some(since)) => Start::At(since),
            (None, None) => Start::After(trail.reader.last_seq()),
        };
        self.reading = Some((tag, self.read_from(trail, start)));
        Ok(())
    }

    /// Gives back the trail if a client can go on after that entry of it.
    async fn check_entry(&self, trail: AuditTrail, id: AuditId) -> Result<AuditTrail, Error> {
        let look = move || Ok((trail.goes_on_after(id)?, trail));
        let (goes_on, trail) = self.kavach.read_trail(self.only, look).await?;
        if goes_on { Ok(trail) } else { Err(no_entry()) }
    }

    fn read_from(&self, trail: AuditTrail, start: Start) -> Oldest {
        // A client may take its time, and there may be hundreds.
        Oldest::new(trail, Arc::clone(&self.filter), start).resting()
    }

    async fn start_all(&mut self, resume: Option<AuditId>) -> Result<(), Error> {
        let start = resume.map(Resume::overlap).max(self.filter.since);
        self.resume = Resume::from(start.unwrap_or_default(), resume);
        if start.is_none() {
            self.resume.shown_before(self.kavach.core.clock.now());
        }
        if let Some(time) = start {
            let routes = self.kavach.core.routes.all();
            self.waiting = routes.iter().map(|route| (route.id.tag(), Start::At(time))).collect();
        }
        let Some(id) = resume else { return Ok(()) };
        let Some(route) = self.kavach.core.routes.with(id.tag(), Route::clone) else { return Ok(()) };
        let credential = self.kavach.credential;
        // One that can't answer now, or was erased, begins at the time of the entry like every other.
        if let Ok(trail) = ask(&route, |reply| OpenAudit { credential, reply }).await {
            self.check_entry(trail, id).await?;
            self.reached.insert(id.tag(), id.seq());
        }
        Ok(())
    }

    /// The same stream with another time of silence before it says that it is there.
    #[must_use]
    pub fn with_keep_alive(mut self, keep_alive: Duration) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Waits for what comes next. `None`: the stream has ended, since the server shuts down, the tenant was erased,
    /// the caller's key is no longer good, or the filter's `until` has passed.
    ///
    /// # Errors
    /// The tenant's trail can't be read. There is no more after it.
    pub async fn next(&mut self) -> Option<Result<News, Error>> {
        loop {
            if self.follower.is_closed() {
                return None;
            }
            let silence_ends = self.last_sign + self.keep_alive;
            if Instant::now() >= silence_ends {
                self.last_sign = Instant::now();
                return Some(Ok(News::StillHere));
            }
            if let Some((tag, reading)) = self.reading.take() {
                if let Err(error) = self.kavach.check_reader(reading.tenant()).await {
                    if self.set_back(tag, reading.rest_start(), &error) {
                        continue;
                    }
                    return None;
                }
                let (tenant, last) = (reading.tenant(), reading.last_seq());
                match self.read_on(tag, reading).await {
                    Ok(bytes) if bytes.is_empty() => continue,
                    Ok(bytes) => {
                        self.last_sign = Instant::now();
                        return Some(Ok(News::Entries(bytes)));
                    }
                    Err(_) if self.only.is_none() => {
                        error!(%tenant, last, "a stream goes on after the last entry of an audit trail that can't be read");
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
            let wake = [last_call, next_try].into_iter().flatten().fold(silence_ends, Instant::min);
            match tokio::time::timeout_at(wake, self.follower.heard()).await {
                Ok(Some((heard, since))) => {
                    if self.postponed.is_empty() {
                        self.resume.shown_before(since);
                    }
                    for (tag, last_old) in heard {
                        // Whoever waits already has an earlier place to begin at.
                        if !self.postponed.contains_key(&tag) {
                            self.waiting.entry(tag).or_insert(Start::After(last_old));
                        }
                    }
                }
                Ok(None) => return None,
                Err(_) => {}
            }
        }
    }

    /// When no entry can come any more that the filter asks for.
    fn last_call(&self) -> Option<Instant> {
        let left = self.filter.until?.plus_millis(GRACE_MS).millis() - self.kavach.core.clock.now().millis();
        Some(Instant::now() + Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    async fn read_on(&mut self, tag: TenantTag, reading: Oldest) -> Result<Vec<u8>, Error> {
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

    /// Opens the trail of a tenant with news. `false` ends the stream.
    async fn open_next(&mut self) -> bool {
        let Some((tag, start)) = self.waiting.pop_first() else { return true };
        if self.waiting.is_empty() {
            self.next_look = Instant::now() + PAUSE;
        }
        let credential = self.kavach.credential;
        let route = self.kavach.core.routes.with(tag, Route::clone);
        let opened = match route.filter(|route| self.only.is_none_or(|only| only == route.id)) {
            Some(route) => ask(&route, |reply| OpenAudit { credential, reply }).await,
            None => Err(Error::new(Code::TenantNotFound, "the tenant was erased")),
        };
        match opened {
            Ok(trail) => {
                // What a client saw last, or this stream, may be past the end of a trail that was set back since.
                let last = trail.reader.last_seq();
                let start = match self.reached.get(&tag) {
                    Some(reached) if *reached <= last => Start::After(*reached),
                    _ => start,
                };
                self.reading = Some((tag, self.read_from(trail, start)));
                true
            }
            Err(error) => self.set_back(tag, start, &error),
        }
    }

    /// What becomes of a tenant that can't be read on from there. `false` ends the stream.
    fn set_back(&mut self, tag: TenantTag, start: Start, error: &Error) -> bool {
        match error.code() {
            // Where it is the server that ends, the follower is told so.
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

/// The error for an id that is no place to go on from.
fn no_entry() -> Error {
    let problem = "names no entry of this trail, or one of its history before a backup was restored: go on without it, \
                   with since";
    Error::field(Code::InvalidQuery, "Last-Event-ID", problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Request, Timestamp};
    use crate::{App, Settings};

    fn write(bytes: &mut Vec<u8>, entry: &AuditEntry, _: bool) -> io::Result<()> {
        bytes.extend_from_slice(entry.action.as_bytes());
        bytes.push(b' ');
        Ok(())
    }

    #[test]
    fn a_silent_stream_says_that_it_is_there_and_an_until_ends_it() {
        actix_rt::System::new().block_on(silence_and_end());
    }

    async fn silence_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(&Settings::new(folder.path())).await.unwrap();
        let kavach = app.kavach();
        let stream = kavach.audit().stream(None, AuditFilter::default(), None, write).await.unwrap();
        let mut stream = stream.with_keep_alive(Duration::from_millis(1));
        assert_eq!(stream.next().await, Some(Ok(News::StillHere)));
        let unknown = crate::domain::AgentId::derive(Timestamp::default(), 7, TenantTag(0));
        kavach.authorize(Request::new("read", "docs:1").unwrap().for_agent(unknown)).await.unwrap();
        let entries = loop {
            match stream.next().await.unwrap().unwrap() {
                News::StillHere => {}
                News::Entries(bytes) => break bytes,
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
