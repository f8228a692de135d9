use proptest::prelude::*;

use super::*;
use crate::domain::Request;

fn gateway(rules: &str) -> Gateway {
    Gateway { kind: GatewayKind::Nginx, rules: Rules::parse(rules).unwrap() }
}

fn default_gateway() -> Gateway {
    Gateway::open(GatewayKind::Nginx, None).unwrap()
}

fn map(gateway: &Gateway, method: &str, target: &str, headers: &[(&str, &str)]) -> Result<(String, String), String> {
    let find = |name: &str| {
        headers.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.as_bytes()).collect::<Vec<_>>()
    };
    let host = headers.iter().find(|(name, _)| *name == "host").map(|(_, value)| *value).unwrap_or_default();
    let original = Original { method, target, host, headers: &find };
    gateway.map(&original).map(|Mapped { action, resource }| (action, resource))
}

#[test]
fn without_a_file_the_path_is_the_resource_and_the_method_the_action() {
    let gateway = default_gateway();
    let resource = |target| {
        map(&gateway, "GET", target, &[]).map(|(action, resource)| {
            assert_eq!(action, "get");
            resource
        })
    };
    for (target, wanted) in [
        ("/", "http:/"),
        ("/?x=/../y", "http:/"),
        ("/docs/1", "http:docs:1"),
        ("/docs/1/", "http:docs:1"),
        ("/docs/1?a=b:c", "http:docs:1"),
        ("/a%20b/%C3%A9/%64ocs", "http:a b:é:docs"),
        ("/a.b/...", "http:a.b:..."),
        ("/A", "http:A"),
        ("/$-_.+!'(),&=@~", "http:$-_.+!'(),&=@~"),
    ] {
        assert_eq!(resource(target).as_deref(), Ok(wanted), "{target}");
    }
    for target in [
        "",
        "docs",
        "?x",
        "//",
        "//docs",
        "/docs//1",
        "/docs//",
        "/./docs",
        "/docs/..",
        "/docs/../x",
        "/%2e%2e/x",
        "/%2E",
        "/docs/.%2e/x",
        "/a:b",
        "/a%3ab",
        "/*",
        "/docs/%2a",
        "/docs;v=1/x",
        "/docs%3Bv",
        "/a%2fb",
        "/a%5Cb",
        "/a\\b",
        "/a%252fb",
        "/a%25",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%+1",
        "/a#b",
        "/a%23",
        "/a%3f",
        "/a%00",
        "/a%0A",
        "/a%7F",
        "/a b",
        "/é",
        "/%ff",
        "/%c0%af",
        "*",
        "http://host/docs",
    ] {
        assert!(resource(target).is_err(), "{target}");
    }
}

#[test]
fn a_method_is_in_capital_letters() {
    let gateway = default_gateway();
    for method in ["GET", "PROPFIND", "M-SEARCH", "VERSION-CONTROL"] {
        assert_eq!(map(&gateway, method, "/a", &[]).unwrap().0, method.to_lowercase());
    }
    for method in ["", "get", "Get", "GET ", "GET:", "*", "G\u{e9}T", &"X".repeat(33)] {
        assert!(map(&gateway, method, "/a", &[]).is_err(), "{method}");
    }
}

