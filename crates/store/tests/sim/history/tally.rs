//! What happened in histories on a disk that fails.

tally! {
    Tally:
    histories operations events answers refused unknown kills power_failures stops_in_recovery rebuilds closed
    leaves returns rows_written rows_together rows_checked rows_lost failed_catalog_writes catalogs_not_whole
    folded log_syncs failed_turns reopened
    snapshots sealed removals checkpoints write_errors short_writes sync_errors other_errors full lost_writes
    torn_writes lost_entries unwatched_losses flips flips_refused
}
