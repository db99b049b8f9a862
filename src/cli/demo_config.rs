//! The configuration of the demo: a file, or the one that comes with the program, with other ports where its own are
//! taken.
//!
//! The configuration of the program is written to a new folder that is closed to other users, with the schema that its
//! first line names. Certificates, keys and the audit log are made beside it.

use std::env::{VarError, temp_dir};
use std::fs::{self, DirBuilder};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::USAGE;
use super::terminal::{bad_config, failed, note};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::schema;
use crate::config::types::Config;
use crate::issuer::client_auth::secret::hash::ClientSecret;

/// The configuration, ready to run.
pub(super) struct DemoConfig {
    pub(super) config: Config,
    /// The address of the service behind the gateway.
    pub(super) service: SocketAddr,
    /// Addresses that were taken, with those that are used instead.
    pub(super) moved: Vec<(SocketAddr, SocketAddr)>,
    /// The file of the configuration that comes with the program.
    pub(super) written: Option<PathBuf>,
}

/// The variable that holds the client's secret in the shipped configuration.
const SECRET_VARIABLE: &str = "DEMO_CLIENT_SECRET";
const LEGACY: &str = "legacy";
const SHIPPED: &str = include_str!("../../gateway.yaml");
/// The place of the schema in the repository, which the first line of the configuration names.
const SCHEMA_OF_REPOSITORY: &str = "docs/reference/gateway.schema.json";
const SCHEMA_FILE: &str = "gateway.schema.json";
const DEFAULT_FILE: &str = "gateway.yaml";
/// Names that others may have taken in the folder for temporary files.
const NAMES_TRIED: u32 = 1000;

/// `given` is the file of the command line. Without it, a `gateway.yaml` in this folder takes precedence.
pub(super) fn load(given: Option<&Path>, secret: &ClientSecret) -> Result<DemoConfig, ExitCode> {
    let in_folder = Path::new(DEFAULT_FILE);
    let (path, text, is_shipped) = match given.or_else(|| in_folder.exists().then_some(in_folder)) {
        // A file that is not text is reported like any other fault of it.
        Some(path) => (path.to_owned(), fs::read_to_string(path).ok(), false),
        None => {
            let folder = new_folder().map_err(|error| failed(&error))?;
            let text = SHIPPED.replace(SCHEMA_OF_REPOSITORY, SCHEMA_FILE);
            (folder.join(DEFAULT_FILE), Some(text), true)
        }
    };
    let mut demo = parse(&path, text.clone(), secret)?;
    let moved = text.as_ref().and_then(|text| move_taken(&demo, text.clone()));
    if let Some(moved) = &moved {
        demo = DemoConfig { moved: moved.addresses.clone(), ..parse(&path, Some(moved.text.clone()), secret)? };
    }
    if let (true, Some(text)) = (is_shipped, moved.map(|moved| moved.text).or(text)) {
        write(&path, &text).map_err(|error| failed(&error))?;
        demo.written = Some(path);
    }
    Ok(demo)
}

/// Writes the configuration, and its schema beside it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::write(path.with_file_name(SCHEMA_FILE), format!("{}\n", schema::text()))
}

fn parse(path: &Path, text: Option<String>, secret: &ClientSecret) -> Result<DemoConfig, ExitCode> {
    let variable = |name: &str| -> Result<String, VarError> {
        if name == SECRET_VARIABLE { Ok(secret.expose().to_owned()) } else { std::env::var(name) }
    };
    let surroundings = Surroundings { variable: &variable, ..Surroundings::process() };
    let config = match text {
        Some(text) => config::load_text(path, text, &surroundings),
        None => config::load(path, &surroundings),
    };
    let config = config.map_err(|errors| bad_config(&errors))?;
    let Some(service) = service_address(&config) else {
        note(format_args!(
            "the demo needs an upstream `{LEGACY}` on an IP address, as in the gateway.yaml that comes with Portcullis"
        ));
        return Err(ExitCode::from(USAGE));
    };
    Ok(DemoConfig { config, service, moved: Vec::new(), written: None })
}

fn service_address(config: &Config) -> Option<SocketAddr> {
    let routes = config.routes.routes();
    let upstream =
        routes.iter().flat_map(|route| route.target.upstreams()).find(|upstream| &*upstream.name == LEGACY)?;
    upstream.servers.first()?.address()
}

/// A folder that is new, and closed to other users.
fn new_folder() -> io::Result<PathBuf> {
    let mut taken = None;
    for number in 0..NAMES_TRIED {
        let folder = temp_dir().join(format!("portcullis-demo-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(taken.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()))
}

/// The text with other ports.
struct Moved {
    text: String,
    addresses: Vec<(SocketAddr, SocketAddr)>,
}

/// `None` if no port is taken.
fn move_taken(demo: &DemoConfig, mut text: String) -> Option<Moved> {
    let listeners = demo.config.listeners.iter().map(|listener| (listener.address, true));
    let control = demo.config.control_addresses().into_iter().map(|(_, address)| (address, false));
    // Held until all are chosen, so that no port is chosen twice.
    let mut held = Vec::new();
    let mut addresses = Vec::new();
    for (address, has_name) in listeners.chain(control).chain([(demo.service, false)]) {
        let Some((socket, free)) = free_instead(address) else { continue };
        held.push(socket);
        text = with_port(&text, &address.to_string(), free.port());
        if has_name {
            // The issuer is named so.
            text = with_port(&text, &format!("localhost:{}", address.port()), free.port());
        }
        addresses.push((address, free));
    }
    (!addresses.is_empty()).then_some(Moved { text, addresses })
}

/// A free address, if this one is taken.
fn free_instead(address: SocketAddr) -> Option<(TcpListener, SocketAddr)> {
    let is_taken = TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    let socket = TcpListener::bind((address.ip(), 0)).ok().filter(|_| is_taken)?;
    let free = socket.local_addr().ok()?;
    Some((socket, free))
}

/// Replaces the port of every `host:port` in a text.
fn with_port(text: &str, host_and_port: &str, port: u16) -> String {
    let Some((host, _)) = host_and_port.rsplit_once(':') else { return text.to_owned() };
    let mut parts = text.split(host_and_port);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if part.starts_with(|c: char| c.is_ascii_digit()) {
            // A longer number.
            replaced += host_and_port;
        } else {
            replaced += &format!("{host}:{port}");
        }
        replaced += part;
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_ports_of_the_host_are_replaced() {
        let text = "a: 127.0.0.1:90\nb: http://127.0.0.1:9000 # 127.0.0.1:90\nc: 10.0.0.1:90";
        let expected = "a: 127.0.0.1:7\nb: http://127.0.0.1:9000 # 127.0.0.1:7\nc: 10.0.0.1:90";
        assert_eq!(with_port(text, "127.0.0.1:90", 7), expected);
        assert_eq!(with_port("[::1]:90", "[::1]:90", 7), "[::1]:7");
    }

    #[test]
    fn a_free_address_is_not_replaced() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_held, free) = free_instead(taken.local_addr().unwrap()).unwrap();
        assert_ne!(free, taken.local_addr().unwrap());
        assert!(free_instead("127.0.0.1:0".parse().unwrap()).is_none());
    }
}
