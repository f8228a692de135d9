//! The loop that sends requests and reads answers. One thread waits in epoll for the next event or due time. It never
//! spins, since the server may share its cores.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventFlags};
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::connection::{LoadConnection, Received, of_event};
use crate::options::LoopMode;
use crate::schedule::Schedule;
use crate::tally::{NoAnswer, RunTally};
use crate::traffic::RenderedRequests;

/// How long each connection may take to open before the start.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for answers after the last request was due, in nanoseconds.
const GRACE: u64 = 5 * SECOND;
/// How long to rest a failed connection, so that a server that is down is not flooded, in nanoseconds.
const REST: u64 = SECOND / 10;
/// How often to report progress and look for a stop, in nanoseconds.
const REPORT_INTERVAL: u64 = SECOND / 10;
/// Events to take from epoll at once.
const EVENTS: usize = 256;
const SECOND: u64 = 1_000_000_000;

/// How to run a load.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// When requests are sent.
    pub loop_mode: LoopMode,
    /// Connections to keep.
    pub connections: u16,
    /// Requests under way on one connection.
    pub pipeline: u16,
    /// Whether a connection is used again.
    pub keep_alive: bool,
    /// How long to send before counting.
    pub warmup: Duration,
    /// How long to count.
    pub duration: Duration,
}

/// What was counted, and the two ends of the window.
pub struct RunOutcome {
    /// All counts.
    pub tally: RunTally,
    /// At the window's start.
    pub start: Mark,
    /// At its end.
    pub end: Mark,
}

/// The counts at one moment of the run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// Nanoseconds since the run began.
    pub time: u64,
    /// Processor time of this process, user and system, in nanoseconds.
    pub cpu: u64,
    /// Requests answered with a status of success.
    pub requests: u64,
    /// Decisions in them.
    pub decisions: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
}

/// How far the run has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Since the run began.
    pub elapsed: Duration,
    /// Requests answered with a status of success.
    pub requests: u64,
    /// Requests with another status, or without an answer.
    pub errors: u64,
}

/// Runs a load to its end, or until `stop` is set: then it ends as if its time were over. It does all of it on the
/// calling thread, whose timers it makes as exact as they can be.
///
/// # Errors
/// The connections can't be opened, or waiting for them fails.
pub fn run(
    plan: &Plan,
    traffic: &mut RenderedRequests,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Progress),
) -> io::Result<RunOutcome> {
    let mut engine = Engine::new(plan, traffic)?;
    engine.clock = Instant::now();
    let mut next_report = 0;
    loop {
        let now = engine.now();
        if stop.load(Ordering::Relaxed) {
            engine.schedule.cut(now);
        }
        if engine.advance(now) {
            break;
        }
        engine.wake_rested(now);
        engine.send_due();
        if now >= next_report {
            next_report = now + REPORT_INTERVAL;
            observe(engine.progress(now));
        }
        engine.wait(next_report)?;
    }
    Ok(engine.finish())
}

/// The phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunPhase {
    WarmUp,
    Window,
    Grace,
}

struct Engine<'a> {
    plan: &'a Plan,
    traffic: &'a mut RenderedRequests,
    epoll: OwnedFd,
    clock: Instant,
    schedule: Schedule,
    phase: RunPhase,
    connections: Vec<LoadConnection>,
    /// Places for a request: the number of a connection as often as it takes another one.
    free: VecDeque<u32>,
    /// Places of connections that failed, and when they are free again.
    resting: VecDeque<(u64, u32)>,
    /// Connections that were given requests and not written to yet.
    touched: Vec<u32>,
    /// Unanswered requests on all connections.
    under_way: usize,
    tally: RunTally,
    start: Mark,
    end: Mark,
}

