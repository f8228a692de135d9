//! The pages for browsers: each file with its type, under a policy that lets nothing in from elsewhere.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::Server;

#[test]
fn a_file_is_served_with_its_type_and_under_the_policy() {
    let server = Server::start();
    let anyone = server.anonymous();
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/assets/docs.js", "text/javascript; charset=utf-8"),
        ("/assets/app.js", "text/javascript; charset=utf-8"),
        ("/assets/app.css", "text/css; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
    ] {
        let answer = anyone.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));

        // A browser's current copy is not sent again.
        let tag = answer.header("etag").unwrap();
        let again = |known: &str| anyone.try_send("GET", path, &[("if-none-match", known.as_bytes())], None).unwrap();
        for known in [tag.to_owned(), format!("W/{tag}"), format!("\"old\", {tag}"), "*".to_owned()] {
            let answer = again(&known);
            assert_eq!(
                (answer.status, answer.body.len(), answer.header("etag")),
                (304, 0, Some(tag)),
                "{path} {known}"
            );
        }
        assert_eq!(again("\"old\"").status, 200);
    }
    for path in ["/assets/none.js", "/assets/%2e%2e%2fmod.rs", "/assets/mod.rs", "/assets/app.js%00"] {
        assert!(anyone.get(path).problem(404, "ROUTE_NOT_FOUND").contains("not found"), "{path}");
    }
}

#[test]
fn public_pages_answer_head_without_a_body() {
    let server = Server::start();
    for path in ["/", "/assets/app.js", "/docs", "/livez", "/readyz", "/metrics", "/openapi.json"] {
        let (mut stream, got) = (TcpStream::connect(server.host()).unwrap(), server.anonymous().get(path));
        // After the head comes the next answer and not a body.
        let ask = |method: &str, path: &str, more: &str| format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
        stream.write_all((ask("HEAD", path, "") + &ask("GET", "/livez", "Connection: close\r\n")).as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, rest) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        assert!(head.contains(got.header("content-type").unwrap()), "{path}: {head}");
        assert!(rest.starts_with("HTTP/1.1 200 "), "{path}: {rest}");
    }
}

#[test]
fn whoami_describes_the_key() {
    let server = Server::start();
    let operator = server.operator();
    let whoami = |key: &str| server.with_key(key).get("/v1/whoami").expect(200);
    let whole = operator.get("/v1/whoami").expect(200);
    assert_eq!(whole, serde_json::json!({ "kind": "operator", "role": "admin", "keyId": null }));
    let acme = operator.tenant("acme");
    let answer = whoami(&acme.key);
    assert_eq!(
        (&answer["kind"], &answer["keyId"], &answer["role"]),
        (&"tenantKey".into(), &acme.key_id.as_str().into(), &"admin".into())
    );
    assert_eq!(answer["tenant"], operator.get("/v1/tenants/acme").expect(200));
    // The default tenant's key too, though no list has that tenant.
    let made = operator.post("/v1/tenants/default/keys", serde_json::json!({ "name": "k" })).expect(201);
    let answer = whoami(made["key"].as_str().unwrap());
    assert_eq!((&answer["tenant"]["slug"], &answer["tenant"]["id"]), (&"default".into(), &serde_json::Value::Null));
}
