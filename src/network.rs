//! IP networks: whether an address is inside `10.0.0.0/8`, or inside one of a list of networks.
//!
//! An IPv4 address is looked up as its IPv4-mapped IPv6 address. So both notations of one address give the same result.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A block of addresses in CIDR notation (RFC 4632 §3.1, RFC 4291 §2.3), or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(IpNet);

/// A list of networks. A look-up costs the logarithm of its length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks {
    /// The networks as written, for display.
    written: Vec<Network>,
    /// First and last addresses, sorted, without overlap.
    ranges: Vec<(u128, u128)>,
}

/// The source address of a request, and whether it is certain. Rate limits count by it; address rules require a certain
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceAddress {
    pub(crate) address: IpAddr,
    /// False if the address is that of a proxy and the client behind it is unknown.
    pub(crate) is_certain: bool,
}

/// The reason why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidNetwork {
    Syntax,
    BitsBeyondPrefix,
    /// An IPv4-mapped IPv6 address.
    Mapped,
}

impl SourceAddress {
    /// `None` if the client's address is uncertain.
    pub(crate) fn certain(self) -> Option<IpAddr> {
        self.is_certain.then_some(self.address)
    }
}

impl Network {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork::Syntax)?;
        let network = match prefix {
            None => IpNet::from(address),
            Some(prefix) => {
                let is_canonical = !prefix.starts_with(['0', '+']) || prefix == "0";
                let prefix = prefix.parse().ok().filter(|_| is_canonical).ok_or(InvalidNetwork::Syntax)?;
                IpNet::new(address, prefix).map_err(|_| InvalidNetwork::Syntax)?
            }
        };
        if address.to_canonical() != address {
            return Err(InvalidNetwork::Mapped);
        }
        if network.network() != address {
            return Err(InvalidNetwork::BitsBeyondPrefix);
        }
        Ok(Self(network))
    }

    fn range(&self) -> (u128, u128) {
        (ipv6_bits(self.0.network()), ipv6_bits(self.0.broadcast()))
    }
}

impl Networks {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let at = ipv6_bits(address);
        let after = self.ranges.partition_point(|(first, _)| *first <= at);
        after.checked_sub(1).and_then(|index| self.ranges.get(index)).is_some_and(|(_, last)| at <= *last)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether every address of `other` is in here.
    pub(crate) fn contains_all(&self, other: &Self) -> bool {
        other.ranges.iter().all(|(first, last)| self.holds_range(*first, *last))
    }

    /// Whether the list as a whole holds all of IPv4, or all of IPv6 that is routed on the Internet (RFC 4291 §2.4).
    pub(crate) fn hold_everyone(&self) -> bool {
        const MAPPED: u128 = 0xffff << 32;
        const GLOBAL: u128 = 0x2000 << 112;
        self.holds_range(MAPPED, MAPPED | 0xffff_ffff) || self.holds_range(GLOBAL, GLOBAL | (u128::MAX >> 3))
    }

    fn holds_range(&self, first: u128, last: u128) -> bool {
        self.ranges.iter().any(|range| range.0 <= first && last <= range.1)
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let written: Vec<Network> = networks.into_iter().collect();
        let mut all: Vec<(u128, u128)> = written.iter().map(Network::range).collect();
        all.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        for (first, last) in all {
            match ranges.last_mut() {
                // Neighbours are one range.
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                Some(_) | None => ranges.push((first, last)),
            }
        }
        Self { written, ranges }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.written.iter().enumerate() {
            write!(f, "{}{network}", if index == 0 { "" } else { "|" })?;
        }
        Ok(())
    }
}

/// The network by which clients are counted: a host may have all addresses of a /64 of IPv6, and one of IPv4.
pub(crate) fn counted_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

