//! A name server whose answers the test sets.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Addresses, and their time to live in seconds.
type Told = (Vec<IpAddr>, u32);

#[derive(Clone)]
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    records: Arc<Mutex<HashMap<String, Told>>>,
    is_silent: Arc<AtomicBool>,
    fails_for_v4: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    /// A name server without names.
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            records: Arc::default(),
            is_silent: Arc::default(),
            fails_for_v4: Arc::default(),
            asked: Arc::default(),
        };
        let answering = server.clone();
        thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                if answering.is_silent.load(Ordering::SeqCst) {
                    continue;
                }
                let _ = socket.send_to(&answering.answer(&query[..length]), from);
            }
        });
        server
    }

    /// From now on the name has these addresses, with this time to live in seconds.
    pub(crate) fn tell(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.records.lock().unwrap().insert(name.to_owned(), (addresses, ttl));
    }

    pub(crate) fn forget(&self, name: &str) {
        self.records.lock().unwrap().remove(name);
    }

    pub(crate) fn fall_silent(&self) {
        self.is_silent.store(true, Ordering::SeqCst);
    }

    /// Whether queries for A records are answered with a failure.
    pub(crate) fn fail_for_v4(&self, fails: bool) {
        self.fails_for_v4.store(fails, Ordering::SeqCst);
    }

    /// The number of queries received.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The answer to one query for A or AAAA records (RFC 1035 §4.1).
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (mut name, mut at) = (String::new(), 12);
        while query[at] != 0 {
            let label = &query[at + 1..at + 1 + usize::from(query[at])];
            name += &format!("{}.", String::from_utf8_lossy(label).to_lowercase());
            at += 1 + label.len();
        }
        let question = &query[12..at + 5];
        let wants_v6 = query[at + 2] == 28;
        let records = self.records.lock().unwrap();
        let found = records.get(name.trim_end_matches('.'));
        let fails = !wants_v6 && self.fails_for_v4.load(Ordering::SeqCst);
        let fits = |address: &IpAddr| !fails && address.is_ipv6() == wants_v6;
        let fitting: Vec<IpAddr> = found.iter().flat_map(|(all, _)| all).copied().filter(fits).collect();
        let code = match found {
            _ if fails => 2,
            Some(_) => 0,
            None => 3,
        };
        let mut answer =
            [&query[..2], &[0x85, 0x80 | code, 0, 1, 0, u8::try_from(fitting.len()).unwrap(), 0, 0, 0, 0], question]
                .concat();
        for address in fitting {
            let bytes = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            answer.extend([0xc0, 12, 0, if wants_v6 { 28 } else { 1 }, 0, 1]);
            answer.extend(found.unwrap().1.to_be_bytes());
            answer.extend([0, u8::try_from(bytes.len()).unwrap()]);
            answer.extend(bytes);
        }
        answer
    }
}
