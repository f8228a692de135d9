//! A browser, driven by the W3C WebDriver protocol.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::Server;

/// How long a page may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Keys as the protocol names them (WebDriver, 17.4.2).
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";

/// The member that holds an element's reference.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Finds the visible element with that selector and accessible name, inside the open dialog if there is one. Labels,
/// `aria-label` and content are enough to name the elements of these pages.
const FIND: &str = r#"
const [selector, name] = arguments;
const root = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document;
const nameOf = (e) => (e.getAttribute("aria-label") ?? e.labels?.[0]?.textContent ?? e.textContent).trim();
return [...root.querySelectorAll(selector)].find((e) => e.checkVisibility() && !e.disabled && (name === null || nameOf(e) === name)) ?? null;
"#;

/// A browser at a server's dashboard. It ends when dropped.
pub struct Browser {
    driver: Child,
    agent: ureq::Agent,
    session: String,
    base: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser without a page.
    pub fn start(server: &Server) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|problem| panic!("chromedriver: {problem}; install Debian's chromium and chromium-driver"));
        let mut out = BufReader::new(driver.stdout.take().unwrap());
        let port = loop {
            let mut line = String::new();
            assert_ne!(out.read_line(&mut line).unwrap(), 0, "chromedriver ended before it said its port");
            if let Some((_, port)) = line.trim_end_matches(['.', '\n']).split_once("started successfully on port ") {
                break port.to_owned();
            }
        };
        std::thread::spawn(move || out.read_to_end(&mut Vec::new()));
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--lang=en-US",
        ];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE)).build();
        let mut browser = Self {
            driver,
            agent: config.into(),
            session: format!("http://127.0.0.1:{port}/session"),
            base: server.base().to_owned(),
            _profile: profile,
        };
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        } } });
        let made = browser.ask("POST", "", &wanted);
        browser.session = format!("{}/{}", browser.session, made["sessionId"].as_str().unwrap());
        browser.look_like(1280, false);
        browser
    }

    /// Sends one command. The browser's error ends the test.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_ask(method, path, body).unwrap_or_else(|problem| panic!("{method} {path} {body}: {problem}"))
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.session));
        let answered = if method == "POST" {
            self.agent.run(request.header("Content-Type", "application/json").body(body.to_string()).unwrap())
        } else {
            self.agent.run(request.body(()).unwrap())
        };
        let (parts, body) = answered.map_err(|problem| problem.to_string())?.into_parts();
        let text = body.into_with_config().limit(64 << 20).read_to_string().map_err(|problem| problem.to_string())?;
        let mut value: Value = serde_json::from_str(&text).map_err(|problem| format!("{problem}: {text}"))?;
        if parts.status.is_success() { Ok(value["value"].take()) } else { Err(value["value"]["message"].to_string()) }
    }

    /// Runs a script in the page.
    pub fn run(&self, script: &str, arguments: Value) -> Value {
        self.ask("POST", "/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Sends a command of the developer tools protocol.
    fn tool(&self, command: &str, parameters: Value) -> Value {
        self.ask("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Sets the width of the window in CSS pixels, and whether the system asks for dark colours.
    pub fn look_like(&self, width: u32, dark: bool) {
        let screen = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.tool("Emulation.setDeviceMetricsOverride", screen);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.tool("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Opens the dashboard.
    pub fn open(&self) {
        self.open_at("/");
    }

    /// Opens another page of the server.
    pub fn open_at(&self, path: &str) {
        self.ask("POST", "/url", &json!({ "url": format!("{}{path}", self.base) }));
    }

    /// Makes every page run a script before its own from now on.
    pub fn run_first(&self, script: &str) {
        self.tool("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }));
    }

    /// Signs in as a person does, by keyboard alone: the field has the focus.
    pub fn sign_in(&self, key: &str) {
        self.open();
        self.find("input", Some("Operator or tenant key"));
        self.press(key);
        self.press(ENTER);
        self.until("the overview is there", "return document.getElementById('main')?.dataset.at === '#/overview'");
    }

    /// Goes to a page and waits until it shows.
    pub fn go(&self, hash: &str) {
        self.run("location.hash = arguments[0]", json!([hash]));
        self.at(hash);
    }

    /// Waits until the page at that address shows.
    pub fn at(&self, hash: &str) {
        self.until(
            &format!("{hash} is shown"),
            &format!("return document.getElementById('main')?.dataset.at === '{hash}'"),
        );
    }

    /// Waits until a script returns true.
    pub fn until(&self, what: &str, script: &str) {
        self.poll(what, || (self.run(script, json!([])) == true).then_some(()));
    }

    /// Waits until the page, or the open dialog, contains that text.
    pub fn sees(&self, text: &str) {
        let script = "return document.body.innerText.toLowerCase().includes(arguments[0].toLowerCase())";
        self.poll(&format!("the page says {text:?}"), || (self.run(script, json!([text])) == true).then_some(()));
    }

    fn poll<T>(&self, what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = poll() {
                return found;
            }
            if start.elapsed() > DEADLINE {
                let page = self.run("return location.href + '\\n' + document.body.innerText", json!([]));
                panic!("it did not come about: {what}\n{}", page.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the element with that selector and accessible name.
    pub fn find(&self, selector: &str, name: Option<&str>) -> String {
        self.poll(&format!("there is a {selector} called {name:?}"), || {
            let found = self.run(FIND, json!([selector, name]));
            found[ELEMENT].as_str().map(str::to_owned)
        })
    }

    /// Presses the button or follows the link with that name.
    pub fn click(&self, name: &str) {
        // A page may replace an element while we press it, so we find it again.
        self.poll(&format!("{name:?} can be pressed"), || {
            let element = self.find("button, a, summary, [type=checkbox]", Some(name));
            self.try_ask("POST", &format!("/element/{element}/click"), &json!({})).ok()
        });
    }

    /// Replaces the content of the field with that label.
    pub fn fill(&self, label: &str, text: &str) {
        let element = self.find("input, textarea", Some(label));
        self.ask("POST", &format!("/element/{element}/clear"), &json!({}));
        self.ask("POST", &format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Types into whatever has the focus.
    pub fn press(&self, keys: &str) {
        let element = self.ask("GET", "/element/active", &Value::Null);
        let element = element[ELEMENT].as_str().unwrap();
        self.ask("POST", &format!("/element/{element}/value"), &json!({ "text": keys }));
    }

    /// Presses keys one after the other, wherever the focus is.
    pub fn press_all(&self, keys: &str) {
        let steps = keys.chars().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })));
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": steps.collect::<Vec<_>>() });
        self.ask("POST", "/actions", &json!({ "actions": [keyboard] }));
    }

    /// Moves the focus by keyboard until the element with that name has it.
    pub fn tab_to(&self, name: &str) {
        let script = "const e = document.activeElement; return (e.getAttribute('aria-label') ?? e.labels?.[0]?.textContent ?? e.textContent).trim()";
        let mut reached = Vec::new();
        for _ in 0..100 {
            let focused = self.run(script, json!([]));
            if focused == name {
                return;
            }
            reached.push(focused);
            // As a key of the keyboard: a key sent to a date field gets no further than its first part.
            self.press_all(TAB);
        }
        reached.dedup();
        panic!("the keyboard does not reach {name:?}, but {reached:?}");
    }

    /// The text that the page shows for a selector.
    pub fn text_of(&self, selector: &str) -> String {
        let shown = self.run("return document.querySelector(arguments[0])?.innerText ?? ''", json!([selector]));
        shown.as_str().unwrap_or_default().to_owned()
    }

    /// Saves a picture of the whole page if `KAVACH_SCREENSHOTS` names a folder.
    pub fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("KAVACH_SCREENSHOTS") else { return };
        let size = self.run("return [innerWidth, Math.min(document.documentElement.scrollHeight, 3000)]", json!([]));
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let shot = self.tool("Page.captureScreenshot", json!({ "captureBeyondViewport": true, "clip": clip }));
        std::fs::create_dir_all(&folder).unwrap();
        let path = std::path::Path::new(&folder).join(format!("{name}.png"));
        std::fs::write(path, STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()).unwrap();
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.ask("POST", "/se/log", &json!({ "type": kind })).as_array().unwrap().clone()
    }

    /// Errors and warnings logged since the last call.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.log("browser").into_iter().filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG");
        log.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Asserts that no page logged an error, and none sent a request to another host.
    #[track_caller]
    pub fn check_records(&self) {
        assert_eq!(self.complaints(), Vec::<String>::new());
        let mut asked = 0;
        for entry in self.log("performance") {
            let event: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            let (method, parameters) = (&event["message"]["method"], &event["message"]["params"]);
            if method != "Network.requestWillBeSent" && method != "Network.webSocketCreated" {
                continue;
            }
            let url = parameters["request"]["url"].as_str().or(parameters["url"].as_str()).unwrap();
            // The browser's own pages, such as its first empty tab, may request what they like.
            let of_browser = parameters["documentURL"].as_str().is_some_and(|page| page.starts_with("chrome"));
            if of_browser || url.starts_with("chrome") {
                continue;
            }
            let inside = ["data:", "blob:"].iter().any(|scheme| url.starts_with(scheme));
            let own = inside || url.starts_with(&format!("{}/", self.base));
            assert!(own, "a request left for {url}");
            asked += usize::from(!inside);
        }
        assert!(asked > 0, "the browser keeps no record of its requests");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session; the driver may be gone already.
        let _ = self.try_ask("DELETE", "", &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
