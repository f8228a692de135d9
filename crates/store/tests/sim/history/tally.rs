//! What happened in histories.

macro_rules! tally {
    ($($field:ident)*) => {
        /// What happened in histories.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Tally {
            $(pub $field: u64,)*
        }

        impl Tally {
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }

            /// Each count with its name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field)),*]
            }
        }
    };
}

tally! {
    histories operations events answers refused unknown kills power_failures stops_in_recovery rebuilds closed
    folded log_syncs failed_turns reopened
    snapshots sealed removals checkpoints write_errors short_writes sync_errors other_errors full lost_writes
    torn_writes lost_entries flips flips_refused
}
