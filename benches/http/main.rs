//! wip
#![allow(missing_docs)]
mod bare;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    if std::env::args().nth(1).as_deref() == Some("bare") {
        bare::serve(2, 100).unwrap();
    }
}
