//! How the tail gets into the file: a thread writes its oldest pieces while new events come.

use std::io;
use std::sync::Arc;

use crate::active::FileOpener;
use crate::chain::Chain;
use crate::folder::Folder;
use crate::frame;
use crate::index::Index;
use crate::segment::SegmentFile;
use crate::tail::TailPiece;
use crate::writer::Journal;

/// A write of the tail's oldest pieces, to be run off the owner's thread. One at a time.
#[derive(Debug)]
pub struct FlushJob {
    folder: Arc<Folder>,
    opener: FileOpener,
    pieces: Vec<TailPiece>,
    start: u64,
    index: Index,
    chain: Chain,
}

/// What became of a [`FlushJob`].
#[derive(Debug)]
pub struct Flushed {
    /// The file, if it could be opened.
    file: io::Result<Arc<SegmentFile>>,
    outcome: io::Result<Written>,
}

#[derive(Debug)]
struct Written {
    last_seq: u64,
    end: u64,
    index: Index,
    chain: Chain,
}

impl FlushJob {
    /// Bytes that it writes.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.frames.len()).sum()
    }

    /// Writes. Blocking.
    pub fn run(self) -> Flushed {
        match self.opener.open(&self.folder) {
            Ok(file) => {
                let outcome = self.write(&file);
                Flushed { file: Ok(file), outcome }
            }
            Err(error) => Flushed { file: Err(error), outcome: Err(io::Error::other("the file could not be opened")) },
        }
    }

    fn write(self, file: &SegmentFile) -> io::Result<Written> {
        let Self { pieces, start: mut end, mut index, mut chain, .. } = self;
        let mut last_seq = 0;
        for TailPiece { frames, last_seq: last, .. } in &pieces {
            file.file().write_all_at(frames, end).map_err(|(_, error)| error)?;
            frame::each_event(frames, |at, seq| index.note(end + at as u64, seq));
            chain.extend(frames);
            end += frames.len() as u64;
            last_seq = *last;
        }
        Ok(Written { last_seq, end, index, chain })
    }
}

impl Journal {
    /// Ends the newest piece of the tail, so that [`begin_flush`](Journal::begin_flush) can take everything up to now.
    pub fn seal_tail(&mut self) {
        self.tail.seal();
    }

    /// A job that writes the oldest pieces of the tail, at most up to event `upto` and until the segment is full; `None` if
    /// there are none, or one is under way. The owner flushes nothing that the log does not have, since what is in the file happened. Meanwhile it may append, but has
    /// the file written to in no other way.
    ///
    /// # Errors
    /// The journal is broken.
    pub fn begin_flush(&mut self, upto: u64) -> io::Result<Option<FlushJob>> {
        self.check()?;
        let room = self.options.segment_bytes.saturating_sub(self.active.end);
        let pieces = self.tail.up_to(upto, room);
        if self.is_flushing || pieces.is_empty() {
            return Ok(None);
        }
        self.is_flushing = true;
        Ok(Some(FlushJob {
            folder: Arc::clone(&self.folder),
            opener: self.active.opener(),
            pieces,
            start: self.active.end,
            index: self.active.index.continued(),
            chain: self.chain.clone(),
        }))
    }

    /// Takes the outcome of a flush.
    ///
    /// # Errors
    /// The events stay in the tail, and the next flush writes them to the same place, unless the file is not what was
    /// written: then the journal is broken.
    pub fn finish_flush(&mut self, flushed: Flushed) -> io::Result<()> {
        self.is_flushing = false;
        let Flushed { file, outcome } = flushed;
        match file {
            Ok(file) => self.active.file = Some(file),
            Err(error) => return Err(self.not_opened(error)),
        }
        let Written { last_seq, end, index, chain } = outcome.inspect_err(|_| self.close_file_if_synced())?;
        self.active.index.append(index);
        (self.active.end, self.active.since_event, self.chain) = (end, Vec::new(), chain);
        self.written = last_seq;
        self.tail.written(last_seq);
        Ok(())
    }

    /// Writes all of the tail to the file now. Blocking.
    ///
    /// # Errors
    /// As for [`finish_flush`](Journal::finish_flush); `WouldBlock` if a job is under way.
    pub fn flush(&mut self) -> io::Result<()> {
        self.check_not_flushing()?;
        self.seal_tail();
        while let Some(job) = self.begin_flush(u64::MAX)? {
            self.finish_flush(job.run())?;
        }
        Ok(())
    }

    /// Nothing else may be written to the file while a job does.
    pub(super) fn check_not_flushing(&self) -> io::Result<()> {
        if self.is_flushing {
            let problem = "another thread is writing to the journal's file";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, problem));
        }
        Ok(())
    }
}
