//! What happened in histories of a log on another machine.

tally! {
    RemoteTally:
    batches fenced unknown late found parcels answered refused unsure overloaded reads flushes changes batch_calls
    loaded moved abandoned_unwritten folded fold_too_early
}
