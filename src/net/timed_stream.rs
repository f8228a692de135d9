//! A TCP stream under its connection's timeouts.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection_timeouts::{ConnectionTimer, ReadPermission};

/// A stream that reports to its [`ConnectionTimer`] and ends when the timer says so: readers see the end of the stream,
/// writers an error.
pub struct TimedStream {
    stream: TcpStream,
    timer: Rc<ConnectionTimer>,
}

impl TimedStream {
    /// Puts `stream` under `timer`.
    pub fn new(stream: TcpStream, timer: Rc<ConnectionTimer>) -> Self {
        Self { stream, timer }
    }

    /// The connection's timer.
    pub fn timer(&self) -> &Rc<ConnectionTimer> {
        &self.timer
    }

    fn written(&self, context: &Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Ready(Ok(_)) => self.timer.on_written(),
            Poll::Pending => self.timer.on_write_blocked(context),
            Poll::Ready(Err(_)) => {}
        }
        outcome
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client read nothing for too long")
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.timer.read_permission(context) {
            ReadPermission::Go => {}
            ReadPermission::Wait => return Poll::Pending,
            ReadPermission::End => return Poll::Ready(Ok(())),
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        match outcome {
            Poll::Ready(Ok(())) => self.timer.on_read(buffer.filled().len() - before),
            Poll::Pending => self.timer.on_read_blocked(context),
            Poll::Ready(Err(_)) => {}
        }
        outcome
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.timer.is_closing() {
            return Poll::Ready(Err(too_slow()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.timer.is_closing() {
            return Poll::Ready(Err(too_slow()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        if let Poll::Ready(Ok(())) = outcome {
            // Writers flush once everything was written.
            self.timer.on_flushed();
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream as Client};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[derive(Default)]
    struct FlagWaker(AtomicBool);

    impl Wake for FlagWaker {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_half_closed_connection_that_reads_nothing_can_be_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::connect(listener.local_addr().unwrap()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let timer = Rc::new(ConnectionTimer::default());
        let mut stream = TimedStream::new(TcpStream::from_std(accepted).unwrap(), Rc::clone(&timer));
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        let woken = Arc::new(FlagWaker::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut write = || Pin::new(&mut stream).poll_write(&mut Context::from_waker(&waker), &[0; 1 << 16]);
        while write().is_ready() {}
        assert!(!woken.0.load(Ordering::Relaxed));
        timer.close();
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(matches!(write(), Poll::Ready(Err(problem)) if problem.kind() == io::ErrorKind::TimedOut));
    }
}
