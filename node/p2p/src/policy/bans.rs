//! Banned peers and hosts, and when each ban ends. Bounded, and kept across restarts.
//!
//! Bans by the operator and bans by the node are kept apart: an attacker can cause many of the
//! latter, and they must not displace the former.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use libp2p::PeerId;
use lru::LruCache;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::warn;

use crate::files;
use crate::policy::ip_prefix::IpPrefix;

/// Bans by the operator, and the same number by the node. The ban that was least recently looked
/// up is dropped first (node policy).
const BANS_MAX: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is not zero");
/// The file within the data directory.
const FILE_NAME: &str = "bans.toml";
/// The longest ban, seconds: a hundred years.
const BAN_SECS_MAX: u64 = 100 * 366 * 86_400;

/// The subject of a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A peer by its identity.
    Peer(PeerId),
    /// A host by its address; an IPv6 host is its /64.
    Host(IpPrefix),
}

/// The author of a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BannedBy {
    /// The operator, by a command.
    Operator,
    /// The node, for an offence of a peer.
    Node,
}

/// Why text names no subject that can be banned.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubjectError {
    /// The text is neither a peer id nor an address.
    #[error("{0:?} is neither a peer id nor an IP address")]
    Malformed(String),
    /// The address is this machine's own, which all local programs share.
    #[error("{0} is this machine: ban the peer by its id instead")]
    Loopback(IpAddr),
}

