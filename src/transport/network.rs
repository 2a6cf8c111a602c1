//! Sets of addresses: whom a listener believes about where its clients come from.

use std::net::IpAddr;
use std::str::FromStr;

/// Addresses with a common prefix, written `10.0.0.0/8`, `fd00::/8` or as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANetwork {
    /// The part before the slash.
    #[error("must be an IP address or ADDRESS/BITS")]
    Address,
    /// The part behind it.
    #[error("the number of bits after the slash is too large or no number")]
    Prefix,
    /// Bits that the prefix leaves out must be 0: a typing error otherwise.
    #[error("the address has bits set beyond its prefix")]
    HostBits,
}

impl Network {
    /// Is the address in it? An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Network, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork::Address)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(bits) => bits.parse().map_err(|_| NotANetwork::Prefix)?,
            None => bits_max,
        };
        if prefix_bits > bits_max {
            return Err(NotANetwork::Prefix);
        }
        let beyond = match address {
            IpAddr::V4(v4) => v4.to_bits().checked_shl(prefix_bits.into()).unwrap_or(0) != 0,
            IpAddr::V6(v6) => v6.to_bits().checked_shl(prefix_bits.into()).unwrap_or(0) != 0,
        };
        if beyond {
            return Err(NotANetwork::HostBits);
        }
        Ok(Network { address, prefix_bits })
    }
}

/// Is the address in one of them?
pub(crate) fn trusts(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        let network: Network = network.parse().expect("a network");
        network.contains(address.parse().expect("an address"))
    }

    #[test]
    fn prefix_decides() {
        for (network, address, expected) in [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.2", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "255.1.1.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1", "::1", true),
            ("10.0.0.0/8", "::ffff:10.0.0.9", true),
        ] {
            assert_eq!(contains(network, address), expected, "{address} in {network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, error) in [
            ("", NotANetwork::Address),
            ("localhost", NotANetwork::Address),
            ("10.0.0.0/33", NotANetwork::Prefix),
            ("10.0.0.0/", NotANetwork::Prefix),
            ("::/129", NotANetwork::Prefix),
            ("10.0.0.1/8", NotANetwork::HostBits),
            ("fd00::1/64", NotANetwork::HostBits),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
    }
}
