//! The messages of one webhook: those that wait, and what became of the others.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::id::{MessageId, TenantTag, WebhookId};
use crate::limits::{MAX_DEAD_LETTERS, MAX_KEPT_DELIVERIES, MAX_WAITING_MESSAGES, MESSAGE_LIFE_MS};
use crate::time::Timestamp;
use crate::webhook::message_type::MessageType;

/// A message that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingMessage {
    /// Number of the event that made it.
    pub seq: u64,
    /// Time of that event.
    pub at: Timestamp,
    /// What it is about.
    pub kind: MessageType,
    /// Since when it waits: a redelivered one longer than its event is old.
    pub since: Timestamp,
}

impl WaitingMessage {
    /// Whether it is given up after an attempt that failed at `now`.
    pub fn is_given_up(&self, now: Timestamp) -> bool {
        now.millis() - self.since.millis() >= MESSAGE_LIFE_MS
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The endpoint took it.
    Delivered,
    /// It was given up.
    Dead,
}

/// That a message was delivered or given up, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryRecord {
    /// The webhook.
    pub webhook: WebhookId,
    /// Number of the event that made the message.
    pub seq: u64,
    /// Time of that event.
    pub at: Timestamp,
    /// What the message is about.
    pub kind: MessageType,
    /// What became of it.
    pub outcome: Outcome,
    /// How often this process sent it.
    pub attempts: u32,
    /// The HTTP status of the last answer; `None` if none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why the last attempt failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<str>>,
}

/// A message that was delivered or given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Number of the event that made the message.
    pub seq: u64,
    /// Time of that event.
    pub at: Timestamp,
    /// What the message is about.
    pub kind: MessageType,
    /// When it was delivered or given up.
    pub finished_at: Timestamp,
    /// How often it was sent.
    pub attempts: u32,
    /// The HTTP status of the last answer; `None` if none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why the last attempt failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<str>>,
}

/// The messages of one webhook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outbox {
    /// Those that wait, in the order in which they are sent.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    waiting: VecDeque<WaitingMessage>,
    /// The newest that were delivered, oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    delivered: VecDeque<Delivery>,
    /// The newest that were given up, oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    dead: VecDeque<Delivery>,
}

/// A message and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MessageState<'a> {
    /// It waits.
    Waiting(&'a WaitingMessage),
    /// It was delivered.
    Delivered(&'a Delivery),
    /// It was given up.
    Dead(&'a Delivery),
}

impl Outbox {
    /// The message to send next.
    pub fn first(&self) -> Option<&WaitingMessage> {
        self.waiting.front()
    }

    /// How many messages wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many were given up and are still listed.
    pub fn dead(&self) -> usize {
        self.dead.len()
    }

    /// The last message that was delivered or given up, and which of the two.
    pub fn last(&self) -> Option<(Outcome, &Delivery)> {
        let delivered = self.delivered.back().map(|delivery| (Outcome::Delivered, delivery));
        let dead = self.dead.back().map(|delivery| (Outcome::Dead, delivery));
        delivered.into_iter().chain(dead).max_by_key(|(_, delivery)| delivery.finished_at)
    }

    /// All messages it knows.
    pub fn messages(&self) -> impl Iterator<Item = MessageState<'_>> {
        let waiting = self.waiting.iter().map(MessageState::Waiting);
        let delivered = self.delivered.iter().map(MessageState::Delivered);
        waiting.chain(delivered).chain(self.dead.iter().map(MessageState::Dead))
    }

    /// The message that this event made.
    pub fn message(&self, seq: u64) -> Option<MessageState<'_>> {
        self.messages().find(|message| message.seq() == seq)
    }

    /// Whether it is open what becomes of this message: it waits, or was given up while it may have been on its way.
    pub fn awaits(&self, seq: u64) -> bool {
        matches!(self.message(seq), Some(MessageState::Waiting(_) | MessageState::Dead(_)))
    }

    /// Adds a message behind those that wait. If there are too many, the oldest is given up.
    pub(crate) fn push(&mut self, message: WaitingMessage) {
        self.waiting.push_back(message);
        if self.waiting.len() > MAX_WAITING_MESSAGES
            && let Some(WaitingMessage { seq, at, kind, since: _ }) = self.waiting.pop_front()
        {
            let problem = Some(format!("more than {MAX_WAITING_MESSAGES} messages waited for this endpoint").into());
            let finished_at = message.since;
            self.bury(Delivery { seq, at, kind, finished_at, attempts: 0, status: None, problem });
        }
    }

    /// Notes what became of a message. One that was given up meanwhile, because too many waited, may have been delivered
    /// after all.
    pub(crate) fn finish(&mut self, now: Timestamp, record: &DeliveryRecord) {
        let DeliveryRecord { webhook: _, seq, at, kind, outcome, attempts, status, problem } = record;
        self.waiting.retain(|message| message.seq != *seq);
        self.dead.retain(|delivery| delivery.seq != *seq);
        let delivery = Delivery {
            seq: *seq,
            at: *at,
            kind: *kind,
            finished_at: now,
            attempts: *attempts,
            status: *status,
            problem: problem.clone(),
        };
        match outcome {
            Outcome::Delivered => {
                self.delivered.push_back(delivery);
                if self.delivered.len() > MAX_KEPT_DELIVERIES {
                    self.delivered.pop_front();
                }
            }
            Outcome::Dead => self.bury(delivery),
        }
    }

    fn bury(&mut self, delivery: Delivery) {
        self.dead.push_back(delivery);
        if self.dead.len() > MAX_DEAD_LETTERS {
            self.dead.pop_front();
        }
    }

    /// Has a message that was delivered or given up sent again, behind those that wait.
    pub(crate) fn redeliver(&mut self, seq: u64, now: Timestamp) {
        let known = match self.message(seq) {
            Some(MessageState::Delivered(delivery) | MessageState::Dead(delivery)) => (delivery.at, delivery.kind),
            Some(MessageState::Waiting(_)) | None => return,
        };
        self.delivered.retain(|delivery| delivery.seq != seq);
        self.dead.retain(|delivery| delivery.seq != seq);
        let (at, kind) = known;
        self.push(WaitingMessage { seq, at, kind, since: now });
    }
}

