//! The API's documentation, as a reader uses it.

use serde_json::json;

use crate::browser::Browser;
use crate::harness::{OPERATOR_KEY, Server};
use crate::looks::check;

#[test]
fn the_documentation_can_be_read_and_tried() {
    let server = Server::start();
    let operator = server.operator();
    let hostile = "<img src=x onerror=document.title='taken'>";
    operator.post("/v1/tenants", json!({ "name": hostile, "slug": "hostile" })).expect(201);
    let document = server.anonymous().get("/openapi.json").expect(200);
    let open = |browser: &Browser, path: &str, method: &str| {
        browser.run(
            "for (const one of document.querySelectorAll('main > section > details')) one.open = false",
            json!([]),
        );
        let id = document["paths"][path][method]["operationId"].as_str().unwrap().to_owned();
        browser.run("location.hash = arguments[0]", json!([id]));
        browser.until("it is open", &format!("return document.querySelector('#{id} form.try') !== null"));
    };

    let browser = Browser::start(&server);
    browser.open_at("/docs");
    browser.sees("Authorize");
    // Without a key it says what is missing.
    open(&browser, "/v1/tenants", "get");
    browser.click("Send");
    browser.sees("Enter a key");
    browser.fill("Key", OPERATOR_KEY);
    browser.click("Send");
    browser.until(
        "the answer is shown",
        "return document.querySelector('.result > pre')?.textContent.includes('onerror')",
    );
    assert_eq!(browser.run("return !document.querySelector('img[src=x]') && document.title", json!([])), "Kavach API");
    // The command for it holds no key.
    assert!(browser.text_of(".try .example pre").contains("$KAVACH_KEY"));
    browser.until(
        "the key is in its field only",
        &format!("return !document.documentElement.outerHTML.includes('{OPERATOR_KEY}')"),
    );
    // An example works as it is.
    open(&browser, "/v1/tenants", "post");
    browser.click("Send");
    browser.until(
        "it is made",
        "return [...document.querySelectorAll('.result .status')].some((s) => s.textContent === '201')",
    );
    assert_eq!(operator.get("/v1/tenants").items().len(), 2);

    for (look, width, dark) in [
        ("wide-light", 1280, false),
        ("wide-dark", 1280, true),
        ("narrow-light", 390, false),
        ("narrow-dark", 390, true),
    ] {
        browser.look_like(width, dark);
        browser.open_at("/docs");
        browser.sees("Authorize");
        check(&browser, &format!("docs {look}"));
        browser.picture(&format!("docs-{look}"));
        open(&browser, "/v1/authorize", "post");
        check(&browser, &format!("an operation {look}"));
        browser.picture(&format!("docs-operation-{look}"));
    }

    // The dashboard knows the key in the same tab, and leads back here.
    browser.open();
    browser.at("#/overview");
    browser.click("API");
    browser.until("the documentation is there", "return location.pathname === '/docs'");
    browser.check_records();
}
