//! How calls and their answers cross between workers' threads.
//!
//! A call's connection is often on one worker and its tenant on another. Waking a thread for each call and again for
//! each answer would cost several times what a decision costs. So while a worker handles everything that is ready, it
//! collects what it has for each other worker, and hands it over at the end of that turn with a single wake. Under
//! light load such a batch is one call, which waits for nothing. Under heavy load it is dozens, and the tenant's actor
//! decides them together and writes them with one write.
//!
//! Calls wait in their tenant's mailbox, which bounds what a tenant takes, and not in a channel: a worker empties its
//! channel at every turn. A channel holds more than one turn's parcels only while its worker is stuck.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Actor, Addr, Handler, Message};
use tokio::sync::Notify;

use super::mailbox::{MAILBOX_CAPACITY, overloaded};
use super::reply::Reply;
use crate::domain::{Credential, Decision, Error, Request};
use crate::measure::tenant_measures::Waiting;

/// Parcels that may wait for one worker: as many as a mailbox takes. They pile up only while the worker is stuck, and
/// then calls are better refused than kept.
const CHANNEL_CAPACITY: usize = MAILBOX_CAPACITY;

/// How many servers this process has started.
static SERVERS: AtomicUsize = AtomicUsize::new(0);

/// Decide a call and record it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Authorize {
    /// The caller's credential.
    pub credential: Credential,
    /// The call.
    pub request: Request,
    /// When the request arrived.
    pub received: Instant,
    /// Whether an unknown agent may belong to another tenant. Then nothing is recorded here, and the answer is
    /// `AGENT_NOT_FOUND`.
    pub known_only: bool,
    /// Where the answer goes.
    pub reply: ReplyTo,
    /// Counts the call while it waits.
    pub waiting: Waiting,
}

/// The part of a tenant's actor that decides calls.
pub trait Decides: Send + Sync {
    /// Puts the call into the actor's mailbox.
    ///
    /// # Errors
    /// The mailbox is full, or closed; the call comes back.
    #[allow(clippy::result_large_err, reason = "a call that is refused comes back, to be answered")]
    fn try_decide(&self, call: Authorize) -> Result<(), SendError<Authorize>>;
}

impl<A> Decides for Addr<A>
where
    A: Actor + Handler<Authorize>,
    A::Context: ToEnvelope<A, Authorize>,
{
    fn try_decide(&self, call: Authorize) -> Result<(), SendError<Authorize>> {
        self.try_send(call)
    }
}

/// The channels of a server's workers.
pub struct WorkerChannels {
    server: usize,
    all: Box<[Channel]>,
    claimed: AtomicUsize,
}

/// A worker of a server in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelId {
    server: usize,
    at: usize,
}

/// The way to one worker.
struct Channel {
    inbox: Mutex<Inbox>,
    /// Fires when the inbox has something, or the worker has something for others.
    news: Notify,
}

#[derive(Default)]
struct Inbox {
    parcels: Vec<Parcel>,
    /// Whether a worker is there to empty it.
    open: bool,
}

/// What crosses between workers.
enum Parcel {
    /// A call, and its tenant's actor.
    Call(Arc<dyn Decides>, Authorize),
    /// An answer, and its waiting caller.
    Answer(Reply<Decision>, Result<Decision, Error>),
}

/// What a worker's thread knows about itself.
struct Here {
    channels: Arc<WorkerChannels>,
    channel: ChannelId,
    /// For each channel, the parcels that leave at the end of the turn.
    outboxes: Vec<Vec<Parcel>>,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// The destination of a decision: a caller, on the worker where it waits.
pub struct ReplyTo {
    caller: Reply<Decision>,
    /// `None` for a caller outside the workers.
    channel: Option<ChannelId>,
}

impl WorkerChannels {
    /// `workers` channels, which lead nowhere yet.
    pub fn new(workers: usize) -> Arc<Self> {
        let channel = || Channel { inbox: Mutex::default(), news: Notify::new() };
        let server = SERVERS.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { server, all: (0..workers).map(|_| channel()).collect(), claimed: AtomicUsize::new(0) })
    }

    /// Makes the calling thread a worker, and lets its arbiter serve the channel from now on. `None` if all channels are
    /// taken: then each call to that worker crosses by itself.
    pub fn join(self: &Arc<Self>) -> Option<ChannelId> {
        let id = ChannelId { server: self.server, at: self.claimed.fetch_add(1, Ordering::Relaxed) };
        let channel = self.all.get(id.at)?;
        channel.lock().open = true;
        let outboxes = self.all.iter().map(|_| Vec::new()).collect();
        HERE.set(Some(Here { channels: Arc::clone(self), channel: id, outboxes }));
        actix_rt::spawn(carry(Arc::clone(self), id));
        Some(id)
    }

    /// The calling thread's channel, if it is one of these workers.
    fn here(self: &Arc<Self>) -> Option<ChannelId> {
        own_channel().filter(|channel| channel.server == self.server)
    }

