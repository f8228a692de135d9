//! Webhooks of the naive model: what each asks for, and its messages in the order of their events.

/// A message, by the number and the time of its event and what it is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Message {
    pub seq: u64,
    pub at: i64,
    pub kind: &'static str,
}

#[derive(Clone, Debug)]
pub struct Hook {
    pub id: String,
    pub events: Vec<&'static str>,
    pub disabled: bool,
    pub description: Option<&'static str>,
    pub rotation: u32,
    /// Whether a tenant key set it last.
    pub by_key: bool,
    pub created: i64,
    pub updated: i64,
    pub waiting: Vec<Message>,
    pub delivered: Vec<Message>,
    pub dead: Vec<Message>,
}

impl Hook {
    /// Whether it is told of such an event.
    pub fn asks_for(&self, kind: &str) -> bool {
        let has = |pattern: &&str| {
            *pattern == "*"
                || *pattern == kind
                || pattern.strip_suffix('*').is_some_and(|start| kind.starts_with(start))
        };
        !self.disabled && self.events.iter().any(has)
    }

    /// All messages it has, in no order.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.waiting.iter().chain(&self.delivered).chain(&self.dead)
    }

    /// What becomes of the first that waits.
    pub fn finish(&mut self, taken: bool) {
        let message = self.waiting.remove(0);
        if taken { &mut self.delivered } else { &mut self.dead }.push(message);
    }

    /// Puts a message that does not wait behind those that do. `false` if it waits.
    pub fn redeliver(&mut self, seq: u64) -> bool {
        if self.waiting.iter().any(|message| message.seq == seq) {
            return false;
        }
        let message = *self.messages().find(|message| message.seq == seq).unwrap();
        self.delivered.retain(|message| message.seq != seq);
        self.dead.retain(|message| message.seq != seq);
        self.waiting.push(message);
        true
    }
}