impl<'a> Engine<'a> {
    fn new(plan: &'a Plan, traffic: &'a mut RenderedRequests) -> io::Result<Self> {
        let start = nanos(plan.warmup);
        let end = start + nanos(plan.duration);
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for number in 0..u32::from(plan.connections) {
            let mut connection = LoadConnection::default();
            if plan.keep_alive {
                let socket = TcpStream::connect_timeout(&plan.address, CONNECT_TIMEOUT)?;
                connection.adopt(socket, &epoll, number)?;
            }
            connections.push(connection);
        }
        // Requests go round over all connections.
        let round = 0..u32::from(plan.connections);
        let free = (0..plan.pipeline).flat_map(|_| round.clone()).collect();
        // The kernel may delay a wake-up by this much, usually 50 microseconds. Where it can't be lowered, latencies
        // are true all the same: they count from when a request was due.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        Ok(Self {
            plan,
            traffic,
            epoll,
            clock: Instant::now(),
            schedule: Schedule::new(plan.loop_mode, end),
            phase: RunPhase::WarmUp,
            connections,
            free,
            resting: VecDeque::new(),
            touched: Vec::new(),
            under_way: 0,
            tally: RunTally::new(start..end).map_err(io::Error::other)?,
            start: Mark::default(),
            end: Mark::default(),
        })
    }

    /// Nanoseconds since the run began.
    fn now(&self) -> u64 {
        nanos(self.clock.elapsed())
    }

    fn mark(&self, now: u64) -> Mark {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let RunTally { total, bytes_sent, bytes_received, .. } = &self.tally;
        Mark {
            time: now,
            cpu: nanos(Duration::try_from(cpu).unwrap_or_default()),
            requests: total.requests,
            decisions: total.allowed + total.denied,
            bytes_sent: *bytes_sent,
            bytes_received: *bytes_received,
        }
    }

    fn progress(&self, now: u64) -> Progress {
        let total = self.tally.total;
        Progress { elapsed: Duration::from_nanos(now), requests: total.requests, errors: total.errors }
    }

    /// Goes on to the next phase when its time has come. Answers whether the run is over.
    fn advance(&mut self, now: u64) -> bool {
        let end = self.schedule.end();
        if self.phase == RunPhase::WarmUp && now >= self.tally.window.start.min(end) {
            self.phase = RunPhase::Window;
            self.start = self.mark(now);
        }
        if self.phase == RunPhase::Window && now >= end {
            self.phase = RunPhase::Grace;
            self.end = self.mark(now);
        }
        let done = self.under_way == 0 && self.schedule.next(now).is_none();
        self.phase == RunPhase::Grace && (done || now >= end + GRACE)
    }

    fn wake_rested(&mut self, now: u64) {
        while let Some((_, number)) = self.resting.front().copied().filter(|(at, _)| *at <= now) {
            self.resting.pop_front();
            self.free.push_back(number);
        }
    }

    /// Sends all requests that are due, as far as there are places for them.
    fn send_due(&mut self) {
        let now = self.now();
        while let Some(number) = self.free.front().copied() {
            let Some(due) = self.schedule.take(now) else { break };
            self.free.pop_front();
            let Some(connection) = self.connections.get_mut(number as usize) else { continue };
            self.traffic.append_next(connection.enqueue(due));
            self.under_way += 1;
            if self.touched.last() != Some(&number) {
                self.touched.push(number);
            }
        }
        let mut touched = std::mem::take(&mut self.touched);
        for number in touched.drain(..) {
            self.write(number);
        }
        self.touched = touched;
    }

    fn write(&mut self, number: u32) {
        let Some(connection) = self.connections.get_mut(number as usize) else { return };
        if connection.open(self.plan.address, &self.epoll, number).is_err() {
            return self.fail(number, NoAnswer::Connect);
        }
        match connection.write() {
            Ok(count) => self.tally.bytes_sent += count as u64,
            Err(_) => self.fail(number, NoAnswer::Closed),
        }
    }

    /// Waits for events until the next thing is to be done, and deals with them.
    fn wait(&mut self, next_report: u64) -> io::Result<()> {
        let mut room = [const { MaybeUninit::<Event>::uninit() }; EVENTS];
        let timeout = Timespec::try_from(Duration::from_nanos(self.next_wake(next_report).saturating_sub(self.now())));
        let events = match epoll::wait(&self.epoll, &mut room, timeout.ok().as_ref()) {
            Ok((events, _)) => events,
            // A signal: maybe the one that stops the run.
            Err(Errno::INTR) => return Ok(()),
            Err(problem) => return Err(problem.into()),
        };
        for event in events {
            let (number, generation) = of_event(event.data);
            self.handle(number, generation, event.flags);
            // Requests that have become due do not wait for the other events.
            self.send_due();
        }
        Ok(())
    }

    /// When there is something to do without an event.
    fn next_wake(&self, next_report: u64) -> u64 {
        let end = self.schedule.end();
        let phase_ends = match self.phase {
            RunPhase::WarmUp => self.tally.window.start.min(end),
            RunPhase::Window => end,
            RunPhase::Grace => end + GRACE,
        };
        let rested = self.resting.front().map(|(at, _)| *at);
        // A due request without a free place waits for an event.
        let due = self.schedule.next(u64::MAX).filter(|_| !self.free.is_empty());
        [Some(next_report), Some(phase_ends), rested, due].into_iter().flatten().min().unwrap_or(next_report)
    }

    /// Handles one event of a connection.
    fn handle(&mut self, number: u32, generation: u32, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(number as usize) else { return };
        if connection.generation() != generation {
            return;
        }
        if !connection.is_open() {
            if !flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
                return;
            }
            if connection.finish_open().is_err() {
                return self.fail(number, NoAnswer::Connect);
            }
        }
        if flags.contains(EventFlags::OUT) {
            match connection.write() {
                Ok(count) => self.tally.bytes_sent += count as u64,
                Err(_) => return self.fail(number, NoAnswer::Closed),
            }
        }
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            let is_ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            self.read(number, is_ending);
        }
    }

    /// Reads everything that has arrived on a connection.
    fn read(&mut self, number: u32, is_ending: bool) {
        loop {
            let Some(connection) = self.connections.get_mut(number as usize) else { return };
            let received = match connection.receive() {
                Ok(None) => return,
                Ok(Some(received)) => received,
                Err(_) => return self.fail(number, NoAnswer::Closed),
            };
            // When the answers were there; reading them is not the server's time.
            let now = nanos(self.clock.elapsed());
            if let Received::Some(count) | Received::All(count) = received {
                self.tally.bytes_received += count as u64;
            }
            let mut keep_alive = self.plan.keep_alive;
            loop {
                let answer = match (received, connection.reader.next()) {
                    (_, Ok(Some(answer))) => answer,
                    (Received::End, Ok(None)) => match connection.reader.at_close() {
                        Some(answer) => answer,
                        None => break,
                    },
                    (_, Ok(None)) => break,
                    (_, Err(_)) => return self.fail(number, NoAnswer::Malformed),
                };
                let Some(due) = connection.under_way.pop_front() else {
                    // An answer to no request.
                    return self.fail(number, NoAnswer::Malformed);
                };
                self.tally.answered(due, now, answer.status, answer.body);
                keep_alive &= answer.keep_alive;
                self.under_way -= 1;
                self.free.push_back(number);
                if !keep_alive {
                    break;
                }
            }
            if !keep_alive || received == Received::End {
                return if connection.under_way.is_empty() {
                    connection.close();
                } else {
                    self.fail(number, NoAnswer::Closed);
                };
            }
            // A connection that is ending still has its end to be read.
            if matches!(received, Received::All(_)) && !is_ending {
                return;
            }
        }
    }

    /// Closes a connection, counts its requests as failed, and rests their places.
    fn fail(&mut self, number: u32, failure: NoAnswer) {
        let now = self.now();
        let Some(connection) = self.connections.get_mut(number as usize) else { return };
        connection.close();
        for due in connection.under_way.drain(..) {
            self.tally.failed(due, now, failure);
            self.under_way -= 1;
            self.resting.push_back((now + REST, number));
        }
    }

    /// Gives up unanswered requests, and those that were never sent.
    fn finish(mut self) -> RunOutcome {
        let now = self.now();
        for due in self.connections.iter_mut().flat_map(|connection| connection.under_way.drain(..)) {
            self.tally.failed(due, now, NoAnswer::Timeout);
        }
        while let Some(due) = self.schedule.take(now) {
            self.tally.failed(due, now, NoAnswer::Timeout);
        }
        RunOutcome { tally: self.tally, start: self.start, end: self.end }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
