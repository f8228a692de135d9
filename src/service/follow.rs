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

use super::trail::{Oldest, Start};
use super::{Kavach, ask};
use crate::actors::Route;
use crate::actors::desk::Slot;
use crate::actors::messages::OpenAudit;
use crate::actors::news::Follower;
use crate::domain::{AuditEntry, AuditFilter, AuditId, Code, Error, TenantTag};

/// Silence after which a stream says that it is still there: below the minute after which proxies give up.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The least time between two looks at what is new: under load one look serves the decisions of many flushes.
const PAUSE: Duration = Duration::from_millis(25);
/// How long a tenant that can't answer is left alone.
const RETRY: Duration = Duration::from_millis(250);
/// Bytes of a stream that are made at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// With several tenants, how far before the last entry a stream goes on: flushes of two tenants may come in another
/// order than their entries.
const OVERLAP_MS: i64 = 5_000;

/// How an entry is written.
pub type WriteEntry = fn(&mut Vec<u8>, &AuditEntry) -> io::Result<()>;

/// A live stream.
pub struct AuditStream {
    kavach: Kavach,
    filter: Arc<AuditFilter>,
    write: WriteEntry,
    follower: Follower,
    /// Whether it is of all tenants, and goes on without one that is erased.
    all: bool,
    /// The last event looked at, of each tenant that had any.
    reached: HashMap<TenantTag, u64>,
    /// Tenants with something to read, and where to begin where nothing was read yet.
    waiting: BTreeMap<TenantTag, Start>,
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
        let now = Instant::now();
        let mut stream = Self {
            filter: Arc::new(filter),
            write,
            follower,
            all: only.is_none(),
            reached: HashMap::new(),
            waiting: BTreeMap::new(),
            reading: None,
            next_look: now,
            keep_alive: KEEP_ALIVE,
            last_sign: now,
            _slot: slot,
            kavach,
        };
        match only {
            Some(route) => stream.start_one(route, resume).await?,
            None => stream.start_all(resume),
        }
        Ok(stream)
    }

    async fn start_one(&mut self, route: &Route, resume: Option<AuditId>) -> Result<(), Error> {
        let tag = route.id.tag();
        if resume.is_some_and(|id| id.tag() != tag) {
            let problem = "names no entry of this tenant";
            return Err(Error::field(Code::InvalidQuery, "Last-Event-ID", problem));
        }
        let credential = self.kavach.credential;
        let trail = ask(route, |reply| OpenAudit { credential, reply }).await?;
        let last = trail.reader.last_seq();
        let start = match (resume, self.filter.since) {
            (Some(id), _) => Start::After(id.seq().min(last)),
            (None, Some(since)) => Start::At(since),
            (None, None) => Start::After(last),
        };
        self.reading = Some((tag, Oldest::new(trail, Arc::clone(&self.filter), start)));
        Ok(())
    }

    fn start_all(&mut self, resume: Option<AuditId>) {
        let overlap = resume.map(|id| id.time().plus_millis(-OVERLAP_MS));
        if let Some(time) = overlap.max(self.filter.since) {
            let routes = self.kavach.core.routes.all();
            self.waiting = routes.iter().map(|route| (route.id.tag(), Start::At(time))).collect();
        }
        if let Some(id) = resume {
            self.reached.insert(id.tag(), id.seq());
        }
    }

    /// The same stream with another time of silence before it says that it is there.
    #[must_use]
    pub fn with_keep_alive(mut self, keep_alive: Duration) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Waits for what comes next. `None`: the stream has ended, since the server shuts down, the tenant was erased,
    /// or the caller's key is no longer good.
    ///
    /// # Errors
    /// The tenant's trail can't be read. There is no more after it.
    pub async fn next(&mut self) -> Option<Result<News, Error>> {
        loop {
            let silence_ends = self.last_sign + self.keep_alive;
            if Instant::now() >= silence_ends {
                self.last_sign = Instant::now();
                return Some(Ok(News::StillHere));
            }
            if self.follower.is_closed() {
                return None;
            }
            if let Some((tag, reading)) = self.reading.take() {
                match self.read_on(tag, reading).await {
                    Ok(bytes) if bytes.is_empty() => continue,
                    Ok(bytes) => {
                        self.last_sign = Instant::now();
                        return Some(Ok(News::Entries(bytes)));
                    }
                    Err(error) => return Some(Err(error)),
                }
            }
            if !self.waiting.is_empty() {
                tokio::time::sleep_until(self.next_look.min(silence_ends)).await;
                if Instant::now() >= self.next_look && !self.open_next().await {
                    return None;
                }
                continue;
            }
            match tokio::time::timeout_at(silence_ends, self.follower.heard()).await {
                Ok(Some(heard)) => {
                    for (tag, last_old) in heard {
                        self.waiting.entry(tag).or_insert(Start::After(last_old));
                    }
                }
                Ok(None) => return None,
                Err(_) => {}
            }
        }
    }

    async fn read_on(&mut self, tag: TenantTag, reading: Oldest) -> Result<Vec<u8>, Error> {
        let write = self.write;
        let step = move || {
            let (mut reading, mut bytes) = (reading, Vec::new());
            let ended = reading.step(&mut |entry| {
                write(&mut bytes, entry)?;
                Ok(if bytes.len() >= CHUNK_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            // A client may take its time, and there may be hundreds.
            reading.rest();
            Ok((ended, reading, bytes))
        };
        let (ended, reading, bytes) = self.kavach.read_trail(step).await?;
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
        let start = self.reached.get(&tag).map_or(start, |seq| Start::After(*seq));
        let credential = self.kavach.credential;
        let opened = match self.kavach.core.routes.with(tag, Route::clone) {
            Some(route) => ask(&route, |reply| OpenAudit { credential, reply }).await,
            None => Err(Error::new(Code::TenantNotFound, "the tenant was erased")),
        };
        match opened {
            Ok(trail) => {
                self.reading = Some((tag, Oldest::new(trail, Arc::clone(&self.filter), start)));
                true
            }
            Err(error) => match error.code() {
                Code::TenantUnavailable | Code::Overloaded | Code::StorageUnavailable => {
                    self.waiting.insert(tag, start);
                    self.next_look = Instant::now() + RETRY;
                    true
                }
                Code::TenantNotFound if self.all => {
                    self.reached.remove(&tag);
                    true
                }
                _ => false,
            },
        }
    }
}
