//! Follows a tenant's hash chain through its segments, up to the first fault.
//!
//! A link can only tell whether the run of events since the link before it is unchanged. If a frame is bad, missing or
//! out of place, we know the event. If all frames look right and only the link differs, it is an event of the run, and
//! we know which only if it does not make sense.

use std::path::{Path, PathBuf};

use crate::chain::{Chain, Checkpoint, genesis};
use crate::crash::SuspectPlace;
use crate::frame::{self, Frame};
use crate::segment::{HEADER, HeaderError, SegmentHeader, VERSION};

/// Checks an event that no link vouches for yet, and says what is odd about it, if anything.
pub type EventCheck<'a> = dyn FnMut(u64, &[u8]) -> Option<String> + 'a;

/// The first fault in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of change, as far as we can tell.
    pub kind: FaultKind,
    /// The segment file.
    pub file: PathBuf,
    /// Position in the (uncompressed) file.
    pub offset: u64,
    /// The first event it is about.
    pub first: u64,
    /// The last event it may be about.
    pub last: u64,
    /// The bytes of the event `first`, if it exists.
    pub event: Option<Vec<u8>>,
    /// The bytes of the last event before `first`, which is intact.
    pub before: Option<Vec<u8>>,
    /// What was found, as a phrase.
    pub detail: String,
}

/// A kind of change to the journal, as far as we can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The event is not what it was, or one of the run is not.
    Changed,
    /// The event is gone.
    Removed,
    /// The event stands in another place.
    Moved,
    /// An event, and the links after it, were written anew.
    Rewritten,
}

/// Whether the chain passes through a link that was kept elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Nothing was kept.
    NotAsked,
    /// The chain passes through it.
    Through,
    /// What the link covers is no longer there: retention removed it.
    TooOld,
}

/// Links without an event between them that are followed from a kept one: there are a few at most, one for a sync, one
/// for a checkpoint, one where a segment ends.
const MAX_EMPTY_LINKS: usize = 16;

/// One segment to look at.
pub(super) struct Segment<'a> {
    pub file: &'a Path,
    pub first_seq: u64,
    /// Its uncompressed bytes, as far as they could be read.
    pub bytes: &'a [u8],
    /// Why there are not more.
    pub cut: Option<String>,
    /// Whether it is certain that what was at a bad spot of it had reached the disk.
    pub was_on_disk: &'a dyn Fn(SuspectPlace) -> bool,
}

/// The state of the check so far.
pub(super) struct ChainCheck<'o, 'a> {
    tenant: [u8; 16],
    kept: Option<Checkpoint>,
    passed: bool,
    too_old: bool,
    odd: &'o mut EventCheck<'a>,
    chain: Option<Chain>,
    /// The event that comes next.
    pub expect: u64,
    /// The first event there is.
    pub first_seq: u64,
    run: UnlinkedRun,
    before: Option<Vec<u8>>,
    /// Links on the way.
    pub links: u64,
    /// The last event on disk according to a link on the way.
    synced_by_marker: u64,
    torn: bool,
    /// Bytes behind the place from which on a crash left nothing that can be followed.
    pub torn_bytes: u64,
}

/// The events since the last link.
#[derive(Default)]
struct UnlinkedRun {
    /// The first of them, and of those that are odd.
    first: Option<SeenEvent>,
    odd: Option<(SeenEvent, String)>,
    /// The last event before it.
    before: Option<Vec<u8>>,
}

#[derive(Clone)]
struct SeenEvent {
    file: PathBuf,
    offset: u64,
    seq: u64,
    event: Vec<u8>,
}

type Followed = Result<(), Box<Fault>>;

impl<'o, 'a> ChainCheck<'o, 'a> {
    pub fn new(tenant: [u8; 16], kept: Option<Checkpoint>, odd: &'o mut EventCheck<'a>) -> Self {
        Self {
            tenant,
            kept,
            passed: kept.is_none(),
            too_old: false,
            odd,
            chain: None,
            expect: 0,
            first_seq: 0,
            run: UnlinkedRun::default(),
            before: None,
            links: 0,
            synced_by_marker: 0,
            torn: false,
            torn_bytes: 0,
        }
    }

