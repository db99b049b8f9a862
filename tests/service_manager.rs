//! The service manager is told when the gateway is ready, reloads, stops and works.

use std::os::unix::net::UnixDatagram;

use crate::support::Gateway;
use crate::support::gateway::{PATIENCE, folder};
use crate::support::world::config;

const ROUTES: [&str; 1] = ["name: all, path: /**, access: public, respond: {body: hello}"];

/// A socket for notifications, and a gateway that sends them there.
fn started(variables: &[(&str, &str)]) -> (UnixDatagram, Gateway, String) {
    let folder = folder();
    let path = folder.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let yaml = config("127.0.0.1:9".parse().unwrap(), &ROUTES, "");
    let mut all = vec![("NOTIFY_SOCKET", path.to_str().unwrap())];
    all.extend(variables);
    let gateway = Gateway::start_in(folder.clone(), &yaml, &all);
    (socket, gateway, yaml)
}

/// The assignments of the next notification.
fn next(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
}

#[track_caller]
fn is_ready(notification: &[String], status: &str) {
    let [ready, text] = notification else { panic!("{notification:?}") };
    assert!(ready == "READY=1" && text.starts_with("STATUS=serving configuration "), "{notification:?}");
    assert!(text.contains(status), "{notification:?}");
}

#[track_caller]
fn reloads(notification: &[String]) {
    let [reloading, time, _] = notification else { panic!("{notification:?}") };
    let time: Option<u64> = time.strip_prefix("MONOTONIC_USEC=").and_then(|time| time.parse().ok());
    assert!(reloading == "RELOADING=1" && time.is_some_and(|time| time > 0), "{notification:?}");
}

#[test]
fn the_service_manager_is_told_of_every_change() {
    let (socket, mut gateway, yaml) = started(&[]);
    is_ready(&next(&socket), "");
    gateway.reloads(&yaml.replace("body: hello", "body: other"));
    reloads(&next(&socket));
    is_ready(&next(&socket), "");
    gateway.refuses_reload(&yaml.replace("version: 1", "version: 1\nsurprise: 2"), "unknown key `surprise`");
    reloads(&next(&socket));
    is_ready(&next(&socket), "; the last reload was refused: gateway.yaml:2:1: unknown key `surprise`");
    assert_eq!(gateway.stop().code(), Some(0));
    let stopping = next(&socket);
    assert_eq!(stopping[0], "STOPPING=1");
    assert!(stopping[1].starts_with("STATUS=shutting down"), "{stopping:?}");
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 64]).is_err(), "no watchdog was asked for");
}

#[test]
fn the_watchdog_is_told_that_the_workers_turn() {
    let (socket, gateway, _yaml) = started(&[("WATCHDOG_USEC", "200000")]);
    is_ready(&next(&socket), "");
    for _ in 0..5 {
        assert_eq!(next(&socket), ["WATCHDOG=1"]);
    }
    drop(gateway);
}

#[test]
fn another_process_has_the_watchdog() {
    let (socket, mut gateway, _yaml) = started(&[("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")]);
    is_ready(&next(&socket), "");
    assert_eq!(gateway.stop().code(), Some(0));
    assert_eq!(next(&socket)[0], "STOPPING=1");
}

#[test]
fn a_broken_socket_does_not_stop_the_gateway() {
    let yaml = config("127.0.0.1:9".parse().unwrap(), &ROUTES, "");
    let mut gateway = Gateway::start_in(folder(), &yaml, &[("NOTIFY_SOCKET", "/nonexistent/notify")]);
    gateway.log_line("cannot notify the service manager");
    assert_eq!(gateway.stop().code(), Some(0));
}
