//! What the fuzzer does with bodies of these routes; see the crate.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use kavach::api::authorize_body::CallHead;
use kavach::api::authzen::evaluation::EvaluationBody;
use kavach::api::authzen::evaluations::Evaluations;
use kavach::api::authzen::search::{ActionBody, AuthzenSearch, ResourceBody, SubjectBody};
use kavach::api::error::Problem;
use kavach::api::input::parse;
use kavach_domain::decision::request::Asked;
use kavach_domain::tenant::Caller;
use kavach_fixture::small_tenant::Small;

const ASKING: CallHead<'static> = CallHead { agent_ip: None, user_agent: Some("pep/1"), trace: None };

pub fn evaluation(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let request = parse::<EvaluationBody<'_>>(body)?.check(&ASKING)?;
    small.authorize(&Caller::Operator, &request);
    Ok(())
}

pub fn evaluations(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let requests = match Evaluations::read(&ASKING, body)? {
        Evaluations::One(request) => {
            assert_eq!(parse::<EvaluationBody<'_>>(body)?.check(&ASKING)?, request, "without evaluations it is one");
            vec![request]
        }
        Evaluations::Many(items, _) => items.into_iter().flatten().take(4).collect(),
    };
    for request in requests {
        small.authorize(&Caller::Operator, &request);
    }
    Ok(())
}

pub fn search_subject(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let AuthzenSearch { mut request, .. } = parse::<SubjectBody<'_>>(body)?.check(&ASKING)?;
    for agent in small.tenant.agents() {
        request.agent = Asked::Agent(agent.profile.id);
        small.tenant.would_allow(&request, small.now);
    }
    Ok(())
}

pub fn search_resource(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let search = parse::<ResourceBody<'_>>(body)?.check(&ASKING)?;
    let Asked::Agent(agent) = search.request.agent else { return Ok(()) };
    let segment = search.request.resource().to_owned();
    for resource in small.tenant.resources_to_try(agent, search.request.action(), &segment, small.now).texts {
        assert!(resource.starts_with(&format!("{segment}:")), "{resource} is not of {segment}");
        if let Ok(request) = search.request.about(search.request.action(), &resource) {
            small.tenant.would_allow(&request, small.now);
        }
    }
    Ok(())
}

pub fn search_action(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let search = parse::<ActionBody<'_>>(body)?.check(&ASKING)?;
    let Asked::Agent(agent) = search.request.agent else { return Ok(()) };
    for action in small.tenant.actions_to_try(agent, search.request.resource(), small.now).texts {
        let request = search.request.about(&action, search.request.resource()).unwrap();
        small.tenant.would_allow(&request, small.now);
    }
    Ok(())
}