#[test]
fn the_first_rule_that_matches_makes_action_and_resource() {
    let gateway = gateway(
        r#"{"rules": [
            {"methods": ["GET", "HEAD"], "path": "/api/{repo}/issues/{id}", "action": "read", "resource": "repo:{repo}:issue:{id}"},
            {"path": "/api/{repo}/issues/{id}", "action": "{crud}", "resource": "repo:{repo}:issue:{id}"},
            {"host": "files.example.com", "path": "/{name...}", "resource": "file:{host}:{name...}"},
            {"path": "/mcp", "action": "{header.x-mcp-method}", "resource": "mcp:{header.x-mcp-server}:{header.X-Mcp-Tool}"},
            {"path": "/tool/{any}", "action": "call", "resource": "{header.x-resource...}"}
        ]}"#,
    );
    let host = ("host", "Files.Example.com.:8443");
    let ok = |method, target, headers: &[(&str, &str)]| map(&gateway, method, target, headers).unwrap();
    let pair = |action: &str, resource: &str| (action.to_owned(), resource.to_owned());
    assert_eq!(ok("HEAD", "/api/core/issues/7", &[]), pair("read", "repo:core:issue:7"));
    assert_eq!(ok("PATCH", "/api/core/issues/7", &[]), pair("update", "repo:core:issue:7"));
    assert!(map(&gateway, "PROPFIND", "/api/core/issues/7", &[]).is_err());
    assert_eq!(ok("GET", "/a/b", &[host]), pair("get", "file:files.example.com:a:b"));
    let mcp = [("host", "x"), ("x-mcp-server", "github"), ("x-mcp-tool", "list/issues"), ("x-mcp-method", "call")];
    assert_eq!(ok("POST", "/mcp", &mcp), pair("call", "mcp:github:list/issues"));
    let whole = |value| map(&gateway, "POST", "/tool/x", &[("host", "x"), ("x-resource", value)]).map(|made| made.1);
    assert_eq!(whole("mcp:github:repos").unwrap(), "mcp:github:repos");
    for bad in ["", ":", "mcp:", "mcp::x", "mcp:*", "a b", "é"] {
        assert!(whole(bad).is_err(), "{bad}");
    }
    // Values that a header can't have, a header sent twice, and a missing host that a rule requires.
    for (name, value) in [("x-mcp-tool", "a:b"), ("x-mcp-tool", "*"), ("x-mcp-method", "a*"), ("x-mcp-server", "")] {
        let headers = mcp.map(|(known, good)| if known == name { (name, value) } else { (known, good) });
        assert!(map(&gateway, "POST", "/mcp", &headers).is_err(), "{name}: {value}");
        let twice: Vec<_> = mcp.into_iter().chain([(name, "again")]).collect();
        assert!(map(&gateway, "POST", "/mcp", &twice).is_err(), "{name} twice");
    }
    assert!(map(&gateway, "GET", "/a/b", &[]).unwrap_err().contains("host"));
    assert!(map(&gateway, "GET", "/a/b", &[("host", "[::1]:80")]).unwrap_err().contains("host"));
    assert!(map(&gateway, "GET", "/a/b", &[("host", "other")]).unwrap_err().contains("no rule"));
    assert!(map(&gateway, "GET", "/api/core/issues", &[("host", "other")]).is_err());
}

