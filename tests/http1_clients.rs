//! Clients that we did not write get over HTTP/1.1 from the gateway what they get from the service itself: status,
//! fields, body, and the same use of their connections.
//!
//! Each program in `tests/outside/` runs twice, once straight to a service by aiohttp and once through the gateway, and
//! says the same both times. See [`crate::outside`] for their installation.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::grpc::Service;
use crate::outside::{curl_is_there, installed, name_of, node, outside, python, timed};
use crate::support::Gateway;
use crate::support::command::run;
use crate::support::world::config;

/// A service, and a gateway before it.
struct World {
    service: Service,
    gateway: Gateway,
}

impl World {
    fn start(mut service: Command) -> Self {
        // It complains of clients that hang up.
        service.stderr(Stdio::null());
        let service = Service::start(service);
        let routes = ["path: /socket, methods: [GET], access: public, websocket: true", "path: /**, access: public"];
        let gateway = Gateway::start(&config(service.address, &routes, ""));
        Self { service, gateway }
    }

    /// What the program says of the service at this origin.
    #[track_caller]
    fn told(&self, program: &mut Command, origin: &str) -> Value {
        let ca = self.gateway.folder.join("certs/localhost.crt");
        program.current_dir(outside()).env("ORIGIN", origin).env("CA", &ca).env("PYTHONDONTWRITEBYTECODE", "1");
        program.env("CLIENT_ID", "").env("CLIENT_SECRET", "");
        program.env("REQUESTS_CA_BUNDLE", &ca).env("NODE_EXTRA_CA_CERTS", &ca);
        let done = timed(&name_of(program), || run(program));
        assert_eq!(done.code, Some(0), "{origin}: {}{}\n{}", done.stdout, done.stderr, self.gateway.log_text());
        serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("not JSON: {}", done.stdout))
    }
}

/// The program says the same of the gateway as of the service itself. Gives what it says.
#[track_caller]
fn is_as_straight(test: &str, program: Option<Command>) -> Option<Value> {
    let (mut program, service) = (program?, python(test, "http1_service.py")?);
    let has_aiohttp = Command::new(service.get_program()).args(["-c", "import aiohttp, httpx"]).output();
    if !installed(test, "aiohttp and httpx", has_aiohttp.is_ok_and(|output| output.status.success())) {
        return None;
    }
    let world = World::start(service);
    let straight = world.told(&mut program, &format!("http://{}", world.service.address));
    let through = world.told(&mut program, &format!("https://localhost:{}", world.gateway.address().port()));
    for (name, told) in straight.as_object().unwrap() {
        assert_eq!(&through[name], told, "{name}");
    }
    Some(straight)
}

/// All cases that the programs share, by a program that does more besides.
#[track_caller]
fn answers_are_as_straight(test: &str, program: Option<Command>) {
    let Some(told) = is_as_straight(test, program) else { return };
    let plain = json!({
        "status": 200,
        "fields": {
            "content-type": "text/plain; charset=utf-8", "content-length": "5", "etag": "\"one\"",
            "cache-control": "no-store", "x-field": "a, b",
        },
        "cookies": ["a=b; Path=/", "c=d; HttpOnly"],
        "body": "hello",
    });
    assert_eq!((&told["plain"], &told["after_all"]), (&plain, &plain));
    assert_eq!(told["chunks"]["fields"]["transfer-encoding"], "chunked");
    assert!(told["put_pieces"]["body"].as_str().unwrap().contains("\"coding\": \"chunked\""), "{told}");
}

fn undici(test: &str, script: &str) -> Option<Command> {
    let there = outside().join("node_modules/undici").exists();
    installed(test, "undici", there).then(|| node(test, script)).flatten()
}

#[test]
fn curl_gets_what_it_gets_from_the_service() {
    let test = "curl over HTTP/1.1";
    answers_are_as_straight(test, curl_is_there(test).then(|| python(test, "http1_curl.py")).flatten());
}

#[test]
fn requests_gets_what_it_gets_from_the_service() {
    let test = "requests over HTTP/1.1";
    answers_are_as_straight(test, python(test, "http1_requests.py"));
}

#[test]
fn httpx_gets_what_it_gets_from_the_service() {
    let test = "httpx over HTTP/1.1";
    answers_are_as_straight(test, python(test, "http1_httpx.py"));
}

#[test]
fn aiohttp_gets_what_it_gets_from_the_service() {
    let test = "aiohttp over HTTP/1.1";
    answers_are_as_straight(test, python(test, "http1_aiohttp.py"));
}

#[test]
fn node_gets_what_it_gets_from_the_service() {
    let test = "node:http over HTTP/1.1";
    answers_are_as_straight(test, node(test, "http1_node.mjs"));
}

#[test]
fn undici_gets_what_it_gets_from_the_service() {
    let test = "undici over HTTP/1.1";
    answers_are_as_straight(test, undici(test, "http1_undici.mjs"));
}

#[test]
fn load_generators_count_no_failure_and_no_lost_answer() {
    let test = "wrk, h2load and ab over HTTP/1.1";
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &&str| std::env::split_paths(&path).any(|folder| folder.join(tool).exists());
    if !installed(test, "wrk, h2load or ab", ["wrk", "h2load", "ab"].iter().all(is_there)) {
        return;
    }
    let Some(told) = is_as_straight(test, python(test, "http1_load.py")) else { return };
    let kept = json!([
        ["Document Length", "5"],
        ["Complete requests", "100"],
        ["Failed requests", "0"],
        ["Keep-Alive requests", "100"]
    ]);
    assert_eq!((&told["ab"][1], &told["wrk"][0]), (&kept, &json!({ "many": true, "errors": [] })));
}
