//! Asks a running Kavach over HTTP, as a service does before each tool call of an agent. Any HTTP client will do.
//!
//! ```sh
//! KAVACH_TOKEN=kv_... cargo run --example ask_over_http -- read reports:2026:q1
//! ```
//!
//! `KAVACH_URL` says where Kavach is, if not at <http://127.0.0.1:7600>. It exits with 0 if the agent may.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

/// What Kavach says about a call. No answer is a no: only `allowed: true` in a 200 lets the call through.
pub fn ask(base: &str, token: &str, action: &str, resource: &str) -> Result<Result<(), String>, Box<dyn Error>> {
    let question = json!({ "action": action, "resource": resource, "arguments": { "path": "/srv/data/q1.csv" } });
    let request = ureq::post(format!("{base}/v1/authorize")).config().timeout_global(Some(Duration::from_secs(5)));
    // A status other than 200 is an error of its own: a bad token, too many calls, a server that can't answer now.
    let mut response = request.build().header("Authorization", format!("Bearer {token}")).send(question.to_string())?;
    let answer: Value = serde_json::from_str(&response.body_mut().read_to_string()?)?;
    // `code` is for programs, `reason` for people, and `auditId` finds the decision in the trail.
    let text = |member| answer.get(member).and_then(Value::as_str).unwrap_or("none");
    Ok(match answer.get("allowed") {
        Some(Value::Bool(true)) => Ok(()),
        _ => Err(format!("{} ({})", text("reason"), text("code"))),
    })
}

/// Runs the example.
pub fn main() -> Result<ExitCode, Box<dyn Error>> {
    let base = env::var("KAVACH_URL").unwrap_or_else(|_| "http://127.0.0.1:7600".to_owned());
    let token = env::var("KAVACH_TOKEN").map_err(|_| "set KAVACH_TOKEN to an agent's token")?;
    let [action, resource]: [String; 2] =
        env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "usage: ask_over_http ACTION RESOURCE")?;
    Ok(match ask(&base, &token, &action, &resource)? {
        Ok(()) => {
            println!("allowed");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            println!("denied: {reason}");
            ExitCode::FAILURE
        }
    })
}
