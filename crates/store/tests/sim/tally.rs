//! Counts of what happened in histories. A simulation in which something never happens proves nothing about it.

macro_rules! tally {
    ($name:ident: $($field:ident)*) => {
        /// What happened in histories.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name {
            $(pub $field: u64,)*
        }

        impl $name {
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
