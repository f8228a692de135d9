//! Memory that is held for as long as a client likes: request bodies on their way in, large responses on their way out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The memory that slow clients hold. There is one limit for the process. At the limit, the client that has moved no byte
/// for the longest time loses its memory. So a client that is slow on purpose goes first, and one on a bad line goes last.
pub struct SlowClientMemory {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    bytes: usize,
    /// Counts what happens.
    clock: u64,
    /// By the time at which the client last moved a byte.
    places: BTreeMap<u64, (usize, LetGo)>,
}

/// Frees the memory.
type LetGo = Box<dyn FnOnce() + Send>;

/// The memory that one client holds. Dropping this gives it back.
pub struct HeldMemory {
    held: Arc<SlowClientMemory>,
    at: u64,
}

impl SlowClientMemory {
    /// Holds at most `most` bytes, or a single larger block.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, inner: Mutex::default() })
    }

    /// Counts `bytes` as held. `let_go` is called if they have to be freed early.
    pub fn take(self: &Arc<Self>, bytes: usize, let_go: impl FnOnce() + Send + 'static) -> HeldMemory {
        let at = self.with(|inner| inner.put(bytes, Box::new(let_go)));
        HeldMemory { held: Arc::clone(self), at }
    }

    /// Bytes that are held now.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.with(|inner| inner.bytes)
    }

    fn with<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut inner);
        let mut gone = Vec::new();
        while inner.bytes > self.most && inner.places.len() > 1 {
            gone.extend(inner.places.first_key_value().map(|(at, _)| *at).and_then(|at| inner.remove(at)));
        }
        drop(inner);
        for (_, let_go) in gone {
            let_go();
        }
        changed
    }
}

impl Inner {
    fn put(&mut self, bytes: usize, let_go: LetGo) -> u64 {
        self.clock += 1;
        self.bytes += bytes;
        self.places.insert(self.clock, (bytes, let_go));
        self.clock
    }

    fn remove(&mut self, at: u64) -> Option<(usize, LetGo)> {
        let place = self.places.remove(&at)?;
        self.bytes -= place.0;
        Some(place)
    }
}

impl HeldMemory {
    /// Notes that the client moved some bytes and holds `bytes` now.
    pub fn moved(&mut self, bytes: usize) {
        let at = self.at;
        let put = |inner: &mut Inner| inner.remove(at).map(|(_, let_go)| inner.put(bytes, let_go));
        // If the memory was taken back already, `let_go` has been called.
        if let Some(at) = self.held.with(put) {
            self.at = at;
        }
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        self.held.with(|inner| inner.remove(self.at));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_moved_longest_ago_goes_first() {
        let held = SlowClientMemory::new(100);
        let gone: Arc<[AtomicUsize; 3]> = Arc::default();
        let take = |n: usize, bytes| {
            let gone = Arc::clone(&gone);
            held.take(bytes, move || {
                gone[n].fetch_add(1, Ordering::Relaxed);
            })
        };
        let went = || gone.iter().map(|times| times.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let mut first = take(0, 40);
        let mut second = take(1, 40);
        first.moved(50);
        assert_eq!((went(), held.bytes()), (vec![0, 0, 0], 90));
        let third = take(2, 40);
        assert_eq!((went(), held.bytes()), (vec![0, 1, 0], 90), "the second one moved nothing");
        second.moved(80);
        assert_eq!((went(), held.bytes()), (vec![0, 1, 0], 90), "it is gone");
        drop(second);
        first.moved(500);
        assert_eq!((went(), held.bytes()), (vec![0, 1, 1], 500), "one alone may be larger");
        drop((first, third));
        assert_eq!((went(), held.bytes()), (vec![0, 1, 1], 0));
    }
}
