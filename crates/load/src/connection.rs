//! One connection of a load: opened without waiting, written to and read from without waiting.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with};

use crate::answer::AnswerReader;

/// One connection, or the place for one.
#[derive(Default)]
pub struct LoadConnection {
    socket: Option<TcpStream>,
    is_open: bool,
    /// How many sockets were opened here. Distinguishes the events of one from those of the one before.
    generation: u32,
    /// Requests that were not written yet, as far as they were.
    out: Vec<u8>,
    written: usize,
    /// Collects and parses the answers.
    pub reader: AnswerReader,
    /// When each unanswered request was due, oldest first.
    pub under_way: VecDeque<u64>,
}

/// How much came at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// There may be more.
    Some(usize),
    /// There was no more then.
    All(usize),
    /// The other side has closed.
    End,
}

impl LoadConnection {
    /// Takes over a socket that is open.
    ///
    /// # Errors
    /// Of the socket's settings.
    pub fn adopt(&mut self, socket: TcpStream, epoll: &OwnedFd, number: u32) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        self.watch(socket, epoll, number)?;
        self.is_open = true;
        Ok(())
    }

    /// Which socket's events these are.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether requests can be written.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Appends a request that was due then.
    pub fn enqueue(&mut self, due: u64) -> &mut Vec<u8> {
        self.under_way.push_back(due);
        &mut self.out
    }

    /// Starts to open a socket if there is none.
    ///
    /// # Errors
    /// Why that can't be.
    pub fn open(&mut self, address: SocketAddr, epoll: &OwnedFd, number: u32) -> io::Result<()> {
        if self.socket.is_some() {
            return Ok(());
        }
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => self.watch(TcpStream::from(socket), epoll, number),
            Err(problem) => Err(problem.into()),
        }
    }

    /// Edge-triggered: epoll reports each event once, and no interest has to be renewed.
    fn watch(&mut self, socket: TcpStream, epoll: &OwnedFd, number: u32) -> io::Result<()> {
        socket.set_nodelay(true)?;
        self.generation = self.generation.wrapping_add(1);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &socket, event_data(number, self.generation), flags)?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Finds out whether opening has succeeded.
    ///
    /// # Errors
    /// Why it has not.
    pub fn finish_open(&mut self) -> io::Result<()> {
        match self.socket.as_ref().map(TcpStream::take_error) {
            Some(Ok(None)) => {
                self.is_open = true;
                Ok(())
            }
            Some(Ok(Some(problem)) | Err(problem)) => Err(problem),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Writes what is to be written, as far as the kernel takes it. Answers how many bytes.
    ///
    /// # Errors
    /// Of the connection.
    pub fn write(&mut self) -> io::Result<usize> {
        let Some(socket) = self.socket.as_mut().filter(|_| self.is_open) else { return Ok(0) };
        let before = self.written;
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match socket.write(rest) {
                Ok(count) => self.written += count,
                Err(problem) if problem.kind() == ErrorKind::WouldBlock => return Ok(self.written - before),
                Err(problem) if problem.kind() == ErrorKind::Interrupted => {}
                Err(problem) => return Err(problem),
            }
        }
        let count = self.written - before;
        self.out.clear();
        self.written = 0;
        Ok(count)
    }

    /// Reads what has come, as far as there is room for it; `None` where there is nothing.
    ///
    /// # Errors
    /// Of the connection.
    pub fn receive(&mut self) -> io::Result<Option<Received>> {
        let Some(socket) = self.socket.as_mut() else { return Ok(None) };
        let space = self.reader.space();
        let room = space.len();
        loop {
            match socket.read(space) {
                Ok(0) => return Ok(Some(Received::End)),
                Ok(count) => {
                    self.reader.received(count);
                    return Ok(Some(if count < room { Received::All(count) } else { Received::Some(count) }));
                }
                Err(problem) if problem.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(problem) if problem.kind() == ErrorKind::Interrupted => {}
                Err(problem) => return Err(problem),
            }
        }
    }

    /// Closes the socket and forgets what belongs to it, but for the requests that are under way.
    pub fn close(&mut self) {
        // Dropping it also takes it from the epoll instance.
        self.socket = None;
        self.is_open = false;
        self.out.clear();
        self.written = 0;
        self.reader.clear();
    }
}

/// What an event carries: the connection and the socket of it.
fn event_data(number: u32, generation: u32) -> EventData {
    EventData::new_u64(u64::from(generation) << 32 | u64::from(number))
}

/// The connection and the socket of an event.
pub fn of_event(data: EventData) -> (u32, u32) {
    let data = data.u64();
    // The halves of what `event_data` put together.
    #[expect(clippy::cast_possible_truncation, reason = "each half has 32 bits")]
    ((data & u64::from(u32::MAX)) as u32, (data >> 32) as u32)
}
