//! Which worker serves a connection.
//!
//! The kernel gives a new connection to any worker, but each tenant's actor lives on one. A call that crosses to
//! another worker and back wakes two threads, which costs more than the decision. So a worker peeks at a connection's
//! first bytes, and if they show a tenant's credential, the connection moves to that tenant's worker.
//!
//! A worker takes only a bounded multiple of its even share, as in consistent hashing with bounded loads (Mirrokni,
//! Thorup, Zadimoghaddam, 2018): neither a hot tenant, nor a client that merely claims to belong to it, may leave the
//! other cores idle. A connection that does not move is served all the same; its calls cross.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use actix_rt::net::TcpStream;
use tokio::io::ReadBuf;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

use crate::actors::worker_channels::ChannelId;
use crate::domain::TenantId;
use crate::domain::secret::{bearer, tenant_in};

/// Bytes to peek at: enough for the request head of any common client.
const HEAD_BYTES: usize = 2_048;
/// How many times its even share of all connections a worker may hold before no more move to it, as a fraction. With
/// two workers that is three quarters of all; a factor of two would be all of them, on one of two cores.
const MAX_LOAD: (usize, usize) = (3, 2);
/// Connections that may move to a worker in any case: too few to keep it busy.
const MIN_CAPACITY: usize = 8;

/// Routes the connections of a server to its workers, and counts the open ones.
pub struct ConnectionRouter {
    /// Finds the worker that a tenant lives on.
    home: Home,
    workers: Box<[WorkerInbox]>,
    /// How many connections are open.
    open: watch::Sender<usize>,
}

#[derive(Default)]
struct WorkerInbox {
    /// Takes the connections that move to this worker.
    inbox: OnceLock<UnboundedSender<MovedConnection>>,
    open: AtomicUsize,
}

/// A connection on its way to another worker.
struct MovedConnection {
    stream: std::net::TcpStream,
    counted: OpenConnection,
    /// Dropped when the connection ends.
    ending: oneshot::Sender<Infallible>,
}

type Home = Box<dyn Fn(TenantId) -> Option<ChannelId> + Send + Sync>;

/// Serves one connection; ready when the connection ends.
pub type ServedConnection = Pin<Box<dyn Future<Output = ()>>>;

/// How a worker serves a connection.
pub type ServeConnection = Rc<dyn Fn(TcpStream) -> ServedConnection>;

impl ConnectionRouter {
    /// A router for `workers` workers, without connections yet. `home` finds the worker that a tenant lives on.
    pub fn new(workers: usize, home: impl Fn(TenantId) -> Option<ChannelId> + Send + Sync + 'static) -> Arc<Self> {
        let workers = (0..workers).map(|_| WorkerInbox::default()).collect();
        Arc::new(Self { home: Box::new(home), workers, open: watch::Sender::new(0) })
    }

    /// Makes the calling thread a worker with lane `lane`, which serves the connections moved to it with `serve`.
    pub fn join(&self, lane: Option<ChannelId>, serve: ServeConnection) {
        // A worker without a lane replaces one that died: no tenant lives there, so nothing moves to it.
        let Some(worker) = lane.and_then(|lane| self.workers.get(lane.at())) else { return };
        // Unbounded, but it holds no more than the connections that workers have accepted, which are limited.
        let (inbox, mut moved) = unbounded_channel();
        if worker.inbox.set(inbox).is_ok() {
            actix_rt::spawn(async move {
                while let Some(MovedConnection { stream, counted, ending }) = moved.recv().await {
                    let serve = Rc::clone(&serve);
                    actix_rt::spawn(async move {
                        let _until_it_ends = (counted, ending);
                        if let Ok(stream) = TcpStream::from_std(stream) {
                            serve(stream).await;
                        }
                    });
                }
            });
        }
    }

    /// Serves a connection that the calling worker accepted and that has sent its first bytes, here or on its tenant's
    /// worker. Returns when the connection ends.
    pub async fn serve_at_home(self: Arc<Self>, stream: TcpStream, lane: Option<ChannelId>, serve: ServeConnection) {
        let here = OpenConnection::new(&self, lane.map(ChannelId::at));
        let home = self.home(&stream).await.filter(|home| Some(*home) != here.worker);
        let Some((home, inbox)) = home.and_then(|home| Some((home, self.inbox_with_room(home)?))) else {
            return serve(stream).await;
        };
        // Fails only if the connection is broken.
        let Ok(stream) = stream.into_std() else { return };
        let counted = OpenConnection::new(&self, Some(home));
        drop(here);
        let (ending, end) = oneshot::channel();
        // If that worker has died, the connection is dropped.
        let _ = inbox.send(MovedConnection { stream, counted, ending });
        // This worker accepted the connection, so it counts against this worker's limit until it ends.
        let _ = end.await;
    }

    /// The worker of the tenant whose credential the first request shows.
    async fn home(&self, stream: &TcpStream) -> Option<usize> {
        let mut head = vec![0; HEAD_BYTES];
        let mut head = ReadBuf::new(&mut head);
        // Peek once: don't wait for bytes that have not arrived.
        let there = poll_fn(|context| Poll::Ready(stream.poll_peek(context, &mut head).is_ready())).await;
        let tenant = tenant_in(credential(head.filled()).filter(|_| there)?)?;
        (self.home)(tenant).map(ChannelId::at)
    }

    /// The inbox of worker `at`, if it may take one more connection.
    fn inbox_with_room(&self, at: usize) -> Option<&UnboundedSender<MovedConnection>> {
        let worker = self.workers.get(at)?;
        let most = most(*self.open.borrow(), self.workers.len());
        worker.inbox.get().filter(|_| worker.open.load(Ordering::Relaxed) < most)
    }

