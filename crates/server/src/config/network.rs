//! Networks by their prefix, as proxies are named by.

use std::{error, fmt, net::IpAddr, net::Ipv6Addr, str::FromStr};

/// Addresses that begin alike, as `10.0.0.0/8` or `2001:db8::/32`. An address alone is a network of one.
///
/// IPv4 addresses in the clothes of IPv6 (`::ffff:192.0.2.1`) are IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidNetwork {
    /// What stands before the slash is no address.
    Address,
    /// What stands behind the slash is no length of a prefix of this kind of address.
    Prefix,
    /// There are bits behind the prefix; the network that has the address is this one.
    Host(Network),
}

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => formatter.write_str("write an address, or a network such as 10.0.0.0/8"),
            Self::Prefix => formatter.write_str("behind the slash stands a number, up to 32 for IPv4 and 128 for IPv6"),
            Self::Host(network) => write!(formatter, "the address has more bits than the prefix; write {network}"),
        }
    }
}

impl error::Error for InvalidNetwork {}

impl Network {
    /// Whether this address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                u32::from(network) == u32::from(address) & mask(u32::MAX, 32 - u32::from(self.prefix))
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => u128::from(network) == first(address, self.prefix),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// All bits but the last ones. To shift by all of them at once is not defined.
fn mask(all: u32, last: u32) -> u32 {
    all.checked_shl(last).unwrap_or_default()
}

fn first(address: Ipv6Addr, prefix: u8) -> u128 {
    u128::from(address) & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or_default()
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let written: IpAddr = address.trim().parse().map_err(|_| InvalidNetwork::Address)?;
        let address = written.to_canonical();
        let (bits, written_bits) = (if address.is_ipv4() { 32 } else { 128 }, if written.is_ipv4() { 32 } else { 128 });
        let prefix = match prefix {
            None => bits,
            Some(digits) => {
                let number: u8 = digits.trim().parse().map_err(|_| InvalidNetwork::Prefix)?;
                // ::ffff:10.0.0.0/104 is 10.0.0.0/8.
                number
                    .checked_sub(written_bits - bits)
                    .filter(|prefix| *prefix <= bits)
                    .ok_or(InvalidNetwork::Prefix)?
            }
        };
        let network = match address {
            IpAddr::V4(address) => IpAddr::V4((u32::from(address) & mask(u32::MAX, 32 - u32::from(prefix))).into()),
            IpAddr::V6(address) => IpAddr::V6(first(address, prefix).into()),
        };
        let network = Self { address: network, prefix };
        if network.address == address { Ok(network) } else { Err(InvalidNetwork::Host(network)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::192.0.2.7"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.1"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("::1", "::1", "127.0.0.1"),
            ("127.0.0.0/8", "127.0.0.1", "::1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        for (all, address) in [("0.0.0.0/0", "203.0.113.9"), ("::/0", "2001:db8::1")] {
            assert!(all.parse::<Network>().unwrap().contains(address.parse().unwrap()), "{all}");
        }
    }

    #[test]
    fn what_is_no_network_is_told_with_what_was_meant() {
        let error = |text: &str| text.parse::<Network>().err().map(|error| error.to_string()).unwrap_or_default();
        for text in ["", "proxy", "10.0.0/8", "[::1]", "10.0.0.1:80"] {
            assert!(error(text).starts_with("write an address"), "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0/8/8", "::/129", "::ffff:10.0.0.0/8"] {
            assert!(error(text).starts_with("behind the slash"), "{text}");
        }
        assert!(error("10.1.2.3/8").ends_with("write 10.0.0.0/8"));
        assert!(error("2001:db8::1/32").ends_with("write 2001:db8::/32"));
    }
}
