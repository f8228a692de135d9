//! A panic and a stall on request: tests check that nobody else notices.

use actix::{Context, Handler};

use super::TenantActor;
use crate::actors::messages::{InjectPanic, InjectStall};

impl Handler<InjectPanic> for TenantActor {
    type Result = ();

    #[expect(clippy::panic, reason = "it is the message's whole purpose")]
    fn handle(&mut self, _: InjectPanic, _: &mut Context<Self>) {
        panic!("a panic was injected");
    }
}

impl Handler<InjectStall> for TenantActor {
    type Result = ();

    fn handle(&mut self, InjectStall(until): InjectStall, _: &mut Context<Self>) {
        let _ = until.recv();
    }
}