    /// Where the calling thread wants an answer sent.
    pub fn reply_to(self: &Arc<Self>, caller: Reply<Decision>) -> ReplyTo {
        ReplyTo { caller, channel: self.here() }
    }
}

/// Sends a call to a tenant's actor that lives on that worker.
///
/// # Errors
/// The actor's mailbox is full or closed, as far as we know at once.
pub fn send<D: Decides + 'static>(
    actor: &Arc<D>,
    home: Option<ChannelId>,
    call: Authorize,
) -> Result<(), SendError<()>> {
    match home {
        // The caller is on a worker, and its tenant on another.
        Some(home) if call.reply.channel.is_some_and(|channel| channel != home) => {
            post(home, Parcel::Call(Arc::<D>::clone(actor), call));
            Ok(())
        }
        _ => actor.try_decide(call).map_err(|problem| match problem {
            SendError::Full(_) => SendError::Full(()),
            SendError::Closed(_) => SendError::Closed(()),
        }),
    }
}

impl ReplyTo {
    /// Sends the answer.
    pub fn send(self, outcome: Result<Decision, Error>) {
        let Self { caller, channel } = self;
        match (channel, own_channel()) {
            (Some(channel), Some(own)) if channel.server == own.server && channel.at != own.at => {
                post(channel, Parcel::Answer(caller, outcome));
            }
            // A caller that went away needs no answer.
            _ => drop(caller.send(outcome)),
        }
    }
}

/// The calling thread's channel, if it is a worker.
fn own_channel() -> Option<ChannelId> {
    HERE.with_borrow(|here| here.as_ref().map(|here| here.channel))
}

/// Adds a parcel to those that leave the calling worker at the end of its turn.
fn post(to: ChannelId, parcel: Parcel) {
    HERE.with_borrow_mut(|here| {
        let Some(Here { channels, channel, outboxes }) = here else { return };
        // The carrier runs after all tasks that are ready now.
        if outboxes.iter().all(Vec::is_empty)
            && let Some(own) = channels.all.get(channel.at)
        {
            own.news.notify_one();
        }
        if let Some(outbox) = outboxes.get_mut(to.at) {
            outbox.push(parcel);
        }
    });
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the parcels that another worker has for this one.
    fn take_in(&self, parcels: &mut Vec<Parcel>) {
        let mut inbox = self.lock();
        // Dropping a parcel drops its reply channel, so the caller gets an error at once.
        if !inbox.open {
            drop(inbox);
            parcels.clear();
            return;
        }
        let room = CHANNEL_CAPACITY.saturating_sub(inbox.parcels.len());
        if parcels.len() > room {
            for parcel in parcels.extract_if(room.., |parcel| matches!(parcel, Parcel::Call(..))) {
                parcel.refuse();
            }
        }
        inbox.parcels.append(parcels);
        drop(inbox);
        self.news.notify_one();
    }
}

impl Parcel {
    fn deliver(self) {
        match self {
            Self::Call(actor, call) => match actor.try_decide(call) {
                Ok(()) => {}
                Err(SendError::Full(call)) => call.reply.send(Err(overloaded())),
                // Dropping the reply gives the caller its error.
                Err(SendError::Closed(_)) => {}
            },
            Self::Answer(caller, outcome) => drop(caller.send(outcome)),
        }
    }

    fn refuse(self) {
        if let Self::Call(_, call) = self {
            drop(call.reply.caller.send(Err(overloaded())));
        }
    }
}

/// Empties a worker's inbox and its outboxes when they have something.
async fn carry(channels: Arc<WorkerChannels>, id: ChannelId) {
    let Some(channel) = channels.all.get(id.at) else { return };
    let _end = End(channel);
    let mut arrived = Vec::new();
    loop {
        channel.news.notified().await;
        std::mem::swap(&mut channel.lock().parcels, &mut arrived);
        arrived.drain(..).for_each(Parcel::deliver);
        HERE.with_borrow_mut(|here| {
            let outboxes = here.iter_mut().flat_map(|here| &mut here.outboxes);
            for (to, outbox) in channels.all.iter().zip(outboxes).filter(|(_, outbox)| !outbox.is_empty()) {
                to.take_in(outbox);
            }
        });
    }
}

/// Closes a channel when its worker ends: its parcels are dropped, so that nobody waits for them.
struct End<'a>(&'a Channel);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.lock() = Inbox::default();
    }
}

#[cfg(test)]
mod tests {
    use actix::dev::channel::{AddressReceiver, channel};
    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::actors::tenant::TenantActor;
    use crate::domain::{Code, OperatorCredential, SecretHash};

    type Answer = oneshot::Receiver<Result<Decision, Error>>;
    type Work = Box<dyn FnOnce(&Arc<WorkerChannels>, oneshot::Sender<Vec<Code>>) + Send>;

    fn actor(room: usize) -> (Arc<Addr<TenantActor>>, AddressReceiver<TenantActor>) {
        let (sender, mailbox) = channel(room);
        (Arc::new(Addr::new(sender)), mailbox)
    }