    /// The newest link so far.
    pub fn link(&self) -> Option<Checkpoint> {
        self.chain.as_ref().map(Chain::link)
    }

    /// How the chain stands to the kept link.
    pub fn passage(&self) -> Passage {
        match self.kept {
            None => Passage::NotAsked,
            Some(_) if self.too_old => Passage::TooOld,
            Some(_) => Passage::Through,
        }
    }

    fn fault(&self, kind: FaultKind, segment: &Segment<'_>, offset: usize, detail: impl Into<String>) -> Box<Fault> {
        Box::new(Fault {
            kind,
            file: segment.file.to_path_buf(),
            offset: offset as u64,
            first: self.expect,
            last: self.expect,
            event: None,
            before: self.before.clone(),
            detail: detail.into(),
        })
    }

    /// Follows the chain through the next segment.
    pub fn segment(&mut self, segment: &Segment<'_>) -> Followed {
        if self.torn {
            // Nothing says that it, or what came before it, had reached the disk.
            self.torn_bytes += segment.bytes.len() as u64;
            return Ok(());
        }
        if self.chain.is_none() {
            self.expect = segment.first_seq;
            self.first_seq = segment.first_seq;
        }
        let header = match SegmentHeader::decode(segment.bytes) {
            Ok(header) => header,
            Err(HeaderError::Torn) if self.is_torn(segment, 0) => return Ok(()),
            Err(HeaderError::Torn) => {
                let detail = segment.cut.clone().unwrap_or_else(|| "the segment's header is damaged".into());
                return Err(self.fault(FaultKind::Changed, segment, 0, detail));
            }
            Err(HeaderError::TooNew(version)) => {
                let detail = format!("the file has format version {version}, and this program reads up to {VERSION}");
                return Err(self.fault(FaultKind::Changed, segment, 0, detail));
            }
        };
        if header.tenant != self.tenant {
            return Err(self.fault(FaultKind::Changed, segment, 10, "the segment belongs to another tenant"));
        }
        if header.first_seq != segment.first_seq {
            let detail = format!("the header says the segment starts with event {}", header.first_seq);
            return Err(self.fault(FaultKind::Changed, segment, 26, detail));
        }
        self.join(segment, &header)?;
        if self.torn { Ok(()) } else { self.frames(segment) }
    }

    /// Goes from the end of one segment to the start of the next.
    fn join(&mut self, segment: &Segment<'_>, header: &SegmentHeader) -> Followed {
        let Some(chain) = &self.chain else { return self.begin(segment, header) };
        if segment.first_seq > self.expect {
            if self.is_torn(segment, 0) {
                return Ok(());
            }
            let mut fault = self.fault(FaultKind::Removed, segment, 0, "the events before this segment are missing");
            fault.last = segment.first_seq - 1;
            return Err(fault);
        }
        if segment.first_seq < self.expect {
            return Err(self.fault(FaultKind::Moved, segment, 0, "the segment repeats events of the one before"));
        }
        if header.previous == chain.link().hash && self.run.first.is_none() {
            return Ok(());
        }
        // A link that was never written, or is gone, but events that are what they were.
        if header.previous == chain.next_hash() {
            return self.link_to(segment, HEADER, header.previous, header.created_ms);
        }
        if self.is_torn(segment, 0) {
            return Ok(());
        }
        if self.run.first.is_some() {
            return Err(self.broken(segment, 42));
        }
        let detail =
            "the segment does not continue the chain of the one before: that one, or this header, is not what it was";
        let mut fault = self.fault(FaultKind::Rewritten, segment, 42, detail);
        fault.first = self.first_seq;
        fault.last = self.expect - 1;
        fault.before = None;
        Err(fault)
    }