impl Subject {
    /// The host of an address. `None` for this machine, which is never banned.
    #[must_use]
    pub fn host(ip: IpAddr) -> Option<Self> {
        let ip = ip.to_canonical();
        (!ip.is_loopback() && !ip.is_unspecified()).then(|| Self::Host(IpPrefix::host(ip)))
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The list of bans shows IPv6 hosts with their prefix length.
        let bare = text.strip_suffix("/64").unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Self::host(ip).ok_or(SubjectError::Loopback(ip));
        }
        text.parse()
            .map(Self::Peer)
            .map_err(|_| SubjectError::Malformed(text.chars().take(100).collect()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => peer.fmt(f),
            Self::Host(host) => host.fmt(f),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
struct BanFile {
    #[serde(default)]
    ban: Vec<BanRecord>,
}

#[derive(Serialize, Deserialize)]
struct BanRecord {
    who: String,
    until: u64,
    #[serde(default)]
    by_operator: bool,
}

/// The bans of the operator and those of the node, each with its end in Unix seconds.
pub(crate) struct Bans {
    by_operator: LruCache<Subject, u64>,
    by_node: LruCache<Subject, u64>,
    path: PathBuf,
    changed: bool,
}

impl Bans {
    /// Reads the bans of a data directory that still hold at `now`, Unix seconds.
    #[must_use]
    pub(crate) fn open(data_dir: &Path, now: u64) -> Self {
        let path = data_dir.join(FILE_NAME);
        let file: BanFile = files::read_or_default(&path);
        let mut bans = Self {
            by_operator: LruCache::new(BANS_MAX),
            by_node: LruCache::new(BANS_MAX),
            path,
            changed: false,
        };
        for record in file.ban {
            match record.who.parse() {
                Ok(subject) if record.until > now => {
                    let by = if record.by_operator {
                        BannedBy::Operator
                    } else {
                        BannedBy::Node
                    };
                    bans.of(by).put(subject, record.until);
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "a stored ban is left out"),
            }
        }
        bans
    }

    fn of(&mut self, by: BannedBy) -> &mut LruCache<Subject, u64> {
        match by {
            BannedBy::Operator => &mut self.by_operator,
            BannedBy::Node => &mut self.by_node,
        }
    }

    /// Bans a subject until a time, Unix seconds, at most [`BAN_SECS_MAX`] ahead. If its present
    /// ban lasts longer, that one stays.
    pub(crate) fn ban(&mut self, subject: Subject, until: u64, now: u64, by: BannedBy) {
        let until = until.min(now.saturating_add(BAN_SECS_MAX));
        let bans = self.of(by);
        let longest = bans.get(&subject).copied().unwrap_or_default();
        bans.put(subject, until.max(longest));
        self.changed = true;
    }

    /// Ends the bans of a subject, by the operator and by the node. Returns whether one still
    /// held.
    pub(crate) fn unban(&mut self, subject: &Subject, now: u64) -> bool {
        let ended = [BannedBy::Operator, BannedBy::Node].map(|by| self.of(by).pop(subject));
        self.changed = true;
        ended.into_iter().flatten().any(|until| until > now)
    }

    /// Whether a subject is banned at `now`, Unix seconds.
    pub(crate) fn is_banned(&mut self, subject: &Subject, now: u64) -> bool {
        [BannedBy::Operator, BannedBy::Node].into_iter().any(|by| {
            let bans = self.of(by);
            match bans.get(subject) {
                Some(until) if *until > now => true,
                Some(_) => {
                    bans.pop(subject);
                    false
                }
                None => false,
            }
        })
    }

    /// The bans that hold at `now` and when each ends, sorted by the subject's text.
    #[must_use]
    pub(crate) fn list(&self, now: u64) -> Vec<(String, u64)> {
        let mut bans = BTreeMap::new();
        for (subject, until) in self.by_operator.iter().chain(&self.by_node) {
            if *until > now {
                let longest = bans.entry(subject.to_string()).or_insert(*until);
                *longest = (*longest).max(*until);
            }
        }
        bans.into_iter().collect()
    }

    /// If the bans changed since the last call, returns a closure that writes them to disk. It
    /// has to run where blocking is allowed.
    pub(crate) fn unsaved(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        // The least recently looked up comes first, so that reading restores the order.
        let records = |bans: &LruCache<Subject, u64>, by_operator| {
            let record = |(subject, until): (&Subject, &u64)| BanRecord {
                who: subject.to_string(),
                until: *until,
                by_operator,
            };
            bans.iter().rev().map(record).collect::<Vec<_>>()
        };
        let mut ban = records(&self.by_operator, true);
        ban.extend(records(&self.by_node, false));
        let file = BanFile { ban };
        let path = self.path.clone();
        Some(move || {
            if let Err(error) = files::write(&path, &file) {
                warn!(file = %path.display(), %error, "the bans can't be written");
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn subject(text: &str) -> Subject {
        text.parse().unwrap()
    }

    fn save(bans: &mut Bans) {
        bans.unsaved().unwrap()();
        assert!(bans.unsaved().is_none());
    }

    #[test]
    fn bans_end_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let peer = Subject::Peer(PeerId::random());
        let mut bans = Bans::open(dir.path(), NOW);
        bans.ban(peer, NOW + 10, NOW, BannedBy::Node);
        bans.ban(subject("192.0.2.1"), NOW + 20, NOW, BannedBy::Operator);
        // A shorter ban does not shorten the present one.
        bans.ban(subject("192.0.2.1"), NOW + 1, NOW, BannedBy::Operator);
        bans.ban(subject("192.0.2.1"), NOW + 2, NOW, BannedBy::Node);
        assert_eq!(bans.list(NOW).len(), 2);
        save(&mut bans);
        let mut bans = Bans::open(dir.path(), NOW + 5);
        assert!(bans.is_banned(&peer, NOW + 9));
        assert!(!bans.is_banned(&peer, NOW + 10));
        assert!(bans.is_banned(&subject("::ffff:192.0.2.1"), NOW + 19));
        assert!(bans.unban(&subject("192.0.2.1"), NOW + 5));
        assert!(!bans.unban(&subject("192.0.2.1"), NOW + 5));
        save(&mut bans);
        let bans = Bans::open(dir.path(), NOW + 5);
        assert_eq!(bans.list(NOW + 5), vec![]);
    }

    #[test]
    fn names_are_peers_and_hosts_but_not_this_machine() {
        assert_eq!(subject("2001:db8::7"), subject("2001:db8::/64"));
        for text in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let error = text.parse::<Subject>().unwrap_err();
            assert!(matches!(error, SubjectError::Loopback(_)), "{text}");
        }
        for text in ["", "nobody", "192.0.2.0/24", "12D3KooW"] {
            let error = text.parse::<Subject>().unwrap_err();
            assert!(matches!(error, SubjectError::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn the_list_is_bounded_and_damage_is_survived() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        for garbage in [&b"[[ban]]\nwho = 7"[..], &[0xff; 64], b"ban = 3"] {
            std::fs::write(&path, garbage).unwrap();
            assert_eq!(Bans::open(dir.path(), NOW).list(NOW), vec![]);
            let aside = path.with_extension("damaged");
            assert_eq!(std::fs::read(aside).unwrap(), garbage);
        }
        let mut bans = Bans::open(dir.path(), NOW);
        bans.ban(subject("192.0.2.1"), u64::MAX, NOW, BannedBy::Operator);
        // The operator's ban stays, however many the node adds.
        for number in 0..BANS_MAX.get() + 10 {
            let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).unwrap());
            bans.ban(
                Subject::host(ip.into()).unwrap(),
                NOW + 1,
                NOW,
                BannedBy::Node,
            );
        }
        assert_eq!(bans.list(NOW).len(), BANS_MAX.get() + 1);
        save(&mut bans);
        let read = Bans::open(dir.path(), NOW).list(NOW);
        assert_eq!(read.len(), BANS_MAX.get() + 1);
        assert!(read.contains(&("192.0.2.1".to_owned(), NOW + BAN_SECS_MAX)));
    }
}