impl MessageState<'_> {
    /// Number of the event that made it.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Waiting(message) => message.seq,
            Self::Delivered(delivery) | Self::Dead(delivery) => delivery.seq,
        }
    }

    /// Its id, which stays the same however often it is sent.
    pub fn id(&self, tag: TenantTag) -> MessageId {
        let (at, seq) = match self {
            Self::Waiting(message) => (message.at, message.seq),
            Self::Delivered(delivery) | Self::Dead(delivery) => (delivery.at, delivery.seq),
        };
        MessageId::derive(at, seq, tag)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(seq: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seq as i64)
    }

    fn waiting(seq: u64) -> WaitingMessage {
        WaitingMessage { seq, at: time(seq), kind: MessageType::AgentCreated, since: time(seq) }
    }

    fn record(seq: u64, outcome: Outcome) -> DeliveryRecord {
        DeliveryRecord {
            webhook: WebhookId::derive(time(0), 1, TenantTag(7)),
            seq,
            at: time(seq),
            kind: MessageType::AgentCreated,
            outcome,
            attempts: 1,
            status: Some(200),
            problem: None,
        }
    }

    #[test]
    fn past_the_limit_the_oldest_is_given_up_and_can_be_sent_again() {
        let mut outbox = Outbox::default();
        for seq in 1..=MAX_WAITING_MESSAGES as u64 + 2 {
            outbox.push(waiting(seq));
        }
        assert_eq!((outbox.waiting(), outbox.dead()), (MAX_WAITING_MESSAGES, 2));
        assert_eq!(outbox.first().map(|message| message.seq), Some(3));
        // It was on its way when it was given up.
        outbox.finish(time(9), &record(2, Outcome::Delivered));
        assert!(matches!(outbox.message(2), Some(MessageState::Delivered(_))));
        outbox.redeliver(1, time(10_000_000));
        assert!(matches!(outbox.message(1), Some(MessageState::Waiting(message)) if message.at == time(1)));
        assert!(matches!(outbox.message(3), Some(MessageState::Dead(_))));
    }

    #[test]
    fn a_message_is_given_up_after_a_day() {
        let message = waiting(1);
        assert!(!message.is_given_up(message.since.plus_millis(MESSAGE_LIFE_MS - 1)));
        assert!(message.is_given_up(message.since.plus_millis(MESSAGE_LIFE_MS)));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push,
        Finish(u64, bool),
        Redeliver(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Push),
            (1..40u64, any::<bool>()).prop_map(|(seq, good)| Step::Finish(seq, good)),
            (1..40u64).prop_map(Step::Redeliver),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        /// Every message is in exactly one place, and those that wait keep their order.
        #[test]
        fn no_message_is_lost_or_doubled(steps in steps()) {
            let (mut outbox, mut next) = (Outbox::default(), 1);
            let mut queue: Vec<u64> = Vec::new();
            for (step, now) in steps.into_iter().zip(1_000..) {
                match step {
                    Step::Push => {
                        outbox.push(waiting(next));
                        queue.push(next);
                        next += 1;
                    }
                    Step::Finish(seq, good) if seq < next => {
                        let outcome = if good { Outcome::Delivered } else { Outcome::Dead };
                        if queue.contains(&seq) {
                            outbox.finish(time(now), &record(seq, outcome));
                            queue.retain(|waiting| *waiting != seq);
                        }
                    }
                    Step::Redeliver(seq) if seq < next => {
                        outbox.redeliver(seq, time(now));
                        if !queue.contains(&seq) {
                            queue.push(seq);
                        }
                    }
                    Step::Finish(..) | Step::Redeliver(_) => {}
                }
                let order: Vec<_> = outbox.waiting.iter().map(|message| message.seq).collect();
                prop_assert_eq!(&order, &queue);
                let mut all: Vec<_> = outbox.messages().map(|message| message.seq()).collect();
                all.sort_unstable();
                prop_assert_eq!(all, (1..next).collect::<Vec<_>>());
            }
        }
    }
}