fn ipv6_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use proptest::prelude::*;

    fn networks(list: &[&str]) -> Networks {
        list.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    #[track_caller]
    fn holds(list: &[&str], address: &str) -> bool {
        networks(list).contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let list = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::1/128"];
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8:ffff::1", "::1", "::ffff:10.1.2.3"] {
            assert!(holds(&list, inside), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "::2", "::", "::10.1.2.3"]
        {
            assert!(!holds(&list, outside), "{outside}");
        }
        assert!(!networks(&[]).contains(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn everything_is_everything_of_its_kind() {
        assert!(holds(&["0.0.0.0/0"], "203.0.113.9") && !holds(&["0.0.0.0/0"], "2001:db8::1"));
        assert!(holds(&["::/0"], "2001:db8::1") && holds(&["::/0"], "::"));
    }

    #[test]
    fn everyone_is_found_in_pieces_too() {
        for all in [
            &["0.0.0.0/0"][..],
            &["0.0.0.0/1", "128.0.0.0/1"],
            &["128.0.0.0/1", "64.0.0.0/2", "10.0.0.0/8", "0.0.0.0/2"],
            &["::/0"],
            &["::/1", "8000::/1"],
            &["::/1"],
            &["2000::/3"],
            &["3000::/4", "2000::/4"],
            // The range that IPv4 is mapped into.
            &["::/16"],
            &["::/64"],
        ] {
            assert!(networks(all).hold_everyone(), "{all:?}");
        }
        for some in [
            &[][..],
            &["0.0.0.0/1"],
            &["0.0.0.0/1", "128.0.0.0/2"],
            &["2000::/4"],
            &["8000::/1"],
            &["fc00::/7", "10.0.0.0/8"],
        ] {
            assert!(!networks(some).hold_everyone(), "{some:?}");
        }
    }

    #[test]
    fn a_list_contains_another_as_a_whole() {
        let wide = networks(&["10.0.0.0/9", "10.128.0.0/9", "2001:db8::/32"]);
        assert!(
            wide.contains_all(&networks(&["10.0.0.0/8"]))
                && wide.contains_all(&networks(&["10.1.0.0/16", "2001:db8:1::/48"]))
        );
        assert!(!wide.contains_all(&networks(&["10.0.0.0/8", "11.0.0.0/8"])) && wide.contains_all(&networks(&[])));
    }

    #[test]
    fn clients_are_counted_by_ipv4_address_and_by_64_of_ipv6() {
        let counted = |text: &str| counted_network(text.parse().unwrap());
        assert_eq!(counted("2001:db8::1"), counted("2001:db8::ffff:1"));
        assert_ne!(counted("2001:db8::1"), counted("2001:db8:0:1::1"));
        assert_eq!(counted("::ffff:10.0.0.1").to_string(), "10.0.0.1");
    }

    #[test]
    fn networks_in_each_other_are_one() {
        let list = ["10.1.0.0/16", "10.0.0.0/8", "10.2.0.0/16", "10.0.0.0/8"];
        assert!(holds(&list, "10.9.9.9") && !holds(&list, "11.0.0.0"));
        assert_eq!(networks(&list).to_string(), "10.1.0.0/16|10.0.0.0/8|10.2.0.0/16|10.0.0.0/8");
    }

    #[test]
    fn a_network_has_one_spelling() {
        for (text, fault) in [
            ("10.0.0.1/8", InvalidNetwork::BitsBeyondPrefix),
            ("2001:db8::1/32", InvalidNetwork::BitsBeyondPrefix),
            ("::ffff:10.0.0.0/104", InvalidNetwork::Mapped),
            ("::ffff:10.0.0.1", InvalidNetwork::Mapped),
        ] {
            assert_eq!(Network::parse(text), Err(fault), "{text}");
        }
        for (single, network) in [("10.0.0.1", "10.0.0.1/32"), ("2001:db8::1", "2001:db8::1/128")] {
            assert_eq!(Network::parse(single), Network::parse(network), "{single}");
        }
        for text in [
            "",
            "/8",
            "10/8",
            "10.0.0",
            "010.0.0.1",
            "localhost",
            "fe80::1%eth0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "::/129",
            "fe80::%1/64",
            "010.0.0.0/8",
            "localhost/8",
            "10.0.0.0/255.0.0.0",
        ] {
            assert_eq!(Network::parse(text), Err(InvalidNetwork::Syntax), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_list_contains_the_addresses_of_its_networks(
            list in prop::collection::vec((any::<u32>(), 0..=32_u8, any::<u128>(), 0..=128_u8), 0..8),
            (v4, v6, near) in (any::<u32>(), any::<u128>(), any::<prop::sample::Index>()),
        ) {
            let cut = |bits: u128, prefix: u8, width: u8| if prefix == 0 { 0 } else { bits >> (width - prefix) << (width - prefix) };
            let mut all = Vec::new();
            for (v4, short, v6, long) in list {
                all.push(Network(IpNet::new(Ipv4Addr::from_bits(cut(v4.into(), short, 32) as u32).into(), short).unwrap()));
                let address = Ipv6Addr::from_bits(cut(v6, long, 128));
                if address.to_canonical() == IpAddr::V6(address) {
                    all.push(Network(IpNet::new(address.into(), long).unwrap()));
                }
            }
            for network in &all {
                prop_assert_eq!(Network::parse(&network.to_string()), Ok(*network));
            }
            let whole: Networks = all.iter().copied().collect();
            let mut asked = vec![IpAddr::from(Ipv4Addr::from_bits(v4)), Ipv6Addr::from_bits(v6).into()];
            if !all.is_empty() {
                let (first, last) = near.get(&all).range();
                asked.extend([first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|at| IpAddr::from(Ipv6Addr::from_bits(at))));
            }
            for address in asked {
                let holds = |network: &Network| { let (first, last) = network.range(); (first..=last).contains(&ipv6_bits(address)) };
                prop_assert_eq!(whole.contains(address), all.iter().any(holds));
            }
        }
    }
}