    /// Waits until all connections are closed.
    pub async fn all_closed(&self) {
        // Can't fail: `self` holds the sender.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// How many connections a worker may hold before no more move to it, out of `open` at `workers` workers.
fn most(open: usize, workers: usize) -> usize {
    let (times, per) = MAX_LOAD;
    MIN_CAPACITY.max(open.saturating_mul(times).checked_div(workers.saturating_mul(per)).unwrap_or(0))
}

/// The credential in a request head that may be incomplete. It decides nothing but where the connection is served.
fn credential(head: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"authorization:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value.trim_ascii())
    })?;
    bearer(value)
}

/// An open connection, counted for the worker that serves it.
struct OpenConnection {
    connections: Arc<ConnectionRouter>,
    worker: Option<usize>,
}

impl OpenConnection {
    fn new(connections: &Arc<ConnectionRouter>, worker: Option<usize>) -> Self {
        let counted = Self { connections: Arc::clone(connections), worker };
        counted.connections.open.send_modify(|open| *open += 1);
        if let Some(worker) = counted.worker() {
            worker.open.fetch_add(1, Ordering::Relaxed);
        }
        counted
    }

    fn worker(&self) -> Option<&WorkerInbox> {
        self.connections.workers.get(self.worker?)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(worker) = self.worker() {
            worker.open.fetch_sub(1, Ordering::Relaxed);
        }
        self.connections.open.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream as Client};

    use actix_rt::{Arbiter, System};
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::actors::worker_channels::WorkerChannels;
    use crate::domain::Secret;

    /// Answers one byte, the worker's number, and waits for the end of the connection.
    fn answering(number: u8) -> ServeConnection {
        Rc::new(move |mut stream| {
            Box::pin(async move {
                stream.write_all(&[number]).await.unwrap();
                let mut rest = [0; 512];
                loop {
                    stream.readable().await.unwrap();
                    if let Ok(0) = stream.try_read(&mut rest) {
                        break;
                    }
                }
            })
        })
    }

    #[test]
    fn a_connection_moves_to_its_tenants_worker_while_that_has_room() {
        let (lanes, there) = (WorkerChannels::new(2), Arc::new(OnceLock::new()));
        let connections = ConnectionRouter::new(2, {
            let there = Arc::clone(&there);
            move |tenant| there.get().copied().filter(|_| tenant == TenantId::from_bytes([7; 16]))
        });
        let system = System::new();
        let other = Arbiter::new();
        system.block_on(async {
            let here = lanes.join();
            let serve = answering(0);
            let (joined, is_there) = oneshot::channel();
            let (lanes, theirs) = (Arc::clone(&lanes), Arc::clone(&connections));
            other.spawn_fn(move || {
                let lane = lanes.join();
                theirs.join(lane, answering(1));
                joined.send(lane.unwrap()).unwrap();
            });
            there.set(is_there.await.unwrap()).unwrap();

            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let connect = async |head: String| {
                let mut client = Client::connect(listener.local_addr().unwrap()).unwrap();
                let (accepted, _) = listener.accept().unwrap();
                accepted.set_nonblocking(true).unwrap();
                let (connections, serve) = (Arc::clone(&connections), serve.clone());
                actix_rt::spawn(async move {
                    let accepted = TcpStream::from_std(accepted).unwrap();
                    accepted.readable().await.unwrap();
                    connections.serve_at_home(accepted, here, serve).await;
                });
                client.write_all(head.as_bytes()).unwrap();
                actix_rt::task::spawn_blocking(move || {
                    let mut worker = [9];
                    client.read_exact(&mut worker).unwrap();
                    (client, worker[0])
                })
                .await
                .unwrap()
            };
            let of = |tenant: u8| {
                let token = Secret::agent_token(TenantId::from_bytes([tenant; 16]), [1; 32]);
                format!("POST / HTTP/1.1\r\nAuthorization: Bearer {}\r\n\r\n", token.reveal())
            };
            let (unknown, served) = connect(of(8)).await;
            assert_eq!(served, 0);
            drop(unknown);
            connections.all_closed().await;
            // Eight in any case, then three quarters of all: nine of twelve.
            let (mut open, mut workers) = (Vec::new(), Vec::new());
            for _ in 0..13 {
                let (client, served) = connect(of(7)).await;
                open.push(client);
                workers.push(served);
            }
            assert_eq!(workers, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0]);
            drop(open);
            connections.all_closed().await;
            assert_eq!(connect(of(7)).await.1, 1);
        });
        other.stop();
        other.join().unwrap();
    }

    #[test]
    fn a_credential_is_found_in_the_head_of_a_request() {
        let found = |head: &str| credential(head.as_bytes()).map(str::to_owned);
        let token = Some("kv_abc".to_owned());
        assert_eq!(found("POST /v1/authorize HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer kv_abc\r\n\r\n{}"), token);
        assert_eq!(found("GET / HTTP/1.1\r\nauthorization:bearer  kv_abc \r\n"), token);
        assert_eq!(found("GET / HTTP/1.1\nAUTHORIZATION: BEARER kv_abc"), token);
        for head in ["", "\n", "GET / HTTP/1.1\r\n\r\n", "Authorization", "Authorization: Basic kv_abc\r\n"] {
            assert_eq!(found(head), None, "{head}");
        }
        assert_eq!(credential(b"\xff\xfe\nauthorization: bearer \xff\n"), None);
    }

    #[test]
    fn a_worker_gets_at_most_a_bounded_share() {
        assert_eq!(most(0, 0), MIN_CAPACITY);
        assert_eq!(most(4, 2), MIN_CAPACITY);
        assert_eq!(most(64, 2), 48);
        assert_eq!(most(64, 1), 96);
        assert_eq!(most(10_000, 16), 937);
        assert_eq!(most(usize::MAX, 4), usize::MAX / 8);
    }
}