    fn begin(&mut self, segment: &Segment<'_>, header: &SegmentHeader) -> Followed {
        if segment.first_seq == 1 && header.previous != genesis(self.tenant) {
            let detail = "the first segment does not start the tenant's chain";
            return Err(self.fault(FaultKind::Rewritten, segment, 42, detail));
        }
        let base = Checkpoint { seq: segment.first_seq - 1, hash: header.previous, time_ms: header.created_ms };
        self.chain = Some(Chain::resume(base));
        if self.kept.is_some_and(|kept| kept.seq < base.seq) {
            self.too_old = true;
            self.passed = true;
        }
        // Other links for that event may follow the kept one, in the segment that is gone.
        if let Some(mut link) = self.kept.filter(|kept| kept.seq == base.seq) {
            for _ in 0..MAX_EMPTY_LINKS {
                self.passed |= link.hash == base.hash;
                link.hash = Chain::resume(link).next_hash();
            }
        }
        Ok(())
    }

    fn frames(&mut self, segment: &Segment<'_>) -> Followed {
        let mut position = HEADER;
        while let Some(rest) = segment.bytes.get(position..).filter(|rest| !rest.is_empty()) {
            let (frame, length) = match frame::parse(rest) {
                Ok(parsed) => parsed,
                Err(_) if self.is_torn(segment, position) => return Ok(()),
                Err(detail) => return Err(self.fault(FaultKind::Changed, segment, position, detail)),
            };
            match frame {
                Frame::Event { seq, payload } if seq == self.expect => {
                    let spot = || SeenEvent {
                        file: segment.file.to_path_buf(),
                        offset: position as u64,
                        seq,
                        event: payload.to_vec(),
                    };
                    if self.run.first.is_none() {
                        self.run.first = Some(spot());
                        self.run.before.clone_from(&self.before);
                    }
                    if self.run.odd.is_none()
                        && let Some(detail) = (self.odd)(seq, payload)
                    {
                        self.run.odd = Some((spot(), detail));
                    }
                    if let Some(chain) = &mut self.chain {
                        chain.extend(rest.get(..length).unwrap_or_default());
                        // The kept link's own frame may be gone; what it says holds all the same.
                        if self.kept.is_some_and(|kept| kept.seq == seq && kept.hash == chain.next_hash()) {
                            self.passed = true;
                        }
                    }
                    let before = self.before.get_or_insert_default();
                    before.clear();
                    before.extend_from_slice(payload);
                    self.expect += 1;
                }
                Frame::Event { seq, .. } => return Err(self.out_of_place(segment, position, seq)),
                Frame::Marker(marker) => {
                    self.link_to(segment, position, marker.hash, marker.time_ms)?;
                    self.synced_by_marker = self.synced_by_marker.max(marker.synced_seq);
                }
            }
            position += length;
        }
        match &segment.cut {
            Some(detail) => Err(self.fault(FaultKind::Changed, segment, position, detail.clone())),
            None => Ok(()),
        }
    }

    /// An event stands where another one is next.
    fn out_of_place(&self, segment: &Segment<'_>, position: usize, seq: u64) -> Box<Fault> {
        let missing = self.expect;
        let detail = format!("event {seq} stands where event {missing} is next");
        let elsewhere = events(segment.bytes, position).find(|(_, found, _)| *found == missing);
        match elsewhere {
            Some((_, _, payload)) => {
                let mut fault = self.fault(FaultKind::Moved, segment, position, detail);
                fault.event = Some(payload.to_vec());
                fault
            }
            None => {
                let mut fault = self.fault(FaultKind::Removed, segment, position, detail);
                fault.last = seq.saturating_sub(1).max(missing);
                fault
            }
        }
    }