    fn call(reply: ReplyTo) -> Authorize {
        let credential = Credential::Operator(OperatorCredential::of(SecretHash::of("key")));
        let request = Request::new("read", "docs:1").unwrap();
        let (received, known_only, waiting) = (Instant::now(), false, Waiting::default());
        Authorize { credential, request, received, known_only, reply, waiting }
    }

    fn parcel(actor: &Arc<Addr<TenantActor>>) -> (Parcel, Answer) {
        let (caller, answer) = oneshot::channel();
        (
            Parcel::Call(
                Arc::<Addr<TenantActor>>::clone(actor),
                call(ReplyTo { caller, channel: Some(ChannelId { server: 0, at: 0 }) }),
            ),
            answer,
        )
    }

    fn code(answer: &mut Answer) -> Result<Code, TryRecvError> {
        answer.try_recv().map(|outcome| outcome.unwrap_err().code())
    }

    #[test]
    fn a_full_channel_refuses_calls_and_takes_answers() {
        let channels = WorkerChannels::new(1);
        let channel = &channels.all[0];
        channel.lock().open = true;
        let (actor, _mailbox) = actor(4);
        let answer = || {
            let (caller, answer) = oneshot::channel();
            (Parcel::Answer(caller, Err(overloaded())), answer)
        };
        let (mut parcels, _answers): (Vec<_>, Vec<_>) = (1..CHANNEL_CAPACITY).map(|_| answer()).unzip();
        channel.take_in(&mut parcels);
        let ((last, mut taken), (past, mut refused), (more, _more)) = (parcel(&actor), parcel(&actor), answer());
        channel.take_in(&mut vec![last, past, more]);
        assert_eq!(channel.lock().parcels.len(), CHANNEL_CAPACITY + 1);
        assert_eq!(code(&mut refused), Ok(Code::Overloaded));
        assert_eq!(code(&mut taken), Err(TryRecvError::Empty));
        // When the worker ends, waiting callers get an error.
        drop(End(channel));
        assert_eq!(code(&mut taken), Err(TryRecvError::Closed));
        let (late, mut answer) = parcel(&actor);
        channel.take_in(&mut vec![late]);
        assert_eq!(code(&mut answer), Err(TryRecvError::Closed));
    }

    #[test]
    fn a_full_or_closed_mailbox_is_an_error_for_the_caller() {
        let (actor, mailbox) = actor(1);
        let mut answers: Vec<_> = (0..4)
            .map(|_| {
                let (parcel, answer) = parcel(&actor);
                parcel.deliver();
                answer
            })
            .collect();
        assert_eq!(code(&mut answers[0]), Err(TryRecvError::Empty));
        assert_eq!(code(&mut answers[3]), Ok(Code::Overloaded));
        drop(mailbox);
        assert_eq!(code(&mut answers[0]), Err(TryRecvError::Closed));
        let (parcel, mut answer) = parcel(&actor);
        parcel.deliver();
        assert_eq!(code(&mut answer), Err(TryRecvError::Closed));
    }

    #[test]
    fn calls_and_answers_cross_between_two_threads_in_order() {
        let channels = WorkerChannels::new(2);
        let system = actix_rt::System::new();
        let arbiters = [actix_rt::Arbiter::new(), actix_rt::Arbiter::new()];
        system.block_on(async {
            let ask = |arbiter: usize, work: Work| {
                let (done, seen) = oneshot::channel();
                let channels = Arc::clone(&channels);
                assert!(arbiters[arbiter].spawn_fn(move || work(&channels, done)));
                seen
            };
            for (at, _) in arbiters.iter().enumerate() {
                let joined = ask(
                    at,
                    Box::new(move |channels, done| {
                        assert_eq!(channels.join(), Some(ChannelId { server: channels.server, at }));
                        done.send(Vec::new()).unwrap();
                    }),
                );
                joined.await.unwrap();
            }
            // A mailbox with room for one: the first call waits there, and the other worker refuses later ones.
            let (actor, mailbox) = actor(1);
            let crossed = ask(
                0,
                Box::new(move |channels, done| {
                    let answers: Vec<Answer> = (0..100)
                        .map(|_| {
                            let (caller, answer) = oneshot::channel();
                            send(
                                &actor,
                                Some(ChannelId { server: channels.server, at: 1 }),
                                call(channels.reply_to(caller)),
                            )
                            .unwrap();
                            answer
                        })
                        .collect();
                    actix_rt::spawn(async move {
                        let mut refused = Vec::new();
                        for answer in answers.into_iter().rev().take(98) {
                            refused.push(answer.await.unwrap().unwrap_err().code());
                        }
                        done.send(refused).unwrap();
                    });
                }),
            );
            assert_eq!(crossed.await.unwrap(), vec![Code::Overloaded; 98]);
            drop(mailbox);
        });
        for arbiter in arbiters {
            arbiter.stop();
            arbiter.join().unwrap();
        }
    }
}
