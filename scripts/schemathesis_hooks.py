"""What schemathesis has to know of this server that no schema can say."""

import random
import re

import requests
import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

# Sentences of a 400 to a request that its schema allows: rules between two members, about the caller, about what is
# there, or in digits, which floats can't say.
RULES = [
    r"timeWindow must not start and end at the same minute",
    r"since must not be after until",
    r"confirm must be the tenant's slug",
    r"agentId is required unless the caller has an agent token",
    r"agentId differs from the agent in the path",
    r"auditId names a decision about an agent other than agentId",
    r"limits must contain at least one of",
    r"Last-Event-ID is not an entry of this trail",
    # No pattern says what a glob or a regular expression is.
    r"(allowedArgPatterns|match)\[\d+\] (is not a valid regular expression|has a|has braces|expands to more than|never matches)",
    # Nor how the names of arguments lead into objects and arrays, how long text is in bytes, what a number's digits are,
    # or that members exclude one another.
    r"must have a name of 1 to \d+ bytes|has a name that must|must not lead deeper than",
    r"(has a '\[' without a '\]'|has a '\\+' before|has an empty member|must have a '\.' or a '\[\]' after)",
    r"must not be named (beside|both)",
    r"must not have both match, which is about strings, and max or min",
    r"max must not be less than min|absent must be true, or left out",
    r"must be a number of at most \d+ bytes, within the range of a double",
    r"must have at most \d+ bytes as JSON",
    r"spreadsheet works only with format=csv",
    r"idempotencyKey differs from the Idempotency-Key of the head",
    r"(temporary.until|expiresAt) must be in the future",
    r"hold needs tokensCost",
    # One schema describes a status that is read and one that is set, and a policy with a scope and one without.
    r"status must be active or disabled",
    r"(labels|resource|actions) (can't be given to a policy that was made without|must stay, or another of)",
    r"temporary.limits must name at least one limit",
    r"(tenantId|agentId|userId) must be left out with scope instance",
    r"action must be block or throttle for a policy of the whole instance",
    r"(maxT|t)okensCost\w* must be at most 1000000000000",
    # Agents may have none, and one schema describes both.
    r"labels must name at least one label",
    # No pattern says which zones there are, what the host of a URL may be, or that no word comes twice.
    r"timeZone must be the name of a time zone",
    r"url must have the name or the address of a host",
    r"groupBy must name",
    r"ownerId differs from userId",
    # The document names the usual ones of such characters, and no composition.
    r"must not contain control or invisible characters",
    r"must be in Unicode normalization form C",
    # AuthZEN: a resource is made of its type and its id; a default counts where it is used.
    r'"detail":"resource must',
    r"is missing, both here and in the defaults",
    r"page.token must be the next_token of a page of this search",
]


@schemathesis.check
def valid_data_is_accepted(ctx, response, case):
    """The built-in check, but for what breaks one of the rules."""
    if response.status_code == 400 and any(re.search(rule, response.text) for rule in RULES):
        return
    positive_data_acceptance(ctx, response, case)


def is_denied(answer):
    """Whether a decision, or each of a batch, is a denial. Well-formed calls of a batch name no known agent either."""
    return all(not decision.get("allowed", decision.get("decision")) for decision in answer.get("results", [answer]))


@schemathesis.check
def invalid_data_is_refused(ctx, response, case):
    """The built-in check, but for decisions: a call of a bad form is denied and recorded. Of AuthZEN's many evaluations
    one that can't be read is denied too, and a default counts where it is used."""
    if response.status_code == 200:
        if case.path == "/access/v1/evaluations":
            return
        if re.search(r"/authorize(/batch|/explain)?$|/evaluation$", case.path) and is_denied(response.json()):
            return
    negative_data_rejection(ctx, response, case)


@schemathesis.check
def problems_have_documented_codes(ctx, response, case):
    """A problem's schema is that of all problems; which codes a status can have is beside it."""
    if not response.headers.get("content-type", [""])[0].startswith("application/problem+json"):
        return
    documented = case.operation.definition.raw["responses"].get(str(response.status_code))
    # Another check is about statuses; methods that are tried besides are no operations.
    if documented is None:
        return
    documented = documented["x-codes"]
    problem = response.json()
    assert problem["status"] == response.status_code, problem
    assert problem["code"] in documented, f"{problem['code']} is not among {documented}"


def from_elsewhere(send):
    """Lets each call come from an address of its own, since calls without a good key are counted by address."""

    def sends(session, request, **more):
        request.headers["X-Forwarded-For"] = ".".join(["10", *(str(random.randrange(256)) for _ in range(3))])
        return send(session, request, **more)

    return sends


# A hook would not see the calls that checks make.
requests.Session.send = from_elsewhere(requests.Session.send)


@schemathesis.hook
def before_call(ctx, case, kwargs):
    # A stream that has no end can't be read to one.
    if case.path == "/v1/audit/stream":
        is_positive = case.meta is None or case.meta.generation.mode.is_positive
        query = dict(case.query or {})
        if is_positive:
            query.pop("since", None)
        if is_positive or "until" not in query:
            query["until"] = "2020-01-01T00:00:00Z"
        case.query = query