    /// Goes on from a link, if it is the one the events before it make.
    fn link_to(&mut self, segment: &Segment<'_>, position: usize, hash: [u8; 32], time_ms: i64) -> Followed {
        let Some(chain) = &self.chain else { return Ok(()) };
        if hash != chain.next_hash() {
            return Err(self.broken(segment, position));
        }
        let link = Checkpoint { seq: self.expect - 1, hash, time_ms };
        // Once the chain is past the kept link's event, it has passed through the link or it never will.
        if !self.passed && self.kept.is_some_and(|kept| kept.seq < link.seq) {
            return Err(self.not_kept(segment.file, position));
        }
        self.chain = Some(Chain::resume(link));
        self.run = UnlinkedRun::default();
        self.links += 1;
        self.meet(link);
        Ok(())
    }

    fn meet(&mut self, link: Checkpoint) {
        self.passed |= self.kept.is_some_and(|kept| kept.seq == link.seq && kept.hash == link.hash);
    }

    /// The events since the last link do not make this one.
    fn broken(&self, segment: &Segment<'_>, position: usize) -> Box<Fault> {
        let mut fault =
            self.fault(FaultKind::Changed, segment, position, "the link after these events does not fit them");
        let last = self.expect - 1;
        fault.last = last;
        match (&self.run.odd, &self.run.first) {
            (Some((spot, detail)), _) => {
                fault.detail.clone_from(detail);
                fault.file.clone_from(&spot.file);
                (fault.offset, fault.first, fault.last) = (spot.offset, spot.seq, spot.seq);
                fault.event = Some(spot.event.clone());
                fault.before = None;
            }
            (None, Some(spot)) => {
                fault.file.clone_from(&spot.file);
                (fault.offset, fault.first) = (spot.offset, spot.seq);
                fault.event = Some(spot.event.clone());
                fault.before.clone_from(&self.run.before);
            }
            (None, None) => {
                (fault.kind, fault.last) = (FaultKind::Removed, fault.first);
                "an event that this link covers is not there, or the link was changed".clone_into(&mut fault.detail);
            }
        }
        fault
    }

    /// The chain is whole, but not the one the kept link belongs to.
    fn not_kept(&self, file: &Path, position: usize) -> Box<Fault> {
        let kept = self.kept.map_or(0, |kept| kept.seq);
        Box::new(Fault {
            kind: FaultKind::Rewritten,
            file: file.to_path_buf(),
            offset: position as u64,
            first: self.first_seq,
            last: kept,
            event: None,
            before: None,
            detail: format!("the links fit the events, but not the checkpoint of event {kept}"),
        })
    }

    /// Whether bad bytes at that place are what a crash leaves of writes it interrupted. If so, they are counted.
    fn is_torn(&mut self, segment: &Segment<'_>, position: usize) -> bool {
        let spot = SuspectPlace { offset: position as u64, next_seq: self.expect, synced_seq: self.synced_by_marker };
        self.torn = self.chain.is_some() && !(segment.was_on_disk)(spot);
        if self.torn {
            self.torn_bytes += segment.bytes.get(position..).unwrap_or_default().len() as u64;
        }
        self.torn
    }

    /// Looks at the end: `at_least` is the last event the journal once had for certain.
    pub fn finish(&self, last_file: &Path, end: u64, at_least: u64) -> Followed {
        let last = self.expect.saturating_sub(1);
        let certain = self.kept.filter(|_| !self.passed).map_or(0, |kept| kept.seq).max(at_least);
        if certain > last {
            return Err(Box::new(Fault {
                kind: FaultKind::Removed,
                file: last_file.to_path_buf(),
                offset: end,
                first: self.expect,
                last: certain,
                event: None,
                before: self.before.clone(),
                detail: format!("the journal ends with event {last}, and once went on to event {certain} at least"),
            }));
        }
        if self.passed { Ok(()) } else { Err(self.not_kept(last_file, end as usize)) }
    }
}

/// The events in a segment's bytes from that place on, as far as its frames are good: place, number, payload.
fn events(bytes: &[u8], mut position: usize) -> impl Iterator<Item = (usize, u64, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let at = position;
            let (frame, length) = frame::parse(bytes.get(at..)?).ok()?;
            position += length;
            if let Frame::Event { seq, payload } = frame {
                return Some((at, seq, payload));
            }
        }
    })
}