#[test]
fn a_wrong_file_names_the_rule_and_the_field() {
    let rule = |fields: &str| format!(r#"{{"rules": [{{"path": "/a", "resource": "a"}}, {{{fields}}}]}}"#);
    for (text, wanted) in [
        (String::new(), ""),
        ("[]".to_owned(), ""),
        (r#"{"rules": []}"#.to_owned(), "rules"),
        (r#"{"rules": [], "mode": 1}"#.to_owned(), "mode"),
        (r#"{"rules": [{"path": "/", "resource": "a"}]} x"#.to_owned(), "trailing"),
        (rule(r#""path": "/a""#), "rules[1]"),
        (rule(r#""path": 5, "resource": "a""#), "rules[1].path"),
        (rule(r#""path": "/a", "resource": "a", "acton": "read""#), "rules[1].acton"),
        (rule(r#""path": "a", "resource": "a""#), "rules[1].path"),
        (rule(r#""path": "/a//b", "resource": "a""#), "rules[1].path"),
        (rule(r#""path": "/a/", "resource": "a""#), "rules[1].path"),
        (rule(r#""path": "/a:b", "resource": "a""#), "rules[1].path"),
        (rule(r#""path": "/x{a}", "resource": "a""#), "rules[1].path"),
        (rule(r#""path": "/{a}{b}", "resource": "a""#), "rules[1].path"),
        (rule(r#""path": "/{}", "resource": "a""#), "rules[1].path"),
        (rule(r#""path": "/{a}/{a}", "resource": "a""#), "rules[1].path"),
        (rule(r#""path": "/{host}", "resource": "a""#), "rules[1].path"),
        (rule(r#""path": "/{a...}/b", "resource": "a""#), "rules[1].path"),
        (rule(r#""path": "/a", "resource": """#), "rules[1].resource"),
        (rule(r#""path": "/a", "resource": "a:""#), "rules[1].resource"),
        (rule(r#""path": "/a", "resource": "a:*""#), "rules[1].resource"),
        (rule(r#""path": "/a", "resource": "a:{b}""#), "rules[1].resource"),
        (rule(r#""path": "/{b...}", "resource": "a:{b}""#), "rules[1].resource"),
        (rule(r#""path": "/{b}", "resource": "a:x{b}""#), "rules[1].resource"),
        (rule(r#""path": "/a", "resource": "{header.}""#), "rules[1].resource"),
        (rule(r#""path": "/a", "resource": "a", "action": "*""#), "rules[1].action"),
        (rule(r#""path": "/a", "resource": "a", "action": """#), "rules[1].action"),
        (rule(r#""path": "/{b...}", "resource": "a", "action": "{b...}""#), "rules[1].action"),
        (rule(r#""path": "/a", "resource": "a", "methods": []"#), "rules[1].methods"),
        (rule(r#""path": "/a", "resource": "a", "methods": ["get"]"#), "rules[1].methods"),
        (rule(r#""path": "/a", "resource": "a", "host": "A.com""#), "rules[1].host"),
        (rule(r#""path": "/a", "resource": "a", "host": "a.com:80""#), "rules[1].host"),
    ] {
        let problem = Rules::parse(&text).unwrap_err();
        assert!(problem.contains(wanted), "{text}: {problem}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rule(r#""path": "a", "resource": "a""#)).unwrap();
    let problem = Rules::read(file.path()).unwrap_err().to_string();
    assert!(problem.contains(&file.path().display().to_string()) && problem.contains("rules[1].path"), "{problem}");
    assert!(
        Rules::read(Path::new("/nowhere/rules.json")).unwrap_err().to_string().starts_with("/nowhere/rules.json: ")
    );
}

/// Text that is likely to be taken for something else somewhere.
fn target() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-c]{1,2}",
        1 => prop::sample::select(vec![".", "..", "%2e", "%2F", "%3A", ":", "*", ";", "%", "%25", "\\", "", "%20", "%00", "?", "#"])
            .prop_map(str::to_owned),
        1 => "[ -~é]{0,3}",
    ];
    prop::collection::vec(prop::collection::vec(part, 0..3), 0..6)
        .prop_map(|segments| segments.iter().map(|parts| format!("/{}", parts.concat())).collect())
}

proptest! {
    #[test]
    fn no_path_reaches_what_another_one_names(one in target(), other in target()) {
        let gateway = default_gateway();
        let read = |target: &str| map(&gateway, "GET", target, &[]).ok();
        if let Some((action, resource)) = read(&one) {
            // It is a resource, it has as many segments as the path, and no pattern in it.
            prop_assert!(Request::new(&action, &resource).is_ok());
            let path = one.split('?').next().unwrap();
            let path = path.strip_suffix('/').unwrap_or(path);
            prop_assert_eq!(resource.split(':').count(), path.matches('/').count().max(1) + 1);
            prop_assert!(!resource.contains(['*', '%', '\\', ';']));
            // Decoding its segments once gives equal ones, and two paths map to one resource only if their segments are
            // equal.
            let canonical: Vec<_> = segments(&one).unwrap();
            if read(&other).is_some_and(|(_, same)| same == resource) {
                prop_assert_eq!(segments(&other).unwrap(), canonical);
            }
        }
    }
}
