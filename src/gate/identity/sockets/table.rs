//! Listening sockets, as `/proc/net/tcp` and `/proc/net/tcp6` show them (proc_pid_net(5)).

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::Listening;

/// `TCP_LISTEN` in the kernel's `tcp_states.h`.
const LISTEN: &str = "0A";

/// The sockets that listen on `port`, in both families.
pub(super) fn listening(port: u16) -> Vec<Listening> {
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(file) = File::open(table) else {
            continue;
        };
        // The kernel lists listening sockets first (tcp_seq_next in net/ipv4/tcp_ipv4.c), so that
        // ten thousand connections behind them are never read.
        let sockets = BufReader::new(file)
            .lines()
            .skip(1)
            .map_while(Result::ok)
            .map_while(|line| parse(&line));
        found.extend(sockets.filter(|socket| socket.address.port() == port));
    }
    found
}

/// A line of the table; `None` from the first on that is not of a listening socket.
fn parse(line: &str) -> Option<Listening> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    Some(Listening {
        address: SocketAddr::new(parse_address(address)?, u16::from_str_radix(port, 16).ok()?),
        inode: fields.nth(5)?.parse().ok()?,
    })
}

/// Words of 32 bits, each printed as this machine's integer of the bytes on the wire.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words = [word(0)?, word(1)?, word(2)?, word(3)?];
    let bytes: [u8; 16] = words.concat().try_into().ok()?;
    Some(Ipv6Addr::from(bytes).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_families() {
        let v4 = "   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                  1000        0 41873 1 0000000000000000 100 0 0 10 0";
        let listening = parse(v4).unwrap();
        assert_eq!(listening.address, "127.0.0.1:8081".parse().unwrap());
        assert_eq!(listening.inode, 41873);
        let v6 = v4.replace("0100007F", "000080FE000000000000000001000000");
        assert_eq!(
            parse(&v6).unwrap().address,
            "[fe80::1]:8081".parse().unwrap()
        );
        assert_eq!(parse(&v4.replace(" 0A ", " 01 ")), None);
    }
}
